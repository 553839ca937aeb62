"""Trains potentials on files of geometries with energies and forces."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING, DictConfig, OmegaConf

from data.errors import InputError
from data.files import write_json
from data.identity import frame_keys
from data.plain import to_plain
from data.reading import Reading
from data.spec import content_hash
from data.structures.frame_names import FrameKeys
from data.structures.table import Structures
from experiments.application.run_directory import configuration_checked
from experiments.application.stage import (
    build,
    existing_file,
    first_rejects,
    instantiate,
    names,
    refuse_equal_stems,
    surrogate_directory,
)
from experiments.tasks.differences import differences
from experiments.tasks.force_scores import reading_shown, score, scored_rows
from experiments.tasks.frames import KeySettings, isolated_said, read_structures
from experiments.tasks.overlap import Overlap
from experiments.tasks.parts import VALIDATION
from experiments.tasks.tuning import TuneConfig, continued_config, fine_tuning
from simulators.adapter import Simulator
from simulators.rebuild import describe
from surrogates.learning.devices import data_mesh, is_first
from surrogates.learning.fit_note import note_fit
from surrogates.learning.learned_from import Hashes, hash_keys, read_hashes, save_hashes
from surrogates.learning.loop import TrainConfig
from surrogates.learning.resuming import record_training_data
from surrogates.learning.tracking import log_scores
from surrogates.potentials.facts import PotentialConfig, PotentialSettings
from surrogates.potentials.fit import FineTuning, fit_potential
from surrogates.potentials.networks.table import ARCHITECTURES
from surrogates.potentials.references import isolated_energies

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """The files that a potential is trained and scored on.

    Attributes:
        train: one or more files of training frames.
        valid: file of validation frames, or the fraction of the training frames used for validation, which chooses the
            best weights.
        test: files that are scored separately.
        isolated_atoms: file of single atoms whose energies the potential reproduces exactly; None to use the single
            atoms among the training frames, if there are any.
        calibration: fraction of the training frames set aside to calibrate the interval of the energy.
        seed: seed of the choice of validation and calibration frames.
        keys: names of the entries of a frame that hold labels, charge and spin.
    """

    train: tuple[Path, ...]
    valid: Path | float
    test: tuple[Path, ...] = ()
    isolated_atoms: Path | None = None
    calibration: float = 0.0
    seed: int = 0
    keys: FrameKeys = field(default_factory=FrameKeys)


@dataclass(frozen=True)
class StructureSettings(KeySettings):
    """The keys of `data` in task=molecules/potentials; see `Files`.

    Raises:
        ValueError: the seed is negative, or the calibration part is not in [0, 1).
    """

    train: Any = MISSING
    valid: Any = 0.05
    test: Any = field(default_factory=list)
    seed: int = 0
    isolated_atoms: str | None = None
    calibration: float = 0.0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if not 0 <= self.calibration < 1:
            raise ValueError(f"calibration must lie in [0, 1), got {self.calibration}")


def train_forces(config: DictConfig, run_dir: Path) -> dict[str, float]:
    """Run `understudy train task=molecules/potentials`; see `train_potential`.

    Raises:
        InputError: a file is missing, a key is unknown or a value is out of range.
    """
    data = build(StructureSettings, config.data, where="data")
    valid, isolated = str(data.valid), data.isolated_atoms
    files = Files(
        train=tuple(existing_file(name, "data.train") for name in names(data.train)),
        valid=float(valid) if _is_number(valid) else existing_file(valid, "data.valid"),
        test=tuple(existing_file(name, "data.test") for name in names(data.test)),
        isolated_atoms=None if isolated is None else existing_file(isolated, "data.isolated_atoms"),
        calibration=data.calibration,
        seed=data.seed,
        keys=data.keys("data."),
    )
    tune = build(TuneConfig, config.tune, where="tune")
    surrogate = potential_config(config.model)
    baseline = None if config.get("baseline") is None else instantiate(config.baseline)
    return train_potential(
        files,
        surrogate,
        build(TrainConfig, config.train, where="train"),
        run_dir,
        tune=tune,
        baseline=baseline,
    )


def potential_config(node: DictConfig) -> PotentialConfig:
    """The settings of a potential, from the configuration group `model`.

    Raises:
        InputError: an architecture or key is unknown, or a value is out of range.
    """
    name = str(node.network.get("architecture"))
    if name not in ARCHITECTURES:
        raise InputError(
            f"no architecture {name!r}; there are {', '.join(ARCHITECTURES)}", where="model.network.architecture"
        )
    inner = OmegaConf.masked_copy(node.network, [str(k) for k in node.network if k != "architecture"])
    outer = OmegaConf.masked_copy(node, [str(k) for k in node if k not in ("kind", "network")])
    network = build(ARCHITECTURES[name][0], inner, where="model.network")
    return PotentialConfig(**vars(build(PotentialSettings, outer, where="model")), network=network)


def train_potential(
    files: Files,
    config: PotentialConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    tune: TuneConfig | None = None,
    baseline: Simulator | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Read, split, fit, score on the test files, and save to `run_dir/surrogate`.

    Args:
        files: files to train and score on.
        config: settings of the potential; when fine-tuning, its network, ensemble and pair terms are those of the
            trained potential.
        training: training recipe.
        run_dir: directory that receives all results.
        tune: trained potential to continue from, if any, and how.
        baseline: simulator whose energies and forces are subtracted from the labels; it is run on all frames first.
        progress: whether to show progress bars and tables.

    Returns:
        Flat metrics: `train/seconds` (wall time), `train/core_seconds` (processor time), `train/frames`,
        `train/data_wait_share` (share of the time of the loop), `train/compilations` (of the training step), and those
        of `score` for each test file, or without test files those of the validation part under `valid/`. Only the first
        of several processes returns metrics.

    Raises:
        InputError: a file has no usable frame, two test files have the same stem, the validation part would be empty
            or leave nothing to train on, or `run_dir` holds a training on other data.
    """
    refuse_equal_stems(files.test, "data.test")
    tune = tune or TuneConfig()
    readings: list[Reading] = []
    with first_rejects(run_dir) as rejects, reading_shown(readings, run_dir):

        def frames_of(path: Path, *, training: bool = False) -> Structures:
            spins = baseline is not None
            return read_structures(path, rejects, files.keys, spins=spins, training=training, readings=readings)

        frames = Structures.concatenate([frames_of(path, training=True) for path in files.train])
        valid_file = frames_of(files.valid) if isinstance(files.valid, Path) else None
        tests = {path: frames_of(path) for path in files.test}
        isolated, place = {}, 0
        if files.isolated_atoms is not None:
            isolated = isolated_energies(frames_of(files.isolated_atoms, training=True))
            place = len(readings) - 1
            if not isolated:
                raise InputError(
                    "no frame of it is a neutral atom without neighbours and with an energy",
                    where=str(files.isolated_atoms),
                    remedy="Give one for each element, or leave data.isolated_atoms out",
                )
        going_on = fine_tuning(tune, run_dir, files.keys, readings)
        free = isolated_energies(frames) | isolated
        if free and baseline is None:
            bound = frames.take(np.flatnonzero(~frames.alone()))
            goes_on = going_on is not None and tune.head in going_on.potential.facts.heads
            readings[place] = isolated_said(readings[place], free, bound.elements, tune.head if goes_on else None)
    train, valid, calibration, rows = _parts(frames, valid_file, files)
    if going_on is not None:
        config = continued_config(config, going_on.potential)
    cheap: dict[str, float] = {}
    if baseline is not None:
        parts = [part for part in (train, valid, calibration) if part is not None]
        less, cheap = differences(baseline, parts, run_dir / "baseline.zarr", progress=progress)
        train = less.pop(0)
        valid = None if valid is None else less.pop(0)
        calibration = None if calibration is None else less.pop(0)
    record_training_data(
        run_dir,
        {
            "training part": fingerprint(train),
            "validation part": fingerprint(valid),
            "isolated atoms": content_hash({str(z): e for z, e in sorted(isolated.items())}),
            "network": content_hash(to_plain(config)),
            "trained potential": "" if going_on is None else going_on.potential.fingerprint,
            "head": tune.head,
            "replayed frames": "" if going_on is None or going_on.replay is None else fingerprint(going_on.replay),
        },
    )
    configuration_checked(run_dir)
    if is_first():
        write_json(run_dir / "split.json", {name: index.tolist() for name, index in rows.items()})
    potential, result = fit_potential(
        train,
        valid,
        config,
        training,
        run_dir,
        isolated={} if baseline is not None else isolated,
        label_fingerprint=fingerprint(frames),
        calibration=calibration,
        head=tune.head,
        tune=going_on,
        baseline=None if baseline is None else describe(baseline),
        mesh=data_mesh(),
        progress=progress,
    )
    note_fit(result, run_dir)
    if not is_first():
        return {}
    learned = hash_keys(frame_keys(Structures.concatenate([s for s in (train, valid, calibration) if s is not None])))
    held_out: dict[str, float] = {}
    if not tests and valid is not None:
        # With a baseline these are differences, to which it would add the same on both sides.
        bare = replace(potential.facts.head, baseline=None)
        heads = {**potential.facts.heads, potential.facts.active: bare}
        held_out = score(potential.with_facts(heads=heads), valid, VALIDATION, "the validation part")
    metrics = {
        "train/seconds": result.seconds,
        "train/core_seconds": result.core_seconds,
        "train/frames": float(len(train)),
        "train/data_wait_share": result.data_wait_share,
        "train/compilations": float(result.compilations["train"]),
        **cheap,
    }
    if baseline is not None:
        potential = potential.with_baseline(baseline)
    if to_plain(files.keys) != to_plain(FrameKeys()):
        active = replace(potential.facts.head, keys=files.keys)
        potential = potential.with_facts(heads={**potential.facts.heads, potential.facts.active: active})
    for path, structures in tests.items():
        overlap = Overlap.among(learned, frame_keys(structures), "frames")
        if overlap.count:
            LOG.warning("%s: %s", path, overlap.said)
        held_out |= overlap.scores(f"test/{path.stem}", partial(scored_rows, potential, structures, path))
    log_scores(run_dir, held_out)
    metrics |= held_out
    potential.with_facts(scores=metrics).save(run_dir / "surrogate")
    save_hashes(run_dir / "surrogate", learned, *_learned_before(going_on, tune))
    return metrics


def _learned_before(going_on: FineTuning | None, tune: TuneConfig) -> list[Hashes | None]:
    """Hashes of the data that the potential to continue from was trained on, and of the replayed frames."""
    if going_on is None:
        return []
    replayed = [] if going_on.replay is None else [hash_keys(frame_keys(going_on.replay))]
    return [read_hashes(surrogate_directory(tune.surrogate, "tune.surrogate")), *replayed]


def fingerprint(structures: Structures) -> str:
    """Hash of geometries and labels, which does not depend on the files that they come from."""
    arrays = [
        structures.numbers,
        structures.positions,
        structures.energy,
        structures.forces,
        structures.charge,
        structures.lattice,
        structures.stress,
    ]
    # Fingerprints of older runs omit spins, so frames in their lowest spin still do.
    if not np.array_equal(structures.spins, structures.lowest_spins):
        arrays.append(structures.spins)
    return content_hash([np.ascontiguousarray(a).tobytes().hex() for a in arrays])


def _parts(
    frames: Structures, valid_file: Structures | None, files: Files
) -> tuple[Structures, Structures, Structures | None, dict[str, np.ndarray]]:
    """Training, validation and calibration frames, and their rows among the frames of `files.train`."""
    fractions = {
        "valid": 0.0 if isinstance(files.valid, Path) else files.valid,
        "calibration": files.calibration,
    }
    order = np.random.default_rng(files.seed).permutation(len(frames))
    # Single atoms set the reference energies, and therefore stay in the training part.
    alone = frames.alone()
    order = order[~alone[order]]
    total = len(order)
    rows: dict[str, np.ndarray] = {}
    for name, fraction in fractions.items():
        n = round(fraction * total)
        needs_frames = fraction > 0 or (name == "valid" and not isinstance(files.valid, Path))
        if needs_frames and not 0 < n < len(order):
            # Rounding gives one frame to every fraction above a half.
            enough = math.floor(0.5 / fraction) + 1 if fraction > 0 else 0
            needed = f": it takes {max(enough, 2)} frames" if 0 < fraction < 0.5 else ""
            raise InputError(
                f"a fraction of {fraction} of {total} frames leaves none for it, or none to train on{needed}",
                where=f"data.{name}",
                remedy="Give a fraction between 0 and 1" + (", or a file" if name == "valid" else ""),
            )
        rows[name], order = np.sort(order[:n]), order[n:]
    if len(order) == 1:
        LOG.warning("there is only 1 training frame")
    rows["train"] = np.sort(np.concatenate([order, np.flatnonzero(alone)]))
    valid = frames.take(rows["valid"]) if valid_file is None else valid_file
    calibration = frames.take(rows["calibration"]) if files.calibration > 0 else None
    return frames.take(rows["train"]), valid, calibration, rows


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?", text.lower()) is not None
