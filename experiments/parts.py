"""Samples of a file in four parts, as every training on a store of samples takes them."""

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
from data.reading import Reading
from data.rejects import RejectLog
from data.splits import counts, split_by_key
from data.tally import kind_of_reason
from experiments.overlap import Overlap
from experiments.part_sizes import PARTS, check_parts, refuse_or_say_few, with_calibration
from experiments.run_directory import configuration_checked
from experiments.stage import existing_file, first_rejects, names, refuse_equal_stems, show_readings
from surrogates.box import UNKNOWN
from surrogates.devices import is_first
from surrogates.fit_note import note_fit
from surrogates.learned_from import hash_keys, save_hashes
from surrogates.resuming import record_training_data
from surrogates.tracking import log_scores
from surrogates.train import FitResult
from surrogates.uncertainty import fewest_points

LOG = logging.getLogger(__name__)
#: Prefix of scores of the validation part, which stand in where no sample was set aside for a test.
VALIDATION = "valid"


class Samples(Protocol):
    """What can be split: a table of fields, of numbers or of meshes."""

    def __len__(self) -> int: ...

    def take(self, rows: Any) -> Self:
        """Some of the samples."""
        ...

    def content(self) -> str:
        """Hash of the arrays."""
        ...

    def input_keys(self) -> list[str]:
        """A key for each sample, equal where its inputs are."""
        ...


S = TypeVar("S", bound=Samples)


@dataclass(frozen=True)
class PartedData:
    """What to learn from, and how it is split; keys of `data`.

    Attributes:
        file: a store that `understudy simulate` made, or what else the subclass reads.
        parts: fractions or counts of the samples, in the order of `PARTS`.
        test: more files, each scored apart.
        seed: of the split.

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
        keys: of each sample, equal where the inputs are.
        data: the parts and the seed.
        least: samples that a training needs.

    Raises:
        InputError: there are too few samples, or too few to calibrate with.
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
    """Move samples of the training part to the calibration part, which groups that fit nowhere whole left short.

    Raises:
        InputError: the training part has too few different inputs.
    """
    groups: dict[str, list[int]] = {}
    for row in parts["train"].tolist():
        groups.setdefault(keys[row], []).append(row)
    rows = parts["calibration"].tolist()
    # Keys are hashes, so that their order chooses groups of one size at random.
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
        data: names the files.
        run_dir: gets `rejects.csv` with what was left out.
        read: samples of a file, and for each that was left out its number and why.

    Raises:
        InputError: a file is missing, two tests have one stem, or `read` refuses one.
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
    """The samples of a file.

    Args:
        path: of the file.
        read: samples, and for each that was left out its number and why.
        rejects: gets those that were left out.
        readings: gets what was read, as the samples tell in `reading`, or in `quantities` and `unused`.
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
    """Say in the last reading that the labels of a store are not those of the simulator that was learned.

    Args:
        readings: of what was read; None to say nothing.
        tested, learned: fingerprints of the labels. That of a simulator changes with its settings and its version.
    """
    if not readings or not tested or tested == learned:
        return
    text = (
        f"its labels count as if they were of the kind that was learned: they are of another simulator, setting or "
        f"version ({tested[:12]}; learned was {learned[:12]})"
    )
    readings[-1] = replace(readings[-1], assumed=(*readings[-1].assumed, text))


def say_learned_inputs(learned: Set[str], others: Mapping[str, Samples]) -> None:
    """Say which files of `data.test` hold inputs that the training part holds too."""
    for name, other in others.items():
        again = sum(key in learned for key in other.input_keys())
        if again:
            LOG.warning(
                "data.test: %d of %d samples of %s have inputs that are learned from, so its scores are of known ones",
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
        samples: to split as `data.parts` says.
        others: more samples, scored under `test/<name>/`.
        data: the split.
        run_dir: gets everything.
        network: hash of the configuration, which a resumed run has to share.
        fit: from the training, the validation and the calibration part to a surrogate; None for an empty part.
        score: of a surrogate on samples, with a prefix of the keys.
        costs: more metrics, such as `train/label_core_seconds`.
        least: samples that a training needs.

    Returns:
        Flat metrics: `train/seconds`, `train/core_seconds` (processor time), `train/samples`,
        `train/data_wait_share`, `train/compilations`, the costs and the scores: of tests, or where there is none of the
        validation part, under `valid/`; nothing on processes but the first.

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
    """Scores of samples, and where some were learned from also those of the others; see `Overlap.scores`."""
    return overlap.scores(prefix, lambda rows, head: score(samples.take(rows), head))


def domain_share(outside: list[list[str]] | None, prefix: str) -> dict[str, float]:
    """The share of samples inside of the domain, and a warning with numbers where some are not."""
    if outside is None:
        LOG.warning("%s: whether the samples are of the kind that was learned is %s", prefix, UNKNOWN)
        return {}
    strange = [said for said in outside if said]
    if strange:
        LOG.warning(
            "%s: %d of %d samples are unlike those that were learned from, the first by %s: answers to them are "
            "extrapolations, and their bands promise nothing",
            prefix,
            len(strange),
            len(outside),
            "; ".join(strange[0]),
        )
    return {f"{prefix}/in_domain": 1 - len(strange) / len(outside)}
