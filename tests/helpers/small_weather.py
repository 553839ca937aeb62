"""A planet small enough for tests: a warm wave that travels east, and a pressure that it leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows

ROWS, COLUMNS = 6, 12
GRID = WeatherGrid(tuple(np.linspace(-75, 75, ROWS)), tuple(np.arange(COLUMNS) * 30.0))
LAYOUT = WeatherLayout(
    GRID,
    (WeatherChannel("temperature", 0.5), WeatherChannel("surface_pressure")),
    step_hours=24.0,
    level_units="1",
    calendar=False,
)


def states(count: int, seed: int) -> np.ndarray:
    """A wave that goes on by one point a step, with an amplitude that differs between records."""
    random = np.random.default_rng(seed)
    amplitude, phase = random.uniform(3, 9), random.uniform(0, 2 * np.pi)
    time, longitude = np.arange(count)[:, None, None], np.deg2rad(np.array(GRID.longitude))[None, None]
    latitude = np.deg2rad(np.array(GRID.latitude))[None, :, None]
    wave = np.cos(latitude) * np.cos(longitude - np.pi / 6 * time + phase)
    states = np.stack([280 + amplitude * wave, 1e5 + 100 * wave], axis=-1)
    return states.astype(np.float32)


def store(path: Path, records: int = 6, count: int = 20) -> WindowStore:
    """Some records, one after the other."""
    segments = []
    for k in range(records):
        start = np.datetime64("2001-01-01", "ns") + k * np.timedelta64(100, "D")
        times = start + np.arange(count) * np.timedelta64(24, "h")
        segments.append(Segment.of(LAYOUT.unstack(states(count, k), ("time",), {"time": times})))
    return write_windows(path, segments, LAYOUT, fingerprint="f" * 64, seconds_per_step=2.0, label_core_seconds=250.0)
