"""The ladder of remedies brings fields to convergence, and what it hands back is a field like any other."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_molecules import WATER, bent, run

from data.spec import SimulationError
from simulators.chemistry.scf import ConvergenceRecord, LadderConfig, converge
from simulators.chemistry.variables import Geometry


def test_helium_in_one_gaussian_is_the_integral_done_by_hand() -> None:
    # E(a) = 3 a - 8 sqrt(2 a / pi) + 2 sqrt(a / pi) for two electrons in exp(-a r^2) around Z = 2.
    from pyscf import gto, scf

    for exponent in (0.5, 0.766758, 1.2):
        expected = 3 * exponent - 8 * np.sqrt(2 * exponent / np.pi) + 2 * np.sqrt(exponent / np.pi)
        mol = gto.M(atom="He 0 0 0", basis={"He": [[0, [exponent, 1.0]]]}, verbose=0)
        assert converge(scf.RHF(mol), LadderConfig(), ConvergenceRecord()).e_tot == pytest.approx(expected, abs=1e-9)


def test_the_ladder_rescues_what_plain_diis_does_not_converge() -> None:
    carbonyl = Geometry(np.array([28, 6, 8], np.int32), np.array([[0, 0, 0], [0, 0, 1.7], [0, 0, 2.85]]), spin=2)
    answer = run(carbonyl, method="b3lyp", grid=0, outputs=("energy",))
    rungs = json.loads(answer.attrs["log"])["scf"]
    assert not rungs[0]["converged"]
    assert rungs[-1]["converged"]
    assert rungs[-1]["energy_hartree"] <= rungs[0]["energy_hartree"] + 1e-6


@pytest.mark.parametrize(
    ("settings", "change"),
    [({"method": "hf"}, {}), ({"method": "pbe", "grid": 1}, {"charge": 1, "spin": 1})],
    ids=["restricted", "unrestricted"],
)
def test_a_field_that_second_order_rescued_answers_as_if_it_had_not_failed(
    settings: dict[str, Any], change: dict[str, int]
) -> None:
    geometry, outputs = replace(bent(), **change), ("energy", "gap", "dipole", "forces", "polarizability")
    plain = run(geometry, outputs=outputs, **settings)
    rescued = run(geometry, outputs=outputs, max_cycles=3, **settings)
    rungs = json.loads(rescued.attrs["log"])["scf"]
    assert [(rung["rung"], rung["converged"]) for rung in rungs][1:] == [
        ("damping and level shift", False),
        ("second order", True),
    ]
    assert 1 <= rungs[-1]["cycles"] <= 3
    for name in outputs:
        assert rescued[name].values == pytest.approx(plain[name].values, abs=2e-4), name


def test_what_never_converges_says_what_was_tried() -> None:
    with pytest.raises(SimulationError, match="remedies") as caught:
        run(WATER, basis="6-31g", max_cycles=1, tolerance=1e-12, outputs=("energy",))
    assert caught.value.kind == "not_converged"
    assert len(caught.value.details["scf"]) == 5


def test_an_instability_is_followed_to_a_lower_solution() -> None:
    carbon = Geometry(np.array([6, 6], np.int32), np.array([[0, 0, 0], [0, 0, 1.24]]))
    plain = run(carbon, basis="6-31g", outputs=("energy",))
    checked = run(carbon, basis="6-31g", outputs=("energy",), check_stability=True)
    log = json.loads(checked.attrs["log"])
    assert [step["stable"] for step in log["stability"]] == [False, True]
    assert float(checked.energy) < float(plain.energy) - 0.1
    assert "stability" not in json.loads(plain.attrs["log"])
