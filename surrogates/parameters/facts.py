"""The metadata of a surrogate of parameters, saved with its weights: settings, scales, domain and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from flax import nnx
from jaxtyping import Float

from data.parameters import ParameterLayout
from data.plain import OMIT_DEFAULT
from surrogates.learning.box import Box
from surrogates.learning.conformal import Conformal
from surrogates.learning.normalise import Standardise, constant, moments, refuse_not_positive, refuse_unlike
from surrogates.learning.rung import Line, Standing
from surrogates.learning.teaching import Teacher
from surrogates.parameters.network import ParameterConfig, Perceptrons
from surrogates.parameters.quantities import Quantities

#: A positive input whose largest value over the smallest exceeds this ratio is replaced by its logarithm.
DECADE = 10.0


@dataclass(frozen=True)
class InputScale:
    """The map from columns of parameters to the input features of the networks.

    Attributes:
        mean, scale: mean and standard deviation of each column, or of its logarithm.
        logarithmic: whether each column is replaced by its logarithm.
        angular: whether each column, in rad, also enters by sines and cosines of its multiples.
        harmonics: largest multiple of an angular column.
        products: whether products of two columns so scaled, and their squares, are features too.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    logarithmic: tuple[bool, ...]
    angular: tuple[bool, ...]
    harmonics: int
    products: bool = field(default=False, metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        refuse_unlike(mean=self.mean, scale=self.scale, logarithmic=self.logarithmic, angular=self.angular)
        refuse_not_positive(scale=self.scale)
        if not 0 <= self.harmonics <= 1000:
            raise ValueError(f"harmonics must lie between 0 and 1000, got {self.harmonics}")

    @staticmethod
    def fit(
        values: Float[np.ndarray, "sample column"], units: Sequence[str], harmonics: int, *, products: bool = False
    ) -> InputScale:
        """Fit the scale to training samples; a constant column is shifted but not scaled."""
        low, high = values.min(axis=0), values.max(axis=0)
        logs = (low > 0) & (high > DECADE * low)
        taken = np.where(logs, np.log(np.where(logs, values, 1.0)), values)
        pairs = [moments(column) for column in taken.T]
        return InputScale(
            tuple(mean for mean, _ in pairs),
            tuple(1.0 if constant(mean, spread) else spread for mean, spread in pairs),
            tuple(logs.tolist()),
            tuple(unit == "rad" for unit in units),
            harmonics,
            products,
        )

    @property
    def features(self) -> int:
        """Number of input features of the networks."""
        count = len(self.mean)
        return count + 2 * self.harmonics * sum(self.angular) + self.products * count * (count + 1) // 2

    def apply(self, values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row feature"]:
        """Input features of the networks, float32, which are computed in double precision."""
        logs = np.array(self.logarithmic)
        values = np.asarray(values, np.float64)
        taken = values
        if logs.any():
            # Values that are not positive are clipped; the domain check reports them.
            taken = np.where(logs, np.log(np.where(logs, np.maximum(values, 1e-300), 1.0)), values)
        parts = [(taken - np.array(self.mean)) / np.array(self.scale)]
        angles = values[:, np.array(self.angular)]
        for k in range(1, self.harmonics + 1):
            parts += [np.sin(k * angles), np.cos(k * angles)]
        if self.products:
            first, second = np.triu_indices(len(self.mean))
            parts.append(parts[0][:, first] * parts[0][:, second])
        return np.concatenate(parts, axis=1).astype(np.float32)


@dataclass(frozen=True)
class ParameterFacts:
    """Metadata that is saved with the weights.

    Attributes:
        config: settings of the ensemble.
        layout: inputs and outputs, with their names and units.
        inputs: scale of the columns of parameters.
        outputs: mean and scale of the targets, as `quantities` converts them.
        domain: ranges of the parameters of the training samples.
        labels_fingerprint: fingerprint of the simulator, or of the data, that the labels come from.
        conformal: calibration of each target, as `quantities` converts them; empty without calibration samples.
        scores: errors on held-out data, by metric with its unit in the key.
        line: the first estimate of each target, as `quantities` converts them, from the input features: the networks
            learn what it leaves, which `outputs` scales; None if they learn the targets themselves.
        on: the cheaper simulator whose answers are further input features, and the line through them that is the first
            estimate instead; None if there is none.
        taught_by: the teacher whose answers were learned, beside labels or without any; None for labels alone.
    """

    config: ParameterConfig
    layout: ParameterLayout
    inputs: InputScale
    outputs: Standardise
    domain: Box
    labels_fingerprint: str
    conformal: Mapping[str, Conformal] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    line: Line | None = field(default=None, metadata=OMIT_DEFAULT)
    on: Standing | None = field(default=None, metadata=OMIT_DEFAULT)
    taught_by: Teacher | None = field(default=None, metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        if self.line is not None:
            refuse_unlike(targets=self.layout.targets, line=self.line.offset)
            if any(len(weights) != self.inputs.features for weights in self.line.weights):
                raise ValueError(f"the line must have {self.inputs.features} weights for each target")
        if self.on is not None:
            refuse_unlike(targets=self.layout.targets, line=self.on.line.offset)
            if self.line is not None:
                raise ValueError("there is one first estimate: line or on")
        refuse_unlike(columns=self.layout.columns, inputs=self.inputs.mean)
        if self.outputs.names != self.layout.targets:
            raise ValueError(f"outputs must be scaled as {', '.join(self.layout.targets)}")
        if self.domain.columns != self.layout.columns:
            raise ValueError(f"domain must have the columns {', '.join(self.layout.columns)}")
        targets = set(self.layout.targets)
        strange = [name for name in self.conformal if name not in targets]
        if strange:
            raise ValueError(f"conformal names {strange[0]}, which is no output")
        self.quantities  # noqa: B018 - refuses settings that name other outputs

    @cached_property
    def quantities(self) -> Quantities:
        """The conversion of the targets to the quantities that the networks learn."""
        return Quantities.of(self.layout, self.config)

    @property
    def features(self) -> int:
        """Number of input features of the networks, with the answers of the cheaper simulator."""
        return self.inputs.features + (0 if self.on is None else len(self.on.scale.names))

    def seen(
        self, values: Float[np.ndarray, "row column"], cheaper: Float[np.ndarray, "row answer"] | None
    ) -> Float[np.ndarray, "row feature"]:
        """Input features of the networks, float32; `cheaper` are answers of the simulator that it stands on, if any."""
        features = self.inputs.apply(values)
        if self.on is None or cheaper is None:
            return features
        return np.concatenate([features, self.on.scale.apply(cheaper).astype(np.float32)], axis=1)

    def first_estimate(
        self, values: Float[np.ndarray, "row column"], cheaper: Float[np.ndarray, "row answer"] | None
    ) -> Float[np.ndarray, "row target"]:
        """The first estimate of each target, as `quantities` converts them; 0 if the surrogate stands on nothing."""
        if self.on is not None and cheaper is not None:
            return self.on.line.apply(self.on.scale.apply(cheaper))
        if self.line is not None:
            return self.line.apply(self.inputs.apply(values))
        return np.zeros((len(values), len(self.layout.targets)))

    def model(self, seed: int = 0) -> Perceptrons:
        """An ensemble with initial weights."""
        return Perceptrons(self.features, len(self.layout.targets), self.config, nnx.Rngs(seed))
