"""Train and score a potential on files of geometries with energies and forces."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from data.errors import InputError
from data.molecules import read
from data.rejects import RejectLog
from data.structures import Structures
from experiments.stage import build, existing_file, write_json
from simulators.base import SimulationError, content_hash
from surrogates.devices import data_mesh
from surrogates.graph.fit_potential import fit_potential
from surrogates.graph.networks import ARCHITECTURES
from surrogates.graph.potential import Potential, PotentialConfig, PotentialSettings
from surrogates.graph.references import isolated_energies
from surrogates.train import TrainConfig
from surrogates.uncertainty import coverage

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """What to learn from and what to score on.

    Attributes:
        train: frames to learn from, one or more files.
        valid: a file, or the fraction of the training frames that chooses the best weights.
        test: each scored apart.
        isolated_atoms: frames of single atoms whose energies the potential keeps exactly; None to take the
            single atoms among the training frames, if there are any.
        calibration: fraction of the training frames set aside to calibrate the energy's interval.
        seed: of the choice of validation and calibration frames.
    """

    train: tuple[Path, ...]
    valid: Path | float
    test: tuple[Path, ...] = ()
    isolated_atoms: Path | None = None
    calibration: float = 0.0
    seed: int = 0


def train_forces(config: DictConfig, run_dir: Path) -> dict[str, float]:
    """The stage `understudy train experiment=molecules/forces`: `train_potential` as `config` says.

    Raises:
        InputError: a file is missing, a key is unknown or a value is out of range.
    """
    where = config.data
    valid = str(where.valid)
    isolated = where.get("isolated_atoms")
    files = Files(
        train=tuple(existing_file(name, "data.train") for name in _names(where.train)),
        valid=float(valid) if _is_number(valid) else existing_file(valid, "data.valid"),
        test=tuple(existing_file(name, "data.test") for name in _names(where.test)),
        isolated_atoms=None if isolated is None else existing_file(isolated, "data.isolated_atoms"),
        calibration=float(where.get("calibration", 0.0)),
        seed=int(where.seed),
    )
    return train_potential(
        files,
        potential_config(config.surrogate),
        build(TrainConfig, config.train, where="train"),
        run_dir,
    )


def potential_config(node: DictConfig) -> PotentialConfig:
    """What the configuration group `surrogate` says.

    Raises:
        InputError: an architecture or key is unknown, or a value is out of range.
    """
    name = str(node.network.get("architecture"))
    if name not in ARCHITECTURES:
        raise InputError(
            f"no architecture {name!r}; there are {', '.join(ARCHITECTURES)}", where="surrogate.network.architecture"
        )
    inner = OmegaConf.masked_copy(node.network, [str(k) for k in node.network if k != "architecture"])
    outer = OmegaConf.masked_copy(node, [str(k) for k in node if k not in ("kind", "network")])
    network = build(ARCHITECTURES[name][0], inner, where="surrogate.network")
    return PotentialConfig(**vars(build(PotentialSettings, outer, where="surrogate")), network=network)


def train_potential(
    files: Files, config: PotentialConfig, training: TrainConfig, run_dir: Path, *, progress: bool = True
) -> dict[str, float]:
    """Read, split, fit, score on the test files, save to `run_dir/surrogate`.

    Returns:
        Flat metrics: `train/seconds`, `train/frames`, `train/data_wait_share` (of the loop's time),
        `train/compilations` (of the step), and those of `score` for each test file.

    Raises:
        InputError: a file has no frame that can be used, two test files have the same stem, or the
            validation part would be empty or everything.
    """
    _refuse_equal_stems(files.test)
    with RejectLog(run_dir / "rejects.csv") as rejects:
        frames = Structures.concatenate([read_structures(path, rejects) for path in files.train])
        train, valid, calibration = _parts(frames, files, rejects, run_dir)
        tests = {path: read_structures(path, rejects) for path in files.test}
        isolated = (
            {} if files.isolated_atoms is None else isolated_energies(read_structures(files.isolated_atoms, rejects))
        )
    start = time.perf_counter()
    potential, result = fit_potential(
        train,
        valid,
        config,
        training,
        run_dir,
        isolated=isolated,
        label_fingerprint=fingerprint(frames),
        calibration=calibration,
        mesh=data_mesh(),
        progress=progress,
    )
    metrics = {
        "train/seconds": time.perf_counter() - start,
        "train/frames": float(len(train)),
        "train/data_wait_share": result.data_wait_share,
        "train/compilations": float(result.compilations["train"]),
    }
    for path, structures in tests.items():
        metrics |= score(potential, structures, path)
    potential.with_facts(scores=metrics).save(run_dir / "surrogate")
    return metrics


def evaluate_forces(surrogate: Path, files: Sequence[Path], rejects: RejectLog | None = None) -> dict[str, float]:
    """Score a saved potential on files, each under `test/<stem>/`.

    Raises:
        InputError: as `train_potential`, or the directory holds no potential.
    """
    _refuse_equal_stems(files)
    potential = Potential.load(surrogate)
    metrics: dict[str, float] = {}
    for path in files:
        metrics |= score(potential, read_structures(path, rejects), path)
    return metrics


def score(potential: Potential, structures: Structures, path: Path) -> dict[str, float]:
    """Mean absolute and root mean square errors, in meV for each molecule and meV/Angstrom for each component.

    What a file does not hold, or the potential did not learn, is left out with a warning.

    Raises:
        InputError: a structure holds an element that the potential does not know.
    """
    try:
        answer = potential.predict_structures(structures, mesh=data_mesh())
    except SimulationError as error:
        raise InputError(error.message, where=str(path), remedy="Remove such structures") from error
    known = np.isfinite(structures.energy)
    learned = {variable.name for variable in potential.spec.outputs}
    pairs = {
        "energy": ("mev", answer.energy, structures.energy),
        "forces": ("mev_per_angstrom", answer.forces, structures.forces),
    }
    metrics: dict[str, float] = {}
    for name, (unit, predicted, truth) in pairs.items():
        errors = 1000.0 * (predicted - truth)[np.isfinite(truth)]
        if not len(errors) or name not in learned:
            reason = "was not learned" if name not in learned else "is in none of its frames"
            LOG.warning("%s: no errors of %s, which %s", path, name, reason)
            continue
        metrics[f"test/{path.stem}/{name}_mae_{unit}"] = float(np.abs(errors).mean())
        metrics[f"test/{path.stem}/{name}_rmse_{unit}"] = float(np.sqrt((errors**2).mean()))
    if answer.energy_low is not None and answer.energy_high is not None and known.any():
        low, high, truth = answer.energy_low[known], answer.energy_high[known], structures.energy[known]
        metrics[f"test/{path.stem}/energy_coverage_90"] = coverage(truth, low, high)
        metrics[f"test/{path.stem}/energy_interval_width_mev"] = float(1000.0 * np.mean(high - low))
    return metrics


def read_structures(path: Path, rejects: RejectLog | None) -> Structures:
    """The frames of a file; those that cannot be read go to `rejects`.

    Raises:
        InputError: none can be used, a cell is periodic, or atoms lie on top of each other.
    """
    return Structures.from_frames(read(path, rejects=rejects), str(path))


def fingerprint(structures: Structures) -> str:
    """Hash of geometries and labels, the same for the same frames whatever file they come from."""
    arrays = (structures.numbers, structures.positions, structures.energy, structures.forces)
    return content_hash([np.ascontiguousarray(a).tobytes().hex() for a in arrays])


def _parts(
    frames: Structures, files: Files, rejects: RejectLog, run_dir: Path
) -> tuple[Structures, Structures, Structures | None]:
    """Training, validation and calibration frames; which of `files.train` they are goes to split.json."""
    fractions = {
        "valid": 0.0 if isinstance(files.valid, Path) else files.valid,
        "calibration": files.calibration,
    }
    order = np.random.default_rng(files.seed).permutation(len(frames))
    rows: dict[str, np.ndarray] = {}
    for name, fraction in fractions.items():
        n = round(fraction * len(frames))
        wanted = fraction > 0 or (name == "valid" and not isinstance(files.valid, Path))
        if wanted and not 0 < n < len(order):
            raise InputError(
                f"a fraction of {fraction} of {len(frames)} frames leaves none for it, or none to train on",
                where=f"data.{name}",
                remedy="Give a fraction between 0 and 1" + (", or a file" if name == "valid" else ""),
            )
        rows[name], order = np.sort(order[:n]), order[n:]
    rows["train"] = np.sort(order)
    write_json(run_dir / "split.json", {name: index.tolist() for name, index in rows.items()})
    valid = read_structures(files.valid, rejects) if isinstance(files.valid, Path) else frames.take(rows["valid"])
    calibration = frames.take(rows["calibration"]) if files.calibration > 0 else None
    return frames.take(rows["train"]), valid, calibration


def _refuse_equal_stems(files: Sequence[Path]) -> None:
    stems = [path.stem for path in files]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    if twice:
        raise InputError(
            f"two files are called {twice.pop()!r}, and their scores would have the same names",
            where="data.test",
            remedy="Rename one",
        )


def _names(value: object) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(name) for name in value]  # type: ignore[attr-defined]


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?", text.lower()) is not None
