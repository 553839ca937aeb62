"""A training that `benchmarks.rung_pairs` does with and without a cheaper rung."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """A training that is done with and without a rung.

    Attributes:
        name: what is learned.
        on: the rung.
        epochs: epochs of the side with the rung.
        settings: overrides of `understudy train` that both sides have.
        errors: name of each error -> its metric, its unit, and what it is multiplied by.
        references: names of other errors -> value, by name of the error.
        rung: settings of the side with the rung.
        line: the first of `errors` without a network, from the folder of the side with the rung: of the line through
            the answers of the rung, or of these answers; None where that is not computed.
        line_name: what `line` is the error of.
        more: name -> settings of trainings without the rung on more labels, which are done beside.
        uncounted: processor time of the rung in training, s, from the folder of that side, where no metric has it.
        within: whether the rung is asked within the training, whose processor time holds its own.
        answer: processor time of an answer of the surrogate in a folder, s; None where it is not measured.
        labels: number of labels, where their cost is known.
        rivals: name of another method -> processor time of its answer, s; its errors are among `references`.
    """

    name: str
    on: str
    epochs: int
    settings: Sequence[str]
    errors: Mapping[str, tuple[str, str, float]]
    references: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rung: Sequence[str] = ()
    line: Callable[[Path], float] | None = None
    line_name: str = "line through it"
    more: Mapping[str, Sequence[str]] = field(default_factory=dict)
    uncounted: Callable[[Path], float] | None = None
    within: bool = False
    answer: Callable[[Path], float] | None = None
    labels: int = 0
    rivals: Mapping[str, float] = field(default_factory=dict)
