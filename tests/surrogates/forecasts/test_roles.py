"""Variables that are inputs alone, and variables that are outputs alone."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_weather import GRID, LAYOUT, states
from small_weather import store as stored

from data.errors import InputError
from data.plain import to_plain
from data.sphere.weather_layout import WeatherChannel, WeatherLayout
from surrogates.forecasts.batches import ForecastBatch
from surrogates.forecasts.facts import ForecastConfig, ForecastFacts
from surrogates.forecasts.fit import fit_forecast_surrogate
from surrogates.forecasts.loss import ForecastLoss
from surrogates.forecasts.model import ForecastScale
from surrogates.forecasts.networks.conv import ConvConfig
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.learning.loop import TrainConfig

NAMES = ("temperature", "sea_surface_temperature", "total_precipitation_6hr")
THREE = WeatherLayout(
    GRID, (WeatherChannel("temperature", 0.5), *map(WeatherChannel, NAMES[1:])), step_hours=24.0, level_units="1",
    calendar=False,
)  # fmt: skip
TIMES = np.array(["2001-01-01"], "datetime64[s]")


def untrained(**roles: object) -> ForecastSurrogate:
    config = ForecastConfig(network=ConvConfig(width=4, blocks=1), **roles)  # type: ignore[arg-type]
    scale = ForecastScale((1.0,) * 3, (1.0,) * 3, (0,))
    facts = ForecastFacts(config, THREE, scale, "none", (-9.0,) * 3, (9.0,) * 3)
    return ForecastSurrogate(facts.model(seed=1), facts)


def test_an_input_keeps_its_anomaly_and_acts_and_an_output_does_not_act() -> None:
    model = untrained(forcing=("sea_surface_temperature",), diagnostic=("total_precipitation_6hr",))
    past = np.abs(np.random.default_rng(0).normal(0, 1, (1, 1, *GRID.shape, 3))).astype(np.float32)

    def after(channel: int) -> np.ndarray:
        changed = past.copy()
        changed[..., channel] += 1.0
        return model.forecast_arrays(changed, TIMES, 3)[0, 0]

    said = model.forecast_arrays(past, TIMES, 3)[0, 0]
    np.testing.assert_array_equal(said[..., 1], np.repeat(past[0, :, ..., 1], 3, axis=0))
    # What is not fed back changes nothing, in the first step neither.
    np.testing.assert_array_equal(after(2), said)
    # An input acts on what is forecast, and what is forecast on the output.
    assert np.abs(after(1)[..., 0] - said[..., 0]).max() > 1e-4
    assert np.abs(after(0)[..., 2] - said[..., 2]).max() > 1e-4
    plain = untrained()
    assert np.abs(plain.forecast_arrays(past, TIMES, 3)[0, 0, ..., 1] - said[..., 1]).max() > 1e-4


def test_errors_of_an_input_do_not_count() -> None:
    model = untrained(forcing=("sea_surface_temperature",))
    loss = ForecastLoss.of(model.facts.config.loss, THREE, forcing=("sea_surface_temperature",))
    assert loss.channel_weights == pytest.approx((1.5, 0.0, 1.5))
    frames = np.random.default_rng(0).normal(0, 1, (1, 2, *GRID.shape, 3)).astype(np.float32)
    values = []
    for added in (0.0, 7.0):
        frames[0, 1, ..., 1] += added
        batch = ForecastBatch(frames, np.zeros(1, np.int32), np.zeros(1, np.int32), np.ones(1, np.float32))
        values.append(float(loss(model.model, batch, jax.random.key(0), jnp.float32(1))[0]))
    assert values[0] == values[1]


def test_roles_are_learned_saved_and_refused_where_they_do_not_fit(tmp_path: Path) -> None:
    """The pressure of the small planet follows its temperature, so that it can be an output alone."""
    windows = stored(tmp_path / "w", records=3)
    config = ForecastConfig(network=ConvConfig(width=8, blocks=1), steps=1, diagnostic=("surface_pressure",))
    recipe = TrainConfig(
        epochs=20, learning_rate=1e-2, batch_size=8, ema_decay=0.9, checkpoint_every_s=None, mlflow=False
    )
    model, _ = fit_forecast_surrogate(windows, (0, 40), None, config, recipe, tmp_path / "run", progress=False)
    model.save(tmp_path / "saved")
    kept = ForecastSurrogate.load(tmp_path / "saved")
    assert kept.facts.config.diagnostic == ("surface_pressure",)
    truth = windows.read(np.array([45]), 2)
    wrong = truth[:, :1].copy()
    wrong[..., 1] = 1e5
    said = kept.forecast_arrays(wrong, windows.times[45:46], 1)[0, 0, 0, ..., 1]
    spread = states(40, 0)[..., 1].std()
    assert np.sqrt(((said - truth[0, 1, ..., 1]) ** 2).mean()) < 0.6 * spread
    assert "diagnostic" not in to_plain(ForecastConfig(network=ConvConfig()))
    for roles, on, words in (
        ({"forcing": ("sea_ice_cover",)}, None, "no variable 'sea_ice_cover' in the states"),
        ({"forcing": ("temperature",), "diagnostic": ("surface_pressure",)}, None, "no variable is left"),
        ({"diagnostic": ("surface_pressure",)}, "linear", "a linear step sees all variables"),
    ):
        asked = ForecastConfig(network=ConvConfig(width=4, blocks=1), **roles)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=words):
            fit_forecast_surrogate(windows, (0, 40), None, asked, recipe, tmp_path / "no", on=on, progress=False)
    with pytest.raises(ValueError, match="either an input"):
        ForecastConfig(network=ConvConfig(), forcing=("a",), diagnostic=("a",))
    assert LAYOUT.variables == windows.layout.variables
