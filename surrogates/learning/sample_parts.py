"""Reads the samples of a file, splits them into four parts, and scores a surrogate on them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from data.errors import InputError
from data.grouping import repeats_note
from data.molecules.tally import kind_of_reason
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import MISSING
from data.splits import counts, split_by_key
from surrogates.learning.box import UNKNOWN
from surrogates.learning.conformal import fewest_points
from surrogates.learning.overlap import Overlap
from surrogates.learning.part_sizes import PARTS, check_parts, refuse_or_say_few, with_calibration

LOG = logging.getLogger(__name__)


class Samples(Protocol):
    """Samples that can be split: fields, numbers or meshes."""

    def __len__(self) -> int: ...

    def take(self, rows: Any) -> Self:
        """The samples of these rows."""
        ...

    def content(self) -> str:
        """Hash of the arrays."""
        ...

    def input_keys(self) -> list[str]:
        """A key for each sample; samples with equal inputs have equal keys."""
        ...


S = TypeVar("S", bound=Samples)


@dataclass(frozen=True)
class PartedData:
    """The training data and how it is split; keys of `data`.

    Attributes:
        file: store that `understudy simulate` wrote, or another file that the subclass reads.
        parts: fractions or counts of the samples, in the order of `PARTS`.
        test: more files, each scored separately.
        seed: seed of the split.

    Raises:
        ValueError: the seed is negative, or the parts are not four numbers of 0 or more.
    """

    file: str = MISSING
    parts: list[Any] = field(default_factory=lambda: [0.7, 0.1, 0.1, 0.1])
    test: Any = field(default_factory=list)
    seed: int = 0

    def __post_init__(self) -> None:
        check_parts(self.parts, self.seed)


def split(keys: Sequence[str], data: PartedData, *, least: int = 1) -> dict[str, np.ndarray]:
    """Rows of each part, at random; samples of the same inputs stay in one part.

    Args:
        keys: key of each sample, equal for samples with equal inputs.
        data: parts and seed of the split.
        least: smallest number of samples to train on.

    Raises:
        InputError: there are too few samples to train on or to calibrate with.
    """
    asked = dict(zip(PARTS, data.parts, strict=True))
    sizes = counts(with_calibration(asked, len(keys)), len(keys))
    if 0 < sizes["calibration"] < fewest_points():
        raise InputError(
            f"{sizes['calibration']} samples cannot calibrate intervals",
            where="data.parts",
            remedy=f"Set {fewest_points()} or more aside for calibration, or 0 to do without intervals",
        )
    parts = dict(split_by_key(keys, sizes, seed=data.seed).parts)
    if sizes["calibration"] and len(parts["calibration"]) < fewest_points():
        _fill_calibration(parts, keys)
    refuse_or_say_few({name: len(rows) for name, rows in parts.items()}, len(keys), asked, least=least)
    return parts


def _fill_calibration(parts: dict[str, np.ndarray], keys: Sequence[str]) -> None:
    """Move groups of samples from the training part to a calibration part that became too small.

    Raises:
        InputError: the training part has too few different inputs.
    """
    groups: dict[str, list[int]] = {}
    for row in parts["train"].tolist():
        groups.setdefault(keys[row], []).append(row)
    rows = parts["calibration"].tolist()
    # Keys are hashes, so their order is random among groups of the same size.
    for key in sorted(groups, key=lambda k: (len(groups[k]), k))[:-1]:
        if len(rows) >= fewest_points():
            break
        rows += groups.pop(key)
    if len(rows) < fewest_points():
        raise InputError(
            f"{len(set(keys))} different inputs among {len(keys)} samples leave {len(rows)} to calibrate with, where "
            f"{fewest_points()} are needed",
            where="data.parts",
            remedy="Give samples of more inputs, or a calibration part of 0 to do without intervals",
        )
    parts["calibration"] = np.sort(rows)
    parts["train"] = np.sort([row for group in groups.values() for row in group])


def read_samples(
    path: Path,
    read: Callable[[Path], tuple[S, Sequence[tuple[int, str]]]],
    rejects: RejectLog | None,
    readings: list[Reading] | None = None,
) -> S:
    """The samples of a file; what was read and left out is recorded.

    Args:
        path: file of samples.
        read: returns the samples, and (row, reason) of each sample that was left out.
        rejects: receives the samples that were left out.
        readings: receives what was read, from the attribute `reading` of the samples, or from `quantities` and
            `unused`.
    """
    samples, bad = read(path)
    if readings is not None:
        store = path.is_dir() and (path / "store.json").is_file()
        detailed: Reading | None = getattr(samples, "reading", None)
        readings.append(
            detailed
            or Reading(
                str(path),
                "store of `understudy simulate`" if store else f"{path.suffix.lstrip('.') or 'unnamed'} file",
                "samples",
                total=len(samples) + len({row for row, _ in bad}),
                used=len(samples),
                quantities=getattr(samples, "quantities", {}),
                left_out=Counter(kind_of_reason(reason) for _, reason in dict(bad).items()),
                unused=getattr(samples, "unused", {}),
                assumed=repeats_note(samples.input_keys()),
            )
        )
    if rejects is not None:
        for row, reason in bad:
            rejects.add(path, row, "", reason)
    return samples


def say_other_labels(readings: list[Reading] | None, tested: str, learned: str) -> None:
    """Note in the last reading that the labels of a store come from another simulator than the training labels.

    Args:
        readings: readings, of which the last one is extended; None to do nothing.
        tested, learned: fingerprints of the labels, which change with the settings and the version of a simulator.
    """
    if not readings or not tested or tested == learned:
        return
    text = (
        f"its labels are treated like those that were learned, although they come from another simulator, setting or "
        f"version ({tested[:12]}; {learned[:12]} was learned)"
    )
    readings[-1] = replace(readings[-1], assumed=(*readings[-1].assumed, text))


def say_learned_inputs(learned: Set[str], others: Mapping[str, Samples]) -> None:
    """Warn about files of `data.test` that share inputs with the training part."""
    for name, other in others.items():
        again = sum(key in learned for key in other.input_keys())
        if again:
            LOG.warning(
                "data.test: %d of %d samples of %s have inputs of the training part, so its scores are not held-out",
                again,
                len(other),
                name,
            )


def score_apart(
    overlap: Overlap, score: Callable[[S, str], Mapping[str, float]], samples: S, prefix: str
) -> dict[str, float]:
    """Scores of samples; if some were used in training, also scores of the others. See `Overlap.scores`."""
    return overlap.scores(prefix, lambda rows, head: score(samples.take(rows), head))


def domain_share(outside: list[list[str]] | None, prefix: str) -> dict[str, float]:
    """The share of samples inside the training domain, with a warning if some are outside."""
    if outside is None:
        LOG.warning("%s: whether the samples are inside the training domain is %s", prefix, UNKNOWN)
        return {}
    strange = [said for said in outside if said]
    if strange:
        LOG.warning(
            "%s: %d of %d samples are outside the training domain, the first by %s: predictions for them are "
            "extrapolations, and their bands are not reliable",
            prefix,
            len(strange),
            len(outside),
            "; ".join(strange[0]),
        )
    return {f"{prefix}/in_domain": 1 - len(strange) / len(outside)}
