"""What the comparison of an operator with its solver asks of the solver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from data.spec import Spec
from simulators.requests import DrawSettings


@runtime_checkable
class GridSolver(Protocol):
    """A simulator of trajectories on a periodic grid that is a pure function of JAX, and has coarser versions.

    Attributes:
        points: grid points along each side.
        dim: number of space dimensions.
        step: time step.
        save_dt: time between saved states.
        steps: number of saved states after the initial one.
        solve: function (initial state, parameters) -> (time, channel, *space), for `jax.jit` and `jax.vmap`.
    """

    @property
    def spec(self) -> Spec: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def points(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def step(self) -> float: ...
    @property
    def save_dt(self) -> float: ...
    @property
    def steps(self) -> int: ...
    @property
    def solve(self) -> Callable[..., Any]: ...

    def draw(self, settings: DrawSettings, seed: int) -> Iterator[xr.Dataset]:
        """See `simulators.adapter.DrawsRequests`."""
        ...

    def at(self, *, points: int | None = None, dt: float | None = None) -> Self:
        """See `simulators.adapter.HasResolutions`; `points` and `dt` are those of this class."""
        ...

    def trajectories(
        self,
        initial: Float[np.ndarray, "sample channel *space"],
        parameters: Mapping[str, Float[np.ndarray, " sample"]] | None = None,
    ) -> Float[Array, "sample time channel *space"]:
        """Trajectories of a batch of initial states and parameters, with the initial state first."""
        ...
