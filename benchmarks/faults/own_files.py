"""Everything that this project writes and reads again, as small as it comes, for `flips` and `cards` to damage."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.errors import InputError
from data.files import listed_path, write_json


@dataclass(frozen=True)
class FileKind:
    """What is written and read again.

    Attributes:
        name: of it.
        make: writes it to a directory.
        read: all that depends on it, as something that `repr` tells apart.
    """

    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]


def kinds() -> tuple[FileKind, ...]:
    """Everything that is made in a moment, without a training."""
    return (
        FileKind("files of a run", _make_run, _read_run),
        FileKind("screen", make_screen, read_screen),
        FileKind("windows", _make_windows, _read_windows),
        FileKind("store of records", _make_store, _read_store),
        FileKind("prepared library", make_library, read_library),
        FileKind("checkpoint", _make_checkpoint, _read_checkpoint),
        FileKind("surrogate", _make_surrogate, _read_surrogate),
        FileKind("round of active learning", _make_round, _read_round),
    )


def _make_run(path: Path) -> None:
    from data.splits import Split

    Split.of({"train": [3, 1, 2], "test": [12, 17]}).save(path / "split.json")
    write_json(path / "metrics.json", {"test/mae_ev": 0.0234, "train/seconds": 1234.5})
    write_json(path / "costs.json", [{"stage": "labels", "item": "molecule", "items": 17, "core_seconds": 8.25}])
    write_json(path / "learned_from.json", {"training part": "a1b2", "network": "c3d4"})
    with listed_path(path / "evaluation.parquet") as temporary:
        import pandas as pd

        pd.DataFrame({"smiles": ["C", "CC"], "gap": [0.25, 0.5]}).to_parquet(temporary)


def _read_run(path: Path) -> object:
    import pandas as pd

    from data.checksums import verify
    from data.splits import Split
    from experiments.application.stage_costs import Ledger
    from experiments.pages.run_files import RunReader, _metrics
    from surrogates.learning.resuming import record_training_data

    record_training_data(path, {"training part": "a1b2", "network": "c3d4"}, begun=True)
    verify(path / "evaluation.parquet")
    parts = {name: rows.tolist() for name, rows in Split.load(path / "split.json").parts.items()}
    frame = pd.read_parquet(path / "evaluation.parquet")
    reader = RunReader(path)
    metrics = reader.read("metrics.json", _metrics, None)
    if reader.absent:
        raise InputError(str(reader.absent))
    return parts, Ledger(path / "costs.json").costs, frame.to_dict(), metrics


def make_screen(path: Path) -> None:
    """A finished screen of three parts of twenty rows, each with a rejected row."""
    from experiments.screening.candidate_chunks import Reject
    from experiments.screening.ledger import Commit, Spent, Tally

    sink = open_sink(path)
    best = sink.top(3)
    for part in range(3):
        lines = np.arange(20 * part, 20 * part + 20)
        numbers = np.random.default_rng(part).normal(size=(2, 20)).astype(np.float32)
        ends = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(numbers[0], 2)), 2)
        batch = pa.RecordBatch.from_pydict(
            {
                "line": pa.array(lines), "smiles": pa.array([f"C{'C' * int(i)}" for i in lines]),
                "prediction": pa.array(numbers[0]), "std": pa.array(np.abs(numbers[1])), "interval": ends,
                "in_domain": pa.array(np.ones(20, bool)), "score": pa.array(numbers[0]),
            }
        )  # fmt: skip
        best.add(batch)
        total = Tally(20 * part + 20, 20 * part + 20)
        rejects = [Reject(20 * part, "C1CC", "ring is not closed")]
        sink.commit([batch], rejects, Commit.of(part, 100 * part, 20 * part + 20, total, Spent(1.0, 2.0)))
    sink.wait()
    sink.write_top(best)
    sink.commit([], [], Commit.of(3, 300, 60, Tally(60, 60), Spent(1.0, 2.0), complete=True))
    sink.wait()
    sink.close()
    write_json(path / "metrics.json", {"screen/molecules": 60.0})


def open_sink(path: Path) -> Any:
    """The output directory that `make_screen` writes to."""
    from experiments.screening.sink import Sink

    return Sink(path, {"surrogate": "a1b2", "candidates": {"bytes": 1234}}, "library.smi", "zstd")


def read_screen(path: Path) -> object:
    """What a command that finds it there goes on from, and what a page shows of it."""
    import pyarrow.parquet as pq

    from data.checksums import verify
    from experiments.screening.ledger import result_parts, verified_rejects

    parts = [pq.read_table(part).to_pydict() for part in result_parts(path)]
    rejects = verified_rejects(path).read_bytes()
    for name in ("top.parquet", "top.csv"):
        verify(path / name)
    top = pq.read_table(path / "top.parquet").to_pydict(), (path / "top.csv").read_bytes()
    copy = Path(tempfile.mkdtemp())
    try:
        # It may cut off what it takes for a line that a kill left short.
        shutil.copytree(path, copy, dirs_exist_ok=True)
        try:
            sink = open_sink(copy)
        except InputError as error:
            raise InputError(error.problem, where=str(error.where).replace(str(copy), str(path))) from error
        sink.close()
        return parts, rejects, top, sink.commits
    finally:
        shutil.rmtree(copy)


def _make_windows(path: Path) -> None:
    import xarray as xr

    from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
    from data.sphere.writing import Segment, write_windows

    grid = WeatherGrid((-45.0, 45.0), (0.0, 120.0, 240.0))
    layout = WeatherLayout(grid, (WeatherChannel("2m_temperature"),), static=("land_sea_mask",), step_hours=6.0)
    times = np.datetime64("2001-01-01", "ns") + np.arange(9) * np.timedelta64(6, "h")
    dims = ("time", "latitude", "longitude")
    coords = {"time": times, "latitude": list(grid.latitude), "longitude": list(grid.longitude)}
    values = np.random.default_rng(0).normal(280.0, 5.0, (9, 2, 3)).astype(np.float32)
    states = xr.Dataset({"2m_temperature": (dims, values)}, coords)
    static = xr.Dataset({"land_sea_mask": (dims[1:], np.ones((2, 3), np.float32))}, {k: coords[k] for k in dims[1:]})
    write_windows(path, [Segment.of(states)], layout, static=static, fingerprint="a1b2", shard_bytes=100)


def _read_windows(path: Path) -> object:
    from data.sphere.window_store import WindowStore

    store = WindowStore.open(path)
    data = store.dataset()
    arrays = [data[name].values.tolist() for name in data.variables]
    facts = [store.layout, store.statistics, store.times.tolist(), store.segments, store.fingerprint]
    return arrays, facts, store.static.tolist()


def _make_store(path: Path) -> None:
    from data.spec import Coordinate, Variable
    from data.store.records import RecordStore

    inputs = [Variable("numbers", ("atom",), "1", "int64", "atomic numbers")]
    outputs = [Variable("energy", (), "eV", "float64", "energy"), Variable("field", ("x",), "m/s", "float32", "field")]
    axis = Coordinate("x", (0.0, 0.5, 1.0), "m", "place")
    facts = {"simulator": "test", "version": "1", "fingerprint": "a1b2"}
    store = RecordStore.create(path, inputs, outputs, coords=[axis], provenance=facts, flush_every=5)
    for i in range(8):
        values = {"numbers": np.arange(1, 2 + i % 3), "energy": -1.5 * i, "field": np.full(3, i, np.float32)}
        store.append(f"request {i}", values, seconds=0.5, threads=1)
    # As after a kill: five records are folded, three are in the journal.
    store._journal, journal = None, store._journal
    assert journal is not None
    journal.close()
    if store._lock is not None:
        store._lock.close()


def _read_store(path: Path) -> object:
    from data.store.records import RecordStore

    with RecordStore.open(path) as store:
        data = store.dataset()
    return {str(n): (v.dims, v.attrs, v.values.tolist()) for n, v in data.variables.items()}, data.attrs, len(store)


def make_library(path: Path) -> None:
    """A prepared library of eight molecules, of which one row was rejected."""
    from experiments.screening.library_writing import prepare

    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.parent / f"{path.name}.smi"
    source.write_text("".join(f"{'C' * n}O\n" for n in range(1, 9)) + "C1CC\n")
    prepare(source, path, workers=1, progress=False)


def read_library(path: Path) -> object:
    """All arrays of a prepared library."""
    from data.checksums import verify
    from data.molecules.library import PreparedLibrary, read_part

    library = PreparedLibrary.open(path)
    verify(path / "rejects.csv")
    parts = [read_part(path, part) for part in library.parts]
    arrays = [(p.text.tobytes(), p.lines.tolist(), p.table.atoms.tolist(), p.table.bond_atoms.tolist()) for p in parts]
    return arrays, library.source, library.rejected


def _make_checkpoint(path: Path) -> None:
    from surrogates.learning.checkpoints import save_arrays

    tree = {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4), "step": np.array(7)}
    save_arrays(path, tree, {"progress": {"epoch": 7, "seconds": 12.5}, "config": {"seed": 3}})


def _read_checkpoint(path: Path) -> object:
    from surrogates.learning.checkpoints import load_arrays, read_note

    like = {"kernel": np.zeros((3, 4), np.float32), "step": np.array(0)}
    note = read_note(path)
    return note, {name: leaf.tolist() for name, leaf in load_arrays(path, like).items()}


def _make_surrogate(path: Path) -> None:
    from benchmarks.faults.small_surrogates import properties

    properties().save(path)


def _read_surrogate(path: Path) -> object:
    from surrogates.saved import load_surrogate

    surrogate = load_surrogate(path)
    return surrogate.fingerprint, surrogate.facts


def _make_round(path: Path) -> None:
    from data.structures.structures import Structures
    from experiments.active.batch import AUDIT, CHOSEN, Batch

    positions = np.random.default_rng(0).normal(size=(3, 3))
    frames = Structures.from_arrays([np.array([8, 1, 1])], [positions], [-1.5], [np.zeros((3, 3))])
    frames = Structures.concatenate([frames, frames])
    Batch(frames, np.array([CHOSEN, AUDIT]), np.array([0.1, 0.2]), 50, 0.25, 0.5).save(path / "batch.npz")


def _read_round(path: Path) -> object:
    from experiments.active.batch import Batch

    batch = Batch.load(path / "batch.npz")
    return batch.frames.positions.tolist(), batch.frames.energy.tolist(), batch.role.tolist(), batch.explored
