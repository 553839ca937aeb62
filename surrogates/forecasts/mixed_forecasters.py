"""The other forecasters of a mixture: their folders and identities, and their forecasts beside those of the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from surrogates.forecasts.lead_blend import LeadBlendFacts
from surrogates.saved import Saves, load_surrogate

#: Folder of the other forecasters in the directory of a mixture.
FOLDER = "members"


def refuse_strangers(blend: LeadBlendFacts | None, others: Sequence[Any]) -> None:
    """Refuse forecasters that are not those to whose forecasts the weights were fitted.

    Raises:
        InputError: names the forecaster.
    """
    expected = () if blend is None else blend.others
    names = () if blend is None else blend.forecasters[1:]
    if len(others) != len(expected):
        raise InputError(f"{len(expected)} other forecasters belong to it, got {len(others)}", where=FOLDER)
    for name, fingerprint, other in zip(names, expected, others, strict=True):
        if other.fingerprint != fingerprint:
            raise InputError(
                f"the forecaster {name} is another one than the mixture was made with",
                where=f"{FOLDER}/{name}",
                remedy="Restore it from a copy, or make the mixture again",
            )


def refuse_beyond_mixture(blend: LeadBlendFacts, steps: int, blended: bool) -> None:
    """Refuse forecasts of a mixture for which it has no weights.

    Raises:
        InputError: they are a long run, or longer than those to which the weights were fitted.
    """
    if not blended:
        raise InputError(
            "a mixture of forecasters has no state of its own to run on from", where="surrogate",
            remedy=f"Name one of its forecasters, in {FOLDER} of its directory or where it was trained",
        )  # fmt: skip
    if steps > blend.steps:
        raise InputError(
            f"a mixture with weights for {blend.steps} steps does not forecast {steps}", where="steps",
            remedy=f"Ask for {blend.steps} at most, or make one with model.steps={steps}",
        )  # fmt: skip


def folders(blend: LeadBlendFacts | None, others: Sequence[Saves]) -> dict[str, Saves]:
    """The other forecasters by their folder in the directory of the mixture."""
    names = () if blend is None else blend.forecasters[1:]
    return {f"{FOLDER}/{name}": other for name, other in zip(names, others, strict=True)}


def load_others(directory: Path, blend: LeadBlendFacts | None) -> list[Any]:
    """The other forecasters that are saved in the directory of a mixture.

    Raises:
        InputError: one is missing.
        CorruptStoreError: a card cannot be used, or weights are missing or changed.
    """
    names = () if blend is None else blend.forecasters[1:]
    return [load_surrogate(directory / FOLDER / name) for name in names]


def chunks_of_others(
    others: Sequence[Any],
    history: Float[np.ndarray, "batch history latitude longitude channel"],
    times: np.ndarray,
    steps: int,
    chunk: int,
) -> Iterator[list[Float[np.ndarray, "batch lead latitude longitude channel"]]]:
    """The forecasts of the networks of each other forecaster, as many leads at a time as those of the first."""
    parts = [one.chunks(history[:, -one.history :], times, steps, chunk=chunk, blended=False) for one in others]
    while True:
        yield [next(part)[:, 0] for part in parts]
