"""The answers of the first rung to all candidates of a file: a screen, or a campaign that asks about each of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from data.errors import InputError
from data.files import listed_path
from data.rejects import RejectLog
from experiments.screening.candidate_sources import LibrarySource, open_source
from experiments.screening.carried import in_results
from experiments.screening.cascade.rung_answers import RungCost, answer, cost
from experiments.screening.cascade.rungs import CascadeRung
from experiments.screening.cheaper_answers import stands_on_simulator
from experiments.screening.ledger import result_parts
from experiments.screening.library_screen import ScreenConfig
from experiments.screening.library_screen import screen as screen_file
from experiments.screening.readings import standard_of
from experiments.screening.sink import RESULT_COLUMNS
from experiments.screening.workers import ParserPool, in_order
from simulators.campaigns.campaign import CampaignConfig
from surrogates.cascade.scoring import margin_std

#: Ends of the names of columns with answers.
ENDS = ("", "_std", "_low", "_high")
#: Columns of answers that tell of failures.
STATUS = frozenset({"status", "message"})


@dataclass(frozen=True)
class FirstAnswers:
    """The answers of the first rung.

    Attributes:
        parts: Parquet files of them.
        rejected: number of rows of the file that are no candidates.
        cost: what they cost.
        carried: columns of the parts that repeat columns of the file.
    """

    parts: Sequence[Path]
    rejected: int
    cost: RungCost
    carried: tuple[str, ...]


def first_answers(
    rung: CascadeRung,
    candidates: Path,
    names: Sequence[str],
    out: Path,
    screen: ScreenConfig,
    campaign: CampaignConfig,
    show: bool,
) -> FirstAnswers:
    """Answers of the first rung to all candidates of a file, or the rest of them after a kill.

    A surrogate screens the file. A simulator, or a surrogate that stands on one, is asked about each candidate, so that
    its failures are candidates without an answer, and no rejects.

    Args:
        rung: the first rung.
        candidates: file of the candidates.
        names: outputs that the objective needs.
        out: directory of the cascade.
        screen: settings of a screen.
        campaign: how simulations are run.
        show: whether to print progress.

    Raises:
        InputError: the file cannot be read, or no row of it is a molecule.
    """
    folder = out / "rung-0"
    outputs = [v.name for v in rung.model.spec.outputs]
    taken = {*RESULT_COLUMNS, *STATUS, *(f"{name}{end}" for name in outputs for end in ENDS)}
    if rung.learned and not stands_on_simulator(rung.model):
        summary = screen_file(rung.model, candidates, folder, screen, progress=show)
        parts = result_parts(folder)
        stored = sum(path.stat().st_size for path in parts)
        spent = RungCost(summary.core_seconds, summary.valid, stored)
        return FirstAnswers(parts, summary.rejected, spent, _others(parts, taken))
    table, rejected = _read(candidates, screen, out / "rejects.csv", taken)
    frame = table.select([name for name in table.column_names if name in taken]).to_pandas()
    forms = frame["smiles"]
    if "standard_smiles" in frame:
        forms = frame["standard_smiles"].fillna(forms)
    answers = answer(rung, [str(text) for text in forms], names, out, campaign, show)
    for name in names:
        if not rung.learned:
            # Without an error bar the score needs a scale, which does not change the order of the candidates.
            answers[f"{name}_std"] = margin_std([answers[name].to_numpy()])
    for column in answers:
        table = table.append_column(str(column), pa.array(answers[column]))
    path = folder / "answers.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    with listed_path(path) as temporary:
        pq.write_table(table, temporary)
    return FirstAnswers([path], rejected, cost(rung, out), _others([path], taken))


def _others(parts: Sequence[Path], taken: set[str]) -> tuple[str, ...]:
    return tuple(name for name in pq.read_schema(parts[0]).names if name not in taken) if parts else ()


def _read(candidates: Path, screen: ScreenConfig, rejects: Path, taken: set[str]) -> tuple[pa.Table, int]:
    """The candidates of a file as a screen reads them, and the number of other rows, which are listed."""
    source = open_source(candidates, screen.smiles, screen.columns, (screen.smiles, "smiles"))
    steps = screen.standardise
    if isinstance(source, LibrarySource):
        steps = standard_of(source.library.source, steps, str(candidates))
    workers = screen.workers or len(os.sched_getaffinity(0))
    pool = ParserPool(workers, niceness=screen.niceness, standardise=steps)
    blocks: list[pa.Table] = []
    rejected = 0
    try:
        with RejectLog(rejects) as log:
            pieces = source.pieces(screen.chunk_rows, *source.start)
            for piece, encoded in in_order(pieces, lambda piece: piece.load(pool), workers + 2):
                for reject in encoded.rejects:
                    log.add(candidates, reject.line, reject.text, reject.reason)
                rejected += len(encoded.rejects)
                cells = {} if piece.carried is None else piece.carried.at(encoded.lines)
                renamed = in_results(cells, taken)
                carried = {renamed[name]: column for name, column in cells.items()}
                if len(encoded.lines):
                    blocks.append(pa.table({"line": pa.array(encoded.lines), **encoded.columns(), **carried}))
    finally:
        pool.close()
    if not blocks:
        raise InputError(
            f"none of the {rejected} rows is a molecule",
            where=str(candidates),
            remedy=f"See {rejects}; is {screen.smiles!r} the column with SMILES?",
        )
    return pa.concat_tables(blocks, promote_options="permissive"), rejected


def carried_cells(parts: Sequence[Path], carried: Sequence[str], lines: Int[np.ndarray, " row"]) -> pd.DataFrame:
    """The carried columns of some candidates, in the order of the file.

    Args:
        parts: files of the answers of the first rung.
        carried: names of columns of the parts.
        lines: lines of the candidates.

    Returns:
        The columns, with `line`.
    """
    columns = ["line", *carried]
    asked = pa.array(np.unique(lines))
    some = []
    for path in parts:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=columns):
                keep = pa.compute.is_in(batch.column("line"), value_set=asked.cast(batch.schema.field("line").type))
                some.append(batch.filter(keep))
    return pa.Table.from_batches(some).to_pandas() if some else pd.DataFrame(columns=columns)
