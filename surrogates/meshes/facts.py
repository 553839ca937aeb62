"""The metadata of a mesh surrogate, saved with its weights: settings, layout, scales and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data.meshes.graphs import Mesh, MeshBatch, mesh_edges
from data.meshes.mesh_samples import MeshLayout, MeshSamples
from data.plain import OMIT_DEFAULT
from surrogates.learning.box import Box
from surrogates.learning.conformal import ALPHA, Conformal
from surrogates.learning.nn.ensemble import apply_members, stack_members
from surrogates.learning.normalise import constant, moments, refuse_not_positive, refuse_unlike
from surrogates.learning.rung import Standing
from surrogates.meshes.network import MeshNetwork, MeshNetworkConfig

FloatArray = Float[np.ndarray, "..."]


@dataclass(frozen=True)
class MeshConfig:
    """Settings of a mesh surrogate.

    Attributes:
        network: hyperparameters of the network of each member.
        ensemble: number of members; with 2 or more their spread enters the error bars.
        buckets: number of padded sizes of training batches; each is compiled once.
        scalar_weight: weight of the error of scalars relative to that of fields, in the loss.

    Raises:
        ValueError: a count is below 1, or the weight is negative.
    """

    network: MeshNetworkConfig = field(default_factory=MeshNetworkConfig)
    ensemble: int = 1
    buckets: int = 2
    scalar_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.ensemble < 1 or self.buckets < 1:
            raise ValueError(f"ensemble and buckets must be at least 1; got {self.ensemble} and {self.buckets}")
        if self.scalar_weight < 0:
            raise ValueError(f"scalar_weight must be 0 or more, got {self.scalar_weight}")


@dataclass(frozen=True)
class MeshScale:
    """Means and standard deviations over the training samples, and the unit of length.

    Attributes:
        parameters, fields, scalars: (mean, standard deviation) of each column, in its unit.
        length: mean length of an edge, in the unit of the coordinates.
    """

    parameters: tuple[tuple[float, float], ...]
    fields: tuple[tuple[float, float], ...]
    scalars: tuple[tuple[float, float], ...]
    length: float

    def __post_init__(self) -> None:
        for name in ("parameters", "fields", "scalars"):
            refuse_not_positive(**{name: [spread for _, spread in getattr(self, name)]})
        refuse_not_positive(length=[self.length])

    @staticmethod
    def fit(samples: MeshSamples) -> MeshScale:
        """Fit the scale to samples; a column that does not vary is shifted but not scaled."""

        def columns(array: FloatArray) -> tuple[tuple[float, float], ...]:
            pairs = [moments(c) for c in array.T]
            return tuple((mean, 1.0 if constant(mean, spread) else spread) for mean, spread in pairs)

        meshes = samples.meshes
        fields = [m.fields for m in meshes if m.fields is not None]
        edges = [(m.nodes[e[0]] - m.nodes[e[1]]) for m in meshes for e in (mesh_edges(m.elements),)]
        return MeshScale(
            columns(np.stack([m.parameters for m in meshes])),
            columns(np.concatenate(fields)) if fields else (),
            columns(np.stack([m.scalars for m in meshes])),
            float(np.linalg.norm(np.concatenate(edges), axis=1).mean()),
        )

    def apply(self, mesh: Mesh) -> Mesh:
        """A copy of a mesh with standardised parameters, fields and scalars."""

        def standardise(values: FloatArray, by: tuple[tuple[float, float], ...]) -> FloatArray:
            pairs = np.array(by).reshape(-1, 2)
            return (values - pairs[:, 0]) / pairs[:, 1]

        return replace(
            mesh,
            parameters=standardise(mesh.parameters, self.parameters),
            fields=None if mesh.fields is None else standardise(mesh.fields, self.fields),
            scalars=standardise(mesh.scalars, self.scalars) if len(mesh.scalars) else mesh.scalars,
        )


def field_bands(
    truth: list[Float[np.ndarray, "node channel"]],
    mean: list[Float[np.ndarray, "node channel"]],
    std: list[Float[np.ndarray, "node channel"]],
    alpha: float = ALPHA,
) -> list[Conformal]:
    """Calibrate a band for each channel: it holds a share 1 - alpha of the vertices for a share 1 - alpha of meshes.

    Raises:
        InputError: there are too few meshes for a finite factor.
    """

    def column(fields: list[Float[np.ndarray, "node channel"]], c: int) -> list[Float[np.ndarray, " node"]]:
        return [field[:, c] for field in fields]

    channels = range(truth[0].shape[1])
    return [Conformal.fit_fields(column(truth, c), column(mean, c), column(std, c), alpha) for c in channels]


class MeshModel(nnx.Module):
    """An ensemble of networks that differ in their initial weights, stacked along the first axis of each weight."""

    def __init__(self, config: MeshConfig, layout: MeshLayout, rngs: nnx.Rngs, extra: int = 0) -> None:
        def make(rngs: nnx.Rngs) -> MeshNetwork:
            return MeshNetwork(
                config.network,
                kinds=layout.kinds,
                parameters=len(layout.parameters) + extra,
                fields=len(layout.channels),
                scalars=len(layout.scalars),
                rngs=rngs,
                axes=layout.plane,
            )

        self.members = config.ensemble
        self.networks = stack_members(make, config.ensemble, rngs)

    def __call__(
        self, batch: MeshBatch
    ) -> tuple[Float[Array, "member mesh node channel"], Float[Array, "member mesh scalar"]]:
        """Standardised fields and scalars of each member; those of padding are 0."""
        fields, scalars = apply_members(self.networks, self.members, lambda network: network(batch))
        return fields, scalars


@dataclass(frozen=True)
class MeshFacts:
    """Metadata that is saved with the weights.

    Attributes:
        config: settings of training and of the network.
        layout: inputs and outputs, with their names and units.
        scale: means and standard deviations of inputs and outputs.
        labels_fingerprint: fingerprint of the simulator that the labels come from.
        conformal: calibrated intervals by channel of the fields and by scalar; empty without calibration samples.
        scores: errors on held-out data, by metric with its unit in the key.
        domain: ranges of the training samples (see `surrogates.meshes.training_domain`); None for surrogates of earlier
            versions, which did not save them.
        on: the cheaper method on which it stands, and the lines through its answers; None for none.
    """

    config: MeshConfig
    layout: MeshLayout
    scale: MeshScale
    labels_fingerprint: str
    conformal: Mapping[str, Conformal] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    #: Surrogates of earlier versions lack it, and must keep their fingerprint.
    domain: Box | None = field(default=None, metadata=OMIT_DEFAULT)
    on: Standing | None = field(default=None, metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        layout, scale = self.layout, self.scale
        refuse_unlike(parameters=layout.parameters, scale=scale.parameters)
        refuse_unlike(channels=layout.channels, scale=scale.fields)
        refuse_unlike(scalars=layout.scalars, scale=scale.scalars)
        if self.on is not None:
            refuse_unlike(outputs=(*layout.channels, *layout.scalars), on=self.on.line.offset)
        names = {*layout.channels, *(v.name for v in layout.scalars)}
        if self.conformal and set(self.conformal) != names:
            raise ValueError(f"conformal must name {', '.join(sorted(names))}")

    def model(self, seed: int = 0) -> MeshModel:
        """A model with initial weights."""
        return MeshModel(self.config, self.layout, nnx.Rngs(seed), 0 if self.on is None else len(self.on.scale.names))
