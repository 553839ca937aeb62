"""Predicts every row of a table of molecules or of numbers, with the machinery of screening but without a ranking.

The rows are written as Parquet parts with a ledger (`experiments.screening.sink`), from which a killed run resumes. At
the end they become one table. A row that cannot be read keeps its place: its answers are empty, and `reason` says why.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import InputError
from data.files import make_directory, remove_directory, write_bytes
from data.formats.rows import finite
from experiments.application.run_directory import configuration_checked, rejects_path
from experiments.application.stage import show_readings
from experiments.application.usage import cpu_seconds
from experiments.prediction.table_output import MoleculeRows, write_table
from experiments.prediction.truth import ProbabilityTruth, Truth, TruthScores
from experiments.screening.candidate_chunks import Candidates, Reject
from experiments.screening.carried import in_results
from experiments.screening.cheaper_answers import in_small_chunks, stands_on_simulator
from experiments.screening.ledger import REJECTS, Spent, Tally, result_parts
from experiments.screening.library_screen import ScreenConfig, ScreenInput, Session
from experiments.screening.pieces import LibraryPiece
from experiments.screening.screen_summary import ScreenSummary
from experiments.screening.sink import Sink
from surrogates.learning.box import IN_DOMAIN

#: Folder of a run for the parts, which is removed once the table is whole.
PARTS = "parts"
#: Columns of the answers beside those of the targets.
LINE, REASON = "line", "reason"
NOT_FINITE = "the prediction is not finite"


@dataclass(frozen=True)
class RowQuestion:
    """What is predicted, and what stands beside it.

    Attributes:
        library: the rows; their source carries `columns` and the columns of `truth`.
        columns: columns of the file that are repeated, in this order.
        truth: target -> column of the file that holds its true value.
        units: unit of each target.
        probabilities: targets whose answers are probabilities of binary labels.
        molecules: where the molecules are, for files that are no tables; None for rows of numbers.
        none: inputs of `predict_table` for no rows.
    """

    library: ScreenInput
    columns: tuple[str, ...]
    truth: Mapping[str, str]
    units: Mapping[str, str]
    none: Any
    probabilities: tuple[str, ...] = ()
    molecules: MoleculeRows | None = None


@dataclass
class RowAnswers:
    """Rows that were predicted.

    Attributes:
        summary: counts and costs.
        scores: scores of each target whose true values stand in the file.
        columns: name of each column of the table -> its unit, "" if it is a text or has none.
    """

    summary: ScreenSummary
    scores: dict[str, Truth] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Flat metrics for `metrics.json`."""
        names = ("valid", "rejected", "out_of_domain", "seconds", "startup_seconds", "core_seconds", "peak_memory_mb")
        counted = {"rows": self.summary.read, "rows_per_second": self.summary.per_second}
        counted |= {name: getattr(self.summary, name) for name in names}
        metrics = {f"predict/{name}": float(value) for name, value in counted.items()}
        for target, scores in self.scores.items():
            metrics |= {f"predict/{target}/{name}": value for name, value in scores.metrics().items()}
        return metrics


@dataclass
class RowSession(Session):
    """A session that answers every row."""

    #: Always set; the base class orders its fields before it.
    question: RowQuestion | None = None
    title: ClassVar[str] = "predicting"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the answers, in order."""
        assert self.question is not None
        cheaper = stands_on_simulator(self.surrogate)
        more = (self.surrogate.ask_rung([]).values,) if cheaper else ()  # type: ignore[attr-defined]
        return tuple(self.surrogate.predict_table(self.question.none, *more))

    def predict(self, piece: LibraryPiece, encoded: Candidates) -> tuple[pa.RecordBatch | None, Tally, list[Reject]]:
        """See `Session.predict`."""
        question = self.question
        assert question is not None
        encoded, more = self.ask_cheaper(encoded)
        if not encoded.rows:
            return None, Tally(), []
        reasons = {reject.line: reject.reason for reject in encoded.rejects}
        lines = np.sort(np.concatenate([np.asarray(encoded.lines), np.array(list(reasons), np.int64)]))
        rows = np.searchsorted(lines, encoded.lines)
        answers = self.surrogate.predict_table(encoded.table, *more) if len(rows) else {}
        finite_rows = np.ones(len(rows), bool)
        for name, values in answers.items():
            if name != IN_DOMAIN:
                finite_rows &= np.isfinite(values)
        for i in np.flatnonzero(~finite_rows):
            reasons[int(encoded.lines[i])] = NOT_FINITE
        present = np.zeros(len(lines), bool)
        present[rows[finite_rows]] = True
        cells = {} if piece.carried is None else piece.carried.at(lines)
        renamed = in_results(question.columns, {LINE, REASON, *self.names, *(f"{t}_true" for t in question.truth)})
        columns = {LINE: pa.array(lines)} | {renamed[name]: cells[name] for name in question.columns}
        standard = encoded.columns().get("standard_smiles")
        if standard is not None:
            columns["standard_smiles"] = _placed(standard.to_pylist(), rows, len(lines))
        for name in self.names:
            kind, full = (bool, np.zeros(len(lines), bool)) if name == IN_DOMAIN else (float, np.zeros(len(lines)))
            if len(rows):
                full[rows] = np.where(finite_rows, np.asarray(answers[name], kind), 0)
            columns[name] = pa.array(full, mask=~present)
            if (target := self._target_that_ends_with(name)) is not None:
                columns[f"{target}_true"] = true_values(cells[question.truth[target]])
        columns[REASON] = pa.array([reasons.get(line) for line in lines.tolist()] if reasons else [None] * len(lines),
                                   pa.string())  # fmt: skip
        schema = pa.schema(
            [pa.field(name, column.type, metadata=self._metadata(name)) for name, column in columns.items()]
        )
        domain = np.asarray(answers.get(IN_DOMAIN, ()), bool)
        tally = Tally(encoded.rows, len(rows), int((~domain).sum()))
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=schema), tally, encoded.rejects

    def _target_that_ends_with(self, name: str) -> str | None:
        """The target with a true value whose last answer is this one."""
        assert self.question is not None
        for target in self.question.truth:
            last = [n for n in self.names if n in (target, *(f"{target}{end}" for end in ("_std", "_low", "_high")))]
            if last and last[-1] == name:
                return target
        return None

    def _metadata(self, name: str) -> dict[str, str] | None:
        unit = unit_of(name, self.question.units) if self.question is not None else ""
        return {"unit": unit} if unit else None


def unit_of(name: str, units: Mapping[str, str]) -> str:
    """The unit of a column of the answers; "" for other columns."""
    ends = ("", "_std", "_low", "_high", "_true")
    return next((unit for target, unit in units.items() if name in {f"{target}{end}" for end in ends}), "")


def true_values(cells: pa.Array) -> pa.Array:
    """The numbers of a column, float64; null where a cell is empty, or no finite number."""
    try:
        trimmed = pc.utf8_trim_whitespace(cells) if pa.types.is_string(cells.type) else cells
        if pa.types.is_string(trimmed.type):
            trimmed = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
        values = trimmed.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values = pa.array([None if cell is None else finite(str(cell)) for cell in cells.to_pylist()], pa.float64())
    return pc.if_else(pc.is_finite(values), values, pa.scalar(None, pa.float64()))


def _placed(values: Sequence[Any], rows: np.ndarray, count: int) -> pa.Array:
    placed: list[Any] = [None] * count
    for row, value in zip(rows.tolist(), values, strict=True):
        placed[row] = value
    return pa.array(placed, pa.string())


def predict_rows(
    surrogate: Any, question: RowQuestion, out: Path, run_dir: Path, config: ScreenConfig, *, progress: bool = True
) -> RowAnswers:
    """Write the answers to all rows as one table, or resume a run that was stopped.

    Args:
        surrogate: surrogate of tables; see `surrogates.abilities.PredictsTables`.
        question: the rows, and what stands beside their answers.
        out: path of the table; see `experiments.prediction.table_output.table_kind`.
        run_dir: directory of the run, which keeps the parts until the table is whole, and the rejects.
        config: settings that reading shares with screening.
        progress: whether to show a progress bar.

    Raises:
        InputError: no row can be used, or the parts belong to other settings.
    """
    began, work, library = time.perf_counter(), run_dir / PARTS, question.library
    config = in_small_chunks(surrogate, config)
    settings = {
        "surrogate": surrogate.fingerprint,
        "inputs": dict(library.identity),
        "configuration": {**library.settings, "chunk_rows": config.chunk_rows, "part_rows": config.part_rows},
        "columns": {"repeated": list(question.columns), "truth": dict(question.truth)},
    }
    make_directory(work)
    sink = Sink(work, settings, library.name, config.compression, library.named, "prediction")
    earlier = sink.last.tally().read if sink.last else 0
    try:
        if sink.last is None or not sink.last.complete:
            RowSession(surrogate, library, sink, config, began, question=question).run(progress)
    finally:
        sink.close()
    last = sink.commits[-1]
    counted, cost = last.tally(), last.spent()
    if not counted.valid:
        kept = rejects_path(run_dir)
        shutil.copyfile(sink.rejects, kept)
        remove_directory(work)
        raise InputError(
            f"none of the {counted.read} rows is a {library.kind}",
            where=library.where,
            remedy=f"See {kept}" + (f"; {library.remedy}" if library.remedy else ""),
        )
    configuration_checked(run_dir)
    if (work / REJECTS).is_file():
        write_bytes(run_dir / REJECTS, (work / REJECTS).read_bytes())
    writing, writing_cpu = time.perf_counter(), cpu_seconds()
    parts = result_parts(work)
    scores: dict[str, Truth] = {
        target: ProbabilityTruth() if target in question.probabilities else TruthScores(question.units.get(target, "1"))
        for target in question.truth
    }
    look: Callable[[pa.RecordBatch], None] = lambda batch: _score(scores, batch)  # noqa: E731
    write_table(parts, out, look, question.molecules)
    spent = replace(
        cost,
        seconds=cost.seconds + time.perf_counter() - writing,
        core_seconds=cost.core_seconds + cpu_seconds() - writing_cpu,
    )
    answers = RowAnswers(_summary(counted, spent, len(parts), earlier, library.kind), scores)
    answers.columns = {name: unit_of(name, question.units) for name in pa.parquet.read_schema(parts[0]).names}
    show_readings([library.reading(answers.summary, run_dir / REJECTS)], run_dir, printed=progress)
    return answers


def _summary(counted: Tally, spent: Spent, parts: int, earlier: int, kind: str) -> ScreenSummary:
    return ScreenSummary(
        counted.read, counted.valid, counted.out_of_domain, 0, 0, parts, 0, spent.seconds, spent.startup_seconds,
        spent.core_seconds, spent.peak_memory_mb, earlier, kind,
    )  # fmt: skip


def _score(scores: Mapping[str, Truth], batch: pa.RecordBatch) -> None:
    def numbers(name: str) -> np.ndarray | None:
        if name not in batch.schema.names:
            return None
        values: np.ndarray = batch.column(name).to_numpy(zero_copy_only=False)
        return values

    for target, score in scores.items():
        truth, value = numbers(f"{target}_true"), numbers(target)
        assert truth is not None
        assert value is not None
        score.add(truth, value, numbers(f"{target}_low"), numbers(f"{target}_high"))
