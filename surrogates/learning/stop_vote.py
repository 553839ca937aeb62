"""Lets all processes of a training stop after the same step, though the signal to stop reached one of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from simulators.precision import jit_float32
from surrogates.learning.devices import AXIS, rows_of_process


class StopVote:
    """What all processes know about the wish of any of them to stop.

    In each step every process says whether it was asked to stop. The devices compute the largest answer beside the
    step, and it is read once the next step has begun, so that no process waits longer for it than for the step.

    Args:
        mesh: devices of the training.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._alone = jax.process_count() == 1
        if self._alone:
            return
        part = rows_of_process(mesh)
        self._devices, self._here = mesh.size, part.stop - part.first
        self._split = NamedSharding(mesh, PartitionSpec(AXIS))
        self._largest = jit_float32(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._pending: jax.Array | None = None

    def after_step(self, asked: bool) -> bool:
        """Whether all processes stop after this step; each calls this once in each step.

        Args:
            asked: whether this process was asked to stop.
        """
        if self._alone:
            return asked
        before, self._pending = self._pending, self._vote(asked)
        return before is not None and bool(before)

    def at_end(self, asked: bool) -> bool:
        """Whether any process was asked to stop by now; all of them wait for the answer."""
        return asked if self._alone else bool(self._vote(asked))

    def _vote(self, asked: bool) -> jax.Array:
        answers = np.full(self._here, asked, np.int32)
        return self._largest(jax.make_array_from_process_local_data(self._split, answers, (self._devices,)))
