"""Compares reading windows of states of WeatherBench 2's size with sequential reads of the same files.

The files are written, synced, and dropped from the page cache before each measurement, so that both read from the disk.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from benchmarks.common import Result, arguments, pin, report

ROWS, COLUMNS, LEVELS, FRAMES = 121, 240, 13, 2


def drop(files: Sequence[Path]) -> None:
    """Drop files from the page cache."""
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--states", type=int, default=300, help="number of states, 7.5 MB each (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of both measurements (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    from data.sphere.weather_layout import WeatherChannel, WeatherLayout
    from data.sphere.window_store import WindowStore
    from data.sphere.writing import Segment, write_windows
    from simulators.atmosphere.reanalysis.regrid import global_grid

    names = ("temperature", "geopotential", "u_component_of_wind", "v_component_of_wind", "specific_humidity")
    channels = tuple(WeatherChannel(n, 50.0 * (k + 1)) for n in names for k in range(LEVELS))
    layout = WeatherLayout(global_grid(ROWS, COLUMNS, True), channels)
    rng = np.random.default_rng(0)
    state = rng.normal(size=(ROWS, COLUMNS, len(channels))).astype(np.float32)
    times = np.datetime64("2001-01-01", "ns") + np.arange(options.states) * np.timedelta64(6, "h")

    def read(start: int, stop: int) -> xr.Dataset:
        scale = (1 + 0.01 * np.arange(start, stop, dtype=np.float32))[:, None, None, None]
        return layout.unstack(state * scale, ("time",), {"time": times[start:stop]})

    folder = (options.out / "weather_reading").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    write_windows(folder, [Segment(times, read)], layout, fingerprint="synthetic")
    store = WindowStore.open(folder)
    files = [f for f in (folder / "states.zarr").rglob("*") if f.is_file() and f.stat().st_size > 1 << 20]
    size = sum(f.stat().st_size for f in files)
    starts = np.arange(0, len(store) - FRAMES + 1, FRAMES)

    def windows() -> Iterator[int]:
        order = rng.permutation(starts)
        for at in range(0, len(order), 16):
            yield store.read(order[at : at + 16], FRAMES).nbytes

    rates: dict[str, list[float]] = {"windows": [], "sequential": []}
    for _ in range(options.rounds):
        drop(files)
        began, total = time.perf_counter(), 0
        for file in files:
            with open(file, "rb", buffering=0) as handle:
                buffer = bytearray(8 << 20)
                while count := handle.readinto(buffer):
                    total += count
        rates["sequential"].append(total / (time.perf_counter() - began))
        drop(files)
        began = time.perf_counter()
        total = sum(windows())
        rates["windows"].append(total / (time.perf_counter() - began))
    shutil.rmtree(folder)
    middle = {name: float(np.median(values)) / 1e6 for name, values in rates.items()}
    report(
        "weather_reading",
        [
            Result("weather_reading: size of the store", size / 1e6, "MB"),
            Result.against(
                f"weather_reading: windows of {FRAMES} states in random order", middle["windows"], "MB/s",
                "sequential read of the same files", middle["sequential"],
            ),
        ],
        options.out,
        argv,
    )  # fmt: skip


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
