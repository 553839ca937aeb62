"""Calibrates a cascade for answers: chances of being wrong from one part of the labels, the threshold from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from data.errors import InputError
from data.spec import SimulationError
from surrogates.cascade.difficulty import Answer, difficulty, error
from surrogates.cascade.risk import (
    FEWEST_DESIGN,
    ErrorModel,
    answering_rung,
    fewest_labels,
    first_wrong,
    risk_threshold,
)


@dataclass(frozen=True)
class Risk:
    """What is promised of answers, and how labels are used for it; the keys of `risk`.

    Attributes:
        alpha: largest probability that an answer is wrong, in (0, 1).
        confidence: probability with which that holds given the labels, in (0, 1); None for the mean over labels.
        design: share of the labels to which the chances of being wrong are fitted, in (0, 1); the others set the
            threshold.
        seed: of the split.

    Raises:
        ValueError: a number is out of its range.
    """

    alpha: float = 0.1
    confidence: float | None = None
    design: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("confidence", self.confidence), ("design", self.design)):
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {value}")

    def parts(self, labels: int) -> tuple[Int[np.ndarray, " design"], Int[np.ndarray, " calibration"]]:
        """The rows of the labels that are designed with and that set the threshold, at random."""
        order = np.random.default_rng(self.seed).permutation(labels)
        first = max(FEWEST_DESIGN, round(self.design * labels))
        return np.sort(order[:first]), np.sort(order[first:])

    @property
    def fewest(self) -> int:
        """The fewest labels with which the promise can be kept."""
        least = fewest_labels(self.alpha, self.confidence)
        count = least + FEWEST_DESIGN
        while len(self.parts(count)[1]) < least:
            count += 1
        return count

    def refuse_too_few(self, labels: int, *, where: str) -> None:
        """Refuse a promise that the labels cannot keep.

        Raises:
            InputError: names the number of labels that is missing.
        """
        if labels < self.fewest:
            bound = "" if self.confidence is None else f" with a confidence of {self.confidence:g}"
            raise InputError(
                f"a probability of {self.alpha:g} for a wrong answer cannot be promised{bound}: it takes {self.fewest} "
                f"fresh labels or more, and there are {labels}; {self.fewest - labels} labels are missing",
                where=where,
                remedy="Label more requests, or promise less with a larger risk.alpha",
            )


@dataclass(frozen=True)
class LabelledAnswers:
    """Answers of every rung to labelled requests, reduced to what calibration looks at.

    Attributes:
        difficulty: of each answer of a rung before the last one (see `difficulty`).
        error: of that answer in units of the tolerances; infinite where the label is missing.
        unlabelled: requests that the last rung did not answer.
        failed: number of failures of each rung, the last one included.
    """

    difficulty: Float[np.ndarray, "label rung"]
    error: Float[np.ndarray, "label rung"]
    unlabelled: Bool[np.ndarray, " label"]
    failed: tuple[int, ...]

    @staticmethod
    def of(answers: Sequence[Sequence[Answer]], tau: Mapping[str, float], *, domain: bool = True) -> LabelledAnswers:
        """From answers.

        Args:
            answers: of each rung to each request, the last rung's being the labels.
            tau: output -> tolerance.
            domain: see `difficulty`.
        """
        labels = answers[-1]
        before: list[Sequence[Answer | None]] = [[None] * len(labels), *answers[:-2]]
        hard = [
            [difficulty(a, b, tau, domain=domain) for a, b in zip(row, lower, strict=True)]
            for row, lower in zip(answers[:-1], before, strict=True)
        ]
        wrong = [[error(a, label, tau) for a, label in zip(row, labels, strict=True)] for row in answers[:-1]]
        return LabelledAnswers(
            np.array(hard, np.float64).T.reshape(len(labels), -1),
            np.array(wrong, np.float64).T.reshape(len(labels), -1),
            np.array([isinstance(label, SimulationError) for label in labels], bool),
            tuple(sum(isinstance(a, SimulationError) for a in row) for row in answers),
        )


@dataclass(frozen=True)
class CalibratedRisk:
    """The result of a calibration.

    Attributes:
        errors: chance of being wrong of each rung before the last one.
        threshold: the threshold on it.
        design, calibration: rows of the labels.
        rung: rung that answers each row of `calibration`.
        wrong: whether that answer is wrong, or has no label.
    """

    errors: tuple[ErrorModel, ...]
    threshold: float
    design: Int[np.ndarray, " design"]
    calibration: Int[np.ndarray, " calibration"]
    rung: Int[np.ndarray, " calibration"]
    wrong: Bool[np.ndarray, " calibration"]


def calibrate(labelled: LabelledAnswers, risk: Risk, *, where: str = "labels") -> CalibratedRisk:
    """Fit the chances of being wrong and set the threshold.

    Args:
        labelled: fresh labels, on which no rung has learned, exchangeable with the requests to come.
        risk: what is promised.
        where: key of the configuration that names the labels, for errors.

    Raises:
        InputError: too few labels; the message says how many are missing.
    """
    count = len(labelled.error)
    risk.refuse_too_few(count, where=where)
    design, rest = risk.parts(count)
    errors = tuple(
        ErrorModel.fit(labelled.difficulty[design, k], labelled.error[design, k])
        for k in range(labelled.error.shape[1])
    )
    chance = chances(errors, labelled.difficulty[rest])
    wrong = labelled.error[rest] > 1
    threshold = risk_threshold(first_wrong(chance, wrong), risk.alpha, risk.confidence)
    rung = answering_rung(chance, threshold)
    return CalibratedRisk(errors, threshold, design, rest, rung, wrong_answers(rung, wrong))


def chances(errors: Sequence[ErrorModel], hard: Float[np.ndarray, "row rung"]) -> Float[np.ndarray, "row rung"]:
    """The chance of being wrong of each answer, by the model of its rung."""
    return np.stack([model.chance(hard[:, k]) for k, model in enumerate(errors)], axis=1)


def wrong_answers(rung: Int[np.ndarray, " row"], wrong: Bool[np.ndarray, "row rung"]) -> Bool[np.ndarray, " row"]:
    """Whether the rung that answers each row is wrong; the last one never is."""
    padded = np.concatenate([wrong, np.zeros((len(wrong), 1), bool)], axis=1)
    return np.asarray(np.take_along_axis(padded, rung[:, None].astype(np.int64), axis=1)[:, 0], bool)
