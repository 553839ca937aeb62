"""An ensemble of networks that predicts a field, or advances a state by a step.

Inputs of a network are the normalised state and static fields. Its output is the normalised increment of the state or,
for fields that do not evolve, the normalised field. Increments have a separate scale: a step of a well resolved
trajectory is small, and a network that predicted the next state would mostly learn the identity. With a coarse solver
the network predicts what a step of this solver misses, in units of the solver's own error.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from surrogates.fields.coarse_solver import CoarseStep
from surrogates.fields.constraints import conserve_mean, divergence_free, stream_function
from surrogates.fields.networks.architectures import ARCHITECTURES, FieldShape
from surrogates.fields.scale import FieldScale
from surrogates.learning.nn.ensemble import apply_members, stack_members

#: Constraints that an output can satisfy exactly.
CONSTRAINTS = ("none", "mean", "divergence_free", "stream_function")


class FieldModel(nnx.Module):
    """An ensemble of networks that differ in their initial weights, stacked along the first axis of each weight.

    Args:
        config: hyperparameters of the network of each member.
        shape: dims and channels of inputs and outputs.
        members: number of members.
        scale: means and standard deviations of inputs and outputs.
        lengths: lengths of the domain along each dim of space, for velocities without divergence.
        rngs: random numbers for the initial weights.
        evolves: whether the model advances a state, or predicts a field at once.
        increment: whether the network predicts the change of the state in a step, or the next state.
        constraint: one of `CONSTRAINTS`: "mean" keeps the mean of each channel of a state; "divergence_free" projects a
            velocity; "stream_function" derives a plane velocity from the one output channel of the network. With a
            solver "mean" keeps the mean of the state that the solver reaches.
        solver: the step of a coarse solver, which the network corrects; None for none.
    """

    def __init__(
        self,
        config: Any,
        shape: FieldShape,
        members: int,
        scale: FieldScale,
        lengths: tuple[float, ...],
        rngs: nnx.Rngs,
        *,
        evolves: bool,
        increment: bool = True,
        constraint: str = "none",
        solver: CoarseStep | None = None,
    ) -> None:
        self.members, self.scale, self.lengths = members, scale, lengths
        self.evolves, self.increment, self.constraint = evolves, increment, constraint
        self.solver = solver
        self.networks = stack_members(lambda rngs: ARCHITECTURES.network(config, shape, rngs), members, rngs)

    def __call__(
        self,
        state: Float[Array, "member batch *space channel"],
        static: Float[Array, "batch *space static"],
        parameters: Float[Array, "batch parameter"],
    ) -> Float[Array, "member batch *space channel"]:
        """The next state, or the field, of each member.

        Args:
            state: the state of each member; if the field does not evolve, only the shape is used.
            static: static fields, in the units of the model.
            parameters: parameters, in the units of the model.
        """

        def advance(one: Any, state: Array) -> Array:
            if self.solver is not None:
                return self._correct(one, self.solver, state, parameters)
            return self._advance(one, state, static, parameters)

        new: Array = apply_members(self.networks, self.members, advance, state)
        return new

    def _advance(self, one: Any, state: Array, static: Array, parameters: Array) -> Array:
        scale = self.scale
        mean, std = jnp.asarray(scale.state_mean), jnp.asarray(scale.state_std)
        parts = [(state - mean) / std] if self.evolves else []
        if static.shape[-1]:
            parts.append((static - jnp.asarray(scale.static_mean)) / jnp.asarray(scale.static_std))
        conditions = scale.parameters(parameters) if parameters.shape[-1] else None
        if not parts:
            # A field that depends on parameters alone has no input fields, so the network gets a channel of zeros.
            parts = [jnp.zeros((*state.shape[:-1], 1), state.dtype)]
        output = one(jnp.concatenate(parts, axis=-1), conditions).astype(state.dtype)
        if self.constraint == "stream_function":
            return self._from_stream_function(state, output)
        if self.evolves and self.increment:
            new = state + output * jnp.asarray(scale.increment_std)
        else:
            new = mean + output * std
        if self.constraint == "mean":
            return conserve_mean(new, state)
        if self.constraint == "divergence_free":
            return divergence_free(new, self.lengths)
        return new

    def _correct(self, one: Any, solver: CoarseStep, state: Array, parameters: Array) -> Array:
        """The next state: in each part of the step the solver advances it, and the network adds what that misses."""
        scale = self.scale
        mean, std = jnp.asarray(scale.state_mean), jnp.asarray(scale.state_std)
        conditions = scale.parameters(parameters) if parameters.shape[-1] else None

        def part(state: Array, _: None) -> tuple[Array, None]:
            reached = solver(state, parameters)
            seen = jnp.concatenate([(state - mean) / std, (reached - mean) / std], axis=-1)
            new = reached + one(seen, conditions).astype(state.dtype) * jnp.asarray(scale.increment_std)
            if self.constraint == "mean":
                new = conserve_mean(new, reached)
            return divergence_free(new, self.lengths) if self.constraint == "divergence_free" else new, None

        if solver.parts == 1:
            return part(state, None)[0]
        return jax.lax.scan(part, state, None, length=solver.parts)[0]

    def _from_stream_function(
        self, state: Float[Array, "batch x y 2"], psi: Float[Array, "batch x y 1"]
    ) -> Float[Array, "batch x y 2"]:
        """The next velocity from the stream function that the network predicts.

        An increment is added to the divergence-free part of the state; otherwise the mean of the state, or of training,
        is added. The scale is such that an output of size 1 at a wavelength of a quarter of the domain gives a velocity
        of typical size.
        """
        scale = self.scale
        adds = self.evolves and self.increment
        size = np.sqrt(np.mean(np.square(scale.increment_std if adds else scale.state_std)))
        velocity = stream_function(psi * (size * min(self.lengths) / (8 * np.pi)), (self.lengths[0], self.lengths[1]))
        if adds:
            return divergence_free(state, self.lengths) + velocity
        mean = state.mean(axis=(1, 2), keepdims=True) if self.evolves else jnp.asarray(scale.state_mean)
        return velocity + mean


def rollout(
    model: FieldModel,
    initial: Float[Array, "batch *space channel"],
    static: Float[Array, "batch *space static"],
    parameters: Float[Array, "batch parameter"],
    steps: int,
) -> Float[Array, "member batch time *space channel"]:
    """The trajectory of each member from one initial state, which is included as the first time."""
    start = jnp.broadcast_to(initial[None], (model.members, *initial.shape))

    def advance(state: Array, _: None) -> tuple[Array, Array]:
        new = model(state, static, parameters)
        return new, new

    _, later = jax.lax.scan(advance, start, None, length=steps)
    return jnp.concatenate([start[:, :, None], jnp.moveaxis(later, 0, 2)], axis=2)
