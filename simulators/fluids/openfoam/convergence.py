"""Whether a solver of OpenFOAM has converged, from its log and its schemes.

Programs of openfoam.com and of openfoam.org differ: since release 11 of the latter, `foamRun` runs all solvers as
modules, its algorithm is called PIMPLE in steady flows too, and its times may have a unit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.spec import SimulationError
from simulators.fluids.openfoam.contents import without_comments

#: Schemes of d/dt that are accurate in time, and those that only converge to a steady state.
TRANSIENT = {"Euler", "backward", "CrankNicolson"}
STEADY = {"steadyState", "localEuler", "SLTS", "CoEuler"}

_TIME = re.compile(r"^Time = [-+.\deE]+s?\s*$", re.M)
_STEADY_LOG = re.compile(r"^(?:SIMPLE: |PIMPLE: Operating solver in steady-state mode)", re.M)
_UNTARGETED = re.compile(r"^(?:SIMPLE|PIMPLE): no convergence criteria", re.M | re.I)
_DONE = re.compile(r"^(?:SIMPLE|PIMPLE) solution converged in (\d+)s? iterations", re.M)
_RESIDUAL = re.compile(r"Solving for (\w+), Initial residual = (\S+),")
_CONTINUITY = re.compile(r"sum local = (\S+),")
#: Residuals below this are rounding errors; logarithms begin here.
ROUNDING = 1e-16


@dataclass(frozen=True)
class Plateau:
    """When residuals that stall above their targets count as a solution, by the user's choice.

    A straight line is fitted to the logarithm of each field's initial residuals over the last iterations. They have
    stalled if it neither falls nor rises by more than `tolerance`. What was accepted is in the record of the run.

    Attributes:
        window: number of last iterations that are looked at; None: no plateau is accepted.
        tolerance: largest change of a residual over the window, in powers of ten.
        residual: largest residual within the window that is accepted.
    """

    window: int | None = None
    tolerance: float = 0.1
    residual: float = 1e-2

    def __post_init__(self) -> None:
        where = "simulator.plateau"
        if self.window is not None and not self.window >= 10:
            raise InputError(f"window must be at least 10 iterations, or null, got {self.window}", where=where)
        for name in ("tolerance", "residual"):
            if not 0 < getattr(self, name) < np.inf:
                raise InputError(f"{name} must be above 0 and finite, got {getattr(self, name)}", where=where)

    def verdict(self, said: str) -> tuple[dict[str, Any], str]:
        """What the log of a solver says of a plateau.

        Returns:
            The facts for the record, and why it is no plateau; empty if it is one.
        """
        if self.window is None:
            return {}, "no plateau is accepted (simulator.plateau.window)"
        steps = [dict(reversed(_RESIDUAL.findall(part))) for part in _TIME.split(said)[1:]][-self.window :]
        fields = sorted(set().union(*steps))
        if len(steps) < self.window or not fields or any(set(step) != set(fields) for step in steps):
            return {}, f"fewer than {self.window} iterations"
        values = np.array([[float(step[name]) for name in fields] for step in steps])
        at = np.linspace(-0.5, 0.5, len(steps))
        change = at @ np.log10(np.maximum(values, ROUNDING)) / (at @ at)
        facts = {
            "window": self.window,
            "decades": {name: float(f"{c:.3g}") for name, c in zip(fields, change, strict=True)},
            "largest": {name: float(v) for name, v in zip(fields, values.max(axis=0), strict=True)},
        }
        for name, c, largest in zip(fields, change, values.max(axis=0), strict=True):
            if not np.isfinite(c) or abs(c) > self.tolerance:
                return facts, (
                    f"the residual of {name} {'falls' if c < 0 else 'rises'} by {abs(c):.2g} powers of ten over the "
                    f"last {self.window} iterations ({self.tolerance:g} accepted)"
                )
            if largest > self.residual:
                return facts, f"the residual of {name} reaches {largest:.2g} ({self.residual:g} accepted)"
        return facts, ""


def evolves(program: str, folder: Path) -> bool:
    """Whether a program computes a transient flow, for which no convergence criterion applies.

    Programs named after the SIMPLE algorithm are steady regardless of the case. All others use the schemes of d/dt in
    system/fvSchemes; `steadyState` and schemes of local time steps are steady.

    Args:
        program: name of the program.
        folder: folder of the filled case.
    """
    schemes = folder / "system" / "fvSchemes"
    if "simple" in program.lower() or not schemes.is_file():
        return False
    block = re.search(r"\bddtSchemes\s*\{([^{}]*)\}", without_comments(schemes.read_text("latin-1")))
    entries = re.findall(r"[^\s;]+\s+([^;]+);", block[1]) if block else []
    words = {word for entry in entries for word in entry.split()}
    return bool(words & TRANSIENT) and not words & STEADY


def convergence(program: str, said: str, *, transient: bool = False, plateau: Plateau | None = None) -> dict[str, Any]:
    """Facts from a solver's log, for the record of a run.

    Args:
        program: name of the program, for errors.
        said: its log.
        transient: whether it computes a transient flow; some such programs print SIMPLE too.
        plateau: residuals above their targets that are accepted; None: none are.

    Returns:
        The last residuals by field, the last continuity error, the number of iterations of a steady solver, and an
        accepted plateau (`plateau`, with the change of each residual in powers of ten and its largest value).

    Raises:
        SimulationError: `not_converged`: a steady solver stopped at its limit, or has no targets, and its residuals are
            no accepted plateau.
    """
    facts: dict[str, Any] = {}
    residuals = {name: float(value) for name, value in _RESIDUAL.findall(said)}
    if residuals:
        facts["initial_residuals"] = residuals
    if continuity := _CONTINUITY.findall(said):
        facts["continuity_error"] = float(continuity[-1])
    if transient or not _STEADY_LOG.search(said):
        return facts
    if done := _DONE.search(said):
        return {**facts, "iterations": int(done[1])}
    steps = len(_TIME.findall(said))
    stalled, why = (plateau or Plateau()).verdict(said)
    if not why:
        return {**facts, "iterations": steps, "plateau": stalled}
    if stalled:
        facts["no_plateau"] = stalled
    if _UNTARGETED.search(said):
        message = f"{program} has no convergence targets; add residualControl to SIMPLE in system/fvSolution"
    else:
        reached = ", ".join(f"{name} {value:.2g}" for name, value in residuals.items())
        message = f"{program} stopped after {steps} iterations above its residual targets: {reached}"
    raise SimulationError("not_converged", f"{message}; {why}", facts)
