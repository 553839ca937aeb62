"""Fields on the cells of the turbulent step, resampled and read off."""

from __future__ import annotations

import numpy as np

from benchmarks.step_cells import StepCells
from benchmarks.turbulent_step import polynomial

CONSTANTS = {
    "height": 4.0, "ramp": 10.0,
    "cells_run_up": 3, "cells_ramp": 6, "cells_behind": 4, "cells_above": 5, "cells_below": 3,
}  # fmt: skip
CELLS = StepCells(CONSTANTS, step=2.0, ceiling=5.0)


def centres(low: float, high: float, count: int) -> np.ndarray:
    return low + (high - low) * (np.arange(count) + 0.5) / count


def nodes() -> np.ndarray:
    """Centres of cells in the order of blockMesh: block by block, along x first."""
    parts = []
    for left, right, columns, below in (
        (-6, 0, 3, False),
        (0, 10, 6, False),
        (10, 30, 4, False),
        (0, 10, 6, True),
        (10, 30, 4, True),
    ):
        x = centres(left, right, columns)
        top = 4.0 + np.clip(x / 10, 0, 1)
        rows = centres(-2.0, 0.0, 3)[:, None] + 0 * x if below else centres(0.0, 1.0, 5)[:, None] * top
        parts.append(np.stack([np.broadcast_to(x, rows.shape), rows], axis=2).reshape(-1, 2))
    return np.concatenate(parts)


def test_a_bilinear_field_is_interpolated_exactly() -> None:
    at = nodes()
    values = np.stack([2 * at[:, 0] - 1, at[:, 1] * (1 + at[:, 0])], axis=1)
    # Away from the edge of the step, where the height over the walls has a kink.
    places = np.array([[3.3, 2.2], [8.1, 4.5], [5.0, 0.9], [4.2, -1.9], [9.9, -1.2], [-5.9, 3.9], [-0.1, 0.2]])
    answer = CELLS.interpolated(at, values, places)
    assert np.allclose(answer[:, 0], 2 * places[:, 0] - 1)
    upstream = places[:, 0] < 0
    assert np.allclose(answer[upstream, 1], places[upstream, 1] * (1 + places[upstream, 0]))
    assert np.allclose(answer[3:5, 1], places[3:5, 1] * (1 + places[3:5, 0]))
    assert np.allclose(CELLS.interpolated(at, at, places), places)
    assert np.allclose(CELLS.interpolated(at, values, at), values)


def test_reattachment_is_the_last_change_of_sign_at_the_floor() -> None:
    at = nodes()
    # A small eddy in the corner turns the flow at the floor downstream before it is upstream again up to x = 12.
    along = np.where(at[:, 0] < 1, 0.1, at[:, 0] - 12.0)
    assert np.isclose(CELLS.reattachment(at, np.stack([along, 0 * along], axis=1)), 12.0 / 2.0)
    for steady in (np.ones(len(at)), -np.ones(len(at))):
        assert np.isnan(CELLS.reattachment(at, np.stack([steady, 0 * steady], axis=1)))


def test_the_polynomial_recovers_products_of_two_inputs_and_the_logarithm_of_the_viscosity() -> None:
    rows = np.exp(np.random.default_rng(0).uniform(-1, 1, (40, 4)))

    def answer(rows: np.ndarray) -> np.ndarray:
        step, ceiling, viscosity, intensity = rows.T
        return np.stack([1 + step * np.log(viscosity) - intensity**2, ceiling * intensity + 3 * step], axis=1)

    assert np.allclose(polynomial(rows[:30], answer(rows[:30]), rows[30:]), answer(rows[30:]))
