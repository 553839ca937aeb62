"""Surrogates of numbers that stand on a line through their inputs: the networks learn what the line leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.parameters import ParameterLayout, ParameterTable
from data.spec import Variable
from surrogates.learning.loop import TrainConfig
from surrogates.learning.rung import FittedRung
from surrogates.parameters.calibration import calibrate_intervals
from surrogates.parameters.fit import fit_parameter_surrogate
from surrogates.parameters.network import ParameterConfig
from surrogates.parameters.surrogate import ParameterSurrogate
from surrogates.parameters.task import ParameterTask
from surrogates.saved import load_surrogate

LAYOUT = ParameterLayout(
    tuple(Variable(name, (), "1", "float64", name) for name in "abc"),
    (Variable("force", (), "N", "float64", "force"), Variable("power", (), "W", "float64", "power")),
    (),
    {},
)
CONFIG = ParameterConfig(ensemble=2, width=16, layers=1)
TRAINING = TrainConfig(epochs=60, learning_rate=5e-3, batch_size=32, ema_decay=0.9, checkpoint_every_s=None)


def table(count: int, seed: int, curvature: float) -> ParameterTable:
    """A plane with a small curvature, and a power law, which is a plane in logarithms."""
    values = np.random.default_rng(seed).uniform(1.0, 2.0, (count, 3)) * np.array([1.0, 1.0, 100.0])
    values[:, 2] = 10 ** np.random.default_rng(seed + 100).uniform(0, 3, count)
    a, b, c = values.T
    force = 2000.0 - 300.0 * a + 70.0 * b + curvature * a * b
    return ParameterTable(LAYOUT, values, np.stack([force, 5.0 * c**1.5], axis=1), "ab" * 32, np.full(count, 0.5), {})


def fitted(folder: Path, train: ParameterTable, *, linear: bool, epochs: int = 60) -> ParameterSurrogate:
    config = replace(CONFIG, logarithms={"power": 1e-6})
    recipe = replace(TRAINING, epochs=epochs)
    surrogate, _ = fit_parameter_surrogate(train, None, config, recipe, folder, linear=linear, progress=False)
    return calibrate_intervals(surrogate, table(40, 5, 3.0))


def test_what_is_linear_is_exact_and_the_rest_is_learned(tmp_path: Path) -> None:
    train, test = table(60, 0, 3.0), table(200, 1, 3.0)
    on = fitted(tmp_path / "on", train, linear=True)
    plain = fitted(tmp_path / "plain", train, linear=False)
    error, without = (np.abs(s.predict_columns(test.values)[""] - test.labels).mean(axis=0) for s in (on, plain))
    assert on.facts.line is not None
    line = on.facts.quantities.outputs(on.facts.line.apply(on.facts.inputs.apply(test.values)))
    assert (error < 0.3 * without).all()
    assert error[0] < 0.7 * np.abs(line[:, 0] - test.labels[:, 0]).mean()  # the network learns the curvature
    np.testing.assert_allclose(line[:, 1], test.labels[:, 1], rtol=1e-4)  # a power law is linear in logarithms
    answer = on.predict_table(test.values)
    inside = (answer["force_low"] <= test.labels[:, 0]) & (test.labels[:, 0] <= answer["force_high"])
    assert inside.mean() > 0.7
    # As a simulator, and as it is loaded again, it answers the same.
    request = on.spec.request({"a": 1.2, "b": 1.7, "c": 30.0})
    assert on.spec.attrs["on"] == "linear"
    assert "on" not in plain.spec.attrs
    one = float(on.simulate(request)["force"])
    assert one == pytest.approx(on.predict_table(np.array([[1.2, 1.7, 30.0]]))["force"][0], rel=1e-6)
    on.save(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    assert again.fingerprint == on.fingerprint
    assert again.facts.line == on.facts.line
    assert float(again.simulate(request)["force"]) == one


def test_with_products_of_inputs_the_first_estimate_is_a_polynomial(tmp_path: Path) -> None:
    train, test = table(60, 0, 3.0), table(200, 1, 3.0)
    config = replace(CONFIG, logarithms={"power": 1e-6}, products=True)
    recipe = replace(TRAINING, epochs=1)
    surrogate, _ = fit_parameter_surrogate(train, None, config, recipe, tmp_path / "on", linear=True, progress=False)
    assert surrogate.facts.line is not None
    features = surrogate.facts.inputs.apply(test.values)
    assert features.shape == (200, 3 + 6)
    # The force is a plane with a product of two inputs, so that nothing is left for the networks.
    first = surrogate.facts.quantities.outputs(surrogate.facts.line.apply(features))
    np.testing.assert_allclose(first, test.labels, rtol=1e-4)
    np.testing.assert_allclose(surrogate.predict_columns(test.values)[""], test.labels, rtol=1e-4)
    surrogate.save(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    assert again.fingerprint == surrogate.fingerprint
    np.testing.assert_array_equal(again.predict_columns(test.values)[""], surrogate.predict_columns(test.values)[""])


def test_a_line_of_another_number_of_inputs_is_refused(tmp_path: Path) -> None:
    on = fitted(tmp_path, table(60, 0, 3.0), linear=True, epochs=1)
    assert on.facts.line is not None
    short = replace(on.facts.line, weights=tuple(row[:-1] for row in on.facts.line.weights))
    with pytest.raises(ValueError, match="3 weights for each target"):
        on.with_facts(line=short)


def test_the_key_on_chooses_the_line_and_a_resumed_run_needs_the_same() -> None:
    settings = {"data": {"file": "x", "target": ["force"]}, "model": {}, "train": {}}
    plain, on = ParameterTask.of(settings), ParameterTask.of(settings, FittedRung("linear"))
    assert on.linear
    assert not plain.linear
    assert on.network_hash() != plain.network_hash()
    unused = ParameterTask.unused_in_training({**settings, "on": "linear"})
    assert unused["rung"] == "linear is fitted to the training samples"
    assert ParameterTask.RUNG_OUTPUTS == ()
