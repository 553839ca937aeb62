"""The metadata of a field surrogate, saved with its weights: settings, layout, scales and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from flax import nnx
from jaxtyping import Float

from data.fields.layout import Layout
from data.plain import FLAT, OMIT_DEFAULT
from surrogates.fields.bands import Bands
from surrogates.fields.coarse_darcy import CoarseDarcy, with_coarse
from surrogates.fields.coarse_solver import CoarseSolver, CoarseStep
from surrogates.fields.loss import FieldLossSettings
from surrogates.fields.model import CONSTRAINTS, FieldModel
from surrogates.fields.networks.architectures import ARCHITECTURES, FieldShape
from surrogates.fields.scale import FieldScale
from surrogates.fields.units import FieldUnits
from surrogates.learning.box import Box
from surrogates.learning.normalise import refuse_unlike
from surrogates.learning.rung import Standing
from surrogates.learning.teaching import Teacher

#: Coarse solvers whose answer can be an input of the network.
COARSE = ("none", "darcy")


@dataclass(frozen=True)
class FieldSettings:
    """Settings of the ensemble, of its constraints and of its loss.

    Attributes:
        ensemble: number of members; with 2 or more their spread enters the error bars.
        increment: whether the network predicts the change of the state in a step rather than the next state.
        constraint: "none"; "mean" keeps the mean of each channel; for velocities on periodic grids "divergence_free"
            projects, and "stream_function" derives a plane velocity from a stream function.
        average_symmetry: whether predictions are averaged over the elements of `loss.symmetry`.
        coarse: one of `COARSE`: a coarse solver whose answer is a further input field of the network.
        corrections: number of times in each step that the network corrects the solver on which it stands.
        loss: settings of the loss.
    """

    ensemble: int = 1
    increment: bool = True
    constraint: str = "none"
    average_symmetry: bool = False
    coarse: str = "none"
    #: Settings of earlier versions lack this key, and their hash has to stay the same.
    corrections: int = field(default=1, metadata=OMIT_DEFAULT)
    loss: FieldLossSettings = field(default_factory=FieldLossSettings, metadata=FLAT)

    def __post_init__(self) -> None:
        if self.ensemble < 1:
            raise ValueError(f"ensemble must be at least 1, got {self.ensemble}")
        if self.corrections < 1:
            raise ValueError(f"corrections must be at least 1, got {self.corrections}")
        if self.constraint not in CONSTRAINTS:
            raise ValueError(f"constraint must be one of {', '.join(CONSTRAINTS)}, got {self.constraint!r}")
        if self.coarse not in COARSE:
            raise ValueError(f"coarse must be one of {', '.join(COARSE)}, got {self.coarse!r}")


@dataclass(frozen=True)
class FieldConfig(FieldSettings):
    """The settings of training together with those of the network of each member."""

    network: Annotated[Any, ARCHITECTURES] = field(kw_only=True)


@dataclass(frozen=True)
class FieldFacts:
    """Metadata that is saved with the weights.

    Attributes:
        config: settings of training and of the network.
        layout: inputs and outputs, with their names and units, on the grid of training.
        scale: means and standard deviations of samples in the units of `units`; see `FieldScale`.
        labels_fingerprint: fingerprint of the simulator, or of the data, that the labels come from.
        bands: calibrated error bars; None without calibration samples.
        scores: errors on held-out data, by metric with its unit in the key.
        coarse: the coarse solver whose answer is an input of the network; None for no solver.
        units: units of the fields inside of the network; None for the units of the samples, as in surrogates of earlier
            versions.
        domain: ranges of the training samples (see `surrogates.fields.training_domain`); None for surrogates of
            earlier versions, which did not save them.
        on: the cheaper surrogate on which this one stands, and the line through its answers; None for none.
        solver: the coarse solver whose steps the network corrects; None for none.
        taught_by: the teacher whose answers were learned, beside labels or without any; None for labels alone.
    """

    config: FieldConfig
    layout: Layout
    scale: FieldScale
    labels_fingerprint: str
    bands: Bands | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    coarse: CoarseDarcy | None = None
    #: Surrogates of earlier versions lack these two, and must keep their fingerprint.
    units: FieldUnits | None = field(default=None, metadata=OMIT_DEFAULT)
    domain: Box | None = field(default=None, metadata=OMIT_DEFAULT)
    on: Standing | None = field(default=None, metadata=OMIT_DEFAULT)
    solver: CoarseSolver | None = field(default=None, metadata=OMIT_DEFAULT)
    taught_by: Teacher | None = field(default=None, metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        layout, scale = self.layout, self.scale
        seen: tuple[Any, ...] = (*layout.static, self.coarse) if self.coarse is not None else tuple(layout.static)
        if self.on is not None:
            refuse_unlike(channels=range(layout.channels), on=self.on.line.offset)
            seen = (*seen, *self.on.scale.names)
        refuse_unlike(channels=range(layout.channels), scale=scale.state_mean)
        refuse_unlike(fields=seen, scale=scale.static_mean)
        refuse_unlike(parameters=layout.parameters, scale=scale.parameter_mean)
        if self.solver is not None and (self.units is None or not layout.evolves):
            raise ValueError("a coarse solver needs units and an output that evolves")
        if self.bands is not None and self.bands.floor:
            refuse_unlike(channels=range(layout.channels), bands=self.bands.floor[0])

    def network_static(
        self, static: Float[np.ndarray, "sample *space static"]
    ) -> Float[np.ndarray, "sample *space seen"]:
        """The static fields of the network: those of the samples, and the answer of the coarse solver, if any."""
        if self.coarse is None:
            return static
        return with_coarse(self.coarse, static)

    @property
    def shape(self) -> FieldShape:
        """Dims and channels of the inputs and outputs of the network."""
        layout = self.layout
        # The network sees the state from which the solver starts, and that which it reaches.
        state = layout.channels * (1 + (self.solver is not None)) if layout.evolves else 0
        answers = 0 if self.on is None else layout.channels
        return FieldShape(
            dims=len(layout.space),
            inputs=max(1, state + len(layout.static) + (self.coarse is not None) + answers),
            outputs=1 if self.config.constraint == "stream_function" else layout.channels,
            parameters=len(layout.parameters),
            periodic=layout.periodic,
        )

    def model(self, seed: int = 0) -> FieldModel:
        """A model with initial weights."""
        config = self.config
        return FieldModel(
            config.network,
            self.shape,
            config.ensemble,
            self.scale,
            self.shares(),
            nnx.Rngs(seed),
            evolves=self.layout.evolves,
            increment=config.increment,
            constraint=config.constraint,
            solver=self.step(),
        )

    def step(self) -> CoarseStep | None:
        """The step of the coarse solver on the states of the network; None without one."""
        if self.solver is None or self.units is None:
            return None
        return self.solver.step(self.units, self.layout, self.config.corrections)

    def shares(self) -> tuple[float, ...]:
        """Lengths of the domain over its longest; the divergence of a field is zero or not in every unit of length."""
        lengths = self.layout.lengths()
        return tuple(length / max(lengths) for length in lengths)
