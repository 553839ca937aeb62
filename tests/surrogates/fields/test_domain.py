"""Coordinates are the same on every grid, and domains are extended and cropped back."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from surrogates.learning.nn.grid import FieldShape, coordinates, crop, extend, pad_boundary, position_features


def test_coordinates_of_nested_grids_agree() -> None:
    np.testing.assert_allclose(coordinates((16,), (True,))[::2], coordinates((8,), (True,)))
    np.testing.assert_allclose(coordinates((16,), (False,), "left")[::2], coordinates((8,), (False,), "left"))
    np.testing.assert_allclose(coordinates((17,), (False,), "ends")[::2], coordinates((9,), (False,), "ends"))
    fine = coordinates((16,), (False,), "cells").reshape(8, 2).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(fine, coordinates((8,), (False,), "cells"))


def test_periodic_features_close_and_linear_ones_are_odd_under_reflection() -> None:
    ends = position_features("periodic", jnp.asarray([[0.0, 0.25], [1.0, 0.25]]))
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-6)
    linear = position_features("linear", coordinates((6, 5), (False, False)))
    np.testing.assert_allclose(linear[::-1, :, 0], -linear[..., 0], atol=1e-6)
    np.testing.assert_allclose(linear[:, ::-1, 1], -linear[..., 1], atol=1e-6)


@pytest.mark.parametrize("kind", ["zero", "reflect"])
@pytest.mark.parametrize("fraction", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("space", [(5, 8), (12, 7)])
def test_a_crop_undoes_an_extension(kind: str, fraction: float, space: tuple[int, int]) -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *space, 3)))
    larger = extend(x, fraction, (False, True), kind)
    assert larger.shape == (2, space[0] + round(fraction * space[0]), space[1], 3)
    np.testing.assert_array_equal(crop(larger, space, fraction, (False, True)), x)


def test_reflection_goes_on_where_the_field_ends() -> None:
    """The mirror plane lies half a cell outside of the outermost point."""
    x = jnp.asarray([1.0, 2.0, 3.0, 4.0])[None, :, None]
    np.testing.assert_array_equal(extend(x, 1.0, (False,), "reflect")[0, :, 0], [2, 1, 1, 2, 3, 4, 4, 3])
    np.testing.assert_array_equal(extend(x, 1.0, (False,), "zero")[0, :, 0], [0, 0, 1, 2, 3, 4, 0, 0])


def test_boundaries_are_what_they_are_said_to_be() -> None:
    x = jnp.asarray(np.arange(1.0, 7.0).reshape(1, 2, 3, 1))
    closed = pad_boundary(x, 1, (True, True), "zero")[0, ..., 0]
    np.testing.assert_array_equal(closed, np.pad(np.arange(1.0, 7.0).reshape(2, 3), 1, mode="wrap"))
    mixed = pad_boundary(x, 1, (True, False), "zero")[0, ..., 0]
    np.testing.assert_array_equal(mixed[0], [0, 4, 5, 6, 0])
    edge = pad_boundary(x, 1, (True, False), "edge")[0, ..., 0]
    np.testing.assert_array_equal(edge[0], [4, 4, 5, 6, 6])
    # A kernel wider than the domain wraps around it more than once.
    np.testing.assert_array_equal(pad_boundary(x[:, 0], 4, (True,), "zero")[0, :, 0], [3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1])


def test_shapes_that_make_no_sense_are_refused() -> None:
    assert FieldShape(2, 1, 1).periodic == (False, False)
    for bad in ({"dims": 4}, {"inputs": 0}, {"parameters": -1}, {"periodic": (True,)}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            FieldShape(**{"dims": 2, "inputs": 1, "outputs": 1, **bad})  # type: ignore[arg-type]
