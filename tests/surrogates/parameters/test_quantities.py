"""Conversions of outputs hold for any number of rows."""

from __future__ import annotations

import numpy as np
import pytest

from surrogates.parameters.quantities import Quantities


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_shares_add_up_to_one_in_any_number_of_rows(rows: int) -> None:
    quantities = Quantities((), ((slice(1, 7), 3),))
    values = np.random.default_rng(0).uniform(0.1, 5.0, (rows, 8))
    shares = quantities.whole(values)
    assert shares.shape == values.shape
    np.testing.assert_allclose(shares[:, 1:7].reshape(rows, 2, 3).sum(axis=-1), 1.0)
    # Other columns stay as they are.
    np.testing.assert_array_equal(shares[:, [0, 7]], values[:, [0, 7]])
