"""The loss of a field, or of a trajectory that is unrolled over several steps.

There are three norms: the mean square error over the square of the scale of a step; the relative L2 norm
|p - t| / |t|; and the relative H1 norm, which adds the first derivatives by central differences (Sobolev training:
Czarnecki et al. 2017, arXiv:1706.04859; Li et al. 2024, arXiv:2111.03794). In an unrolled trajectory the output of the
model is its next input, and the loss is averaged over the steps. If the gradient is cut between steps, this is the
pushforward trick of Brandstetter et al. 2022 (arXiv:2202.03376).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from data.fields.batches import FieldBatch
from data.plain import FLAT, written_as
from surrogates.fields.model import FieldModel
from surrogates.learning.step import Stats

LOSSES = ("mse", "relative_l2", "h1")
SYMMETRIES = ("none", "transpose", "square")


def relative_l2(
    prediction: Float[Array, "*batch space channel"], truth: Float[Array, "*batch space channel"]
) -> Float[Array, "*batch"]:
    """|p - t| / |t| of each sample, over its points and channels."""
    # The square root has no gradient at 0.
    error = jnp.sqrt(jnp.sum((prediction - truth) ** 2, axis=(-2, -1)) + 1e-30)
    return error / jnp.maximum(jnp.sqrt(jnp.sum(truth**2, axis=(-2, -1))), 1e-12)


def derivatives(
    values: Float[Array, "batch *space channel"], lengths: tuple[float, ...], periodic: tuple[bool, ...]
) -> list[Float[Array, "batch *space channel"]]:
    """First derivatives along each dim by central differences; one-sided at the ends of dims that are not periodic.

    Along a dim of one point they are 0.
    """
    slopes = []
    for axis, (length, closed) in enumerate(zip(lengths, periodic, strict=True), start=1):
        step = length / values.shape[axis]
        if values.shape[axis] == 1:
            slopes.append(jnp.zeros_like(values))
        elif closed:
            slopes.append((jnp.roll(values, -1, axis) - jnp.roll(values, 1, axis)) / (2 * step))
        else:
            slopes.append(jnp.asarray(jnp.gradient(values, step, axis=axis)))
    return slopes


@dataclass(frozen=True)
class FieldLossSettings:
    """Settings of the loss, which do not depend on the domain.

    Attributes:
        kind: norm, one of `LOSSES`.
        unroll: number of unrolled steps.
        unroll_from, unroll_full: shares of training after which the number of steps that count grows from 1, and has
            grown to `unroll`.
        cut_gradient: whether gradients are cut between steps.
        noise: standard deviation of the noise that is added to the first state, in units of the scale of a step.
        symmetry: one of `SYMMETRIES`: a group from which a random element transforms each sample in training; for
            scalars on squares.

    Raises:
        ValueError: a name is unknown or a number out of range.
    """

    kind: str = field(default="mse", metadata=written_as("loss"))
    unroll: int = 1
    unroll_from: float = 0.3
    unroll_full: float = 0.7
    cut_gradient: bool = False
    noise: float = 0.0
    symmetry: str = "none"

    def __post_init__(self) -> None:
        for name, choices in (("kind", LOSSES), ("symmetry", SYMMETRIES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.unroll < 1 or self.noise < 0:
            raise ValueError(f"unroll must be 1 or more and noise 0 or more, got {self.unroll} and {self.noise}")
        if not 0 <= self.unroll_from <= self.unroll_full <= 1:
            raise ValueError("0 <= unroll_from <= unroll_full <= 1 must hold")


@dataclass(frozen=True)
class FieldLoss:
    """The loss that training minimises on a domain.

    Attributes:
        settings: settings of the loss.
        lengths: lengths of the domain over its longest side, for derivatives.
        periodic: whether each dim is periodic.
    """

    settings: FieldLossSettings = field(default_factory=FieldLossSettings, metadata=FLAT)
    lengths: tuple[float, ...] = ()
    periodic: tuple[bool, ...] = ()

    def __call__(
        self, model: nnx.Module, batch: FieldBatch, key: jax.Array, progress: jax.Array
    ) -> tuple[jax.Array, Stats]:
        """The loss, averaged over rows, members and the steps that count, and its statistics."""
        assert isinstance(model, FieldModel)
        frames, static = jnp.asarray(batch.frames), jnp.asarray(batch.static)
        turn_key, noise_key = jax.random.split(key)
        if self.settings.symmetry != "none":
            frames, static = self._turn(frames, static, turn_key, progress)
        weight = jnp.asarray(batch.weight)
        total = jnp.maximum(weight.sum(), 1.0)
        errors, l2 = self._steps(model, frames, static, jnp.asarray(batch.parameters), noise_key, progress)
        counted = self.step_weights(progress)
        per_row = (errors * counted[:, None, None]).sum(axis=0).mean(axis=0) / counted.sum()
        value = (per_row * weight).sum() / total
        stats = {"loss": (value * total, total), "relative_l2": ((l2[0].mean(axis=0) * weight).sum(), total)}
        return value, stats

    def step_weights(self, progress: jax.Array) -> Float[Array, " step"]:
        """1 for each step that counts when the share `progress` of training is done, 0 for the others."""
        width = max(self.settings.unroll_full - self.settings.unroll_from, 1e-6)
        share = jnp.clip((progress - self.settings.unroll_from) / width, 0.0, 1.0)
        number = 1.0 + jnp.floor(share * (self.settings.unroll - 1) + 1e-6)
        return (jnp.arange(self.settings.unroll) < number).astype(jnp.float32)

    def _steps(
        self, model: FieldModel, frames: Array, static: Array, parameters: Array, key: jax.Array, progress: jax.Array
    ) -> tuple[Float[Array, "step member batch"], Float[Array, "step member batch"]]:
        """The loss and the relative L2 error of each step, member and sample."""
        first = frames[:, 0]
        shape = (model.members, *first.shape)
        if not model.evolves:
            prediction = model(jnp.zeros(shape, first.dtype), static, parameters)
            error, l2 = self._errors(model, prediction, first)
            return error[None], l2[None]
        state = jnp.broadcast_to(first, shape)
        if self.settings.noise:
            size = jnp.where(progress < 1.0, self.settings.noise, 0.0) * jnp.asarray(model.scale.increment_std)
            state = state + size * jax.random.normal(key, shape, first.dtype)
        counted = self.step_weights(progress)

        def advance(state: Array, item: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            truth, counts = item

            def count(state: Array) -> tuple[Array, tuple[Array, Array]]:
                new = model(state, static, parameters)
                following = jax.lax.stop_gradient(new) if self.settings.cut_gradient else new
                return following, self._errors(model, new, truth)

            def skip(state: Array) -> tuple[Array, tuple[Array, Array]]:
                zero = jnp.zeros(shape[:2], jnp.float32)
                return state, (zero, zero)

            # A step that does not count yet is not computed.
            return jax.lax.cond(counts > 0, count, skip, state)

        targets = jnp.moveaxis(frames[:, 1:], 1, 0)
        if self.settings.unroll == 1:
            _, (error, l2) = advance(state, (targets[0], jnp.ones(())))
            return error[None], l2[None]
        return jax.lax.scan(advance, state, (targets, counted))[1]

    def _errors(
        self, model: FieldModel, prediction: Float[Array, "member batch *space channel"], truth: Array
    ) -> tuple[Float[Array, "member batch"], Float[Array, "member batch"]]:
        members, batch, channels = prediction.shape[0], prediction.shape[1], prediction.shape[-1]
        flat = (members, batch, -1, channels)
        wide = jnp.broadcast_to(truth, prediction.shape)
        l2 = relative_l2(prediction.reshape(flat), wide.reshape(flat))
        if self.settings.kind == "relative_l2":
            return l2, l2
        if self.settings.kind == "mse":
            unit = jnp.asarray(model.scale.increment_std if model.evolves else model.scale.state_std)
            return jnp.mean(((prediction - wide) / unit).reshape(flat) ** 2, axis=(-2, -1)), l2
        joined = (members * batch, *prediction.shape[2:])
        error = (prediction - wide).reshape(joined)
        above = jnp.sum(error**2, axis=tuple(range(1, error.ndim)))
        full = wide.reshape(joined)
        below = jnp.sum(full**2, axis=tuple(range(1, error.ndim)))
        for e, t in zip(
            derivatives(error, self.lengths, self.periodic), derivatives(full, self.lengths, self.periodic), strict=True
        ):
            above = above + jnp.sum(e**2, axis=tuple(range(1, e.ndim)))
            below = below + jnp.sum(t**2, axis=tuple(range(1, t.ndim)))
        # The square root has no gradient at 0.
        return jnp.sqrt(above / jnp.maximum(below, 1e-24) + 1e-20).reshape(members, batch), l2

    def _turn(self, frames: Array, static: Array, key: jax.Array, progress: jax.Array) -> tuple[Array, Array]:
        """Transform each sample by a random element of the group; in validation (progress 1) samples are unchanged."""
        bits = jax.random.bernoulli(key, 0.5, (3, len(frames))) & (progress < 1.0)

        def act(values: Array, at: int) -> Array:
            swap, first, second = bits.reshape(3, -1, *[1] * (values.ndim - 1))
            if self.settings.symmetry == "square":
                values = jnp.where(first, jnp.flip(values, at), values)
                values = jnp.where(second, jnp.flip(values, at + 1), values)
            return jnp.where(swap, jnp.swapaxes(values, at, at + 1), values)

        return act(frames, 2), act(static, 1)
