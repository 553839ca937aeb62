"""Training of a `PotentialSurrogate`: reference energies of atoms, then networks on the residuals, then the posterior.

A trained potential can be fine-tuned: labels of another method, or new elements, get a head of their own beside the
old heads, and all heads share one body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float

from data.errors import InputError
from data.structures.batches import StructureBatches, choose_sizes, shapes
from data.structures.structures import Structures
from simulators.precision import jit_float32
from surrogates.learning.devices import data_mesh
from surrogates.learning.loop import FitResult, TrainConfig, fit
from surrogates.potentials.atom_energies import References
from surrogates.potentials.distance_floor import shorter, shortest_distances
from surrogates.potentials.energy import EnergyModel
from surrogates.potentials.facts import Head, PotentialConfig, PotentialFacts
from surrogates.potentials.heads import with_heads
from surrogates.potentials.last_layer import fit_last_layer
from surrogates.potentials.surrogate import PotentialSurrogate

#: Share of the training structures that lie in the domain. Of thousands of structures the farthest is an outlier, and a
#: domain as large as that holds most of what lies beyond the others. Below 100 structures all are inside.
DOMAIN_SHARE = 0.99
#: Default name of a head.
MAIN = "main"


@dataclass(frozen=True)
class FineTuning:
    """Fine-tuning of a trained potential.

    Attributes:
        potential: the trained potential; its network, ensemble, scale and pair terms are kept.
        replay: structures with labels of the old heads (`Structures.head` is the index of the head), which are
            trained on beside the new ones so that the old heads follow the changes of the shared body; None for none,
            and then the errors of the old heads grow.
        frozen_body: train the new head alone, so that the old heads do not change.
    """

    potential: PotentialSurrogate
    replay: Structures | None = None
    frozen_body: bool = False


def fit_potential_surrogate(
    train: Structures,
    valid: Structures | None,
    config: PotentialConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    isolated: Mapping[int, float] | None = None,
    label_fingerprint: str,
    head: str = MAIN,
    tune: FineTuning | None = None,
    baseline: Mapping[str, Any] | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> tuple[PotentialSurrogate, FitResult]:
    """Train a potential on energies, forces and stresses; labels that are NaN do not contribute.

    Its standard deviations and intervals are calibrated afterwards.

    Args:
        train: training structures, at least one of them with two atoms or more. Single atoms set reference energies.
        valid: validation structures, which select the best weights and stop the training early; None keeps the last
            weights.
        config: settings of the network and its batches.
        training: settings of the training loop.
        run_dir: directory of checkpoints and history; a run in a directory that has checkpoints resumes from them.
        isolated: energies of isolated atoms, eV by atomic number.
        label_fingerprint: fingerprint of the method, or hash of the files, that the labels come from.
        head: name of the head that learns these labels. If the potential of `tune` has a head of this name, that head
            is trained further and keeps its reference energies. Those of a new head are fitted to what the labels are
            above the answers of the potential that it begins from.
        tune: the trained potential to fine-tune; None to train from scratch.
        baseline: provenance of the simulator that the labels are differences to; None for plain labels.
        mesh: devices that share each batch; None for all devices.
        progress: whether to show a progress bar.

    Raises:
        InputError: `train` has no labels, `valid` has elements that `train` lacks, or `tune` does not fit the settings.
    """
    if not np.isfinite(train.energy).any() and not np.isfinite(train.forces).any():
        raise InputError("no structure has an energy or forces", remedy="Give frames with energy= or forces")
    if config.long_range and train.periodic.any():
        raise InputError(
            "latent charges without cutoff need isolated molecules",
            where="model.long_range",
            remedy="Set it to false, or leave periodic structures out",
        )
    resumes = tune is not None and head in tune.potential.facts.heads
    if resumes:
        references = _resumed_references(tune.potential.facts.heads[head].references, train, head)  # type: ignore[union-attr]
    else:
        references = References.fit(train if tune is None else beyond_body(train, tune.potential), isolated)
    train = train.take(np.flatnonzero(~train.alone()))
    if valid is not None:
        extra = sorted(set(valid.elements) - set(references.elements))
        if extra:
            raise InputError(
                f"validation structures hold elements {extra} that no training molecule has",
                remedy="Put some of their structures in the training part",
            )
    new_head = Head(
        references=references,
        labels_fingerprint=label_fingerprint,
        has_energy=bool(np.isfinite(train.energy).any()),
        charges=tuple(sorted(set(train.charge.tolist()))),
        baseline=baseline,
    )
    residual = residual_of(train, references)
    if tune is None:
        facts = PotentialFacts(config, output_scale(residual), {head: new_head}, head)
    else:
        facts = _with_head(tune.potential, head, new_head, config)
    learned = residual.with_head(facts.index)
    if tune is not None and tune.replay is not None:
        learned = Structures.concatenate([learned, _replay_residual(tune.replay, facts)])
    facts = with_shortest(facts, learned)
    model = facts.model(training.seed) if tune is None else _with_old_weights(tune.potential, facts)
    mesh = mesh or data_mesh()
    learn = training_batches(learned, config, training.batch_size, mesh, training.seed)
    check: StructureBatches | None = None
    if valid is not None:
        check = training_batches(
            residual_of(valid, references).with_head(facts.index), config, training.batch_size, mesh, None
        )
    result = fit(
        model,
        config.loss,
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
    return with_posterior(learned_model, facts, residual.with_head(facts.index), config), result


def with_posterior(
    model: EnergyModel, facts: PotentialFacts, residual: Structures, config: PotentialConfig
) -> PotentialSurrogate:
    """The potential with its last layer's posterior and its domain."""
    layer = fit_last_layer(model, training_batches(residual, config, 16, None, None), config.draws)
    # Distances are told over the limit of the domain, and here is none yet.
    potential = PotentialSurrogate(model, replace(facts, novelty=1.0), layer)
    far = [
        potential.novelty(batch)[np.asarray(batch.numbers)[:, 0] > 0] for batch in potential.batches(residual).epoch(0)
    ]
    return potential.with_facts(novelty=domain_limit(np.concatenate(far)))


def domain_limit(distances: Float[np.ndarray, " M"]) -> float:
    """The largest distance within the domain, from those of the training structures (see `DOMAIN_SHARE`)."""
    return float(np.quantile(distances, DOMAIN_SHARE, method="higher"))


def _is_body(path: tuple[str, ...]) -> bool:
    return "readout" not in path


def _with_old_heads(trained: EnergyModel, before: EnergyModel, new: int) -> EnergyModel:
    """The trained model with the old heads restored, which weight decay and averaging of weights have changed."""
    graph, state = nnx.split(trained)
    old = dict(nnx.to_flat_state(nnx.state(before)))
    flat = []
    for path, leaf in nnx.to_flat_state(state):
        if "readout" in path:
            leaf = leaf.replace(old[path][...].at[:, new].set(leaf[...][:, new]))
        flat.append((path, leaf))
    return nnx.merge(graph, nnx.from_flat_state(flat))


def _resumed_references(references: References, train: Structures, head: str) -> References:
    """The reference energies of a head that is trained further.

    Raises:
        InputError: `train` has elements that the head has not learned.
    """
    new = sorted(set(train.elements) - set(references.elements))
    if new:
        raise InputError(
            f"head {head!r} has not learned the elements {new}",
            where="tune.head",
            remedy="Choose the name of a new head",
        )
    return references


def beyond_body(train: Structures, potential: PotentialSurrogate) -> Structures:
    """The structures with energies above what the networks of a potential answer for them; single atoms as they are.

    A new head begins with the weights of the head that answers, which describe the binding of the old labels. Reference
    energies that were fitted to whole energies would leave it off by that binding, eV a molecule.
    """
    rows = np.flatnonzero(~train.alone())
    bound = train.take(rows)
    graph, state = nnx.split(potential.model)
    answer = jit_float32(lambda s, system: nnx.merge(graph, s).atomic_energies(system).mean(axis=0))
    energy, batches = train.energy.copy(), potential.batches(bound)
    for kind, some in batches.plan(0):
        batch = batches.pad(kind, some)
        batch = batch._replace(head=np.full(len(batch.numbers), potential.facts.index, np.int32))
        atomic = np.asarray(answer(state, batch.system), np.float64)
        energy[rows[some]] -= atomic.sum(axis=1)[: len(some)]
    return train.with_energy(energy)


def with_shortest(facts: PotentialFacts, learned: Structures) -> PotentialFacts:
    """The facts with the shortest distances of what is learned now and was learned before, where they are asked for."""
    config = facts.config
    if not config.distance_floor:
        return facts
    now = shortest_distances(learned, config.network.cutoff_angstrom)
    return replace(facts, shortest=shorter(facts.shortest, now))


def _with_head(old: PotentialSurrogate, head: str, new_head: Head, config: PotentialConfig) -> PotentialFacts:
    """The facts of a potential that begins from `old` and has one more head.

    Raises:
        InputError: the settings name another network, ensemble or pair term than those of the potential.
    """
    kept = ("network", "ensemble", "repulsion", "repulsion_reach", "distance_floor", "long_range")
    changed = [name for name in kept if getattr(config, name) != getattr(old.facts.config, name)]
    if changed:
        raise InputError(
            f"the trained potential has another {', '.join(changed)}",
            where="surrogate",
            remedy="Give the settings that it was trained with",
        )
    before = old.facts
    heads = {**before.heads, head: new_head}
    return PotentialFacts(config, before.scale, heads, head, began_from=old.fingerprint, shortest=before.shortest)


def _with_old_weights(old: PotentialSurrogate, facts: PotentialFacts) -> EnergyModel:
    """The model of `facts` with the weights of `old`; a new head has those of the head that answers now."""
    before = list(old.facts.heads)
    return with_heads(old, facts, [before.index(name if name in before else old.facts.active) for name in facts.heads])


def residual_of(structures: Structures, references: References) -> Structures:
    """The structures with energies above the reference energies of their atoms."""
    return structures.with_energy(structures.energy - references.energy(structures))


def _replay_residual(replay: Structures, facts: PotentialFacts) -> Structures:
    """Structures of old heads, whose energies are taken above the reference energies of their heads."""
    energy = replay.energy.copy()
    for index, head in enumerate(facts.heads.values()):
        rows = np.flatnonzero(replay.head == index)
        energy[rows] -= head.references.energy(replay.take(rows))
    return replay.with_energy(energy)


def training_batches(
    structures: Structures, config: PotentialConfig, molecules: int, mesh: Mesh | None, seed: int | None
) -> StructureBatches:
    """Batches of structures in a few padded sizes.

    Args:
        structures: the structures.
        config: cutoff and number of padded sizes.
        molecules: molecules of a batch.
        mesh: devices that share each batch; None for one.
        seed: seed of the order of each epoch; None for the order of the table.
    """
    cutoff = config.network.cutoff_angstrom
    sizes = choose_sizes(structures.sizes, config.buckets)
    multiple = 1 if mesh is None else mesh.size
    batch_shapes, which = shapes(structures, cutoff, sizes, molecules=molecules, pairs=0, multiple=multiple)
    return StructureBatches(structures, tuple(batch_shapes), which, cutoff, seed)


def output_scale(residual: Structures) -> float:
    """Scale of the outputs, eV: root mean square of a force component, or the deviation of the energy per atom."""
    forces = residual.forces[np.isfinite(residual.forces)]
    if len(forces):
        return float(np.sqrt(np.mean(forces**2))) or 1.0
    per_atom = (residual.energy / residual.sizes)[np.isfinite(residual.energy)]
    return float(per_atom.std()) or 1.0
