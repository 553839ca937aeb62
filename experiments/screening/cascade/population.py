"""All candidates with the answers of the first rung, read block by block, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from experiments.screening.cascade.rung_answers import OK
from surrogates.cascade.design import Draws, DrawStream, importance
from surrogates.cascade.scoring import HitRule

BLOCK = 65_536
#: Bins of the histogram of scores, from which the number of certain candidates is read.
BINS = 20_000
LOWEST = -200.0


@dataclass(frozen=True)
class FailurePolicy:
    """What becomes of a candidate on which a rung fails: "pass" for the next rung, "list" to leave it out."""

    policy: str = "pass"

    def __post_init__(self) -> None:
        if self.policy not in ("pass", "list"):
            raise ValueError(f"failures must be pass or list, got {self.policy!r}")

    @property
    def score(self) -> float:
        """The score of a candidate without an answer."""
        return np.inf if self.policy == "pass" else -np.inf


class Population:
    """The candidates, numbered from 0 in the order of the file.

    Args:
        parts: Parquet files with the answers of the first rung.
        rule: what a hit is.
        failures: what becomes of a candidate without an answer.
        carried: columns of the parts that are not read: those of the candidates that the results repeat.
    """

    def __init__(
        self, parts: Sequence[Path], rule: HitRule, failures: FailurePolicy, carried: Sequence[str] = ()
    ) -> None:
        self._parts, self.rule, self._failures, self._carried = list(parts), rule, failures, frozenset(carried)
        self.total = 0
        self.expected = 0.0
        self._counts = np.zeros(BINS + 1, np.int64)
        self._chances = np.zeros(BINS + 1)
        for score, frame in self._scored():
            self.total += len(frame)
            chance = np.exp(np.minimum(score, 0.0))
            chance[~np.isfinite(score)] = 0.0
            self.expected += float(chance.sum())
            bins = self._bin(score)
            self._counts += np.bincount(bins, minlength=BINS + 1)
            self._chances += np.bincount(bins, weights=chance, minlength=BINS + 1)

    def _bin(self, score: np.ndarray) -> np.ndarray:
        # The root spreads the scores near 0, where the likely hits are.
        depth = np.sqrt(np.clip(-np.clip(score, LOWEST, 0.0), 0.0, -LOWEST) / -LOWEST)
        return np.asarray(np.minimum((depth * BINS).astype(np.int64), BINS), np.int64)

    def _scored(self) -> Iterator[tuple[Float[np.ndarray, " row"], pd.DataFrame]]:
        for path in self._parts:
            with pq.ParquetFile(path) as file:
                columns = [name for name in file.schema_arrow.names if name not in self._carried]
                for batch in file.iter_batches(BLOCK, columns=columns):
                    frame = batch.to_pandas()
                    yield first_scores(frame, self.rule, self._failures), frame

    def unanswered(self) -> pd.DataFrame:
        """The candidates on which the first rung failed: line, smiles, status, message and score_0."""
        blocks = [
            frame.assign(score_0=score)[frame["status"] != OK]
            for score, frame in self._scored()
            if "status" in frame and (frame["status"] != OK).any()
        ]
        columns = ["line", "smiles", "status", "message", "score_0"]
        return pd.concat(blocks, ignore_index=True)[columns] if blocks else pd.DataFrame(columns=columns)

    def certain_count(self, share: float) -> int:
        """Number of the best candidates that are expected to hold a share of the hits."""
        reached = np.cumsum(self._chances)
        place = int(np.searchsorted(reached, share * self.expected))
        return int(np.cumsum(self._counts)[min(place, BINS)])

    def cut_of(self, count: int) -> float:
        """A score that at most `count` candidates, the best ones, reach; +inf if none does."""
        inside = np.cumsum(self._counts)
        place = int(np.searchsorted(inside, count, side="right"))
        if place == 0:
            return np.inf
        return LOWEST * (place / BINS) ** 2

    def at_least(self, cut: float) -> Iterator[tuple[Int[np.ndarray, " row"], Float[np.ndarray, " row"], pd.DataFrame]]:
        """Blocks of the candidates with a score of `cut` or more: number of each, score, and answers."""
        first = 0
        for score, frame in self._scored():
            rows = np.flatnonzero(score >= cut)
            if len(rows):
                yield first + rows, score[rows], frame.iloc[rows].reset_index(drop=True)
            first += len(frame)

    def sample(self, cut: float, draws: int, seed: int, uniform: float) -> tuple[pd.DataFrame, Draws | None]:
        """The candidates with a score of `cut` or more, and draws of the others.

        Args:
            cut: smallest score of the candidates that are taken with certainty.
            draws: number of draws of the others.
            seed: seed of the draws.
            uniform: share of uniform draws.

        Returns:
            A row for each different candidate, with its `number`, `score_0` and whether it is `certain`; and the draws,
            whose rows are such numbers. None if every candidate is certain.
        """
        rest, importance_sum = 0, 0.0
        for score, _ in self._scored():
            others = score[~(score >= cut)]
            rest += len(others)
            importance_sum += float(importance(others).sum())
        frames: list[pd.DataFrame] = []
        stream = DrawStream(rest, importance_sum, draws, seed, uniform) if rest else None
        first = 0
        for score, frame in self._scored():
            above = score >= cut
            below = np.flatnonzero(~above)
            drawn = below[stream.take(first + below, importance(score[below]))] if stream is not None else below
            # A point that rounding leaves over belongs to the last row of all, which is therefore always at hand.
            keep = np.union1d(np.flatnonzero(above), np.append(drawn, below[-1:]))
            if len(keep):
                frames.append(frame.iloc[keep].assign(number=first + keep, score_0=score[keep], certain=above[keep]))
            first += len(frame)
        sampled = pd.concat(frames, ignore_index=True)
        if stream is None:
            return sampled, None
        result = stream.draws()
        kept = sampled["certain"].to_numpy() | np.isin(sampled["number"], result.rows)
        return sampled[kept].reset_index(drop=True), result


def first_scores(frame: pd.DataFrame, rule: HitRule, failures: FailurePolicy) -> Float[np.ndarray, " row"]:
    """Scores of the first rung.

    Args:
        frame: its answers: `<name>` and `<name>_std`, and `status` for a simulator.
        rule: what a hit is.
        failures: what becomes of a candidate without an answer.
    """
    mean = {name: frame[name].to_numpy(np.float64) for name in rule.names}
    std = {name: np.maximum(frame[f"{name}_std"].to_numpy(np.float64), 1e-300) for name in rule.names}
    score = rule.log_chance(mean, std)
    failed = ~np.isfinite(np.stack(list(mean.values()))).all(axis=0)
    return np.where(failed, failures.score, score)
