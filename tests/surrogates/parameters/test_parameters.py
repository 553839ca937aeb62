"""A surrogate of parameters learns what can be known in closed form, says how sure it is, and comes back as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data.errors import CorruptStoreError, InputError
from data.files import write_json
from data.parameters import ParameterLayout, ParameterTable, read_parameters
from data.plain import from_plain, to_plain
from data.reading_summary import Reading
from data.spec import Coordinate, SimulationError, Spec, Variable, check
from data.store.records import RecordStore
from simulators.adapter import Simulator
from surrogates.learning.box import Box, OutOfDomainWarning
from surrogates.learning.conformal import coverage_band
from surrogates.learning.learned_from import hash_keys
from surrogates.learning.loop import TrainConfig
from surrogates.learning.sample_parts import read_samples
from surrogates.parameters.calibration import calibrate_intervals
from surrogates.parameters.facts import InputScale
from surrogates.parameters.fit import RowBatches, fit_parameter_surrogate
from surrogates.parameters.network import ParameterConfig
from surrogates.parameters.scores import score_parameters
from surrogates.parameters.surrogate import ParameterSurrogate
from surrogates.parameters.task import ParameterTask
from surrogates.saved import CARD, load_surrogate
from surrogates.trained import Surrogate

LAYOUT = ParameterLayout(
    (
        Variable("speed", (), "m s-1", "float64", "speed"),
        Variable("wave", ("mode",), "1", "float64", "amplitudes"),
    ),
    (
        Variable("force", (), "N", "float64", "force"),
        Variable("lift", (), "N", "float64", "lift"),
    ),
    (Coordinate("mode", (3.0, 4.0), "1", "waves"),),
    {"solver": "closed form"},
)


def truth(values: np.ndarray) -> np.ndarray:
    """Two smooth functions of a speed over two decades and two amplitudes."""
    speed, a, b = values.T
    log = np.log10(speed)
    return np.stack([3 + log + a * b + 0.5 * np.sin(2 * a), 1.5 - b**2 + 0.3 * a * log], axis=-1)


def table(count: int, seed: int, noise: float = 0.0) -> ParameterTable:
    rng = np.random.default_rng(seed)
    values = np.column_stack([10 ** rng.uniform(0, 2, count), rng.uniform(-1, 1, (count, 2))])
    labels = truth(values) + noise * rng.normal(size=(count, 2))
    return ParameterTable(LAYOUT, values, labels, "ab" * 32, np.full(count, 0.5), {})


RECIPE = TrainConfig(
    epochs=250, learning_rate=5e-3, batch_size=64, weight_decay=1e-4, ema_decay=0.99, validate_every=25,
    checkpoint_every_s=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> ParameterSurrogate:
    config = ParameterConfig(ensemble=3, width=32, layers=2)
    surrogate, _ = fit_parameter_surrogate(
        table(400, 0), table(50, 1), config, RECIPE, tmp_path_factory.mktemp("run"), progress=False
    )
    return calibrate_intervals(surrogate, table(100, 2))


def test_it_learns_a_function_in_closed_form(learned: ParameterSurrogate) -> None:
    scores = score_parameters(learned, table(500, 3), "test")
    assert scores["test/force/relative_error"] < 0.01
    assert scores["test/force/spearman"] > 0.999
    assert scores["test/lift/mean_relative_error"] < 0.01
    # Its logarithm is what the function is made of.
    assert learned.facts.inputs.logarithmic == (True, False, False)


def test_intervals_hold_as_often_as_they_promise(learned: ParameterSurrogate, tmp_path: Path) -> None:
    fresh = table(2000, 4, noise=0.05)
    noisy = calibrate_intervals(learned, table(200, 5, noise=0.05))
    scores = score_parameters(noisy, fresh, "test")
    low, high = coverage_band(200, 2000, 0.1, confidence=0.999)
    for target in ("force", "lift"):
        assert low <= scores[f"test/{target}/coverage_90"] <= high
        # The noise has a standard deviation of 0.05, and 90% of it lies within 1.645 of that.
        assert scores[f"test/{target}/interval_width"] == pytest.approx(2 * 1.645 * 0.05, rel=0.25)


def test_a_request_gives_the_same_as_its_row_and_fits_the_spec(learned: ParameterSurrogate) -> None:
    assert isinstance(learned, Simulator)
    assert isinstance(learned, Surrogate)
    rows = table(3, 6).values
    answers = learned.predict_table(rows)
    for i, row in enumerate(rows):
        request = learned.spec.request(LAYOUT.named(row))
        check(request, learned.spec.inputs, sizes=learned.spec.sizes)
        answer = learned.simulate(request)
        check(answer, learned.spec.outputs)
        assert "out_of_domain" not in answer.attrs
        for name in ("force", "force_std", "force_low", "force_high", "lift"):
            assert float(answer[name]) == pytest.approx(answers[name][i], rel=1e-6)
    assert answers["in_domain"].all()


def test_batches_of_any_length_give_the_same_and_compile_twice(learned: ParameterSurrogate) -> None:
    rows = table(9000, 7).values
    whole = learned.predict_table(rows)["force"]
    np.testing.assert_allclose(learned.predict_table(rows[8990:])["force"], whole[8990:], rtol=1e-5)
    assert learned.predict_table(rows[:0])["force"].shape == (0,)
    learned.compile()
    assert learned.compilations <= 2


def test_a_request_outside_of_the_training_is_told_which_parameter_is(learned: ParameterSurrogate) -> None:
    request = learned.spec.request({"speed": 20.0, "wave": [0.0, 1.5]})
    with pytest.warns(OutOfDomainWarning, match="wave_4 = 1.5 outside"):
        answer = learned.simulate(request)
    assert answer.attrs["out_of_domain"].startswith("wave_4 = 1.5 outside [")
    assert "speed" not in answer.attrs["out_of_domain"]
    inside = learned.predict_table(np.array([[20.0, 0, 0], [20.0, 0, 1.5], [-1.0, 0, 0], [np.nan, 0, 0]]))["in_domain"]
    assert inside.tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    "change", [{"speed": np.nan}, {"speed": None}, {"wave": [0.0, 0.0, 0.0]}], ids=["nan", "missing", "long"]
)
def test_a_request_that_does_not_fit_is_refused(learned: ParameterSurrogate, change: dict[str, object]) -> None:
    values = {k: v for k, v in ({"speed": 20.0, "wave": [0.0, 0.0]} | change).items() if v is not None}
    request = xr.Dataset({k: ((), v) if np.ndim(v) == 0 else (("mode",), v) for k, v in values.items()})
    with pytest.raises(SimulationError) as caught:
        learned.simulate(request)
    assert caught.value.kind == "invalid_input"


def test_it_comes_back_as_it_was(learned: ParameterSurrogate, tmp_path: Path) -> None:
    learned.with_facts(scores={"test/mae": 0.25}).save(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    rows = table(50, 8).values
    for name, values in learned.predict_table(rows).items():
        assert np.array_equal(again.predict_table(rows)[name], values), name
    assert again.fingerprint == learned.fingerprint
    assert again.spec == learned.spec
    assert again.facts == replace(learned.facts, scores={"test/mae": 0.25})
    assert learned.with_facts(labels_fingerprint="cd").fingerprint != learned.fingerprint


def test_damage_is_named(learned: ParameterSurrogate, tmp_path: Path) -> None:
    learned.save(tmp_path / "s")
    card = json.loads((tmp_path / "s" / CARD).read_text())
    for name in ("inputs", "domain", "layout", "config"):
        facts = {k: v for k, v in card["facts"].items() if k != name}
        write_json(tmp_path / "s" / CARD, {**card, "facts": facts})
        with pytest.raises(InputError, match=rf"surrogate\.json: facts\.{name} is missing"):
            load_surrogate(tmp_path / "s")
    write_json(tmp_path / "s" / CARD, card)
    weights = max((p for p in (tmp_path / "s" / "weights").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(CorruptStoreError, match="weights"):
        load_surrogate(tmp_path / "s")


def test_scales_take_logarithms_of_what_spans_a_decade_and_harmonics_of_angles() -> None:
    values = np.column_stack([np.geomspace(0.1, 10, 50), np.linspace(1, 9, 50), np.linspace(-3, 3, 50), np.ones(50)])
    scale = InputScale.fit(values, ("1", "1", "rad", "1"), 2)
    assert scale.logarithmic == (True, False, False, False)
    features = scale.apply(values)
    assert features.shape == (50, scale.features) == (50, 8)
    np.testing.assert_allclose(features[:, :3].std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(features[:, :4].mean(axis=0), 0, atol=1e-6)
    waves = [f(k * values[:, 2]) for k in (1, 2) for f in (np.sin, np.cos)]
    np.testing.assert_allclose(features[:, 4:], np.stack(waves, axis=1), atol=1e-6)
    assert from_plain(InputScale, json.loads(json.dumps(to_plain(scale)))) == scale
    box = Box.of(("a", "b", "c", "d"), values)
    assert box.holds(values).all()
    assert box.outside(np.array([0.1, 9.0, 3.1, 2.0])) == ["c = 3.1 outside [-3, 3]", "d = 2 outside [1, 1]"]


def test_every_sample_is_seen_once_an_epoch_in_batches_of_one_shape() -> None:
    source = RowBatches(np.arange(10, dtype=np.float32)[:, None], np.zeros((10, 1), np.float32), 4, 0)
    batches = list(source.epoch(0))
    assert len(batches) == source.steps_per_epoch == 3
    assert {b.features.shape for b in batches} == {(4, 1)}
    assert sorted(np.concatenate([b.features[b.weight > 0, 0] for b in batches])) == list(range(10))
    assert not np.array_equal(batches[0].features, next(source.epoch(1)).features)


def test_columns_of_inputs_go_there_and_back() -> None:
    assert LAYOUT.columns == ("speed", "wave_3", "wave_4")
    assert LAYOUT.units == ("m s-1", "1", "1")
    values = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(LAYOUT.flat(LAYOUT.named(values)), values)
    np.testing.assert_array_equal(LAYOUT.named(values)["wave"], values[:, 1:])
    assert from_plain(ParameterLayout, json.loads(json.dumps(to_plain(LAYOUT)))) == LAYOUT


def test_a_store_is_read_with_its_failures_counted(tmp_path: Path) -> None:
    spec = Spec(
        tuple(Variable(v.name, v.dims, v.units, v.dtype, v.long_name) for v in LAYOUT.inputs),
        (
            Variable("force", (), "N", "float64", "force"),
            Variable("p", ("x",), "Pa", "float64", "pressure"),
            Variable("q", ("mode",), "Pa", "float64", "pressure of each wave"),
        ),
        (Coordinate("mode", (3.0, 4.0), "1", "waves"), Coordinate("x", (0.0, 1.0), "m", "x")),
    )
    with RecordStore.create(
        tmp_path / "s",
        spec.inputs,
        spec.outputs,
        coords=spec.coords,
        provenance={},
        attrs={"fingerprint": "ef" * 32, "solver": "x"},
    ) as store:
        for i in range(4):
            request: dict[str, object] = {"speed": float(i), "wave": np.array([i, -i], float)}
            if i == 2:
                store.append(f"k{i}", request, status="not_converged", message="no", seconds=4.0, threads=2)
            else:
                answer = {"force": 10.0 * i, "p": np.zeros(2), "q": np.array([i, 2.0 * i])}
                store.append(f"k{i}", {**request, **answer}, seconds=1.0, threads=2)
    samples, bad = read_parameters(tmp_path / "s", ["force"])
    assert samples.layout.columns == LAYOUT.columns
    np.testing.assert_array_equal(samples.values, [[0, 0, 0], [1, 1, -1], [3, 3, -3]])
    np.testing.assert_array_equal(samples.labels[:, 0], [0, 10, 30])
    assert bad == [(2, "not_converged")]
    assert dict(samples.failed) == {"not_converged": 1}
    assert samples.failed_seconds == 8.0
    assert samples.seconds.tolist() == [2.0] * 3
    assert samples.fingerprint == "ef" * 32
    readings: list[Reading] = []
    read_samples(tmp_path / "s", partial(read_parameters, targets=["force"], inputs=["speed"]), None, readings)
    assert (readings[0].total, readings[0].used, readings[0].left_out) == (4, 3, {"not_converged": 1})
    assert readings[0].quantities == {"speed": "input, m s-1, 0 to 3", "force": "output, N, 0 to 30"}
    curves, _ = read_parameters(tmp_path / "s", ["q", "force"])
    assert curves.layout.targets == ("q_3", "q_4", "force")
    np.testing.assert_array_equal(curves.labels, [[0, 0, 0], [1, 2, 10], [3, 6, 30]])
    with pytest.raises(InputError, match="p is a field"):
        read_parameters(tmp_path / "s", ["p"])
    with pytest.raises(InputError, match=r"no variable forces in it\. Did you mean force\?"):
        read_parameters(tmp_path / "s", ["forces"])


def store_of_forces(path: Path, fingerprint: str, boundary: str) -> Path:
    """A store with the exact answers of 20 requests."""
    inputs, outputs = (
        tuple(Variable(v.name, v.dims, v.units, v.dtype, v.long_name) for v in group)
        for group in (LAYOUT.inputs, LAYOUT.outputs)
    )
    attrs = {"fingerprint": fingerprint, "solver": "x", "boundary_conditions": boundary}
    coords = (Coordinate("mode", (3.0, 4.0), "1", "waves"),)
    with RecordStore.create(path, inputs, outputs, coords=coords, provenance={}, attrs=attrs) as store:
        samples = table(20, 5)
        for i, (row, label) in enumerate(zip(samples.values, samples.labels, strict=True)):
            request = {"speed": row[0], "wave": row[1:], "force": label[0], "lift": label[1]}
            store.append(f"k{i}", request, seconds=1.0, threads=1)
    return path


def test_another_file_is_scored_by_what_the_training_knows(learned: ParameterSurrogate, tmp_path: Path) -> None:
    layout = replace(learned.facts.layout, attrs={"boundary_conditions": "no slip"})
    walls = learned.with_facts(layout=layout)
    same = store_of_forces(tmp_path / "same", learned.labels_fingerprint, "no slip")
    other = store_of_forces(tmp_path / "other", "cd" * 32, "no slip")
    readings: list[Reading] = []
    learned_keys = hash_keys(table(20, 5).input_keys()[:5])
    scores = ParameterTask.evaluate(walls, [same, other], {}, None, readings, learned=learned_keys)
    assert (
        scores["test/same/force/mae"]
        == scores["test/other/force/mae"]
        == pytest.approx(score_parameters(walls, table(20, 5), "t")["t/force/mae"])
    )
    assert scores["test/same/seen"] == 5
    rest = score_parameters(walls, table(20, 5).take(np.arange(5, 20)), "t")["t/force/mae"]
    assert scores["test/same/unseen/force/mae"] == pytest.approx(rest)
    assert readings[0].quantities["learned from"].startswith("5 of 20 samples were learned from")
    assert readings[0].assumed == ()
    assert "another simulator, setting or version (cdcdcdcdcdcd; abababababab was learned)" in readings[1].assumed[0]
    slip = store_of_forces(tmp_path / "slip", learned.labels_fingerprint, "slip")
    with pytest.raises(InputError, match="its boundary is 'slip', 'no slip' has been learned"):
        ParameterTask.evaluate(walls, [slip], {}, None, [])
