"""A calibrated cascade from its directory, as a simulator that configurations name: `simulator=cascade`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.json_files import read_plain
from experiments.answering.answer_rungs import build_answer_rungs
from surrogates.cascade.answer_cascade import AnswerCascade
from surrogates.cascade.cascade_card import CARD, CascadeCard

REMEDY = "Restore it from a copy, or calibrate the cascade again"


def read_cascade_card(directory: Path) -> CascadeCard:
    """The card of a calibrated cascade, after its checksum was verified.

    Raises:
        InputError: there is none.
        CorruptStoreError: it was changed, or a value in it cannot be used.
    """
    path = Path(directory) / CARD
    if not path.is_file():
        remedy = "Name a directory that understudy calibrate made"
        raise InputError(f"no {CARD} in it", where=str(directory), remedy=remedy)
    return read_plain(path, CascadeCard, remedy=REMEDY)


class SavedCascade(AnswerCascade):
    """A cascade that `understudy calibrate` made; see `surrogates.cascade.answer_cascade.AnswerCascade`.

    Args:
        directory: directory of the cascade.
        rungs: directories of surrogates, or names of simulators, in place of those that the card names, such as after a
            move; the fingerprints have to be the same.

    Raises:
        InputError: there is no cascade, or a rung is missing or another one than was calibrated.
        CorruptStoreError: the card was changed.
    """

    def __init__(self, directory: str, rungs: Sequence[str] = ()) -> None:
        self.directory, self.names = str(directory), tuple(map(str, rungs))
        card = read_cascade_card(Path(directory).expanduser())
        if rungs and len(rungs) != len(card.rungs):
            raise InputError(
                f"{len(rungs)} rungs, and {len(card.rungs)} were calibrated",
                where="simulator.rungs",
                remedy="Name all of them, in the order of the card",
            )
        labels = self.names or tuple(rung.label for rung in card.rungs)
        settings = {label: rung.settings for label, rung in zip(labels, card.rungs, strict=True) if rung.settings}
        super().__init__(build_answer_rungs(labels, settings, card.conformers), card)

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled programs are not pickled.
        return SavedCascade, (str(Path(self.directory).expanduser().resolve()), self.names)
