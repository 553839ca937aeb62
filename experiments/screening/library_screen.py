"""Screens candidates from a file of any size with a surrogate, and writes ranked results that can be resumed.

    file -> chunks of rows -> parsing processes -> graphs -> predict threads -> Parquet parts, top k

The source depends on the kind of candidates: rows of numbers need no parsing processes (`screening_designs`). If the
surrogate stands on a cheaper simulator, that one is asked about each chunk before the prediction, in this process, and
its cost is part of that of the screen.

Every arrow is a bounded queue and every step keeps the order of the file. Memory therefore does not grow with the file,
and a killed run resumes from its last committed part with the same results as an uninterrupted one. The parent process
handles whole arrays, never single candidates.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from data.claim import claim
from data.errors import InputError
from data.files import write_json
from data.molecules.alerts import check_catalogues
from data.reading_summary import Reading
from data.shards import Shard, whole_of
from data.terminal import ProgressBar, progress_bar
from experiments.application.stage import show_readings
from experiments.application.usage import PeakMemory, cpu_seconds
from experiments.screening.best_rows import TopK
from experiments.screening.candidate_chunks import Candidates, Reject
from experiments.screening.candidate_sources import LibrarySource, Source, identity, open_source
from experiments.screening.cheaper_answers import answered, in_small_chunks, stands_on_simulator
from experiments.screening.hit_selection import Diversity, hit_options, write_filtered
from experiments.screening.ledger import Commit, Spent, Tally
from experiments.screening.objective import Objective, hits, targets_of
from experiments.screening.pieces import Piece
from experiments.screening.readings import StandardForms, candidates_read, standard_of, standard_said
from experiments.screening.repeated_molecules import molecule_keys_by
from experiments.screening.screen_summary import ScreenSummary, show_summary
from experiments.screening.sink import Sink, result_batch
from experiments.screening.source_shards import shard_source
from experiments.screening.workers import ParserPool, in_order
from simulators.chemistry.standardise import check_steps
from surrogates.abilities import PredictsTables

__all__ = [
    "Objective",
    "ScreenConfig",
    "ScreenInput",
    "ScreenSummary",
    "hits",
    "screen",
    "screen_library",
    "targets_of",
]

#: Rows that are parsed and predicted before time is measured, so that everything is compiled.
WARM_UP_ROWS = 2048


@dataclass(frozen=True)
class ScreenInput:
    """Candidates to be screened.

    Attributes:
        source: yields the candidates.
        identity: identifies the candidates; JSON-serialisable.
        name: name of their file in `rejects.csv`.
        where: origin of the candidates, for error messages.
        settings: other settings that the results depend on; JSON-serialisable.
        kind: name of a candidate, in the singular.
        named: columns of the results that identify a candidate.
        remedy: advice if no row is a candidate.
    """

    source: Source
    identity: Mapping[str, Any]
    name: str
    where: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "molecule"
    named: tuple[str, ...] = ("smiles",)
    remedy: str = ""

    def reading(self, summary: ScreenSummary, rejects: Path) -> Reading:
        """What a screen read of the candidates.

        Args:
            summary: summary of the screen.
            rejects: `rejects.csv` of the screen.
        """
        return candidates_read(
            self.where,
            self.source.description,
            rejects,
            total=summary.read,
            used=summary.valid,
            assumed=() if summary.forms is None else standard_said(self.settings["standardise"], summary.forms),
        )


@dataclass(frozen=True)
class ScreenConfig:
    """How to screen.

    Attributes:
        top_k: number of the best candidates in `top.csv`; it may change when a finished screen is run again.
        smiles: column of a table that holds SMILES.
        columns: columns of the candidates that results repeat, such as identifiers; None for all. One that has the name
            of a column of the results is called NAME_input there.
        standardise: steps of standardisation before prediction (`simulators.chemistry.standardise`), which should be
            those of the training molecules; results keep the SMILES of the file beside `standard_smiles`.
        distinct: whether `top.csv` has one row for each molecule, however it is written (`data.identity`).
        objective: property to optimise and windows of others.
        filters: catalogues of structural alerts, by `data.molecules.alerts`; a candidate with an alert is no hit. Like
            `top_k`, they may change when a finished screen is run again.
        diversity: how unlike hits are picked; it may change too.
        workers: number of parsing processes; None for one for each core that this process may use.
        chunk_rows: rows that are parsed, and then predicted, together.
        part_rows: rows of a Parquet part; a killed run loses at most those of two parts.
        streams: number of concurrent predictions, so that packing one overlaps with computing another.
        niceness: niceness of the parsing processes, so that predictions have priority.
        compression: compression of the parts: zstd, snappy, lz4 or none.
        shard: part of the candidates that is screened; None: all. `out` is then `Shard.directory` of the whole output.

    Raises:
        ValueError: a count is not positive, or a step of `standardise` is unknown.
    """

    top_k: int = 1000
    smiles: str = "smiles"
    columns: tuple[str, ...] | None = ()
    standardise: tuple[str, ...] = ()
    distinct: bool = True
    objective: Objective = field(default_factory=Objective)
    filters: tuple[str, ...] = ()
    diversity: Diversity = field(default_factory=Diversity)
    workers: int | None = None
    chunk_rows: int = 16_384
    part_rows: int = 131_072
    streams: int = 2
    niceness: int = 5
    compression: str = "zstd"
    shard: Shard | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "standardise", tuple(self.standardise))
        check_steps(self.standardise)
        object.__setattr__(self, "filters", check_catalogues(self.filters, "filters"))
        for name in ("chunk_rows", "part_rows", "streams"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be 1 or more, got {self.workers}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 or more, got {self.top_k}")


def screen(
    surrogate: PredictsTables, candidates: Path, out: Path, config: ScreenConfig, *, progress: bool = True
) -> ScreenSummary:
    """Screen a file of candidates, or resume a screen that was stopped.

    Args:
        surrogate: surrogate of tables of graphs.
        candidates: .smi, .csv or .tsv file (also .gz), .parquet file, or a library written by `prepare`.
        out: directory that receives `results/part-*.parquet`, `top.csv`, `top.parquet`, `rejects.csv` and
            `metrics.json`. A screen in the same directory resumes from the last committed part.
        config: settings of the screen.
        progress: whether to show a progress bar and a table at the end.

    Raises:
        InputError: the candidates cannot be read, the objective names a target that the surrogate does not have, `out`
            contains another screen, or no row is a molecule.
    """
    source = open_source(candidates, config.smiles, config.columns, (config.smiles, "smiles"))
    steps = config.standardise
    if isinstance(source, LibrarySource):
        steps = standard_of(source.library.source, steps, str(candidates))
    library = ScreenInput(
        source,
        identity(candidates),
        candidates.name,
        str(candidates),
        # Screens of earlier versions lack these keys, and must still resume.
        {
            "smiles": config.smiles,
            **({"standardise": list(steps)} if steps else {}),
            **({} if config.columns == () else {"carried": list(getattr(source, "carry", ()))}),
        },
        named=("smiles", "standard_smiles") if steps else ("smiles",),
        remedy=f"is {config.smiles!r} the column with SMILES?",
    )
    return screen_library(surrogate, library, out, config, progress=progress)


def screen_library(
    surrogate: PredictsTables, library: ScreenInput, out: Path, config: ScreenConfig, *, progress: bool = True
) -> ScreenSummary:
    """Screen candidates of any kind; see `screen`.

    Raises:
        InputError: the objective names a target that the surrogate does not have, `out` contains another
            screen, or no row is a candidate.
    """
    began = time.perf_counter()
    config = in_small_chunks(surrogate, config)
    if config.shard is not None:
        library = _part_of(library, config.shard, out, config.chunk_rows)
    fingerprint = {
        "surrogate": surrogate.fingerprint,
        "candidates": dict(library.identity),
        "configuration": {**library.settings, "chunk_rows": config.chunk_rows, "part_rows": config.part_rows},
        "objective": asdict(config.objective),
    }
    with claim(out, "screen", adopt=lambda directory: (directory / "screen.json").is_file()):
        sink = Sink(out, fingerprint, library.name, config.compression, library.named)
        earlier = sink.last.tally().read if sink.last else 0
        try:
            options = hit_options(config.filters, config.diversity, config.top_k, library.named)
            best = sink.top(
                keys=molecule_keys_by(library.named) if config.distinct and "smiles" in library.named else None,
                **options,
            )
            if sink.last is None or not sink.last.complete:
                Session(surrogate, library, sink, config, began, best).run(progress)
            top, repeats, filtered = sink.write_top(best), best.repeats(), write_filtered(best.refused(), out)
        finally:
            sink.close()
        last = sink.commits[-1]
        parts = sum(entry.rows > 0 for entry in sink.commits)
        counted, cost = asdict(last.tally()), asdict(last.spent())
        forms = StandardForms.in_results(out) if library.settings.get("standardise") else None
        summary = ScreenSummary(
            **counted,
            **cost,
            parts=parts,
            top=top,
            resumed=earlier,
            kind=library.kind,
            repeats=repeats,
            forms=forms,
            filtered=filtered if config.filters else None,
            pool=best.pooled() if config.diversity.picker else None,
        )
        write_json(out / "metrics.json", summary.metrics())
    # Another shard may have candidates; the merge refuses shards of which none has any.
    if summary.valid == 0 and config.shard is None:
        raise InputError(
            f"none of the {summary.read} rows is a {library.kind}",
            where=library.where,
            remedy=f"See {sink.rejects}" + (f"; {library.remedy}" if library.remedy else ""),
        )
    show_readings([library.reading(summary, sink.rejects)], out, printed=progress)
    if progress:
        show_summary(summary, out)
    return summary


def _part_of(library: ScreenInput, shard: Shard, out: Path, rows: int) -> ScreenInput:
    """The candidates of a shard, whose settings name it; the merge removes that name."""
    whole = whole_of(shard, out)
    source = shard_source(library.source, shard, whole, rows, library.identity)
    return replace(library, source=source, settings={**library.settings, "shard": str(shard)})


@dataclass
class Session:
    """One session of a screen: from the last committed part to the end of the file.

    Attributes:
        surrogate, library, sink, config: see `screen_library`.
        began: when the command began, as `time.perf_counter` tells it.
        best: the best rows so far; None if none are ranked.
    """

    surrogate: PredictsTables
    library: ScreenInput
    sink: Sink
    config: ScreenConfig
    began: float
    best: TopK | None = None
    title: ClassVar[str] = "screening"

    def run(self, progress: bool) -> None:
        """Read, predict and write until the file ends."""
        cpu = cpu_seconds()
        before = self.sink.last.spent() if self.sink.last else Spent()
        config = self.config
        workers = config.workers or len(os.sched_getaffinity(0))
        pool = ParserPool(workers, niceness=config.niceness, standardise=config.standardise)
        with ExitStack() as stack:
            memory = stack.enter_context(PeakMemory())
            threads = stack.enter_context(ThreadPoolExecutor(self.config.streams, thread_name_prefix="predict"))
            stack.callback(pool.close)
            self._warm_up(pool)
            start = time.perf_counter()

            def spent() -> Spent:
                return Spent(
                    before.seconds + time.perf_counter() - start,
                    before.core_seconds + cpu_seconds() - cpu,
                    before.startup_seconds + start - self.began,
                    max(before.peak_memory_mb, memory.peak_mb),
                )

            with progress_bar(self.title, 1, show=progress) as bar:
                self._stream(pool, threads, spent, bar)

    def _warm_up(self, pool: ParserPool) -> None:
        """Start the processes, and compile by predicting a few rows whose results are discarded."""
        source = self.library.source
        if source.parses:
            pool.start()
        self.surrogate.compile()
        if stands_on_simulator(self.surrogate):
            return
        for piece in islice(source.pieces(WARM_UP_ROWS, *source.start), 2):
            encoded = piece.load(pool).result()
            if len(encoded.lines):
                self.predict(piece, encoded)
                return

    def ask_cheaper(self, encoded: Candidates) -> tuple[Candidates, tuple[Any, ...]]:
        """The rows that can be predicted, and further arguments of `predict_table`, of a cheaper simulator if any."""
        if not (len(encoded.lines) and stands_on_simulator(self.surrogate)):
            return encoded, ()
        encoded, on = answered(self.surrogate, encoded)
        return encoded, (on,)

    def predict(self, piece: Piece, encoded: Candidates) -> tuple[pa.RecordBatch | None, Tally, list[Reject]]:
        """The rows of a chunk as they are written, its counts and its rejected rows; called by several threads."""
        objective = self.config.objective
        encoded, more = self.ask_cheaper(encoded)
        tally = Tally(encoded.rows, len(encoded.lines))
        if not len(encoded.lines):
            return None, tally, encoded.rejects
        values = self.surrogate.predict_table(encoded.table, *more)
        missing = objective.missing(targets_of(values))
        if missing:
            raise InputError(
                f"the surrogate does not predict {' and '.join(missing)}",
                where="objective",
                remedy=f"It predicts {', '.join(targets_of(values))}",
            )
        batch = result_batch(encoded, values, objective, piece.carried)
        domain = np.asarray(values["in_domain"], bool)
        tally = replace(
            tally,
            out_of_domain=int((~domain).sum()),
            in_window=int((domain & objective.in_windows(values)).sum()),
            eligible=int(np.isfinite(batch.column("score").to_numpy()).sum()),
        )
        return batch, tally, encoded.rejects

    def _stream(
        self, pool: ParserPool, threads: ThreadPoolExecutor, spent: Callable[[], Spent], bar: ProgressBar
    ) -> None:
        config, last = self.config, self.sink.last
        position, line = (last.position, last.line) if last else self.library.source.start
        part, total = (last.part + 1, last.tally()) if last else (0, Tally())
        session = 0
        batches: list[pa.RecordBatch] = []
        rejects: list[Reject] = []
        rows = 0
        start = time.perf_counter()
        pieces = self.library.source.pieces(config.chunk_rows, position, line)
        parsed = in_order(pieces, lambda piece: piece.load(pool), pool.workers + 2)
        predicted = in_order(parsed, lambda item: threads.submit(self.predict, *item), config.streams)
        for (piece, _), (batch, tally, lost) in predicted:
            position, line = piece.end, piece.line
            total, rows, session = total + tally, rows + tally.read, session + tally.read
            rejects += lost
            if batch is not None:
                batches.append(batch)
                if self.best is not None:
                    self.best.add(batch)
            rate = session / (time.perf_counter() - start)
            bar.update(piece.done, note=f"{total.read:,} {self.library.kind}s, {rate:,.0f}/s")
            if rows >= config.part_rows:
                self.sink.commit(batches, rejects, Commit.of(part, position, line, total, spent()))
                part, rows, batches, rejects = part + 1, 0, [], []
        if rows:
            self.sink.commit(batches, rejects, Commit.of(part, position, line, total, spent()))
            part += 1
        self.sink.wait()
        if self.best is not None:
            self.sink.write_top(self.best)
        self.sink.commit([], [], Commit.of(part, position, line, total, spent(), complete=True))
        self.sink.wait()
        bar.update(1)
