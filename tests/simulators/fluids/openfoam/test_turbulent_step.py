"""Turbulent flow over a step by the k-omega SST model on a coarse mesh: conservation and separation."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from experiments.campaigns.named_simulator import named_simulator
from simulators.fluids.openfoam.simulator import OpenFOAM

SMALL = {"cells_run_up": 10, "cells_ramp": 16, "cells_behind": 9, "cells_above": 10, "cells_below": 6}
REQUEST = {"step": 1.0, "ceiling": 4.3, "viscosity": 2e-5, "intensity": 0.05}


@pytest.mark.skipif(shutil.which("simpleFoam") is None, reason="OpenFOAM is not installed: `make openfoam`")
def test_the_flow_separates_and_conserves_mass_and_momentum() -> None:
    settings = [f"simulator.case.constants.{name}={count}" for name, count in SMALL.items()]
    solver = named_simulator("openfoam_turbulent_step", settings, key="simulator")
    assert isinstance(solver, OpenFOAM)
    answer = solver.simulate(solver.spec.request(REQUEST))
    nodes, velocity, volumes = (answer[name].values for name in ("nodes", "U", "volumes"))
    assert len(nodes) == 10 * 10 + (16 + 9) * (10 + 6)
    # The volume is that of the channel before the step, of the ramp and of the channel behind it, one metre deep.
    assert np.isclose(volumes.sum(), 20 * 4 + 10 * (1 + 4.15) + 20 * (1 + 4.3))
    last = np.isclose(nodes[:, 0], nodes[:, 0].max())
    heights = volumes[last] / volumes[last].sum() * (1 + 4.3)
    # What enters at 1 m/s over a height of 4 m leaves.
    assert np.isclose((velocity[last, 0] * heights).sum(), 4.0, rtol=1e-3)
    # Forces on all walls are what the flow loses in pressure and momentum; the pressure at the outlet is 0.
    lost = 4.0 * (float(answer["pressure_drop"]) + 1.0) - (velocity[last, 0] ** 2 * heights).sum()
    assert np.isclose(float(answer["wall_drag"]) / 2, lost, rtol=5e-3)
    # Low pressure behind the step holds it back, and pressure recovers as the channel widens.
    assert float(answer["step_drag"]) > 0.05
    assert float(answer["pressure_drop"]) < -0.05
    # Driver and Seegmiller (AIAA Journal 1985, 23, 163) measured 6.3 steps at such a Reynolds number.
    floor = nodes[:, 1] < nodes[:, 1].min() + 1e-6
    backward = floor & (velocity[:, 0] < 0)
    assert 4.0 < nodes[backward, 0].max() < 9.0
    assert velocity[~floor & (nodes[:, 1] > 1.0), 0].min() > 0.3
    assert (answer["k"].values > 0).all()
