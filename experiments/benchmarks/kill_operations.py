"""Small runs of everything that makes a directory, for `experiments.benchmarks.faults_kill`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data.store import RecordStore
from data.weather import Channel, WeatherGrid, WeatherLayout
from data.windows import Segment, write_windows
from simulators.base import Coordinate, Variable

NAMES = ("records", "fields", "windows")
LAYOUT = WeatherLayout(
    WeatherGrid((-60.0, -20.0, 20.0, 60.0), tuple(np.arange(6) * 60.0)),
    (Channel("temperature", 500.0), Channel("2m_temperature")),
    step_hours=6.0,
)


def _variable(name: str, dims: tuple[str, ...], units: str, dtype: str = "float64") -> Variable:
    return Variable(name, dims, units, dtype, name)


def records(directory: Path) -> None:
    """A store of records of different lengths, folded twice."""
    inputs = (_variable("smiles", (), "1", "str"),)
    outputs = (_variable("forces", ("atom", "axis"), "eV/Angstrom"),)

    def values(i: int) -> dict[str, Any]:
        return {"smiles": "C" * i, "forces": np.full((i, 3), float(i))}

    _append(directory, inputs, outputs, (), values)


def fields(directory: Path) -> None:
    """A store of fields on a grid, with its coordinates."""
    _append(
        directory,
        (_variable("initial", ("x",), "K"),),
        (_variable("final", ("x",), "K"),),
        (Coordinate("x", (0.0, 0.5, 1.0), "m", "place"),),
        lambda i: {"initial": np.full(3, i), "final": np.full(3, -i)},
    )


def _append(
    directory: Path,
    inputs: tuple[Variable, ...],
    outputs: tuple[Variable, ...],
    coords: tuple[Coordinate, ...],
    values: Callable[[int], dict[str, Any]],
) -> None:
    if (directory / "store.json").exists():
        store = RecordStore.open(directory, "a", sync=False, flush_every=2)
    else:
        store = RecordStore.create(directory, inputs, outputs, coords=coords, provenance={}, sync=False, flush_every=2)
    with store:
        for i in range(len(store), 3):
            store.append(f"key {i}", values(i))


def windows(directory: Path) -> None:
    """A store of states in several shards."""
    values = np.random.default_rng(0).normal(270, 10, (13, *LAYOUT.grid.shape, 2)).astype(np.float32)
    times = np.datetime64("2001-01-01", "ns") + np.arange(13) * np.timedelta64(6, "h")
    states = Segment.of(LAYOUT.unstack(values, ("time",), {"time": times}))
    write_windows(directory, [states], LAYOUT, fingerprint="a", shard_bytes=5 * 192)
