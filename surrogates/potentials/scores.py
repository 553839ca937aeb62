"""Scores potentials on frames: errors of energies, forces and stresses, apart for frames that were learned from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from jax.sharding import Mesh

from data.errors import InputError
from data.identity import frame_keys
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import refuse_equal_stems
from data.spec import SimulationError, Spec
from data.structures.frame_names import FrameKeys
from data.structures.structures import Structures
from simulators.rebuild import rebuild
from surrogates.learning.conformal import coverage
from surrogates.learning.devices import local_mesh
from surrogates.learning.learned_from import Hashes
from surrogates.learning.overlap import Overlap
from surrogates.potentials.potential_spec import StructurePredictions
from surrogates.potentials.structure_reading import read_structures
from surrogates.potentials.surrogate import PotentialSurrogate

LOG = logging.getLogger(__name__)


class ScoredPotential(Protocol):
    """What is scored: a potential, or a mixture of potentials."""

    @property
    def spec(self) -> Spec: ...

    @property
    def frame_keys(self) -> FrameKeys | None: ...

    @property
    def needs_spin(self) -> bool: ...

    def predict_structures(self, structures: Structures, *, mesh: Mesh | None = None) -> StructurePredictions:
        """Answer a table of structures of any sizes."""
        ...


def evaluate_frames(
    potential: ScoredPotential,
    files: Sequence[Path],
    rejects: RejectLog | None = None,
    readings: list[Reading] | None = None,
    *,
    keys: FrameKeys | None = None,
    learned: Hashes | None = None,
) -> dict[str, float]:
    """Score a potential on files, each under `test/<stem>/`, with the answers of its baseline if it has one.

    Args:
        potential: potential that is scored, with its baseline.
        files: files of labelled frames.
        rejects: receives the frames that cannot be read.
        readings: receives what was read.
        keys: names of the entries of a frame that hold labels, charge and spin; missing ones are those of training.
        learned: hashes of the frames of its training (`surrogates.learning.learned_from`); None if not known.

    Raises:
        InputError: a file has no usable frame, or two files have the same stem.
    """
    refuse_equal_stems(files, "data.test")
    spins = potential.needs_spin
    keys = (keys or FrameKeys()).after(potential.frame_keys)
    readings = [] if readings is None else readings
    tables, overlaps = {}, {}
    for path in files:
        tables[path] = read_structures(path, rejects, keys, spins=spins, readings=readings)
        overlaps[path] = Overlap.among(learned, frame_keys(tables[path]), "frames")
        overlaps[path].note(readings)
    metrics: dict[str, float] = {}
    for path, structures in tables.items():
        metrics |= overlaps[path].scores(f"test/{path.stem}", partial(scored_rows, potential, structures, path))
    return metrics


def with_baseline(potential: PotentialSurrogate) -> PotentialSurrogate:
    """The potential with the simulator that the labels of its active head are differences to, if they are.

    Raises:
        InputError: the simulator cannot be rebuilt, or another version of it is installed.
    """
    description = potential.facts.head.baseline
    if description is None:
        return potential
    remedy = "Install the version of its training, or train again"
    return potential.with_baseline(rebuild(description, where="surrogate", remedy=remedy))


def scored_rows(
    potential: ScoredPotential, structures: Structures, path: Path, rows: np.ndarray, prefix: str
) -> dict[str, float]:
    """`score` of selected frames of a file."""
    return score(potential, structures.take(rows), prefix, str(path))


def score(potential: ScoredPotential, structures: Structures, prefix: str, where: str) -> dict[str, float]:
    """Mean absolute and root mean square errors: energies in meV per molecule, force components in meV/Angstrom.

    Quantities that the file lacks, or that the potential did not learn, are omitted with a warning.

    Args:
        potential: potential that is scored.
        structures: labelled structures.
        prefix: prefix of the keys.
        where: source of the structures, for messages.

    Raises:
        InputError: a structure contains an element that the potential was not trained on.
    """
    try:
        answer = potential.predict_structures(structures, mesh=local_mesh())
    except SimulationError as error:
        raise InputError(error.message, where=where, remedy="Remove such structures") from error
    has_energy = np.isfinite(structures.energy)
    learned = {variable.name for variable in potential.spec.outputs}
    metrics: dict[str, float] = {}
    pairs = {
        "energy": ("mev", answer.energy, structures.energy),
        "forces": ("mev_per_angstrom", answer.forces, structures.forces),
    }
    for name, (unit, predicted, truth) in pairs.items():
        errors = 1000.0 * (predicted - truth)[np.isfinite(truth)]
        if not len(errors) or name not in learned:
            reason = "was not learned" if name not in learned else "is in none of its frames"
            LOG.warning("%s: errors of %s are omitted, because it %s", where, name, reason)
            continue
        metrics[f"{prefix}/{name}_mae_{unit}"] = float(np.abs(errors).mean())
        metrics[f"{prefix}/{name}_rmse_{unit}"] = float(np.sqrt((errors**2).mean()))
    has_forces = np.isfinite(structures.forces)
    intervals = {
        "energy": (has_energy, structures.energy, answer.energy_low, answer.energy_high, "mev"),
        "forces": (has_forces, structures.forces, answer.forces_low, answer.forces_high, "mev_per_angstrom"),
    }
    for name, (mask, truth, low, high, unit) in intervals.items():
        if low is not None and high is not None and mask.any():
            metrics[f"{prefix}/{name}_coverage_90"] = coverage(truth[mask], low[mask], high[mask])
            metrics[f"{prefix}/{name}_interval_width_{unit}"] = float(1000.0 * np.mean((high - low)[mask]))
    if answer.stress is not None and np.isfinite(structures.stress).any():
        errors = 1000.0 * (answer.stress - structures.stress)[np.isfinite(structures.stress)]
        metrics[f"{prefix}/stress_mae_mev_per_angstrom3"] = float(np.abs(errors).mean())
    if answer.in_domain is not None:
        metrics[f"{prefix}/in_domain"] = float(answer.in_domain.mean())
    return metrics
