"""No unit is too small: microfluidics in metres, and laser pulses in seconds, are answered as others are."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import InputError
from simulators.fluids.openfoam.cases import at_least
from simulators.fluids.openfoam.files import at_time


def test_times_a_femtosecond_apart_are_two(tmp_path: Path) -> None:
    for name in ("0", "1e-15", "2e-15"):
        (tmp_path / name).mkdir()
    assert at_time(tmp_path, 1.0000001e-15).name == "1e-15"
    assert at_time(tmp_path, 0.0).name == "0"
    with pytest.raises(InputError, match="nothing was written at time 5e-16"):
        at_time(tmp_path, 5e-16)


def test_a_length_is_whatever_is_above_0() -> None:
    at_least("case", {"length": (1e-10, 0)})
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="case: length must be above 0"):
            at_least("case", {"length": (bad, 0)})
