"""What each rung of a screening cascade does for an answer; see `experiments.application.answer_work`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from data.molecules.foreign import encode
from experiments.application.answer_work import AnswerWork, counted, judged
from experiments.screening.cascade.first_rung import FirstAnswers
from experiments.screening.cascade.rung_answers import RungCost
from experiments.screening.cascade.rungs import CascadeRung
from surrogates.learning.machine import MeasuredCost

#: Candidates with which the programs of a surrogate are counted.
COUNTED = 1024


def rung_works(
    rungs: Sequence[CascadeRung], costs: Sequence[RungCost], first: FirstAnswers, candidates: Path, total: int
) -> list[AnswerWork]:
    """What each rung does for an answer.

    Args:
        rungs: the rungs.
        costs: what each of them has cost.
        first: the answers of the first rung.
        candidates: file of the candidates.
        total: number of the candidates.
    """
    works = []
    for rung, cost in zip(rungs, costs, strict=True):
        each = max(1, cost.answered)
        file = candidates if rung.number == 0 else getattr(rung.model, "file", None)
        rows = max(1, total) if rung.number == 0 else each
        work = AnswerWork(
            rung.label,
            float(cost.answered),
            1e6 * cost.core_seconds / each,
            rung.declared,
            bytes_read=_size(file) / rows,
            bytes_stored=cost.bytes / each,
        )
        works.append(judged(work, _of_programs(rung, first) if rung.learned else None))
    return works


def _size(file: Any) -> float:
    """Bytes of a file, or of the files of a prepared library; 0 if a rung reads none."""
    if file is None:
        return 0.0
    path = Path(file).expanduser()
    if path.is_dir():
        return float(sum(p.stat().st_size for p in path.rglob("*") if p.is_file()))
    return float(path.stat().st_size) if path.is_file() else 0.0


def _of_programs(rung: CascadeRung, first: FirstAnswers) -> MeasuredCost | None:
    """The work of the programs of a surrogate for one of the first candidates."""
    with pq.ParquetFile(first.parts[0]) as file:
        batch = next(file.iter_batches(COUNTED, columns=["smiles"]), None)
    if batch is None:
        return None
    table, _ = encode(batch.column("smiles").to_pylist())
    standing = rung.model.standing
    # What a cheaper simulator says does not change the number of operations.
    on = () if standing is None else (np.zeros((len(table), len(standing.scale.names))),)
    return counted(lambda: rung.model.predict_table(table, *on), len(table))
