"""Small runs of everything that makes a directory, for `kills`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.faults.kills import tree
from data.spec import Coordinate, Variable
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows
from data.store.records import RecordStore

NAMES = ("records", "fields", "windows", "prepared", "screen", "run", "checkpoints", "forecasts", "command")
LAYOUT = WeatherLayout(
    WeatherGrid((-60.0, -20.0, 20.0, 60.0), tuple(np.arange(6) * 60.0)),
    (WeatherChannel("temperature", 500.0), WeatherChannel("2m_temperature")),
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
    _windows(directory, 13)


def _windows(directory: Path, count: int) -> WindowStore:
    values = np.random.default_rng(0).normal(270, 10, (count, *LAYOUT.grid.shape, 2)).astype(np.float32)
    times = np.datetime64("2001-01-01", "ns") + np.arange(count) * np.timedelta64(6, "h")
    states = Segment.of(LAYOUT.unstack(values, ("time",), {"time": times}))
    return write_windows(directory, [states], LAYOUT, fingerprint="a", shard_bytes=5 * 192)


class _Parser:
    """Parses where it is: the processes of a `ParserPool` write nothing."""

    workers = 1

    def __init__(self, *_: object, **__: object) -> None: ...

    def submit(self, chunk: Any) -> Future[Any]:
        from experiments.screening.candidate_chunks import encode_chunk

        future: Future[Any] = Future()
        future.set_result(encode_chunk(chunk))
        return future

    def close(self) -> None: ...


def prepared(directory: Path) -> None:
    """A prepared library of three parts, with rows that are no molecules."""
    from experiments.screening import library_writing as preparing

    candidates = directory.parent.parent / "candidates.smi"
    if not candidates.exists():
        candidates.write_text("".join(f"{'C' * n if n % 4 else 'what'} {n}\n" for n in range(1, 13)))
    with mock.patch.multiple(preparing, ParserPool=_Parser, PART_ROWS=3, CHUNK_ROWS=2):
        preparing.prepare(candidates, directory, progress=False)


def screen(directory: Path) -> None:
    """The results of a screen in three parts, one of which has no candidate, and the best of them."""
    import pyarrow as pa

    from data.claim import claim
    from experiments.screening.candidate_chunks import Reject
    from experiments.screening.ledger import Commit, Spent, Tally
    from experiments.screening.sink import Sink

    with claim(directory, "screen"):
        sink = Sink(directory, {"surrogate": "a"}, "candidates.smi", "zstd")
        for part in range(len(sink.commits), 3):
            line = np.arange(3) + 3 * part
            interval = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(6, np.float32)), 2)
            numbers = {name: line.astype(np.float32) for name in ("score", "prediction", "std")}
            columns = {"line": line, "smiles": ["C", "CC", "\u00e9"], **numbers, "interval": interval}
            batch = pa.RecordBatch.from_pydict({name: pa.array(column) for name, column in columns.items()})
            entry = Commit.of(part, part, part, Tally(), Spent(), complete=part == 2)
            sink.commit([batch] if part != 1 else [], [Reject(part, "\udc80\0", "no molecule")], entry)
        sink.wait()
        sink.write_top(sink.top(2))
        sink.close()


def run(directory: Path) -> None:
    """A run of a stage: claimed, its configuration and what it learns from written, then its results."""
    from omegaconf import OmegaConf

    from data.files import write_json
    from data.rejects import RejectLog
    from experiments.application.run_directory import configuration_checked, run_directory
    from surrogates.learning.resuming import record_training_data

    config = OmegaConf.create({"stage": "train", "run": {"dir": str(directory)}, "seed": 1})
    first = mock.patch("surrogates.learning.devices.is_first", return_value=True)
    with first, run_directory(config, directory, "train") as run_dir:
        with RejectLog(run_dir / "rejects.csv") as rejects:
            rejects.add("labels.csv", 3, "\udc80", "no molecule")
        configuration_checked(run_dir)
        with mock.patch("surrogates.learning.resuming.is_first", return_value=True):
            record_training_data(run_dir, {"training part": "a"})
        write_json(run_dir / "metrics.json", {"train/loss": 1.0})


def state_of_run(directory: Path) -> dict[str, bytes]:
    """All but the name of the directory in the configuration."""
    return {name: content.replace(str(directory).encode(), b"") for name, content in tree(directory).items()}


def checkpoints(directory: Path) -> None:
    """Checkpoints as a training leaves them: the last two of four."""
    from data.files import sweep
    from surrogates.learning.checkpoints import drop_others, save_arrays

    sweep(directory)
    names = [path.name for path in directory.glob("*")] if directory.is_dir() else []
    for step in range(max(map(int, names), default=0), 5):
        save_arrays(directory / f"{step:09d}", {"w": np.full(3, float(step))}, {"step": step})
        drop_others(directory, f"{step:09d}")


def state_of_checkpoints(directory: Path) -> dict[str, bytes]:
    """The arrays of each, which are verified; Orbax gives names at random."""
    from surrogates.learning.checkpoints import load_arrays

    like = {"w": np.zeros(3)}
    return {path.name: load_arrays(path, like)["w"].tobytes() for path in sorted(directory.iterdir())}


def forecasts(directory: Path) -> None:
    """Two forecasts of two leads, streamed to Zarr."""
    from surrogates.forecasts import streaming

    beside = directory.parent.parent / "windows"
    store = WindowStore.open(beside) if beside.exists() else _windows(beside, 5)

    def chunks(past: np.ndarray, *_: object, **__: object) -> list[np.ndarray]:
        return [np.repeat(past[:, None], 2, axis=2)]

    forecaster: Any = SimpleNamespace(
        layout=LAYOUT, fingerprint="f", history=1, facts=None, chunks=chunks, refuse_members=lambda members: None
    )
    with mock.patch.object(streaming, "refuse_other_times"):
        streaming.forecast_to_zarr(forecaster, store, np.array([1, 2]), 2, directory)
    streaming.verify_forecasts(directory)


def command(directory: Path) -> None:
    """`understudy prepare`, from the directory of its run to its last file."""
    from experiments.cli import main
    from experiments.screening import library_writing as preparing

    candidates = directory.parent.parent / "candidates.smi"
    if not candidates.exists():
        candidates.write_text("CCO 1\nwhat 2\nCCC 3\n")
    with mock.patch.object(preparing, "ParserPool", _Parser):
        status = main(["prepare", f"candidates={candidates}", f"out={directory}/out", f"run.dir={directory}/run"])
    if status:
        raise RuntimeError(f"status {status}")


def state_of_command(directory: Path) -> dict[str, bytes]:
    """All but times and the name of the directory."""
    timed = ("log.txt", "metrics.json")
    return {
        name: b"" if name.endswith(timed) else content.replace(str(directory).encode(), b"")
        for name, content in tree(directory).items()
    }
