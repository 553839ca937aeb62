"""Splits the samples of a file into four parts, and trains and scores any kind of surrogate on them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from omegaconf import MISSING

from data.errors import InputError
from data.files import write_json
from data.grouping import repeats_note
from data.molecules.tally import kind_of_reason
from data.reading import Reading
from data.rejects import RejectLog
from data.splits import counts, split_by_key
from experiments.application.run_directory import configuration_checked
from experiments.application.stage import existing_file, first_rejects, names, refuse_equal_stems, show_readings
from experiments.tasks.overlap import Overlap
from experiments.tasks.part_sizes import PARTS, check_parts, refuse_or_say_few, with_calibration
from surrogates.learning.box import UNKNOWN
from surrogates.learning.conformal import fewest_points
from surrogates.learning.devices import is_first
from surrogates.learning.fit_note import note_fit
from surrogates.learning.learned_from import hash_keys, save_hashes
from surrogates.learning.loop import FitResult
from surrogates.learning.resuming import record_training_data
from surrogates.learning.tracking import log_scores

LOG = logging.getLogger(__name__)
#: Prefix of scores of the validation part, which are reported if there is no test part.
VALIDATION = "valid"


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


def read_parted(
    data: PartedData, run_dir: Path, read: Callable[[Path], tuple[S, Sequence[tuple[int, str]]]]
) -> tuple[S, dict[str, S]]:
    """The samples of `data.file`, and those of each of `data.test` by the stem of its name.

    Args:
        data: names of the files.
        run_dir: directory that receives `rejects.csv`, with the samples that were left out.
        read: returns the samples of a file, and (row, reason) of each sample that was left out.

    Raises:
        InputError: a file is missing, two test files have the same stem, or `read` refuses a file.
    """
    tests = [existing_file(name, "data.test") for name in names(data.test)]
    refuse_equal_stems(tests, "data.test")
    readings: list[Reading] = []
    with first_rejects(run_dir) as rejects:
        first = read_samples(existing_file(data.file, "data.file"), read, rejects, readings)
        others = {path.stem: read_samples(path, read, rejects, readings) for path in tests}
    show_readings(readings, run_dir)
    return first, others


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


def train_on_parts(
    samples: S,
    others: Mapping[str, S],
    data: PartedData,
    run_dir: Path,
    *,
    network: str,
    fit: Callable[[S, S | None, S | None], tuple[Any, FitResult]],
    score: Callable[[Any, S, str], dict[str, float]],
    costs: Mapping[str, float],
    least: int = 1,
) -> dict[str, float]:
    """Split, fit, score, and save to `run_dir/surrogate`.

    Args:
        samples: samples, split by `data.parts`.
        others: more samples, each scored under `test/<name>/`.
        data: fractions and seed of the split.
        run_dir: directory that receives all results.
        network: hash of the settings of the surrogate, which must be the same in a resumed run.
        fit: trains a surrogate on the training, validation and calibration parts; an empty part is None.
        score: scores a surrogate on samples, with keys under a prefix.
        costs: more metrics, such as `train/label_core_seconds`.
        least: smallest number of samples to train on.

    Returns:
        Flat metrics: `train/seconds`, `train/core_seconds` (processor time), `train/samples`,
        `train/data_wait_share`, `train/compilations`, the costs, and the scores of the tests, or without any test those
        of the validation part under `valid/`. Only the first of several processes returns metrics.

    Raises:
        InputError: the parts do not fit the number of samples, or `run_dir` holds a training on other data.
    """
    keys = samples.input_keys()
    parts = split(keys, data, least=least)
    say_learned_inputs({keys[i] for i in parts["train"]}, others)
    some = {name: samples.take(rows) if len(rows) else None for name, rows in parts.items()}
    learned, valid = some["train"], some["valid"]
    assert learned is not None
    facts = {"training part": learned.content(), "validation part": "" if valid is None else valid.content()}
    record_training_data(run_dir, {**facts, "network": network})
    configuration_checked(run_dir)
    if is_first():
        write_json(run_dir / "split.json", {name: rows.tolist() for name, rows in parts.items()})
    surrogate, result = fit(learned, valid, some["calibration"])
    note_fit(result, run_dir)
    if not is_first():
        return {}
    metrics = {
        "train/seconds": result.seconds,
        "train/core_seconds": result.core_seconds,
        "train/samples": float(len(learned)),
        "train/data_wait_share": result.data_wait_share,
        "train/compilations": float(result.compilations["train"]),
        **costs,
    }
    hashes = hash_keys(keys[i] for name, rows in parts.items() if name != "test" for i in rows)
    held_out: dict[str, float] = {}
    tests = {"test": some["test"], **{f"test/{name}": other for name, other in others.items()}}
    for name, test in tests.items():
        if test is not None:
            held_out |= score_apart(Overlap.among(hashes, test.input_keys()), partial(score, surrogate), test, name)
    if not held_out and valid is not None:
        held_out |= score(surrogate, valid, VALIDATION)
    log_scores(run_dir, held_out)
    metrics |= held_out
    surrogate.with_facts(scores=metrics).save(run_dir / "surrogate")
    save_hashes(run_dir / "surrogate", hashes)
    return metrics


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
