"""Every JSON file and table of ours that is read again, with what reads it, for `broken_files`.

They are broken as if someone had edited them and written their checksums anew, or as if they came from a version that
wrote none: behind the checksums, the types and ranges of each value are what a reader goes by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.broken_files import FaultReader
from benchmarks.faults.mutations import CHANGES
from benchmarks.faults.own_files import make_screen, read_screen
from benchmarks.faults.small_surrogates import MAKERS, asked
from benchmarks.faults.stored_results import RESULTS, StoredResult
from data.checksums import SEAL, TABLE
from data.errors import InputError
from data.files import write_json
from data.plain import to_plain
from data.spec import SimulationError, Variable
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows
from data.splits import Split
from data.store.records import RecordStore
from experiments.application.run_directory import CONFIG
from experiments.application.stage_costs import Ledger
from experiments.application.yaml_files import read_yaml
from experiments.screening.ledger import LEDGER, Commit, ledger_line, read_ledger
from experiments.screening.ledger import Spent as ScreenSpent
from surrogates.learning import fit_note
from surrogates.learning.checkpointed import Progressed, read_progress
from surrogates.learning.checkpoints import load_arrays, save_arrays
from surrogates.learning.resuming import FILE as LEARNED_FROM
from surrogates.learning.resuming import record_training_data
from surrogates.saved import load_surrogate


def unsealed(directory: Path) -> None:
    """Remove the checksums of what lies in a directory and below, as no checksum tells what someone wrote anew."""
    for table in directory.rglob(TABLE):
        table.unlink()
    for path in directory.rglob("*.json*"):
        text = path.read_text()
        values = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [json.loads(text)]
        sealed = [value for value in values if isinstance(value, dict) and value.pop(SEAL, None) is not None]
        if sealed:
            path.write_text("".join(json.dumps(value) + "\n" for value in values))


@cache
def _small_surrogate(kind: str) -> Any:
    return MAKERS[kind]()


def _surrogate(kind: str, path: Path, _: int) -> None:
    _small_surrogate(kind).save(path)
    unsealed(path)


def _answer(kind: str, path: Path) -> object:
    surrogate = load_surrogate(path)
    try:
        answer = asked(surrogate, kind)
    except SimulationError as error:
        raise InputError(str(error), where=str(path)) from error
    wrong = [name for name, values in answer.items() if values.dtype.kind == "f" and not np.isfinite(values).all()]
    if wrong:
        raise AssertionError(f"{wrong} are not finite")
    return answer


def _json(name: str, value: Any, path: Path, _: int) -> None:
    write_json(path / name, value)
    unsealed(path)


def _checkpoint(path: Path, _: int) -> None:
    progress = to_plain(Progressed(3, 1, 2.0, 3.0, 0.5, 1, [{"epoch": 1.0}], {"loss": (1.0, 2.0)}))
    save_arrays(path, {"a": np.zeros(3)}, {"progress": progress, "config": {"seed": 0}})
    unsealed(path)


def _resumed(path: Path) -> object:
    return read_progress(path, {"seed": 0}, None, path), load_arrays(path, {"a": np.zeros(3)})


def _windows(path: Path, _: int) -> None:
    grid = WeatherGrid((-45.0, 45.0), (0.0, 90.0, 180.0, 270.0))
    layout = WeatherLayout(
        grid, (WeatherChannel("temperature", 0.5),), step_hours=24.0, level_units="1", calendar=False
    )
    states = 280 + np.random.default_rng(0).random((6, 2, 4, 1), np.float32)
    times = np.datetime64("2001-01-01", "ns") + np.arange(6) * np.timedelta64(24, "h")
    write_windows(
        path, [Segment.of(layout.unstack(states, ("time",), {"time": times}))], layout, fingerprint="f" * 64,
        seconds_per_step=2.0, label_core_seconds=250.0,
    )  # fmt: skip
    unsealed(path)


def _states(path: Path) -> object:
    store = WindowStore.open(path)
    return store.read(store.starts(2), 2)


def _store(path: Path, _: int) -> None:
    variables = (Variable("x", (), "m", "float64", "x"),), (Variable("y", ("axis",), "m", "float64", "y"),)
    with RecordStore.create(path, *variables, provenance={"simulator": "none", "fingerprint": "f"}) as store:
        store.append("a", {"x": 1.0, "y": np.zeros(3)}, seconds=1.0)
    unsealed(path)


def _records(path: Path) -> object:
    store = RecordStore.open(path)
    return [store.column(name) for name in (*store.inputs, *store.outputs)]


def _screen(path: Path, _: int) -> None:
    path.mkdir(parents=True)
    commit = Commit(0, 10, 1, {"read": 3, "valid": 2}, dict.fromkeys(ScreenSpent.__dataclass_fields__, 1.0))
    (path / LEDGER).write_bytes(ledger_line(commit))
    unsealed(path)


def _whole_screen(path: Path, _: int) -> None:
    make_screen(path)
    unsealed(path)


def _config(path: Path, _: int) -> None:
    path.mkdir(parents=True)
    (path / CONFIG).write_text(json.dumps({"stage": "train", "train": {"epochs": 3, "seed": 0}, "data": [1, 2]}))


def _result(one: StoredResult, path: Path, _: int) -> None:
    one.make(path)
    unsealed(path)


def _reader(name: str, part: str, make: Callable[[Path, int], None], read: Callable[[Path], object]) -> FaultReader:
    return FaultReader(name, "kept", make, read, part, CHANGES)


_COSTS = [{"stage": "labels", "item": "molecule", "items": 3, "wall_seconds": 1.0, "core_seconds": 2.0}]
#: Name -> reader of a file of ours.
STORED: Mapping[str, FaultReader] = {
    reader.name: reader
    for reader in (
        *(_reader(f"{k}_card", "surrogate.json", partial(_surrogate, k), partial(_answer, k)) for k in MAKERS),
        _reader("weights_note", "note.json", partial(_surrogate, "parameters"), partial(_answer, "parameters")),
        _reader("checkpoint_note", "note.json", _checkpoint, _resumed),
        _reader("costs", "costs.json", partial(_json, "costs.json", _COSTS), lambda path: Ledger(path / "costs.json")),
        _reader(
            "split", "split.json", partial(_json, "split.json", {"train": [0, 1], "test": [2]}),
            lambda path: Split.load(path / "split.json"),
        ),
        _reader(
            "fit", fit_note.FILE, partial(_json, fit_note.FILE, {"seconds": 1.0, "core_seconds": 2.0, "epochs": 3}),
            fit_note.fit_metrics,
        ),
        _reader(
            "learned_from", LEARNED_FROM, partial(_json, LEARNED_FROM, {"training part": "ab"}),
            lambda path: record_training_data(path, {"training part": "ab"}, begun=True),
        ),
        _reader("windows", "windows.json", _windows, _states),
        _reader("store", "store.json", _store, _records),
        _reader("screen_ledger", LEDGER, _screen, read_ledger),
        _reader("screen", "screen.json", _whole_screen, read_screen),
        *(
            FaultReader(name, "kept", partial(_result, one), one.read, one.file, CHANGES if one.json else ())
            for name, one in RESULTS.items()
        ),
        _reader("config", CONFIG, _config, lambda path: read_yaml(path / CONFIG, remedy="Name another run.dir")),
    )
}  # fmt: skip
