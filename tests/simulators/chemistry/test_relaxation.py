"""Relaxed geometries lie where the energy is lowest; what goes wrong on the way is told."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_molecules import HELIUM, HYDROGEN, bent, run, stretched

from data.spec import SimulationError
from simulators.chemistry.scf import converge


def test_an_optimised_geometry_has_no_forces_and_a_lower_energy() -> None:
    start = bent()
    outputs = ("energy", "forces", "relaxed_positions")
    before = run(start, outputs=("energy",), basis="6-31g")
    after = run(start, outputs=outputs, basis="6-31g", optimize=True)
    assert after.energy < before.energy
    assert np.abs(after.forces.values).max() < 0.03
    bond = np.linalg.norm(after.relaxed_positions.values[0] - after.relaxed_positions.values[1])
    assert bond == pytest.approx(0.9497, abs=1e-3)  # RHF/6-31G, NIST CCCBDB


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "b3lyp", "density_fit": True, "basis": "def2-svp"},
        {"method": "mp2", "basis": "6-31g*"},
        {"method": "ccsd", "basis": "6-31g*"},
        {"method": "pbe", "charge": 1, "spin": 1},
        {"method": "hf", "solvent": "water", "solvent_model": "C-PCM"},
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_a_relaxed_bond_is_as_long_as_where_the_energy_is_lowest(settings: dict[str, Any]) -> None:
    settings = dict(settings)
    start = replace(HYDROGEN, charge=settings.pop("charge", 0), spin=settings.pop("spin", 0))
    outputs = ("energy", "forces", "relaxed_positions")
    answer = run(start, optimize=True, outputs=outputs, **settings)
    length = np.linalg.norm(answer.relaxed_positions.values[0] - answer.relaxed_positions.values[1])
    step = 0.01
    low, middle, high = (
        float(run(stretched(length + d, start), outputs=("energy",), **settings).energy) for d in (-step, 0, step)
    )
    # The vertex of the parabola through three energies.
    assert abs(0.5 * step * (low - high) / (low - 2 * middle + high)) < 2e-3
    assert float(answer.energy) == pytest.approx(middle, abs=1e-5)
    assert np.abs(answer.forces.values).max() < 0.03


def test_an_atom_is_relaxed_as_it_is() -> None:
    answer = run(HELIUM, optimize=True, outputs=("energy", "relaxed_positions"))
    assert np.array_equal(answer.relaxed_positions.values, HELIUM.positions)
    assert json.loads(answer.attrs["log"])["relaxation_steps"] == 0


def test_fields_that_need_help_within_a_relaxation_get_it_and_are_recorded() -> None:
    outputs = ("energy", "relaxed_positions")
    plain = run(bent(), optimize=True, basis="6-31g", outputs=outputs)
    helped = run(bent(), optimize=True, basis="6-31g", outputs=outputs, max_cycles=3)
    assert float(helped.energy) == pytest.approx(float(plain.energy), abs=1e-5)
    assert np.allclose(helped.relaxed_positions, plain.relaxed_positions, atol=1e-3)
    log = json.loads(helped.attrs["log"])
    rescues = log["relaxation_rescues"]
    assert [r["step"] for r in rescues] == list(range(1, len(rescues) + 1))
    for rescue in rescues:
        assert not rescue["scf"][0]["converged"]
        assert rescue["scf"][-1]["converged"]
    assert "second order" in {rung["rung"] for r in rescues for rung in r["scf"]}
    assert "relaxation_rescues" not in json.loads(plain.attrs["log"])


@pytest.mark.parametrize("method", ["pbe", "mp2"])
def test_a_field_that_fails_within_a_relaxation_is_not_converged_and_says_at_which_step(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved = []

    def failing(*arguments: Any) -> Any:
        solved.append(converge(*arguments))
        if len(solved) == 3:
            raise SimulationError("not_converged", "on purpose", {"scf": []})
        return solved[-1]

    monkeypatch.setattr("simulators.chemistry.pyscf.converge", failing)
    with pytest.raises(SimulationError, match="at step 3 of the relaxation: on purpose") as caught:
        run(stretched(0.9), optimize=True, method=method, outputs=("energy",))
    assert caught.value.kind == "not_converged"
    assert caught.value.details == {"scf": [], "relaxation_steps": 3}


def test_a_relaxation_without_steps_enough_is_not_converged() -> None:
    with pytest.raises(SimulationError, match="2 steps") as caught:
        run(stretched(1.2), optimize=True, max_steps=2, outputs=("energy",))
    assert caught.value.kind == "not_converged"


def test_relaxing_leaves_the_logging_of_the_process_alone() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        run(bent(), outputs=("energy",), optimize=True)
        logging.getLogger("mine").error("still heard")
        assert stream.getvalue() == "still heard\n"
    finally:
        logging.getLogger().removeHandler(handler)
