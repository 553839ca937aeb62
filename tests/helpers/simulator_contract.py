"""What every simulator promises, for the tests of each."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
import xarray as xr

from data.plain import from_plain, to_plain
from data.spec import SimulationError, Spec, check
from simulators.adapter import Simulator


def assert_promises(simulator: Any, other: Any, good: xr.Dataset, bad: xr.Dataset) -> None:
    """Assert the contract of `simulators.adapter.Simulator`.

    Args:
        simulator: the simulator.
        other: one of another identity.
        good: a request that it answers.
        bad: a request that it must refuse.
    """
    assert isinstance(simulator, Simulator)
    answer = simulator.simulate(good)
    check(answer, simulator.spec.outputs, sizes=simulator.spec.sizes)
    for variable in simulator.spec.outputs:
        assert answer[variable.name].attrs == variable.attrs()
    again = pickle.loads(pickle.dumps(simulator))
    assert again.fingerprint == simulator.fingerprint != other.fingerprint
    for name, values in again.simulate(good).items():
        assert np.allclose(values, answer[name], atol=1e-6), name
    assert from_plain(Spec, json.loads(json.dumps(to_plain(simulator.spec)))) == simulator.spec
    assert {"simulator", "version", "settings"} <= set(json.loads(json.dumps(simulator.provenance)))
    with pytest.raises(SimulationError) as caught:
        simulator.simulate(bad)
    assert caught.value.kind in ("invalid_input", "not_converged")
