"""Train a `Potential` on structures: references first, then the ensemble on what they leave."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from data.errors import InputError
from data.structure_batches import StructureBatches, choose_sizes, shapes
from data.structures import Structures
from surrogates.devices import data_mesh
from surrogates.graph.energy import EnergyModel
from surrogates.graph.potential import Facts, Potential, PotentialConfig
from surrogates.graph.references import References
from surrogates.train import FitResult, TrainConfig, fit
from surrogates.uncertainty import Conformal


def fit_potential(
    train: Structures,
    valid: Structures | None,
    config: PotentialConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    isolated: Mapping[int, float] | None = None,
    label_fingerprint: str,
    calibration: Structures | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> tuple[Potential, FitResult]:
    """Learn energies and forces; what is NaN counts for nothing.

    Args:
        train: at least one molecule of two atoms or more. Single atoms in it set reference energies.
        valid: chooses the best weights and ends the training early; None to keep the last.
        config: the network and its batches.
        training: the recipe of the loop.
        run_dir: its checkpoints and history; the same directory again goes on from there.
        isolated: energies of isolated atoms, eV by atomic number.
        label_fingerprint: of the method, or the hash of the files, that the labels come from.
        calibration: frames that neither training nor `valid` has seen, for the interval of the energy.
        mesh: devices to share each batch among; None for all of them.
        progress: show a progress bar.

    Raises:
        InputError: nothing to learn from, or `valid` has elements that `train` has not.
    """
    if not np.isfinite(train.energy).any() and not np.isfinite(train.forces).any():
        raise InputError("no structure has an energy or forces", remedy="Give frames with energy= or forces")
    references = References.fit(train, isolated)
    train = train.take(np.flatnonzero(train.sizes > 1))
    has_energy = bool(np.isfinite(train.energy).any())
    if valid is not None:
        extra = sorted(set(valid.elements) - set(references.elements))
        if extra:
            raise InputError(
                f"validation structures hold elements {extra} that no training molecule has",
                remedy="Put some of their structures in the training part",
            )
    residual = train.with_energy(train.energy - references.energy(train))
    facts = Facts(config, references, _scale(residual), label_fingerprint, has_energy, {})
    mesh = mesh or data_mesh()
    molecules = training.batch_size
    learn = _source(residual, config, molecules, mesh, training.seed)
    check: StructureBatches | None = None
    if valid is not None:
        rest = valid.with_energy(valid.energy - references.energy(valid))
        check = _source(rest, config, molecules, mesh, None)
    result = fit(
        facts.model(training.seed),
        config.loss(),
        learn,
        check,
        training,
        run_dir,
        mesh=mesh,
        progress=progress,
    )
    assert isinstance(result.model, EnergyModel)
    potential = Potential(result.model, facts)
    if calibration is not None and has_energy:
        found = potential.predict_structures(calibration)
        std = np.zeros(len(calibration)) if found.energy_std is None else found.energy_std
        potential = potential.with_facts(calibration=Conformal.fit(calibration.energy, found.energy, std))
    return potential, result


def _source(
    structures: Structures, config: PotentialConfig, molecules: int, mesh: Mesh, seed: int | None
) -> StructureBatches:
    cutoff = config.network.cutoff_angstrom
    sizes = choose_sizes(structures.sizes, config.buckets)
    made, which = shapes(structures, cutoff, sizes, molecules=molecules, pairs=0, multiple=mesh.size)
    return StructureBatches(structures, tuple(made), which, cutoff, seed)


def _scale(residual: Structures) -> float:
    """Root mean square of a force component; without forces the deviation of the energy per atom; eV."""
    forces = residual.forces[np.isfinite(residual.forces)]
    if len(forces):
        return float(np.sqrt(np.mean(forces**2))) or 1.0
    per_atom = (residual.energy / residual.sizes)[np.isfinite(residual.energy)]
    return float(per_atom.std()) or 1.0
