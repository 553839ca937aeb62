"""Candidates of a surrogate that stands on a cheaper simulator: that one is asked about each chunk first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from data.rejects import KEPT_TEXT
from experiments.screening.candidate_chunks import Encoded, Reject, pack_text
from surrogates.learning.rung import RungColumns

#: A `ScreenConfig`, whose module imports this one.
Config = TypeVar("Config", bound=Any)
#: Rows of a chunk and of a Parquet part, of which a killed screen loses at most two: a simulator takes far longer for a
#: molecule than a network.
CHUNK_ROWS, PART_ROWS = 128, 512


def stands_on_simulator(surrogate: Any) -> bool:
    """Whether predictions need the answers of another simulator."""
    return getattr(surrogate, "standing", None) is not None


def check_rung(surrogate: Any) -> None:
    """Refuse a surrogate whose cheaper simulator cannot be asked here, before anything is screened.

    Raises:
        InputError: that simulator cannot be rebuilt, or another version of it is installed.
    """
    surrogate.ask_rung([])


def in_small_chunks(surrogate: Any, config: Config) -> Config:
    """The settings of a screen with chunks that suit the cheaper simulator, if the surrogate stands on one.

    Raises:
        InputError: see `check_rung`.
    """
    if not stands_on_simulator(surrogate):
        return config
    check_rung(surrogate)
    chunk, part = min(config.chunk_rows, CHUNK_ROWS), min(config.part_rows, PART_ROWS)
    return replace(config, chunk_rows=chunk, part_rows=part, streams=1)


def answered(surrogate: Any, encoded: Any) -> tuple[Any, Float[np.ndarray, "candidate column"]]:
    """The rows of a chunk for which the cheaper simulator has an answer, and the columns of these answers.

    The other rows become rejects with the reason.

    Args:
        surrogate: a `PropertySurrogate` or `ParameterSurrogate` that stands on a simulator.
        encoded: a chunk of molecules or of designs.
    """
    if not isinstance(encoded, Encoded):
        answers = surrogate.ask_rung(encoded.table)
        if answers.ok.all():
            return encoded, answers.values
        rows = np.flatnonzero(answers.ok)
        texts = [",".join(f"{v:.6g}" for v in row) for row in encoded.table]
        kept = replace(encoded, table=encoded.table[rows], lines=encoded.lines[rows])
        return replace(kept, rejects=_with_lost(encoded, texts, answers)), answers.values[rows]
    smiles = [encoded.text[a:b].tobytes().decode() for a, b in zip(encoded.offsets, encoded.offsets[1:], strict=False)]
    forms = smiles if encoded.standard is None else [s or t for s, t in zip(encoded.standard, smiles, strict=True)]
    answers = surrogate.ask_rung(forms)
    if answers.ok.all():
        return encoded, answers.values
    rows = np.flatnonzero(answers.ok)
    text, offsets = pack_text([smiles[i] for i in rows])
    molecules = replace(
        encoded,
        table=encoded.table.take(rows),
        text=text,
        offsets=offsets,
        lines=encoded.lines[rows],
        rejects=_with_lost(encoded, smiles, answers),
        standard=None if encoded.standard is None else [encoded.standard[i] for i in rows],
    )
    return molecules, answers.values[rows]


def _with_lost(encoded: Any, texts: list[str], answers: RungColumns) -> list[Reject]:
    """The rejected rows of a chunk with those that have no answer, in the order of the file."""
    name = answers.simulator.name
    lost = [
        Reject(int(encoded.lines[i]), texts[i][:KEPT_TEXT], f"{name}: {answers.reasons[i] or 'not finite'}")
        for i in np.flatnonzero(~answers.ok).tolist()
    ]
    return sorted(encoded.rejects + lost, key=lambda reject: reject.line)
