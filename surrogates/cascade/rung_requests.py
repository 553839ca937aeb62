"""Whether the rungs of a cascade answer the same question: the same outputs, units and conventions of the inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from data.errors import InputError
from data.spec import SimulationError, Variable
from simulators.adapter import Simulator

#: Inputs that a rung may lack or have alone: nothing is charged, and nothing repeats, where they are absent.
NEUTRAL = ("charge", "cell")
#: Input of spins, which a rung may lack if the spin is the lowest that the number of electrons allows.
SPIN = "spin"


def refuse_other_questions(rungs: Sequence[Simulator], labels: Sequence[str], outputs: Sequence[str]) -> None:
    """Refuse rungs that lack an output, have other units, or take other inputs than the last one.

    Args:
        rungs: from cheap to expensive.
        labels: how the user named them.
        outputs: names of the outputs that have a tolerance.

    Raises:
        InputError: names the rung, and what differs.
    """
    last, last_label = rungs[-1], labels[-1]
    theirs = {v.name: v for v in last.spec.outputs}
    asked = {v.name: v for v in last.spec.inputs}
    for number, (rung, label) in enumerate(zip(rungs, labels, strict=True)):
        ours = {v.name: v for v in rung.spec.outputs}
        for name in outputs:
            if name not in ours:
                gives = f"it gives {', '.join(ours)}"
                raise _refused(
                    number, label, f"does not give {name}; {gives}", "Choose its outputs, or other tolerances"
                )
            if not ours[name].dtype.startswith("float"):
                raise _refused(
                    number, label, f"gives {name} as {ours[name].dtype}, not as numbers", "Leave it out of tau"
                )
            _refuse_unlike(number, label, "gives", ours[name], theirs[name], last_label)
            _refuse_other_points(number, label, rung, last, ours[name], last_label)
        for variable in rung.spec.inputs:
            if variable.name in asked:
                _refuse_unlike(number, label, "takes", variable, asked[variable.name], last_label)
            elif variable.name not in NEUTRAL:
                raise _refused(
                    number,
                    label,
                    f"takes {variable.name}, which {last_label} does not take",
                    "Name rungs of one question",
                )
        names = {v.name for v in rung.spec.inputs}
        for name in asked:
            if name not in names and name not in (*NEUTRAL, SPIN):
                raise _refused(
                    number, label, f"does not take {name}, on which {last_label} depends", "Name rungs of one question"
                )


def _refused(number: int, label: str, problem: str, remedy: str) -> InputError:
    return InputError(f"rung {number} ({label}) {problem}", where=f"cascade.{number}", remedy=remedy)


def _refuse_unlike(number: int, label: str, verb: str, ours: Variable, theirs: Variable, last: str) -> None:
    if ours.units != theirs.units:
        problem = f"{verb} {ours.name} in {ours.units}, and {last} in {theirs.units}"
        raise _refused(number, label, problem, "Give all rungs the same units and conventions")
    if ours.dims != theirs.dims:
        problem = f"{verb} {ours.name} along {ours.dims or 'no dim'}, and {last} along {theirs.dims or 'no dim'}"
        raise _refused(number, label, problem, "Give all rungs the same units and conventions")


def _refuse_other_points(
    number: int, label: str, rung: Simulator, last: Simulator, variable: Variable, last_label: str
) -> None:
    points = {c.name: c.values for c in rung.spec.coords}
    for coordinate in last.spec.coords:
        if coordinate.name in variable.dims and points.get(coordinate.name) != coordinate.values:
            problem = f"gives {variable.name} at other {coordinate.name} than {last_label}"
            raise _refused(number, label, problem, "Give all rungs the same grid and times")


def lowest_spin(request: xr.Dataset) -> int:
    """The lowest number of unpaired electrons of a geometry: 0 or 1."""
    charge = int(request["charge"]) if "charge" in request else 0
    return (int(np.sum(request["numbers"].values)) - charge) % 2


def request_to(rung: Simulator, request: xr.Dataset) -> xr.Dataset:
    """The request to the last rung as one to another rung.

    Raises:
        SimulationError: `invalid_input`: the request has a charge, a cell or a spin that this rung would ignore.
    """
    names = {v.name for v in rung.spec.inputs}
    for name in (*NEUTRAL, SPIN):
        if name in names or name not in request:
            continue
        neutral = lowest_spin(request) if name == SPIN and "numbers" in request else 0
        if np.any(request[name].values != neutral):
            raise SimulationError("invalid_input", f"{rung.name} takes no {name}, and the request has one")
    values: Mapping[str, object] = {
        v.name: request[v.name].values if v.name in request else np.zeros([3] * len(v.dims))
        for v in rung.spec.inputs
        if v.name in request or v.name in NEUTRAL
    }
    return rung.spec.request(values)
