"""exponax: differentiable and batched pseudo-spectral solvers of equations on periodic boxes, in this process.

Koehler et al., APEBench, NeurIPS 2024 (arXiv:2411.00180). The linear part is integrated exactly, the nonlinear part
by exponential Runge-Kutta steps (`simulators.fluids.spectral.etdrk`); products are dealiased.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float

from data.errors import InputError
from data.spec import Coordinate, SimulationError, Spec, Variable, check, content_hash
from simulators.fluids.spectral import stability
from simulators.fluids.spectral.equations import AXES
from simulators.fluids.spectral.resample import resample
from simulators.fluids.spectral.settings import BoxSettings
from simulators.precision import jit_float32
from simulators.requests import DrawSettings, drawn_parameters, refuse_other_ranges

#: Largest divergence of an initial velocity relative to its gradient; rounding to float32 causes 1e-6.
DIVERGENCE = 1e-3


@dataclass(frozen=True)
class Exponax(BoxSettings):
    """One equation on one grid; the settings are those of `BoxSettings`.

    Raises:
        InputError: a setting is invalid; the message names valid values.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled programs are not pickled.
        return type(self), tuple(getattr(self, f.name) for f in fields(self))

    @cached_property
    def spec(self) -> Spec:
        """The inputs are the initial state and the varied parameters; the output is the states at all saved times."""
        axes = AXES[: self.dim]
        positions = tuple(i * self.length / self.points for i in range(self.points))
        parameters = self.row.parameters_in(self.dim)
        return Spec(
            inputs=(
                Variable("initial", ("channel", *axes), "1", "float32", "initial state"),
                *(Variable(n, (), "1", "float64", parameters[n].long_name) for n in self.varied),
            ),
            outputs=(Variable("u", ("time", "channel", *axes), "1", "float32", "state"),),
            coords=(
                Coordinate("time", tuple(i * self.save_dt for i in range(self.steps + 1)), "1", "time"),
                Coordinate("channel", self.row.channel_names(self.dim), "1", "component of the state"),
                *(Coordinate(axis, positions, "1", f"position along {axis}") for axis in axes),
            ),
            attrs={
                "boundary_conditions": "periodic",
                "solver": f"exponax {_version()} ETDRK{0 if self.row.linear else self.order}",
                "equation": self.row.text,
            },
        )

    @property
    def provenance(self) -> dict[str, Any]:
        """Program, version and settings."""
        settings = json.loads(json.dumps(asdict(self)))
        return {"simulator": self.name, "version": f"exponax {_version()}", "settings": settings}

    @property
    def fingerprint(self) -> str:
        """Hash of the provenance."""
        return content_hash(self.provenance)

    def at(self, *, points: int | None = None, dt: float | None = None) -> Exponax:
        """A coarser or finer copy with the same saved times."""
        return replace(self, points=points or self.points, dt=dt or self.dt)

    def draw(self, settings: DrawSettings, seed: int) -> Iterator[xr.Dataset]:
        """Requests with an initial state from `settings.initial`; see `simulators.adapter.DrawsRequests`.

        Args:
            settings: `initial` is a `spectral.initial.Initial`; `ranges` are those of the varied parameters.
            seed: seed of the series, 0 or more.

        Raises:
            InputError: there is no generator, shapes are set, or the ranges are not those of the varied parameters.
        """
        settings.refuse("shapes", f"{self.name} takes no bodies", "Give sampling.ranges")
        if settings.initial is None:
            raise InputError(
                f"{self.name} starts from a field",
                where="sampling.initial",
                remedy="Choose sampling=fourier or so",
            )
        refuse_other_ranges(settings.ranges, set(self.varied))
        channels = len(self.spec.coordinate("channel").values)
        for index, parameters in zip(settings.indices, drawn_parameters(settings, seed), strict=True):
            rng = np.random.default_rng([seed, index, 0])
            state = settings.initial.sample(rng, 1, self.points, self.dim, channels)
            yield self.spec.request({"initial": state[0], **parameters})

    def solve(
        self, initial: Float[Array, " C *N"], parameters: Mapping[str, Float[Array, ""]] | None = None
    ) -> Float[Array, "T C *N"]:
        """States at all saved times, beginning with the initial one; a pure function for jax.grad, jvp, vmap and jit.

        Args:
            initial: state at time 0.
            parameters: coefficients that replace those of the settings, except whole numbers.

        Raises:
            InputError: JAX's default precision is not `dtype`.
            SimulationError: `missing_component` without exponax; `invalid_input` for a wrong shape or an unknown
                parameter.
        """
        self._has_precision()
        coefficients = dict(parameters or {})
        self._fits(initial, coefficients, batch=False)
        advance = self._advance({**self.values, **{n: jnp.asarray(v, self.dtype) for n, v in coefficients.items()}})
        axes = tuple(range(-self.dim, 0))

        def interval(u: Float[Array, " C *N"], _: None) -> tuple[Float[Array, " C *N"], Float[Array, " C *N"]]:
            # The state returns to the grid once per interval: parts that the real transform cannot represent must not
            # accumulate, and a trajectory that resumes from a saved state must equal an uninterrupted one.
            hat = jax.lax.fori_loop(0, self.substeps, lambda _, h: advance(h), jnp.fft.rfftn(u, axes=axes))
            after = jnp.fft.irfftn(hat, s=u.shape[1:], axes=axes)
            return after, after

        start = jnp.asarray(initial, self.dtype)
        _, later = jax.lax.scan(interval, start, None, length=self.steps)
        return jnp.concatenate([start[None], later])

    def advance(
        self, state: Float[Array, " C *M"], parameters: Mapping[str, Float[Array, ""]], parts: int = 1
    ) -> Float[Array, " C *M"]:
        """The state one part of `save_dt` later, on the grid of `state`; see `simulators.adapter.AdvancesStates`.

        Raises:
            InputError: JAX's default precision is not `dtype`, or a part of `save_dt` is no multiple of `dt`.
            SimulationError: as `solve`.
        """
        self._has_precision()
        if parts < 1 or self.substeps % parts:
            raise InputError(
                f"{self.substeps} time steps between saved states cannot be divided into {parts} equal parts",
                where="simulator.dt",
                remedy="Take a number of parts that divides them, or another time step",
            )
        axes = tuple(range(-self.dim, 0))
        u = resample(jnp.asarray(state, self.dtype), self.points, dim=self.dim)
        self._fits(u, parameters, batch=False)
        coefficients = self.values | {n: jnp.asarray(v, self.dtype) for n, v in parameters.items()}
        if any(isinstance(value, jax.core.Tracer) for value in coefficients.values()):
            step = self._advance(coefficients)
        else:
            # Their integrals over a circle are then constants of the program, and are not computed in each call.
            with jax.ensure_compile_time_eval():
                step = self._advance(coefficients)
        hat = jax.lax.fori_loop(0, self.substeps // parts, lambda _, h: step(h), jnp.fft.rfftn(u, axes=axes))
        return resample(jnp.fft.irfftn(hat, s=u.shape[1:], axes=axes), state.shape[-1], dim=self.dim)

    def trajectories(
        self,
        initial: Float[Array, "B C *N"] | Float[np.ndarray, "B C *N"],
        parameters: Mapping[str, Float[Array, " B"] | Float[np.ndarray, " B"]] | None = None,
    ) -> Float[Array, "B T C *N"]:
        """Solve for a batch in one program, which is compiled once per batch size.

        Trajectories that blew up are returned too; `good` identifies them.

        Raises:
            SimulationError: as `solve`.
        """
        coefficients = dict(parameters or {})
        self._fits(initial, coefficients, batch=True)
        with jax.enable_x64(self.dtype == "float64"):
            batch = {name: jnp.asarray(values, self.dtype) for name, values in coefficients.items()}
            return self._compiled(jnp.asarray(initial, self.dtype), batch)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """One trajectory; see `simulators.adapter.Simulator`."""
        check(inputs, self.spec.inputs, sizes=self.spec.sizes)
        initial = np.asarray(inputs["initial"].values, np.float32)
        parameters = {name: float(inputs[name]) for name in self.varied}
        try:
            self.row.check(parameters, self.dim, "request")
        except InputError as error:
            raise SimulationError("invalid_input", str(error)) from error
        if self.row.solenoidal and (diverges := stability.divergence(initial)) > DIVERGENCE:
            raise SimulationError(
                "invalid_input",
                f"initial is not incompressible: its divergence is {diverges:.2g} of its gradient, {DIVERGENCE:g} is "
                "allowed; project it, as simulators.fluids.spectral.initial.Solenoidal does",
            )

        def attempt(level: int) -> tuple[Float[np.ndarray, "T C *N"], float, str]:
            solver = self._halved(level)
            batch = {name: np.array([value]) for name, value in parameters.items()}
            trajectory = np.asarray(solver.trajectories(initial[None], batch))[0]
            return trajectory, solver.step, solver.fault(trajectory, parameters)

        trajectory, facts = stability.solve_with_refinement(attempt, self.refine, self.tolerance)
        return self.spec.answer({"u": trajectory}).assign_attrs(log=json.dumps(facts))

    def fault(self, trajectory: Float[np.ndarray, "T C *N"], parameters: Mapping[str, float] | None = None) -> str:
        """Why and when a trajectory is not a solution, or "" if it is sound.

        It exceeds its bound or is not finite; or the Courant number exceeds `courant`, so that even a bounded
        trajectory is not resolved in time.
        """
        sound = stability.sound(trajectory[None], self.growth)[0]
        last = len(sound) - 1 if sound.all() else int(np.argmin(sound)) - 1
        number = stability.courant(
            self.row, trajectory[: last + 1], self.length, self.step, {**self.values, **(parameters or {})}
        )
        flow = "" if number is None else f" at Courant number {number:.2g} (below about 0.5 is safe)"
        if not sound.all():
            start, end = last * self.save_dt, (last + 1) * self.save_dt
            return f"{self.equation} blew up between times {start:g} and {end:g} with dt {self.step:.3g}{flow}"
        if self.courant is not None and number is not None and number > self.courant:
            return f"{self.equation} went with dt {self.step:.3g}{flow}, {self.courant:g} is allowed"
        return ""

    def good(
        self,
        trajectories: Float[np.ndarray, "B T C *N"],
        parameters: Mapping[str, Float[np.ndarray, " B"]] | None = None,
    ) -> Bool[np.ndarray, " B"]:
        """Whether each trajectory of a batch is free of a `fault`."""
        coefficients = {name: np.asarray(values) for name, values in (parameters or {}).items()}
        batch = np.asarray(trajectories)
        by_trajectory = [{name: float(values[i]) for name, values in coefficients.items()} for i in range(len(batch))]
        return np.array([not self.fault(u, p) for u, p in zip(batch, by_trajectory, strict=True)], bool)

    def _has_precision(self) -> None:
        if jnp.result_type(float) != self.dtype:
            raise InputError(
                f"{self.dtype} needs JAX in that precision",
                where="simulator.dtype",
                remedy=f"Call within jax.enable_x64({self.dtype == 'float64'})",
            )

    def _halved(self, level: int) -> Exponax:
        return self if level == 0 else self._finer._halved(level - 1)

    def _fits(self, initial: Any, parameters: Mapping[str, Any], *, batch: bool) -> None:
        shape = (len(self.row.channel_names(self.dim)), *(self.points,) * self.dim)
        lead = np.shape(initial)[:1] if batch else ()
        if np.shape(initial) != lead + shape:
            raise SimulationError(
                "invalid_input", f"initial must have shape {(('B',) if batch else ()) + shape}, got {np.shape(initial)}"
            )
        accepted = {n for n, p in self.row.parameters_in(self.dim).items() if not p.whole}
        for name, values in parameters.items():
            if name not in accepted or np.shape(values) != lead:
                raise SimulationError(
                    "invalid_input",
                    f"{name} of shape {np.shape(values)} does not fit: shape {lead}, one of {sorted(accepted)}",
                )
        if batch and (missing := set(self.varied) - set(parameters)):
            raise SimulationError("invalid_input", f"parameters lack {sorted(missing)}")

    def _advance(self, parameters: Mapping[str, Any]) -> Callable[[Array], Array]:
        try:
            from simulators.fluids.spectral.steppers import STEPPERS, Discretisation
        except ModuleNotFoundError as error:
            raise _missing() from error
        return STEPPERS[self.equation](
            Discretisation(
                self.dim,
                self.length,
                self.points,
                self.step,
                self.order,
                self.dealias or self.row.dealias,
                self.coefficients == "real",
            ),
            parameters,
        )

    @cached_property
    def _compiled(self) -> Callable[[Array, Mapping[str, Array]], Array]:
        return jit_float32(jax.vmap(self.solve))

    @cached_property
    def _finer(self) -> Exponax:
        return self.at(dt=self.step / 2)


def _version() -> str:
    try:
        return version("exponax")
    except PackageNotFoundError as error:
        raise _missing() from error


def _missing() -> SimulationError:
    return SimulationError("missing_component", "exponax is not installed; install it with `pip install exponax`")
