"""Many requests at once have the answers, and the refusals, that each has alone."""

from __future__ import annotations

import numpy as np
import small_potential
import xarray as xr

from data.spec import SimulationError, dataset
from simulators.adapter import AnswersMany
from surrogates.potentials.potential_spec import INPUTS


def test_many_requests_have_the_answers_that_each_has_alone() -> None:
    potential = small_potential.potential(small_potential.SMALL["painn"])
    assert isinstance(potential, AnswersMany)
    table = small_potential.scattered(2, 4, fewest=4)
    requests = []
    for row in range(2):
        atoms = slice(table.atom_start[row], table.atom_start[row + 1])
        requests.append(dataset(INPUTS[:2], {"numbers": table.numbers[atoms], "positions": table.positions[atoms]}))
    strange = dataset(INPUTS[:2], {"numbers": [92, 1], "positions": np.eye(3)[:2]})
    charged = requests[0].assign(charge=1)
    broken = requests[0].assign(positions=requests[0].positions * np.nan)
    answers = potential.simulate_many([strange, *requests, charged, broken])
    for answer, request in zip(answers[1:3], requests, strict=True):
        assert isinstance(answer, xr.Dataset)
        alone = potential.simulate(request)
        for name in alone:
            np.testing.assert_allclose(answer[name], alone[name], atol=2e-5, err_msg=str(name))
    errors = [answer for answer in (answers[0], *answers[3:]) if isinstance(answer, SimulationError)]
    assert [error.kind for error in errors] == ["invalid_input"] * 3
    assert "unknown element U" in errors[0].message
    assert potential.simulate_many([]) == []
