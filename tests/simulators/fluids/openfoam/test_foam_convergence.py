"""Plateaus of residuals, and what programs of both lines of OpenFOAM print of convergence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data.errors import InputError
from data.spec import SimulationError
from simulators.fluids.openfoam.body import BodyInChannel
from simulators.fluids.openfoam.convergence import Plateau, convergence, evolves
from simulators.fluids.openfoam.programs import program
from simulators.fluids.openfoam.simulator import OpenFOAM

CIRCLE = {"reynolds": 20.0, "body_width": 0.1, "body_height": 0.1, "body_x": 0.2, "body_y": 0.2}


def log_of(residuals: np.ndarray, head: str = "SIMPLE: convergence criteria\n", unit: str = "") -> str:
    """A log with the residuals of p in each iteration, of which a second solve of p repeats a smaller one."""
    lines = [head]
    for step, value in enumerate(residuals, start=1):
        lines.append(f"Time = {step}{unit}\n")
        lines += [
            f"GAMG:  Solving for p, Initial residual = {v:.8g}, Final residual = 1e-9, No Iterations 3"
            for v in (value, value / 100)
        ]
    return "\n".join(lines) + "\nEnd\n"


def test_a_plateau_is_accepted_by_choice_and_described() -> None:
    steps = np.arange(400)
    stalled = 1e-3 * 10 ** (-steps / 100 * (steps < 200)) * np.where(steps < 200, 1, 1 + 0.3 * np.sin(steps))
    said = log_of(stalled)
    with pytest.raises(SimulationError, match=r"p 9\.9e-06; no plateau is accepted \(simulator.plateau.window\)"):
        convergence("simpleFoam", said)
    facts = convergence("simpleFoam", said, plateau=Plateau(150))
    assert facts["iterations"] == 400
    assert facts["plateau"]["window"] == 150
    assert abs(facts["plateau"]["decades"]["p"]) < 0.05
    # The first solve of an iteration counts, as it does for OpenFOAM's own targets.
    assert facts["plateau"]["largest"]["p"] == pytest.approx(1.3e-3, rel=0.01)
    for plateau, message in (
        (Plateau(150, residual=1e-3), r"residual of p reaches 0.0013 \(0.001 accepted\)"),
        (Plateau(350), "the residual of p rises by .* over the last 350 iterations"),
        (Plateau(500), "fewer than 500 iterations"),
    ):
        with pytest.raises(SimulationError, match=message):
            convergence("simpleFoam", said, plateau=plateau)
    # A residual that falls at a constant rate is a solver at work.
    with pytest.raises(SimulationError, match="p falls by 1 powers of ten over the last 100"):
        convergence("simpleFoam", log_of(10.0 ** (-steps / 99)), plateau=Plateau(100))
    for bad in ({"window": 3}, {"window": 20, "tolerance": 0.0}, {"residual": -1.0}):
        with pytest.raises(InputError, match=r"simulator\.plateau: "):
            Plateau(**bad)


def test_a_log_of_foam_run_is_read(tmp_path: Path) -> None:
    schemes = tmp_path / "system" / "fvSchemes"
    schemes.parent.mkdir()
    schemes.write_text("ddtSchemes { default steadyState; }")
    assert evolves("foamRun", tmp_path) is False
    head = (
        "PIMPLE: Convergence criteria found\n\nPIMPLE: Operating solver in steady-state mode with 1 outer corrector\n"
    )
    said = log_of(np.full(50, 1e-3), head, "s")
    assert convergence("foamRun", said + "\nPIMPLE solution converged in 50s iterations\n")["iterations"] == 50
    with pytest.raises(SimulationError, match="foamRun stopped after 50 iterations above its residual targets"):
        convergence("foamRun", said)
    assert convergence("foamRun", said, plateau=Plateau(20))["plateau"]["decades"] == {"p": 0.0}
    with pytest.raises(SimulationError, match="foamRun has no convergence targets"):
        convergence("foamRun", said.replace("Convergence criteria", "No convergence criteria"))
    moving = said.replace("steady-state", "transient").replace("Convergence", "No convergence")
    assert "iterations" not in convergence("foamRun", moving)


def test_a_renamed_program_is_found_under_its_new_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "foamPostProcess").write_text("#!/bin/sh\n")
    (tmp_path / "foamPostProcess").chmod(0o755)
    assert program("postProcess").name == "foamPostProcess"
    with pytest.raises(SimulationError, match="icoFoam is not on the PATH"):
        program("icoFoam")


@pytest.mark.skipif(shutil.which("simpleFoam") is None, reason="OpenFOAM is not installed: `make openfoam`")
def test_a_solver_that_stalls_answers_where_that_is_chosen() -> None:
    # The linear solvers stop at 1e-10, so that residuals cannot reach a target of 1e-12.
    case = BodyInChannel(cells=4, tolerance=1e-12, max_iterations=230, grid=(8, 4))
    strict = OpenFOAM(case)
    loose = OpenFOAM(case, plateau=Plateau(window=40, tolerance=1.0, residual=1e-8))
    assert loose.fingerprint != strict.fingerprint
    assert OpenFOAM(case, plateau=Plateau(tolerance=0.5)).fingerprint == strict.fingerprint
    answer = loose.simulate(loose.spec.request(CIRCLE))
    facts = json.loads(answer.attrs["log"])["simpleFoam"]
    assert facts["iterations"] == 230
    assert max(facts["plateau"]["largest"].values()) < 1e-9
    usual = OpenFOAM(BodyInChannel(cells=4, tolerance=1e-7, grid=(8, 4)))
    converged = usual.simulate(usual.spec.request(CIRCLE))
    np.testing.assert_allclose(answer.velocity, converged.velocity, atol=1e-5)
