"""Numbers of modes that do not fit the dims of a field are refused by name."""

from __future__ import annotations

import pytest

from data.errors import InputError
from surrogates.learning.nn.fourier_layers import modes_per_dim


def test_modes_of_a_wrong_length_are_named() -> None:
    assert modes_per_dim((8,), 3) == (8, 8, 8)
    assert modes_per_dim((8, 4), 2) == (8, 4)
    with pytest.raises(InputError, match=r"model\.network\.modes: must be one number, or one for each of 1 dims"):
        modes_per_dim((8, 4), 1)
