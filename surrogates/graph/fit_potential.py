"""Train a `Potential` on structures: references first, then the networks on what they leave, then the error bars.

A potential that was trained before can go on: with labels of another method or new elements as a head beside
its old ones, on a body that all share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from data.errors import InputError
from data.structure_batches import StructureBatches, choose_sizes, shapes
from data.structures import Structures
from surrogates.devices import data_mesh
from surrogates.graph.energy import EnergyModel
from surrogates.graph.facts import Facts, Head, PotentialConfig
from surrogates.graph.last_layer import distance, fit_last_layer
from surrogates.graph.potential import Potential
from surrogates.graph.references import References
from surrogates.train import FitResult, TrainConfig, fit
from surrogates.uncertainty import Conformal

#: The name of a head where none is given.
MAIN = "main"


@dataclass(frozen=True)
class FineTuning:
    """Going on from a trained potential.

    Attributes:
        potential: where to start; its network, ensemble, scale and pair terms are kept.
        replay: structures with labels of its old heads (`Structures.head` says which), trained on beside the new
            ones so that the old heads keep up with the shared body; None leaves them to drift.
        frozen_body: train nothing but the new head, so that the old ones stay as they are.
    """

    potential: Potential
    replay: Structures | None = None
    frozen_body: bool = False


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
    head: str = MAIN,
    tune: FineTuning | None = None,
    baseline: Mapping[str, Any] | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> tuple[Potential, FitResult]:
    """Learn energies, forces and stresses; what is NaN counts for nothing.

    Args:
        train: at least one molecule of two atoms or more. Single atoms in it set reference energies.
        valid: chooses the best weights and ends the training early; None to keep the last.
        config: the network and its batches.
        training: the recipe of the loop.
        run_dir: its checkpoints and history; the same directory again goes on from there.
        isolated: energies of isolated atoms, eV by atomic number.
        label_fingerprint: of the method, or the hash of the files, that the labels come from.
        calibration: frames that neither training nor `valid` has seen, for the intervals.
        head: the name under which these labels are learned. One that a trained potential has goes on with the
            references that it has.
        tune: go on from a trained potential; None to begin with fresh weights.
        baseline: provenance of the simulator that the labels are differences to.
        mesh: devices to share each batch among; None for all of them.
        progress: show a progress bar.

    Raises:
        InputError: nothing to learn from, `valid` has elements that `train` has not, or `tune` does not fit.
    """
    if not np.isfinite(train.energy).any() and not np.isfinite(train.forces).any():
        raise InputError("no structure has an energy or forces", remedy="Give frames with energy= or forces")
    if config.long_range and train.periodic.any():
        raise InputError(
            "latent charges without cutoff need isolated molecules",
            where="surrogate.long_range",
            remedy="Set it to false, or leave periodic structures out",
        )
    going_on = tune is not None and head in tune.potential.facts.heads
    if going_on:
        references = _kept(tune.potential.facts.heads[head].references, train, head)  # type: ignore[union-attr]
    else:
        references = References.fit(train, isolated)
    train = train.take(np.flatnonzero(~train.alone()))
    if valid is not None:
        extra = sorted(set(valid.elements) - set(references.elements))
        if extra:
            raise InputError(
                f"validation structures hold elements {extra} that no training molecule has",
                remedy="Put some of their structures in the training part",
            )
    made = Head(
        references=references,
        labels_fingerprint=label_fingerprint,
        has_energy=bool(np.isfinite(train.energy).any()),
        charges=tuple(sorted(set(train.charge.tolist()))),
        baseline=baseline,
    )
    residual = _residual(train, references)
    if tune is None:
        facts = Facts(config, _scale(residual), {head: made}, head)
        model = facts.model(training.seed)
    else:
        facts, model = _continued(tune.potential, head, made, config, training.seed)
    learned = residual.with_head(facts.index)
    if tune is not None and tune.replay is not None:
        learned = Structures.concatenate([learned, _replayed(tune.replay, facts)])
    mesh = mesh or data_mesh()
    learn = _source(learned, config, training.batch_size, mesh, training.seed)
    check: StructureBatches | None = None
    if valid is not None:
        check = _source(_residual(valid, references).with_head(facts.index), config, training.batch_size, mesh, None)
    result = fit(
        model,
        config.loss(),
        learn,
        check,
        training,
        run_dir,
        frozen=_is_body if tune is not None and tune.frozen_body else None,
        mesh=mesh,
        progress=progress,
    )
    assert isinstance(result.model, EnergyModel)
    learned_model = result.model
    if tune is not None and tune.frozen_body:
        learned_model = _with_old_heads(learned_model, model, facts.index)
    potential = _with_error_bars(learned_model, facts, residual.with_head(facts.index), valid, calibration, config)
    return potential, result


def _with_error_bars(
    model: EnergyModel,
    facts: Facts,
    residual: Structures,
    valid: Structures | None,
    calibration: Structures | None,
    config: PotentialConfig,
) -> Potential:
    """The potential with its last layer's posterior, its domain and its calibrated intervals.

    Calibration frames scale the posterior and set the intervals. Without any, validation frames scale it, which the
    choice of the best weights has seen: a scale, not a promise of coverage.
    """
    layer = fit_last_layer(model, _source(residual, config, 16, None, None), config.draws)
    potential = Potential(model, facts, layer)
    graph, state = nnx.split(model)
    measure = jax.jit(lambda s, w, system: distance(nnx.merge(graph, s), w, system))
    farthest = 0.0
    for batch in potential.batches(residual).epoch(0):
        batch = batch._replace(head=np.full(len(batch.numbers), facts.index, np.int32))
        farthest = max(farthest, float(jnp.max(measure(state, layer.whitening, batch.system))))
    facts = replace(facts, novelty=farthest)
    held = calibration if calibration is not None else valid
    if config.draws and held is not None:
        layer = layer.scaled(_match(Potential(model, facts, layer), held))
    potential = Potential(model, facts, layer)
    if calibration is not None:
        # Differences, where the labels are differences: what a baseline adds is the same on both sides.
        found = potential.with_facts(heads={**facts.heads, facts.active: replace(facts.head, baseline=None)})
        answer = found.predict_structures(calibration)
        std = np.zeros(len(calibration)) if answer.energy_std is None else answer.energy_std
        if facts.head.has_energy and np.isfinite(calibration.energy).any():
            facts = facts.with_head(energy=Conformal.fit(calibration.energy, answer.energy, std))
        known = np.isfinite(calibration.forces)
        if known.any():
            std = np.zeros_like(answer.forces) if answer.forces_std is None else answer.forces_std
            facts = facts.with_head(forces=Conformal.fit(calibration.forces[known], answer.forces[known], std[known]))
        potential = Potential(model, facts, layer)
    return potential


def _match(potential: Potential, held: Structures) -> float:
    """What to multiply standard deviations by, so that errors of forces (or energies) have the size they say."""
    facts = potential.facts
    bare = potential.with_facts(heads={**facts.heads, facts.active: replace(facts.head, baseline=None)})
    answer = bare.predict_structures(held)
    known = np.isfinite(held.forces)
    if known.any() and answer.forces_std is not None:
        error, std = (answer.forces - held.forces)[known], answer.forces_std[known]
    elif answer.energy_std is not None and np.isfinite(held.energy).any():
        known = np.isfinite(held.energy)
        error, std = (answer.energy - held.energy)[known], answer.energy_std[known]
    else:
        return 1.0
    return float(np.sqrt(np.mean(error**2) / max(np.mean(std**2), 1e-30)))


def _is_body(path: tuple[str, ...]) -> bool:
    return "readout" not in path


def _with_old_heads(trained: EnergyModel, before: EnergyModel, new: int) -> EnergyModel:
    """The new head as it was trained and the others as they were: averages and decay leave no trace on them."""
    graph, state = nnx.split(trained)
    old = dict(nnx.to_flat_state(nnx.state(before)))
    flat = []
    for path, leaf in nnx.to_flat_state(state):
        if "readout" in path:
            leaf = leaf.replace(old[path][...].at[:, new].set(leaf[...][:, new]))
        flat.append((path, leaf))
    return nnx.merge(graph, nnx.from_flat_state(flat))


def _kept(references: References, train: Structures, head: str) -> References:
    """References of a head that goes on.

    Raises:
        InputError: `train` has elements that it has not learned.
    """
    new = sorted(set(train.elements) - set(references.elements))
    if new:
        raise InputError(
            f"head {head!r} has not learned the elements {new}", where="tune.head", remedy="Give a new head's name"
        )
    return references


def _continued(old: Potential, head: str, made: Head, config: PotentialConfig, seed: int) -> tuple[Facts, EnergyModel]:
    """Facts and weights with one more head, which begins as a copy of the one that answers now.

    Raises:
        InputError: the settings ask for another network, ensemble or pair terms than it has.
    """
    kept = ("network", "ensemble", "repulsion", "long_range")
    changed = [name for name in kept if getattr(config, name) != getattr(old.facts.config, name)]
    if changed:
        raise InputError(
            f"the trained potential has another {', '.join(changed)}",
            where="surrogate",
            remedy="Give the settings that it was trained with",
        )
    facts = Facts(config, old.facts.scale, {**old.facts.heads, head: made}, head)
    fresh = facts.model(seed)
    source = old.facts.index
    graph, state = nnx.split(fresh)
    before = dict(nnx.to_flat_state(nnx.state(old.model)))
    flat = []
    for path, leaf in nnx.to_flat_state(state):
        value = before[path][...]
        if "readout" in path and value.shape != leaf[...].shape:
            # Members first, then heads.
            value = jnp.concatenate([value, value[:, source : source + 1]], axis=1)
        flat.append((path, leaf.replace(value)))
    return facts, nnx.merge(graph, nnx.from_flat_state(flat))


def _residual(structures: Structures, references: References) -> Structures:
    return structures.with_energy(structures.energy - references.energy(structures))


def _replayed(replay: Structures, facts: Facts) -> Structures:
    """Structures of old heads, each less the references of its own."""
    energy = replay.energy.copy()
    for index, head in enumerate(facts.heads.values()):
        rows = np.flatnonzero(replay.head == index)
        energy[rows] -= head.references.energy(replay.take(rows))
    return replay.with_energy(energy)


def _source(
    structures: Structures, config: PotentialConfig, molecules: int, mesh: Mesh | None, seed: int | None
) -> StructureBatches:
    cutoff = config.network.cutoff_angstrom
    sizes = choose_sizes(structures.sizes, config.buckets)
    multiple = 1 if mesh is None else mesh.size
    made, which = shapes(structures, cutoff, sizes, molecules=molecules, pairs=0, multiple=multiple)
    return StructureBatches(structures, tuple(made), which, cutoff, seed)


def _scale(residual: Structures) -> float:
    """Root mean square of a force component; without forces the deviation of the energy per atom; eV."""
    forces = residual.forces[np.isfinite(residual.forces)]
    if len(forces):
        return float(np.sqrt(np.mean(forces**2))) or 1.0
    per_atom = (residual.energy / residual.sizes)[np.isfinite(residual.energy)]
    return float(per_atom.std()) or 1.0
