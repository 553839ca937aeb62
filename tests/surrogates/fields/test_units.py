"""Units inside of networks: training does not depend on unit or offset, and requests outside of training are marked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_fields import POINTS, waves

from data.fields.layout import Layout
from data.fields.samples import Fields
from data.plain import from_plain, to_plain
from data.spec import Coordinate, SimulationError, Variable
from surrogates.fields.bands import Bands
from surrogates.fields.calibration import calibrate_intervals
from surrogates.fields.facts import FieldConfig, FieldFacts
from surrogates.fields.fit import fit_field_surrogate
from surrogates.fields.networks.fno import FNOConfig
from surrogates.fields.scale import FieldScale
from surrogates.fields.surrogate import FieldSurrogate
from surrogates.fields.task import score_fields
from surrogates.fields.units import FieldUnits
from surrogates.learning.box import Box, OutOfDomainWarning
from surrogates.learning.loop import TrainConfig
from surrogates.saved import load_surrogate

CONFIG = FieldConfig(network=FNOConfig(width=8, layers=1, modes=(3,)))
RECIPE = TrainConfig(epochs=25, learning_rate=1e-2, batch_size=16, ema_decay=0.9, checkpoint_every_s=None)
X = (np.arange(12) + 0.5) / 12


def darcy(count: int, seed: int, *, permeability: float = 1.0, pressure: float = 1.0, offset: float = 0.0) -> Fields:
    """Pressure along a column of permeability k: p = (1 - x) / k, and a second channel u = sin(pi x) k."""
    k = np.random.default_rng(seed).uniform(1.0, 5.0, count)
    p, u = (1 - X) / k[:, None], np.sin(np.pi * X) * k[:, None]
    states = np.stack([offset + pressure * p, u], -1)[:, None]
    axes = (Coordinate("channel", ("p", "u"), "1", "channel"), Coordinate("x", tuple(X), "m", "x"))
    output = Variable("w", ("channel", "x"), "1", "float64", "answer")
    number = Variable("k", (), "m2", "float64", "permeability")
    layout = Layout(output, None, (), (number,), axes, (False,))
    nothing = np.zeros((count, len(X), 0), np.float32)
    return Fields(layout, states, nothing, k[:, None] * permeability, "f" * 64, np.full(count, np.nan))


def learned(folder: Path, **units: float) -> tuple[FieldSurrogate, dict[str, float]]:
    surrogate, _ = fit_field_surrogate(darcy(48, 0, **units), None, CONFIG, RECIPE, folder, progress=False)
    surrogate = calibrate_intervals(surrogate, darcy(12, 1, **units))
    return surrogate, score_fields(surrogate, darcy(12, 2, **units), "test")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[FieldSurrogate, dict[str, float]]:
    return learned(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "units",
    [
        {"permeability": 1e-13, "pressure": 1e-14},
        {"permeability": 1e-40, "pressure": 1e-45},
        # A hundredth of a pascal is about the resolution of float32 at one atmosphere.
        {"pressure": 0.01, "offset": 101325.0},
    ],
)
def test_no_unit_and_no_offset_changes_what_is_learned(
    plain: tuple[FieldSurrogate, dict[str, float]], tmp_path: Path, units: dict[str, float]
) -> None:
    _, scores = learned(tmp_path, **units)
    for name in ("test/p/rmse_over_spread", "test/u/rmse_over_spread", "test/points_in_band"):
        assert scores[name] == pytest.approx(plain[1][name], rel=0.15, abs=0.02)
    assert scores["test/p/rmse_over_spread"] < 0.25


def test_a_channel_that_does_not_vary_is_given_as_it_is_and_hides_no_other() -> None:
    fields = darcy(8, 0)
    still = replace(fields, states=np.concatenate([fields.states[..., :1], np.full_like(fields.states, 1e-14)], -1))
    layout = replace(
        fields.layout, axes=(Coordinate("channel", ("p", "a", "b"), "1", "channel"), fields.layout.axes[1])
    )
    units = FieldUnits.fit(still)
    assert units.states.unit[1:] == (0.0, 0.0)
    facts = FieldFacts(CONFIG, layout, FieldScale.fit(units.apply(still)), "x", units=units)
    mean = FieldSurrogate(facts.model(), facts).predict_fields(replace(still, layout=layout)).mean
    assert np.allclose(mean[..., 1:], 1e-14, rtol=1e-12, atol=0)
    scores = score_fields(FieldSurrogate(facts.model(), facts), replace(still, layout=layout), "t")
    assert scores["t/rmse_over_spread"] == pytest.approx(scores["t/p/rmse_over_spread"])


def test_units_are_the_same_within_a_compiled_function(plain: tuple[FieldSurrogate, dict[str, float]]) -> None:
    surrogate, fields = plain[0], darcy(3, 5)
    empty = jnp.zeros((3, len(X), 2))
    compiled = jax.jit(lambda parameters: surrogate.predict_traced(empty, jnp.asarray(fields.static), parameters, 0))
    traced = compiled(jnp.asarray(fields.parameters))
    assert np.allclose(traced, surrogate.predict_fields(fields).mean, rtol=1e-4, atol=1e-5)
    scale = surrogate.facts.units
    assert scale is not None
    assert from_plain(FieldUnits, json.loads(json.dumps(to_plain(scale)))) == scale


def test_what_lies_outside_of_training_is_told_with_numbers(
    plain: tuple[FieldSurrogate, dict[str, float]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    surrogate, scores = plain
    assert scores["test/in_domain"] > 0.8
    inside = surrogate.simulate(surrogate.spec.request({"k": 2.0}))
    assert inside["in_domain"].item() is True
    assert "out_of_domain" not in inside.attrs
    with pytest.warns(OutOfDomainWarning, match=r"k = 50 outside \[1.*, 4.*\]"):
        far = surrogate.simulate(surrogate.spec.request({"k": 50.0}))
    assert far["in_domain"].item() is False
    assert far.attrs["out_of_domain"].startswith("k = 50 outside [")
    with pytest.raises(SimulationError, match="k = -1, and only positive values have been learned"):
        surrogate.simulate(surrogate.spec.request({"k": -1.0}))
    far_scores = score_fields(surrogate, darcy(10, 3, permeability=50.0), "far")
    assert far_scores["far/in_domain"] == 0
    assert "far: 10 of 10 samples are outside the training domain, the first by k = " in caplog.text
    # A surrogate saved without ranges answers, and marks its domain as unknown.
    replace_domain = surrogate.with_facts(domain=None)
    replace_domain.save(tmp_path / "old")
    card = json.loads((tmp_path / "old" / "surrogate.json").read_text())
    assert "domain" not in card["facts"]
    old = load_surrogate(tmp_path / "old")
    assert old.simulate(old.spec.request({"k": 50.0})).attrs["out_of_domain"].startswith("unknown")
    assert "test/in_domain" not in score_fields(old, darcy(10, 2), "test")


def test_initial_states_of_another_size_are_outside_and_those_on_a_finer_grid_are_not(
    once: Callable[[str, Callable[[Path], object]], Path],
) -> None:
    def make(folder: Path) -> None:
        fit_field_surrogate(waves(48, 0), None, CONFIG, replace(RECIPE, epochs=1), folder / "run", progress=False)[
            0
        ].save(folder / "surrogate")

    surrogate = FieldSurrogate.load(once("domain-of-waves", make) / "surrogate")
    fields = waves(32, 4)
    inside = surrogate.predict_fields(fields).in_domain
    assert inside is not None
    assert inside.mean() > 0.85
    finer = surrogate.predict_fields(waves(32, 4, 2 * POINTS)).in_domain
    assert finer is not None
    assert finer.mean() > 0.85
    larger = surrogate.predict_fields(replace(fields, states=10 * fields.states))
    assert larger.in_domain is not None
    assert not larger.in_domain.any()
    assert "spread of initial" in "; ".join(larger.outside[0] if larger.outside else [])


def test_a_box_knows_rounding_from_extrapolation_in_any_unit() -> None:
    for unit in (1.0, 1e-13, 1e13):
        box = Box.of(["a"], unit * np.array([[1.0], [2.0]]))
        rows = unit * np.array([[1.0], [np.float32(2.0000001)], [2.01], [np.nan]])
        assert box.holds(rows).tolist() == [True, True, False, False]
    constant = Box.of(["a"], np.full((3, 1), 0.1))
    assert constant.holds(np.array([[np.float64(np.float32(0.1))], [0.11]])).tolist() == [True, False]


def test_bounds_of_several_channels_hide_none() -> None:
    rng = np.random.default_rng(0)
    p = 101325 + rng.normal(size=(40, 1, 20, 1))
    u = rng.normal(size=(40, 1, 20, 1))
    truth = np.concatenate([p, u], -1)
    mean = truth + np.array([0.0, 0.5]) * rng.normal(size=truth.shape)
    bands = Bands.fit(truth, mean, np.zeros_like(truth))
    # An error of half the spread of one channel is about a third of the size of two channels in their spreads.
    assert bands.error(mean, truth).mean() == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    assert (bands.error_bound(mean, np.zeros_like(truth)) > 0.2).all()
    assert from_plain(Bands, json.loads(json.dumps(to_plain(bands)))) == bands
