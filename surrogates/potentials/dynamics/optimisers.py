"""Optimisers for the relaxation of many molecules at once, each with its own step length and history.

FIRE is that of Bitzek et al. 2006 (doi:10.1103/PhysRevLett.97.170201) and L-BFGS the two-loop recursion of
Nocedal 1980 (doi:10.1090/S0025-5718-1980-0572855-7) without a line search, each with the constants that ASE uses.
Both are pure functions of fixed shapes, from memory, positions and forces to a new memory and a displacement.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

#: Largest step, Angstrom: of each atom (L-BFGS), or the norm of the displacement of a molecule (FIRE).
MAX_STEP = 0.2
TINY = 1e-20


class Optimiser(Protocol):
    """An optimiser, which computes the next displacement from the forces."""

    def start(self, positions: Float[Array, "M N 3"]) -> Any:
        """The initial memory of M molecules; the first axis of each leaf is M."""
        ...

    def step(
        self, memory: Any, positions: Float[Array, "M N 3"], forces: Float[Array, "M N 3"]
    ) -> tuple[Any, Float[Array, "M N 3"]]:
        """The new memory and displacements in Angstrom, from forces in eV/Angstrom (0 for padding)."""
        ...


class FireMemory(NamedTuple):
    """Velocities, time steps, mixing parameters, and number of steps since the power was last negative."""

    velocity: Float[Array, "M N 3"]
    dt: Float[Array, " M"]
    mixing: Float[Array, " M"]
    downhill: Int[Array, " M"]


class Fire:
    """FIRE: dynamics with inertia, whose velocity is reset whenever it points uphill."""

    first, longest, mixing = 0.1, 1.0, 0.1
    faster, slower, fade, patience = 1.1, 0.5, 0.99, 5

    def start(self, positions: Float[Array, "M N 3"]) -> FireMemory:
        """The memory of molecules at rest."""
        m, dtype = positions.shape[0], positions.dtype
        return FireMemory(
            jnp.zeros_like(positions),
            jnp.full(m, self.first, dtype),
            jnp.full(m, self.mixing, dtype),
            jnp.zeros(m, jnp.int32),
        )

    def step(
        self, memory: FireMemory, positions: Float[Array, "M N 3"], forces: Float[Array, "M N 3"]
    ) -> tuple[FireMemory, Float[Array, "M N 3"]]:
        """See `Optimiser.step`."""
        v = memory.velocity
        downhill = _dot(forces, v) > 0
        turn = memory.mixing * _norm(v) / jnp.maximum(_norm(forces), TINY)
        v = jnp.where(_wide(downhill), _wide(1 - memory.mixing) * v + _wide(turn) * forces, 0.0)
        trusted = downhill & (memory.downhill > self.patience)
        dt = jnp.where(trusted, jnp.minimum(memory.dt * self.faster, self.longest), memory.dt)
        mixing = jnp.where(trusted, memory.mixing * self.fade, memory.mixing)
        # A first step, at rest, is neither uphill nor downhill: as in ASE, it keeps the time step.
        rest = _norm(memory.velocity) == 0
        uphill = ~downhill & ~rest
        dt = jnp.where(uphill, dt * self.slower, dt)
        mixing = jnp.where(downhill | rest, mixing, self.mixing)
        count = jnp.where(downhill, memory.downhill + 1, 0)
        v = v + _wide(dt) * forces
        move = _wide(dt) * v
        move = move * _wide(jnp.minimum(1.0, MAX_STEP / jnp.maximum(_norm(move), TINY)))
        return FireMemory(v, dt, mixing, count), move


class LbfgsMemory(NamedTuple):
    """The last H displacements and changes of the gradient, newest last, and the state before the last step."""

    moves: Float[Array, "M H N 3"]
    changes: Float[Array, "M H N 3"]
    position: Float[Array, "M N 3"]
    forces: Float[Array, "M N 3"]
    steps: Int[Array, " M"]


class Lbfgs:
    """L-BFGS: quasi-Newton steps with the curvature of the last steps.

    If the last step had negative curvature, along which a Newton step would lead uphill, it is left out of the history,
    and the next step follows the forces and is 1.5 times as long as the last.
    """

    history = 16
    #: Initial curvature, eV/Angstrom^2.
    stiffness = 70.0

    def start(self, positions: Float[Array, "M N 3"]) -> LbfgsMemory:
        """The memory without history."""
        m, n, _ = positions.shape
        empty = jnp.zeros((m, self.history, n, 3), positions.dtype)
        return LbfgsMemory(empty, empty, positions, jnp.zeros_like(positions), jnp.zeros(m, jnp.int32))

    def step(
        self, memory: LbfgsMemory, positions: Float[Array, "M N 3"], forces: Float[Array, "M N 3"]
    ) -> tuple[LbfgsMemory, Float[Array, "M N 3"]]:
        """See `Optimiser.step`."""
        move, change = positions - memory.position, memory.forces - forces
        useful = (memory.steps > 0) & (_dot(move, change) > 1e-6 * _dot(move, move))
        moves, changes = (
            jnp.where(useful[:, None, None, None], jnp.concatenate([old[:, 1:], new[:, None]], axis=1), old)
            for old, new in ((memory.moves, move), (memory.changes, change))
        )
        curvature = jnp.sum(moves * changes, axis=(2, 3))
        rho = jnp.where(curvature > 0, 1.0 / jnp.where(curvature > 0, curvature, 1.0), 0.0)

        def down(q: Array, at: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            s, y, r = at
            a = r * _dot(s, q)
            return q - _wide(a) * y, a

        def up(z: Array, at: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
            s, y, r, a = at
            return z + s * _wide(a - r * _dot(y, z)), None

        pairs = (jnp.moveaxis(moves, 1, 0), jnp.moveaxis(changes, 1, 0), rho.T)
        q, a = jax.lax.scan(down, -forces, pairs, reverse=True)
        z, _ = jax.lax.scan(up, q / self.stiffness, (*pairs, a))
        # Where rounding errors make the direction point uphill, the step follows the forces.
        step = jnp.where(_wide(_dot(z, forces) < 0), -z, forces / self.stiffness)
        bent = (memory.steps > 0) & ~useful
        along = forces * _wide(1.5 * _longest(move) / jnp.maximum(_longest(forces), TINY))
        step = jnp.where(_wide(bent), along, step)
        step = step * _wide(jnp.minimum(1.0, MAX_STEP / jnp.maximum(_longest(step), TINY)))
        return LbfgsMemory(moves, changes, positions, forces, memory.steps + 1), step


OPTIMISERS: dict[str, Optimiser] = {"fire": Fire(), "lbfgs": Lbfgs()}


def _dot(a: Float[Array, "M N 3"], b: Float[Array, "M N 3"]) -> Float[Array, " M"]:
    return jnp.sum(a * b, axis=(1, 2))


def _norm(a: Float[Array, "M N 3"]) -> Float[Array, " M"]:
    return jnp.sqrt(_dot(a, a))


def _longest(a: Float[Array, "M N 3"]) -> Float[Array, " M"]:
    return jnp.sqrt(jnp.max(jnp.sum(a * a, axis=-1), axis=-1))


def _wide(a: Array) -> Array:
    return a[:, None, None]
