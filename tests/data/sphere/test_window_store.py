"""Stores of states: what was written is read, also after a kill; statistics and climatologies with known answers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from data.checksums import TABLE
from data.errors import CorruptStoreError, InputError
from data.sphere.statistics import Moments, climatology, window_weights
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows

GRID = WeatherGrid((-60.0, -20.0, 20.0, 60.0), tuple(np.arange(6) * 60.0))
LAYOUT = WeatherLayout(
    GRID,
    (WeatherChannel("temperature", 500.0), WeatherChannel("temperature", 850.0), WeatherChannel("2m_temperature")),
    step_hours=6.0,
)


def segment(count: int, seed: int, start: str = "2001-01-01") -> xr.Dataset:
    values = np.random.default_rng(seed).normal(270, 10, (count, *GRID.shape, 3)).astype(np.float32)
    times = np.datetime64(start, "ns") + np.arange(count) * np.timedelta64(6, "h")
    return LAYOUT.unstack(values, ("time",), {"time": times})


def segments() -> list[Segment]:
    return [Segment.of(segment(13, 0)), Segment.of(segment(4, 1, "2001-02-01"))]


def written(path: Path, *, shard: int = 5, fingerprint: str = "a") -> WindowStore:
    return write_windows(path, segments(), LAYOUT, fingerprint=fingerprint, shard_bytes=shard * 288)


def test_what_was_written_is_read_in_windows_that_cross_no_gap(tmp_path: Path) -> None:
    store = written(tmp_path / "s")
    whole = np.concatenate([LAYOUT.stack(segment(13, 0)), LAYOUT.stack(segment(4, 1))])
    assert store.segments == ((0, 13), (13, 17))
    starts = store.starts(3)
    assert starts.tolist() == [*range(11), 13, 14]
    windows = store.read(starts, 3)
    for window, start in zip(windows, starts, strict=True):
        np.testing.assert_array_equal(window, whole[start : start + 3])
    assert store.starts(3, (4, 15), stride=2).tolist() == [4, 6, 8, 10]
    data = store.dataset((2, 5))
    np.testing.assert_array_equal(data["temperature"].sel(level=850.0).values, whole[2:5, ..., 1])
    assert data["2m_temperature"].attrs["units"] == "K"
    assert str(data.time.values[0])[:13] == "2001-01-01T12"
    again = written(tmp_path / "s")
    assert again.fingerprint == "a"
    with pytest.raises(InputError, match="other data"):
        written(tmp_path / "s", fingerprint="b")


def test_statistics_are_those_of_all_states_and_of_steps_within_segments(tmp_path: Path) -> None:
    store = written(tmp_path / "s")
    parts = [LAYOUT.stack(segment(13, 0)), LAYOUT.stack(segment(4, 1))]
    flat = np.concatenate([p.reshape(-1, 3) for p in parts]).astype(np.float64)
    np.testing.assert_allclose(store.statistics.mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(store.statistics.std, flat.std(axis=0), rtol=1e-10)
    steps = np.concatenate([np.diff(p.astype(np.float64), axis=0).reshape(-1, 3) for p in parts])
    np.testing.assert_allclose(store.statistics.increment_std, np.sqrt((steps**2).mean(axis=0)), rtol=1e-10)
    some = store.statistics_of((0, 5))
    np.testing.assert_allclose(some.mean, parts[0][:5].reshape(-1, 3).astype(float).mean(axis=0), rtol=1e-12)


KILLED = """
import sys, time
sys.path[:0] = sys.argv[2:]
from pathlib import Path
import test_window_store as t
from data.sphere.writing import write_windows
write_windows(Path(sys.argv[1]), t.segments(), t.LAYOUT, fingerprint="a",
              shard_bytes=5 * 288, advance=lambda n: (print(n, flush=True), time.sleep(30)))
"""


def test_a_writing_that_is_killed_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    here = [str(Path(__file__).parent), str(Path(__file__).parents[3])]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "s"), *here], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "5"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(InputError, match="not finished"):
        WindowStore.open(tmp_path / "s")
    began = time.time_ns()
    written(tmp_path / "s")
    written(tmp_path / "whole")
    files = sorted(f.relative_to(tmp_path / "whole") for f in (tmp_path / "whole").rglob("*") if f.is_file())
    assert files == sorted(f.relative_to(tmp_path / "s") for f in (tmp_path / "s").rglob("*") if f.is_file())
    for file in (f for f in files if f.name != ".lock"):
        assert (tmp_path / "s" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    # The shard of before the kill was not written again.
    old = [f for f in (tmp_path / "s" / "states.zarr").rglob("*") if f.is_file() and f.stat().st_mtime_ns < began]
    assert len(old) == 1


def test_damage_and_what_is_not_finite_are_named(tmp_path: Path) -> None:
    store = written(tmp_path / "s")
    card = json.loads((tmp_path / "s" / "windows.json").read_text())
    shard = tmp_path / "s" / "states.zarr" / next(n for n in card["shards"] if n.endswith("/0/0/0"))
    content = shard.read_bytes()
    generator = np.random.default_rng(0)
    for place in generator.integers(len(content), size=40):
        damaged = bytearray(content)
        damaged[place] ^= 1 << generator.integers(8)
        shard.write_bytes(damaged)
        with pytest.raises(CorruptStoreError, match=re.escape(str(shard))):
            WindowStore.open(store.path).dataset()
    shard.write_bytes(content[:-1])
    with pytest.raises(CorruptStoreError, match="cut short"):
        WindowStore.open(store.path)
    shard.unlink()
    with pytest.raises(CorruptStoreError, match="missing"):
        WindowStore.open(store.path)
    bad = segment(3, 2)
    bad["2m_temperature"].values[1, 2, 3] = np.nan
    with pytest.raises(InputError, match=r"2m_temperature .* 2001-01-01T06:00:00, latitude 20, longitude 180"):
        write_windows(tmp_path / "bad", [Segment.of(bad)], LAYOUT, fingerprint="c")


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 9), max_size=3), offset=st.floats(-1e4, 1e4))
def test_moments_do_not_depend_on_how_states_come(cuts: list[int], offset: float) -> None:
    states = np.random.default_rng(0).normal(size=(9, 2, 3, 2)) + offset
    moments = Moments(2)
    for block in np.split(states, sorted(cuts)):
        moments.add(block)
    statistics = moments.statistics()
    np.testing.assert_allclose(statistics.std, states.reshape(-1, 2).std(axis=0), rtol=1e-8)
    np.testing.assert_allclose(
        statistics.increment_std, np.sqrt((np.diff(states, axis=0) ** 2).mean(axis=(0, 1, 2))), rtol=1e-8
    )


def test_a_trace_gas_has_a_spread_and_a_constant_has_none() -> None:
    states = np.random.default_rng(0).normal(size=(9, 2, 3, 2)) * [1e-14, 0.0] + [3e-14, 0.1]
    moments = Moments(2)
    moments.add(states)
    statistics = moments.statistics()
    assert statistics.std[0] == pytest.approx(states[..., 0].std())
    assert statistics.std[1] == 1.0


def test_a_climatology_of_years_is_the_weighted_mean_over_its_window() -> None:
    times = np.datetime64("2001-01-01", "ns") + np.arange(4 * 365 * 2) * np.timedelta64(12, "h")
    day = (times.astype("datetime64[D]") - times.astype("datetime64[Y]")).astype(int)
    noon = times.astype("datetime64[h]").astype(int) % 24 == 12
    # One day of the year is warm, in each year and at noon alone.
    values = np.where((day == 100) & noon, 61.0, 0.0)[:, None, None, None]
    usual = climatology(times, [(np.arange(len(times)), values)], (1, 1, 1), dated=True)
    assert usual.kind == "day_of_year"
    at = usual.at(np.array(["2005-04-11T12", "2005-04-11T00", "2005-04-21T12", "2005-07-01T12"], "datetime64[ns]"))
    weights = window_weights()
    np.testing.assert_allclose(at[:, 0, 0, 0], [61 / weights.sum(), 0, 61 * weights[20] / weights.sum(), 0], rtol=1e-5)
    with pytest.raises(ValueError, match="hour 6"):
        usual.at(np.array(["2005-04-11T06"], "datetime64[ns]"))


def test_a_climatology_weighs_years_and_the_leap_day_as_weatherbench_does(tmp_path: Path) -> None:
    times = np.datetime64("2003-01-01", "ns") + np.arange(365 + 366 + 365) * np.timedelta64(1, "D")
    values = np.random.default_rng(0).normal(280, 5, (len(times), 1, 1, 1)).astype(np.float32)
    blocks = [(rows, values[rows]) for rows in np.array_split(np.arange(len(times)), 7)]
    # A table of years and days, day 366 of common years filled from the day before, and a window around each day.
    table = np.full((3, 366), np.nan)
    table[0, :365], table[1], table[2, :365] = np.split(values[:, 0, 0, 0], [365, 731])
    table[[0, 2], 365] = table[[0, 2], 364]
    around = table[:, (np.arange(366)[:, None] + np.arange(-30, 31)) % 366]
    weights = np.concatenate([np.linspace(0, 1, 31), np.linspace(1, 0, 31)[1:]])
    expected = (around * weights).sum(axis=(0, 2)) / (3 * weights.sum())
    inside = climatology(times, blocks, (1, 1, 1), dated=True)
    np.testing.assert_allclose(inside.values[0, :, 0, 0, 0], expected, rtol=1e-6)
    file = tmp_path / "kept.npy"
    for given_blocks in (blocks, []):  # the second time nothing is read
        kept = climatology(times, given_blocks, (1, 1, 1), dated=True, file=file)
        np.testing.assert_array_equal(kept.values, inside.values)
    assert {f.name for f in tmp_path.iterdir()} == {"kept.npy", TABLE}
    # A year more of the first half: its days count more than those of the second.
    more = np.append(times, np.datetime64("2006-01-01", "ns") + np.arange(180) * np.timedelta64(1, "D"))
    warm = np.concatenate([np.zeros(len(times)), np.full(180, 4.0)])[:, None, None, None]
    usual = climatology(more, [(np.arange(len(more)), warm)], (1, 1, 1), dated=True).values[0, :, 0, 0, 0]
    assert usual[90] == pytest.approx(1.0)
    assert usual[250] == 0.0
    left, right = weights[:31].sum(), weights[31:].sum()  # day 180 is the last of four years, day 181 has three
    assert usual[179] == pytest.approx(4 * left / (4 * left + 3 * right), rel=1e-5)


def test_less_than_a_year_has_a_climatology_of_the_hour_and_a_core_without_seasons_its_mean() -> None:
    times = np.datetime64("2001-01-01", "ns") + np.arange(48) * np.timedelta64(1, "h")
    values = (np.arange(48) % 24 + 24.0 * (np.arange(48) // 24))[:, None, None, None]
    hourly = climatology(times, [(np.arange(48), values)], (1, 1, 1), dated=True)
    assert hourly.kind == "hour"
    np.testing.assert_allclose(hourly.at(times[:24])[:, 0, 0, 0], np.arange(24) + 12.0)
    mean = climatology(times, [(np.arange(48), values)], (1, 1, 1), dated=False)
    np.testing.assert_allclose(mean.at(times[:2])[:, 0, 0, 0], values.mean())
