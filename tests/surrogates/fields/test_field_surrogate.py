"""A surrogate of fields from end to end: training, answers in the form of its simulator, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_fields import POINTS, TIMES, vortices, waves

from data.errors import CorruptStoreError, InputError
from data.files import write_json
from data.plain import from_plain, to_plain
from data.spec import SimulationError
from surrogates.fields.bands import coverage
from surrogates.fields.calibration import calibrate_intervals
from surrogates.fields.facts import FieldConfig, FieldFacts
from surrogates.fields.fit import fit_field_surrogate
from surrogates.fields.loss import FieldLossSettings
from surrogates.fields.networks.fno import FNOConfig
from surrogates.fields.scale import FieldScale
from surrogates.fields.surrogate import FieldSurrogate
from surrogates.learning.loop import TrainConfig
from surrogates.saved import load_surrogate
from surrogates.trained import Surrogate

LOSS = FieldLossSettings(unroll=2, unroll_from=0.5)
CONFIG = FieldConfig(network=FNOConfig(width=12, layers=2, modes=(3,)), ensemble=2, loss=LOSS)
RECIPE = TrainConfig(epochs=12, learning_rate=1e-2, batch_size=32, ema_decay=0.9, checkpoint_every_s=None)


@pytest.fixture(scope="module")
def trained(once: Callable[[str, Callable[[Path], object]], Path]) -> FieldSurrogate:
    def make(folder: Path) -> None:
        surrogate, _ = fit_field_surrogate(waves(96, 0), waves(8, 1), CONFIG, RECIPE, folder / "run", progress=False)
        surrogate = calibrate_intervals(surrogate, waves(40, 2))
        surrogate.with_facts(scores={"test/relative_l2": 0.1}).save(folder / "surrogate")

    return FieldSurrogate.load(once("field-surrogate", make) / "surrogate")


def error(surrogate: FieldSurrogate, seed: int, points: int = POINTS) -> float:
    fields = waves(32, seed, points)
    mean = surrogate.predict_fields(fields).mean[:, 1:]
    truth = fields.states[:, 1:]
    wave = np.linalg.norm(truth - truth.mean(axis=2, keepdims=True))
    return float(np.linalg.norm(mean - truth) / wave)


def test_it_beats_a_wave_that_stands_still(trained: FieldSurrogate) -> None:
    fields = waves(32, 5)
    still = np.broadcast_to(fields.states[:, :1], fields.states[:, 1:].shape)
    wave = fields.states[:, 1:] - fields.states[:, 1:].mean(axis=2, keepdims=True)
    persistence = np.linalg.norm(still - fields.states[:, 1:]) / np.linalg.norm(wave)
    assert error(trained, 5) < 0.15 * persistence


def test_a_finer_grid_gives_the_same_trajectory(trained: FieldSurrogate) -> None:
    assert error(trained, 6, 2 * POINTS) < 1.5 * error(trained, 6)
    coarse = trained.predict_fields(waves(4, 7)).mean
    fine = trained.predict_fields(waves(4, 7, 2 * POINTS)).mean
    assert np.allclose(fine[:, :, ::2], coarse, atol=0.02)


def test_it_answers_as_a_simulator_does(trained: FieldSurrogate) -> None:
    assert isinstance(trained, Surrogate)
    fields = waves(3, 8)
    initial = np.moveaxis(fields.states[1, 0], -1, 0)
    request = trained.spec.request({"initial": initial, "speed": float(fields.parameters[1, 0])})
    answer = trained.simulate(request)
    assert answer["u"].dims == ("time", "channel", "x")
    assert answer["u"].attrs["units"] == "m"
    assert answer.attrs["boundary_conditions"] == "periodic"
    assert answer["time"].values.tolist() == list(range(TIMES))
    mean = trained.predict_fields(fields).mean[1]
    assert np.allclose(answer["u"].values[:, 0], mean[..., 0], atol=1e-5)
    assert np.allclose(answer["u"].values[0], initial)
    assert (answer["u_std"].values[1:] > 0).all()
    assert (answer["u_low"].values <= answer["u"].values).all()
    assert trained.labels_fingerprint == "f" * 64


def test_its_bands_hold_on_fresh_fields(trained: FieldSurrogate) -> None:
    bands = trained.facts.bands
    assert bands is not None
    fields = waves(200, 9)
    answer = trained.predict_fields(fields)
    inside = coverage(fields.states, answer.mean, bands.half_width(answer.std))[:, 1:]
    # With 40 calibration fields coverage is Beta(37, 4), whose 0.1% point is 0.71.
    assert ((inside >= 0.9).mean(axis=0) > 0.7).all()
    assert not ((coverage(fields.states, answer.mean, 0.2 * bands.half_width(answer.std))[:, 1:] >= 0.9).mean() > 0.5)


def test_what_was_saved_answers_alike_and_damage_is_found(trained: FieldSurrogate, tmp_path: Path) -> None:
    trained.save(tmp_path / "kept")
    again = load_surrogate(tmp_path / "kept")
    fields = waves(3, 10)
    assert np.array_equal(again.predict_fields(fields).mean, trained.predict_fields(fields).mean)
    assert again.fingerprint == trained.fingerprint
    assert again.scores == {"test/relative_l2": 0.1}
    card = json.loads((tmp_path / "kept" / "surrogate.json").read_text())
    del card["facts"]["scale"]
    write_json(tmp_path / "kept" / "surrogate.json", card)
    with pytest.raises(InputError, match=r"facts\.scale is missing"):
        load_surrogate(tmp_path / "kept")
    trained.save(tmp_path / "kept")
    victim = next(p for p in sorted((tmp_path / "kept" / "weights").rglob("*")) if p.is_file() and p.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptStoreError):
        load_surrogate(tmp_path / "kept")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.drop_vars("speed"), "speed is missing"),
        (lambda r: r.isel(x=slice(0, 8)), "initial must have 16 entries along x, got 8"),
        (lambda r: r.assign(initial=r.initial * np.nan), "initial holds values that are not finite"),
        (lambda r: r.assign(initial=r.initial.assign_attrs(units="cm")), "initial must be in m, got cm"),
        (lambda r: r.isel(channel=[]), "initial must have 1 entries along channel, got 0"),
    ],
)
def test_a_bad_request_is_named(trained: FieldSurrogate, change, message: str) -> None:  # type: ignore[no-untyped-def]
    request = trained.spec.request({"initial": np.ones((1, POINTS)), "speed": 0.05})
    with pytest.raises(SimulationError, match=message):
        trained.simulate(change(request))


def test_batches_of_any_number_share_their_compilations(trained: FieldSurrogate) -> None:
    fields = waves(7, 11)
    whole = trained.predict_fields(fields)
    parts = trained.predict_arrays(fields.states[:, 0], fields.static, fields.parameters, batch=3)
    assert np.allclose(whole.mean, parts.mean, atol=1e-5)
    run = trained._run(TIMES - 1)
    before = run._cache_size()  # type: ignore[attr-defined]
    trained.predict_arrays(fields.states[:5, 0], fields.static[:5], fields.parameters[:5], batch=3)
    assert run._cache_size() == before  # type: ignore[attr-defined]


def test_a_mean_that_has_to_stay_stays() -> None:
    fields = waves(4, 0)
    facts = FieldFacts(replace(CONFIG, constraint="mean"), fields.layout, FieldScale.fit(fields), "x")
    free = FieldFacts(CONFIG, fields.layout, FieldScale.fit(fields), "x")
    means = [FieldSurrogate(f.model(), f).predict_fields(fields).mean.mean(axis=2)[:, -1, 0] for f in (facts, free)]
    start = fields.states[:, 0].mean(axis=1)[:, 0]
    assert np.allclose(means[0], start, atol=1e-5)
    assert not np.allclose(means[1], start, atol=1e-3)


def divergence(velocity: np.ndarray) -> float:
    """Largest divergence of fields (..., x, y, 2) on the box of `vortices`, over the largest rate of strain."""
    n = velocity.shape[-2]
    k = np.fft.fftfreq(n, 1 / n)
    k[n // 2] = 0
    hats = np.fft.fft2(velocity.astype(float), axes=(-3, -2))
    parts = [np.pi * k[:, None] * hats[..., 0], 2 * np.pi * k * hats[..., 1]]
    both = [np.fft.ifft2(1j * part).real for part in (parts[0] + parts[1], parts[0])]
    return float(np.abs(both[0]).max() / np.abs(both[1]).max())


@pytest.mark.parametrize("constraint", ["divergence_free", "stream_function"])
@pytest.mark.parametrize("increment", [True, False])
def test_a_velocity_without_divergence_keeps_none(constraint: str, increment: bool) -> None:
    fields = vortices(4, 0)
    config = FieldConfig(
        network=FNOConfig(width=6, layers=1, modes=(3, 3)), ensemble=2, constraint=constraint, increment=increment
    )

    def last(config: FieldConfig, fields) -> np.ndarray:  # type: ignore[no-untyped-def]
        facts = FieldFacts(config, fields.layout, FieldScale.fit(fields), "x")
        return FieldSurrogate(facts.model(), facts).predict_fields(fields).mean[:, -1]

    assert divergence(fields.states) < 1e-5
    assert divergence(last(replace(config, constraint="none"), fields)) > 1e-2
    assert divergence(last(config, fields)) < 1e-4
    if constraint == "stream_function":
        assert np.allclose(last(config, fields).mean(axis=(1, 2)), [0.2, 0.0], atol=1e-5)
    # A divergence of the first state is removed.
    bad = replace(fields, states=fields.states + np.random.default_rng(0).normal(size=fields.states.shape).astype("f4"))
    assert divergence(bad.states[:, 0]) > 0.1
    assert divergence(last(config, bad)) < 1e-4


def test_a_stream_function_learns_a_decaying_wave(tmp_path: Path) -> None:
    config = FieldConfig(network=FNOConfig(width=8, layers=2, modes=(2, 2)), constraint="stream_function")
    recipe = TrainConfig(epochs=30, learning_rate=1e-2, batch_size=16, ema_decay=0.9, checkpoint_every_s=None)
    surrogate, _ = fit_field_surrogate(vortices(32, 0), None, config, recipe, tmp_path, progress=False)
    test = vortices(8, 1)
    truth, mean = test.states[:, 1:], surrogate.predict_fields(test).mean[:, 1:]
    still = np.linalg.norm(test.states[:, :1] - truth)
    assert np.linalg.norm(mean - truth) < 0.15 * still


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="9 steps are unrolled, the trajectories have 5"):
        fit_field_surrogate(waves(4, 0), None, replace(CONFIG, loss=FieldLossSettings(unroll=9)), RECIPE, tmp_path)
    with pytest.raises(InputError, match="a divergence_free answer needs a velocity on a periodic domain in 2 or 3D"):
        fit_field_surrogate(waves(4, 0), None, replace(CONFIG, constraint="divergence_free"), RECIPE, tmp_path)
    with pytest.raises(InputError, match="the validation part: its grid has 32 points, 16 are needed"):
        fit_field_surrogate(waves(4, 0), waves(4, 0, 32), CONFIG, RECIPE, tmp_path)
    with pytest.raises(ValueError, match="constraint must be one of"):
        replace(CONFIG, constraint="energy")


def test_parameters_over_a_decade_are_taken_by_their_logarithms() -> None:
    fields = waves(64, 0)
    wide = replace(fields, parameters=np.exp(np.random.default_rng(0).uniform(-5, 0, (64, 1))).astype(np.float32))
    scale = FieldScale.fit(wide)
    assert scale.logarithmic == (True,)
    seen = np.asarray(scale.parameters(wide.parameters))
    assert abs(seen.mean()) < 1e-4
    assert seen.std() == pytest.approx(1.0, rel=1e-4)
    assert FieldScale.fit(fields).logarithmic == (False,)
    assert from_plain(FieldScale, json.loads(json.dumps(to_plain(scale)))) == scale


def test_a_field_that_does_not_evolve_has_no_mean_to_keep(tmp_path: Path) -> None:
    evolving = waves(8, 0)
    layout = evolving.layout
    output = replace(layout.output, dims=("channel", "x"))
    still = replace(layout, output=output, initial=None, axes=layout.axes[1:])
    steady = replace(evolving, layout=still, states=evolving.states[:, -1:])
    config = replace(CONFIG, constraint="mean", ensemble=1, loss=replace(LOSS, unroll=1))
    with pytest.raises(InputError, match=r"model\.constraint: u does not evolve, so there is no state whose mean"):
        fit_field_surrogate(steady, None, config, RECIPE, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
