"""The coarse solver whose answer a network takes as an input: its order, its symmetry, and its fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.errors import InputError
from data.fields.layout import Layout
from data.fields.samples import Fields
from data.plain import from_plain, to_plain
from data.spec import Coordinate, Variable
from surrogates.fields.coarse_darcy import CoarseDarcy, _solve, refuse_unfit
from surrogates.fields.facts import FieldConfig
from surrogates.fields.fit import fit_field_surrogate
from surrogates.fields.loss import FieldLossSettings
from surrogates.fields.networks.fno import FNOConfig
from surrogates.fields.surrogate import FieldSurrogate
from surrogates.learning.loop import TrainConfig


def poisson(n: int) -> np.ndarray:
    """-div grad u = 1 on the unit square, u = 0 on its boundary, at the points i / n, as a double sine series."""
    odd = np.arange(1, 400, 2)
    sines = np.sin(np.pi * np.outer(np.arange(n) / n, odd))
    weights = 16 / (np.pi**4 * np.outer(odd, odd) * (odd[:, None] ** 2 + odd[None, :] ** 2))
    return sines @ weights @ sines.T


def test_an_even_medium_converges_with_second_order() -> None:
    errors = [np.abs(_solve(np.ones((n, n))) - poisson(n)).max() for n in (8, 16, 32)]
    assert errors[0] < 2e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_what_the_source_gives_leaves_through_the_boundary() -> None:
    n = 12
    permeability = np.random.default_rng(0).choice([1.0, 9.0], (n, n))
    answer = np.pad(_solve(permeability), ((0, 1), (0, 1)))
    full = np.pad(permeability, ((0, 1), (0, 1)), mode="edge")
    x, y = (
        2 * full[:-1] * full[1:] / (full[:-1] + full[1:]),
        2 * full[:, :-1] * full[:, 1:] / (full[:, :-1] + full[:, 1:]),
    )
    out = (x[0, 1:-1] * answer[1, 1:-1]).sum() + (x[-1, 1:-1] * answer[-2, 1:-1]).sum()
    out += (y[1:-1, 0] * answer[1:-1, 1]).sum() + (y[1:-1, -1] * answer[1:-1, -2]).sum()
    assert out == pytest.approx(((n - 1) / n) ** 2)


def test_a_transposed_medium_has_the_transposed_answer() -> None:
    permeability = np.exp(np.random.default_rng(1).normal(size=(10, 10)))
    np.testing.assert_allclose(_solve(permeability.T), _solve(permeability).T, rtol=1e-10)


def test_contrast_and_unit_are_those_that_made_the_answers() -> None:
    mask = np.random.default_rng(2).choice([0.0, 1.0], (12, 10, 10))
    truth = CoarseDarcy(7.0, 3.0, 0.0, 1.0).solve(mask)
    fitted = CoarseDarcy.fit(mask, truth)
    assert fitted.contrast == pytest.approx(7.0, rel=0.03)
    np.testing.assert_allclose(fitted.solve(mask), truth, rtol=0.03, atol=0.01 * truth.max())
    assert from_plain(CoarseDarcy, to_plain(fitted)) == fitted


def test_a_medium_without_contrast_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.coarse"):
        CoarseDarcy.fit(np.ones((2, 4, 4)), np.ones((2, 4, 4)))


def samples(count: int, n: int, seed: int) -> Fields:
    mask = np.random.default_rng(seed).choice([0.0, 1.0], (count, n, n)).astype(np.float32)
    answers = CoarseDarcy(12.0, 30.0, 0.0, 1.0).solve(mask)
    space = ("x", "y")
    axes = tuple(Coordinate(d, tuple(i / n for i in range(n)), "1", d) for d in space)
    layout = Layout(
        Variable("pressure", space, "1", "float32", "pressure"),
        None,
        (Variable("permeability", space, "1", "float32", "permeability"),),
        (),
        axes,
        (False, False),
    )
    return Fields(
        layout, answers[:, None, ..., None], mask[..., None], np.zeros((count, 0), np.float32), "d" * 64,
        np.full(count, np.nan),
    )  # fmt: skip


def test_a_surrogate_computes_what_it_sees_from_the_permeability_alone(tmp_path: Path) -> None:
    config = FieldConfig(
        network=FNOConfig(width=4, layers=1, modes=(2,)), coarse="darcy", loss=FieldLossSettings("relative_l2")
    )
    recipe = TrainConfig(epochs=2, batch_size=8, checkpoint_every_s=None)
    surrogate, _ = fit_field_surrogate(samples(16, 8, 0), None, config, recipe, tmp_path / "run", progress=False)
    assert [v.name for v in surrogate.spec.inputs] == ["permeability"]
    surrogate.save(tmp_path / "kept")
    fields = samples(2, 8, 1)
    again = FieldSurrogate.load(tmp_path / "kept")
    assert again.facts.coarse == surrogate.facts.coarse
    assert np.array_equal(again.predict_fields(fields).mean, surrogate.predict_fields(fields).mean)
    # The prediction changes with the answer of the coarse solver, so the network uses it.
    assert surrogate.facts.coarse is not None
    other = surrogate.with_facts(coarse=replace(surrogate.facts.coarse, contrast=2.0))
    assert not np.allclose(other.predict_fields(fields).mean, again.predict_fields(fields).mean)
    # Samples on another grid are solved on that grid.
    assert again.predict_fields(samples(1, 12, 2)).mean.shape == (1, 1, 12, 12, 1)
    moving = replace(fields.layout, periodic=(True, True))
    with pytest.raises(InputError, match="not periodic"):
        refuse_unfit(moving)
