"""Training of a `MeshSurrogate`: the scales are fitted first, then the networks are trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh as Devices

from data.batch_rows import WHOLE, BatchRows
from data.meshes.graphs import Mesh, MeshBatch, pad
from data.meshes.mesh_samples import MeshSamples
from data.structures.batches import choose_sizes
from surrogates.learning.devices import data_mesh
from surrogates.learning.loop import FitResult, TrainConfig, fit
from surrogates.learning.rung import Rung
from surrogates.learning.step import Stats
from surrogates.meshes.cheaper_answers import residual, standing_of
from surrogates.meshes.facts import MeshConfig, MeshFacts, MeshModel, MeshScale
from surrogates.meshes.network import mesh_loss
from surrogates.meshes.surrogate import MeshSurrogate
from surrogates.meshes.training_domain import domain_of


@dataclass(frozen=True)
class MeshBatches:
    """A source of batches that visits each mesh once an epoch; the meshes of a batch share one padded size.

    Attributes:
        meshes: the standardised meshes.
        kinds, length: number of kinds of vertices and unit of length, as in `data.meshes.graphs.pad`.
        size: meshes per batch; a multiple of the number of devices.
        buckets: largest number of padded sizes.
        seed: seed of the shuffling; None keeps the order of the samples.
    """

    meshes: tuple[Mesh, ...]
    kinds: int
    length: float
    size: int
    buckets: int
    seed: int | None

    @cached_property
    def _parts(self) -> list[tuple[MeshBatch, int]]:
        """For each padded size, its meshes as one padded batch that ends with an empty mesh; and their number."""
        counts = np.array([len(m.nodes) for m in self.meshes])
        # Multiples of 16 fill whole vector registers.
        rounded = -(-counts // 16) * 16
        sizes = choose_sizes(rounded, self.buckets)
        which = np.searchsorted(sizes, rounded)
        parts = []
        for k, nodes in enumerate(sizes):
            rows = np.flatnonzero(which == k)
            bucket = [self.meshes[i] for i in rows]
            parts.append(
                (
                    pad(bucket, kinds=self.kinds, length=self.length, batch_size=len(bucket) + 1, nodes=int(nodes)),
                    len(bucket),
                )
            )
        return parts

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches per epoch."""
        return sum(-(-count // self.size) for _, count in self._parts)

    def epoch(self, index: int, part: BatchRows = WHOLE) -> Iterator[MeshBatch]:
        """The batches of an epoch in an order given by seed and index; empty meshes fill the last batch of a size.

        Args:
            index: number of the epoch.
            part: rows of each batch that are built.
        """
        random = None if self.seed is None else np.random.default_rng((self.seed, index))
        plan: list[tuple[int, np.ndarray]] = []
        for k, (_, count) in enumerate(self._parts):
            order = np.arange(count) if random is None else random.permutation(count)
            order = np.concatenate([order, np.full(-count % self.size, count)])
            plan += [(k, rows) for rows in order.reshape(-1, self.size)]
        steps = np.arange(len(plan)) if random is None else random.permutation(len(plan))
        for step in steps:
            k, rows = plan[step]
            rows = rows[part.of(self.size)]
            yield jax.tree.map(lambda a, rows=rows: a[rows], self._parts[k][0])


@dataclass(frozen=True)
class MeshLoss:
    """The mean over members of the mean square error of fields and scalars, standardised.

    Attributes:
        scalar_weight: weight of the error of scalars relative to that of fields.
    """

    scalar_weight: float = 1.0

    def __call__(
        self, model: MeshModel, batch: MeshBatch, key: jax.Array, progress: jax.Array
    ) -> tuple[jax.Array, Stats]:
        """The loss, and the sums and counts of its parts."""
        fields, scalars = model(batch)
        nothing = jnp.zeros((batch.mask.shape[0], 0))

        def of(field: jax.Array, scalar: jax.Array) -> tuple[jax.Array, jax.Array]:
            field_loss = mesh_loss(field, nothing, replace(batch, scalars=nothing))
            empty = jnp.zeros((*batch.node_mask.shape, 0))
            return field_loss, mesh_loss(empty, scalar, replace(batch, fields=empty))

        a, b = (part.mean() for part in jax.vmap(of)(fields, scalars))
        value = a + self.scalar_weight * b
        count = jnp.sum(batch.mask).astype(jnp.float32)
        return value, {"loss": (value * count, count), "fields": (a * count, count), "scalars": (b * count, count)}


def fit_mesh_surrogate(
    train: MeshSamples,
    valid: MeshSamples | None,
    config: MeshConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    on: Rung | None = None,
    devices: Devices | None = None,
    progress: bool = True,
) -> tuple[MeshSurrogate, FitResult]:
    """Train a surrogate of fields and scalars on meshes; its intervals are calibrated afterwards.

    Args:
        train: training samples.
        valid: validation samples, which select the best weights; None keeps the last weights.
        config: settings of the ensemble, the network and the batches.
        training: settings of the training loop.
        run_dir: directory of checkpoints and history; a run in a directory that has checkpoints resumes from them.
        on: the cheaper method whose answers are `extra` of the meshes; None if there is none.
        devices: devices that share each batch; None for all devices.
        progress: whether to show a progress bar.

    Raises:
        InputError: `valid` has another layout than `train`.
    """
    if valid is not None:
        valid.refuse_other(train.layout, "the validation part")
    domain = domain_of(train)
    standing = None
    if on is not None:
        standing = standing_of(on, train)
        train = residual(standing, train)
        valid = None if valid is None else residual(standing, valid)
    facts = MeshFacts(config, train.layout, MeshScale.fit(train), train.fingerprint, domain=domain, on=standing)
    devices = devices or data_mesh()
    size = -(-training.batch_size // devices.size) * devices.size

    def source(samples: MeshSamples, seed: int | None) -> MeshBatches:
        scaled = tuple(facts.scale.apply(m) for m in samples.meshes)
        return MeshBatches(scaled, facts.layout.kinds, facts.scale.length, size, config.buckets, seed)

    learn = source(train, training.seed)
    check = None if valid is None else source(valid, None)
    loss = MeshLoss(config.scalar_weight)
    result = fit(facts.model(training.seed), loss, learn, check, training, run_dir, mesh=devices, progress=progress)  # type: ignore[arg-type]
    assert isinstance(result.model, MeshModel)
    surrogate = MeshSurrogate(result.model, facts)
    return surrogate if on is None else surrogate.with_rung(on.simulator), result
