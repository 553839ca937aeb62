"""Robertson's problem: three species, three reactions, and rates that differ by nine orders of magnitude.

A -> B with rate_1, B + C -> A + C with rate_2, and 2 B -> B + C with rate_3 (Robertson 1966; Hairer and Wanner,
Solving Ordinary Differential Equations II, section IV.1):

    dA/dt = -rate_1 A + rate_2 B C
    dB/dt =  rate_1 A - rate_2 B C - rate_3 B^2
    dC/dt =  rate_3 B^2

B, which is never more than a trace, sets time steps of microseconds for explicit methods, while C takes hours to form.
The equations are integrated by an implicit method of SciPy with their Jacobian.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.errors import InputError
from data.spec import Coordinate, SimulationError, Spec, Variable, check, content_hash

METHODS = ("Radau", "BDF", "LSODA")
SPECIES = ("A", "B", "C")
#: Absolute tolerance over the relative one.
ABSOLUTE = 1e-6
RATES = (
    Variable("rate_1", (), "s-1", "float64", "rate constant of A -> B"),
    Variable("rate_2", (), "s-1", "float64", "rate constant of B + C -> A + C"),
    Variable("rate_3", (), "s-1", "float64", "rate constant of 2 B -> B + C"),
)
INITIAL = (
    Variable("initial_b", (), "1", "float64", "initial fraction of B"),
    Variable("initial_c", (), "1", "float64", "initial fraction of C; A is the rest"),
)


@dataclass(frozen=True)
class Robertson:
    """Fractions of three species at logarithmically spaced times.

    Attributes:
        method: one of `METHODS`; Radau IIA of order 5, BDF, or LSODA of ODEPACK.
        times: first and last saved time, s.
        points: number of saved times.
        tolerance: relative tolerance of the integration; the absolute one is `ABSOLUTE` times as large, as B may be of
            the order of 1e-13.
        max_steps: largest number of evaluations of the derivatives, after which the integration counts as failed.

    Raises:
        InputError: a setting is invalid.
    """

    method: str = "LSODA"
    times: tuple[float, float] = (1e-5, 1e5)
    points: int = 51
    tolerance: float = 1e-8
    max_steps: int = 300_000

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(
                f"no method {self.method!r}", where="simulator.method", remedy=f"Choose from {', '.join(METHODS)}"
            )
        object.__setattr__(self, "times", tuple(map(float, self.times)))
        if len(self.times) != 2 or not 0 < self.times[0] < self.times[1] < np.inf:
            raise InputError(f"must be two, 0 < first < last, got {list(self.times)}", where="simulator.times")
        if self.points < 2:
            raise InputError(f"must be 2 or more, got {self.points}", where="simulator.points")
        if not 1e-13 <= self.tolerance < 1:
            raise InputError(f"must lie between 1e-13 and 1, got {self.tolerance}", where="simulator.tolerance")
        if self.max_steps < 1:
            raise InputError(f"must be 1 or more, got {self.max_steps}", where="simulator.max_steps")

    @property
    def name(self) -> str:
        """Such as "robertson:LSODA"."""
        return f"robertson:{self.method}"

    @cached_property
    def saved_times(self) -> Float[np.ndarray, " time"]:
        """The saved times, s."""
        return np.geomspace(*self.times, self.points)

    @cached_property
    def spec(self) -> Spec:
        """The inputs are rate constants and initial fractions; the output is the fraction of each species."""
        return Spec(
            (*RATES, *INITIAL),
            (Variable("fraction", ("time", "species"), "1", "float64", "fraction of each species"),),
            (
                Coordinate("time", tuple(self.saved_times.tolist()), "s", "time"),
                Coordinate("species", SPECIES, "1", "species"),
            ),
            {"solver": f"scipy {version('scipy')}, {self.method}, tolerance {self.tolerance:g}"},
        )

    @property
    def provenance(self) -> dict[str, Any]:
        """Program, version and settings."""
        settings = json.loads(json.dumps(asdict(self)))
        return {"simulator": self.name, "version": f"scipy {version('scipy')}", "settings": settings}

    @property
    def fingerprint(self) -> str:
        """Hash of the provenance."""
        return content_hash(self.provenance)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """One trajectory; see `simulators.adapter.Simulator`.

        Raises:
            SimulationError: `invalid_input`: a rate is negative, or initial fractions are no composition;
                `not_converged`: the integration fails, or a fraction is clearly negative.
        """
        check(inputs, self.spec.inputs, sizes=self.spec.sizes)
        rates = [float(inputs[v.name]) for v in RATES]
        b, c = (float(inputs[v.name]) for v in INITIAL)
        if min(rates) < 0:
            raise SimulationError("invalid_input", f"rate constants must be 0 or more, got {rates}")
        if min(b, c) < 0 or b + c > 1:
            raise SimulationError(
                "invalid_input", f"initial_b and initial_c must be 0 or more and at most 1 in total, got {b} and {c}"
            )
        fraction, log = self.integrate(rates, (1.0 - b - c, b, c))
        return self.spec.answer({"fraction": fraction}).assign_attrs(log=json.dumps(log))

    def integrate(
        self, rates: Sequence[float], initial: Sequence[float]
    ) -> tuple[Float[np.ndarray, "time 3"], dict[str, int]]:
        """Fractions of A, B and C at the saved times, and numbers of evaluations and of factorisations.

        Negative fractions down to -100 times the absolute tolerance, which the integration cannot tell from 0, are set
        to 0.

        Args:
            rates: rate constants, s-1.
            initial: fractions of A, B and C at time 0.

        Raises:
            SimulationError: `not_converged`: the integration fails, or a fraction is clearly negative.
        """
        from scipy.integrate import solve_ivp

        atol, evaluations = ABSOLUTE * self.tolerance, 0

        def change(_: float, y: Float[np.ndarray, " 3"]) -> list[float]:
            nonlocal evaluations
            evaluations += 1
            if evaluations > self.max_steps:
                raise ArithmeticError(f"it needs more than {self.max_steps:,} evaluations")
            return derivative(rates, y)

        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                solution = solve_ivp(
                    change,
                    (0.0, self.times[1]),
                    initial,
                    method=self.method,
                    t_eval=self.saved_times,
                    jac=lambda _, y: jacobian(rates, y),
                    rtol=self.tolerance,
                    atol=atol,
                )
            except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                raise SimulationError("not_converged", f"{self.method} failed: {error}") from error
        if not solution.success or solution.y.shape[1] != self.points or not np.isfinite(solution.y).all():
            message = " ".join(str(solution.message).split())
            raise SimulationError("not_converged", f"{self.method} failed: {message}")
        fraction = solution.y.T
        if fraction.min() < -100 * atol:
            raise SimulationError("not_converged", f"a fraction is {fraction.min():.3g}; lower the tolerance")
        return np.maximum(fraction, 0.0), {"evaluations": evaluations, "factorisations": int(solution.nlu)}


def derivative(rates: Sequence[float], y: Float[np.ndarray, " 3"]) -> list[float]:
    """dy/dt for the fractions of A, B and C; its entries add up to 0."""
    a, b, c = y
    first, second, third = rates[0] * a, rates[1] * b * c, rates[2] * b * b
    return [second - first, first - second - third, third]


def jacobian(rates: Sequence[float], y: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """Derivatives of `derivative`, one row for each of its entries."""
    k1, k2, k3 = rates
    _, b, c = y
    return np.array([[-k1, k2 * c, k2 * b], [k1, -k2 * c - 2 * k3 * b, -k2 * b], [0.0, 2 * k3 * b, 0.0]])
