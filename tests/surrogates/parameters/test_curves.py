"""A surrogate of parameters learns curves over unevenly spaced times, shares of a whole, and values over decades."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import InputError
from data.parameters import ParameterLayout, ParameterTable
from data.plain import from_plain, to_plain
from data.spec import Coordinate, Variable, check
from data.store.records import RecordStore
from surrogates.learning.conformal import coverage_band
from surrogates.learning.loop import TrainConfig
from surrogates.parameters.calibration import calibrate_intervals
from surrogates.parameters.fit import fit_parameter_surrogate
from surrogates.parameters.network import ParameterConfig
from surrogates.parameters.quantities import Quantities
from surrogates.parameters.scores import score_parameters
from surrogates.parameters.surrogate import ParameterSurrogate
from surrogates.parameters.task import ParameterTask
from surrogates.saved import load_surrogate

FLOOR = 1e-6
TIMES = np.geomspace(0.01, 10.0, 16)
LAYOUT = ParameterLayout(
    (Variable("rate", (), "s-1", "float64", "rate constant"),),
    (
        Variable("fraction", ("time", "species"), "1", "float64", "fraction of each species"),
        Variable("half_life", (), "s", "float64", "half-life"),
    ),
    (
        Coordinate("time", tuple(TIMES.tolist()), "s", "time"),
        Coordinate("species", ("A", "B"), "1", "species"),
    ),
    {"solver": "closed form"},
)


def decay(rates: np.ndarray) -> np.ndarray:
    """Labels of A -> B, whose fractions are exp(-kt) and 1 - exp(-kt)."""
    left = np.exp(-rates[:, None] * TIMES)
    fractions = np.stack([left, -np.expm1(-rates[:, None] * TIMES)], axis=-1)
    return np.column_stack([fractions.reshape(len(rates), -1), np.log(2) / rates])


def table(count: int, seed: int) -> ParameterTable:
    rates = 10 ** np.random.default_rng(seed).uniform(-1, 1, count)
    return ParameterTable(LAYOUT, rates[:, None], decay(rates), "ab" * 32, np.full(count, 0.5), {})


CONFIG = ParameterConfig(
    ensemble=2, width=32, layers=2, logarithms={"fraction": FLOOR, "half_life": 1e-3}, shares=["fraction"]
)
RECIPE = TrainConfig(
    epochs=400, learning_rate=5e-3, batch_size=64, ema_decay=0.99, validate_every=50, checkpoint_every_s=None
)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> ParameterSurrogate:
    folder = tmp_path_factory.mktemp("run")
    surrogate, _ = fit_parameter_surrogate(table(300, 0), table(40, 1), CONFIG, RECIPE, folder, progress=False)
    return calibrate_intervals(surrogate, table(150, 2))


def test_it_learns_decays_over_six_decades_of_fractions(learned: ParameterSurrogate) -> None:
    scores = score_parameters(learned, table(400, 3), "test")
    assert scores["test/fraction/mae"] < 5e-3
    # Fractions between 1 and the floor, 1e-6, are right within a few percent wherever they lie.
    assert scores["test/fraction/factor_error"] < 0.05
    assert scores["test/half_life/relative_error"] < 0.02


def test_shares_add_up_to_one_and_stay_positive(learned: ParameterSurrogate) -> None:
    answer = learned.predict_columns(table(50, 4).values)
    fraction = LAYOUT.named_outputs(answer[""])["fraction"]
    np.testing.assert_allclose(fraction.sum(axis=-1), 1, rtol=0, atol=1e-12)
    assert fraction.min() >= 0
    assert (answer["low"] <= answer[""]).all()
    assert (answer[""] <= answer["high"]).all()
    assert answer["low"].min() >= 0


def test_intervals_of_each_entry_hold_as_often_as_they_promise(learned: ParameterSurrogate) -> None:
    fresh = table(1000, 5)
    answer = learned.predict_columns(fresh.values)
    inside = (answer["low"] <= fresh.labels) & (fresh.labels <= answer["high"])
    low, high = coverage_band(150, 1000, 0.1, confidence=0.9999)
    shares = inside.mean(axis=0)
    assert low <= shares.min() <= shares.max() <= high


def test_a_request_gives_curves_that_fit_the_spec(learned: ParameterSurrogate) -> None:
    rows = table(3, 6).values
    answers = learned.predict_table(rows)
    for i, row in enumerate(rows):
        answer = learned.simulate(learned.spec.request(LAYOUT.named(row)))
        check(answer, learned.spec.outputs, sizes=learned.spec.sizes)
        assert answer["fraction"].dims == answer["fraction_low"].dims == ("time", "species")
        np.testing.assert_array_equal(answer["time"].values, TIMES)
        for t in (0, 15):
            name = LAYOUT.targets[2 * t + 1]
            assert float(answer["fraction"][t, 1]) == pytest.approx(answers[name][i], rel=1e-5)
            assert float(answer["fraction_high"][t, 1]) == pytest.approx(answers[f"{name}_high"][i], rel=1e-5)
        assert float(answer["half_life_std"]) > 0


def test_it_comes_back_as_it_was(learned: ParameterSurrogate, tmp_path: Path) -> None:
    learned.save(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    rows = table(20, 7).values
    for name, values in learned.predict_table(rows).items():
        np.testing.assert_array_equal(again.predict_table(rows)[name], values)
    assert (again.fingerprint, again.spec, again.facts) == (learned.fingerprint, learned.spec, learned.facts)


def test_another_store_is_scored_only_at_the_same_times(learned: ParameterSurrogate, tmp_path: Path) -> None:
    samples = table(9, 8)
    for name, times in (("same", TIMES), ("later", 2 * TIMES)):
        coords = (Coordinate("time", tuple(times.tolist()), "s", "time"), LAYOUT.axes[1])
        with RecordStore.create(
            tmp_path / name, LAYOUT.inputs, LAYOUT.outputs, coords=coords, provenance={}, attrs={"solver": "x"}
        ) as store:
            for i, (row, label) in enumerate(zip(samples.values, samples.labels, strict=True)):
                store.append(f"k{i}", {**LAYOUT.named(row), **LAYOUT.named_outputs(label)}, seconds=1.0, threads=1)
    scores = ParameterTask.evaluate(learned, [tmp_path / "same"], {}, None, [])
    expected = score_parameters(learned, samples, "t")["t/fraction/mae"]
    assert scores["test/same/fraction/mae"] == pytest.approx(expected)
    with pytest.raises(InputError, match=r"fraction lies along time of 16, 0\.02 to 20"):
        ParameterTask.evaluate(learned, [tmp_path / "later"], {}, None, [])


def test_settings_that_name_no_output_are_refused() -> None:
    config = ParameterConfig()
    with pytest.raises(ValueError, match="logarithms names fractions"):
        Quantities.of(LAYOUT, replace(config, logarithms={"fractions": 1.0}))
    with pytest.raises(ValueError, match="half_life, which is one number"):
        Quantities.of(LAYOUT, replace(config, shares=["half_life"]))
    with pytest.raises(ValueError, match="floor above 0"):
        ParameterConfig(logarithms={"fraction": 0.0})


def test_settings_of_earlier_versions_keep_their_description() -> None:
    plain = to_plain(ParameterConfig())
    assert set(plain) == {"ensemble", "width", "layers", "activation", "harmonics", "noise"}
    assert from_plain(ParameterConfig, plain) == ParameterConfig()
    assert from_plain(ParameterConfig, to_plain(CONFIG)) == CONFIG


@given(st.lists(st.floats(0, 1e6), min_size=33, max_size=33).map(np.array), st.floats(1e-12, 1.0))
def test_quantities_go_there_and_back(values: np.ndarray, floor: float) -> None:
    quantities = Quantities.of(LAYOUT, ParameterConfig(logarithms={"fraction": floor}, shares=["fraction"]))
    again = quantities.outputs(quantities.learned(values))
    # Logarithms of up to ln(1e6) in double precision keep about 14 digits of x + floor.
    np.testing.assert_allclose(again, values, rtol=1e-13, atol=1e-13 * floor)
    whole = quantities.whole(values)
    before, after = (v[:32].reshape(16, 2).sum(axis=1) for v in (values, whole))
    np.testing.assert_allclose(after, np.where(before > 0, 1.0, 0.0), rtol=1e-12)
    assert whole[32] == values[32]
