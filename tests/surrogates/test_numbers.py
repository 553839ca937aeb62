"""Normalisation, losses and metrics against their definitions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data.errors import InputError
from data.plain import from_plain, to_plain
from surrogates.learning.conformal import Conformal
from surrogates.learning.losses import masked_error
from surrogates.learning.normalise import Standardise
from surrogates.parameters.facts import InputScale

VALUES = arrays(np.float64, (7, 2), elements=st.floats(-1e6, 1e6))


@given(VALUES)
def test_standardising_is_undone_by_its_inverse(values: np.ndarray) -> None:
    standardise = Standardise.fit(["a", "b"], values)
    assert np.allclose(standardise.invert(standardise.apply(values)), values, rtol=1e-9, atol=1e-6)
    assert from_plain(Standardise, to_plain(standardise)) == standardise


def test_missing_labels_are_left_out_and_a_constant_target_is_no_division_by_zero() -> None:
    values = np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]])
    standardise = Standardise.fit(["a", "b"], values)
    assert standardise.mean == (2.0, 5.0)
    assert standardise.scale == (1.0, 1.0)
    with pytest.raises(InputError, match="target b"):
        Standardise.fit(["a", "b"], np.array([[1.0, np.nan]]))


@pytest.mark.parametrize("unit", [1e-300, 1e-45, 1e-14, 1e13])
def test_no_unit_is_too_small_for_a_scale_or_an_interval(unit: float) -> None:
    values = np.random.default_rng(0).uniform(1.0, 5.0, (40, 1))
    plain, small = Standardise.fit(["a"], values), Standardise.fit(["a"], unit * values)
    assert np.allclose(small.apply(unit * values), plain.apply(values))
    inputs = [InputScale.fit(u * values, ["1"], 0).apply(u * values) for u in (1.0, unit)]
    assert np.allclose(inputs[1], inputs[0], atol=1e-5)
    error = values + 0.01 * np.random.default_rng(1).normal(size=values.shape)
    ends = [Conformal.fit(u * values[:, 0], u * error[:, 0], np.zeros(40)) for u in (1.0, unit)]
    assert ends[1].factor == pytest.approx(ends[0].factor)
    assert ends[1].floor / unit == pytest.approx(ends[0].floor)


@pytest.mark.parametrize(("kind", "expected"), [("l1", [2.0, 0.5]), ("l2", [2.0, 0.125]), ("huber", [1.5, 0.125])])
def test_losses_are_their_formulas(kind: str, expected: list[float]) -> None:
    error, present = masked_error(jnp.array([3.0, 0.5]), jnp.array([1.0, 0.0]), kind)  # type: ignore[arg-type]
    assert np.allclose(error, expected)
    assert np.allclose(present, 1)


@pytest.mark.parametrize("kind", ["l1", "l2", "huber"])
def test_a_missing_label_reaches_neither_the_value_nor_the_gradient(kind: str) -> None:
    label = jnp.array([1.0, jnp.nan])

    def total(prediction: jax.Array) -> jax.Array:
        return masked_error(prediction, label, kind)[0].sum()  # type: ignore[arg-type]

    value, gradient = jax.value_and_grad(total)(jnp.array([2.0, 7.0]))
    assert jnp.isfinite(value)
    assert gradient[1] == 0
    assert gradient[0] != 0
