"""Small commands, as a user types them, that `random_kills` kills at any moment, and what each leaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.trials import State

#: Words in keys of metrics that name a measurement of this machine at this moment.
MEASURED = ("second", "rate", "memory", "bytes", "hours", "cost", "speed", "usd", "per_s")


@dataclass(frozen=True)
class FaultCommand:
    """A command and what is compared of it.

    Attributes:
        arguments: of the command, from the folder with the inputs and the one to write to.
        state: of what it left: name -> something that is equal where the result is.
    """

    arguments: Callable[[Path, Path], list[str]]
    state: Callable[[Path], State]


def inputs(folder: Path) -> str:
    """Write the files that the commands read; their folder."""
    from benchmarks.faults.small_surrogates import properties

    smiles = ["CCO", "CC=O", "CCC", "OCC=O", "CC(C)O", "C1CC", "CCCO", "CC(=O)C", "OCCO", "C"]
    (folder / "candidates.smi").write_text("".join(f"{smiles[i % 10]} m{i}\n" for i in range(20_000)))
    chains = [a + b + c for a in ("C", "N", "O") for b in ("C", "CC", "C(C)", "C=C") for c in ("C", "O", "N", "CC")]
    rows = "".join(f"{text},{len(text)}.0\n" for text in chains)
    (folder / "labels.csv").write_text(f"smiles,heavy\n{rows}C1CC,3.0\n")
    (folder / "few.smi").write_text("".join(f"{text}\n" for text in chains[:24]))
    properties().save(folder / "surrogate")
    _states().to_netcdf(folder / "states.nc", engine="scipy")
    return str(folder)


def _states() -> Any:
    import xarray as xr

    dims, times = ("time", "latitude", "longitude"), np.arange(400) * np.timedelta64(6, "h")
    latitude, longitude = np.linspace(80, -80, 9), np.arange(16) * 22.5
    values = 280 + np.random.default_rng(0).normal(size=(len(times), len(latitude), len(longitude))).astype(np.float32)
    coords = {"time": np.datetime64("2020-01-01", "ns") + times, "latitude": latitude, "longitude": longitude}
    data = xr.Dataset({"t2m": (dims, values, {"units": "K"})}, coords)
    for name, units in (("latitude", "degrees_north"), ("longitude", "degrees_east")):
        data[name].attrs["units"] = units
    return data


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode("utf-8", "backslashreplace")).hexdigest()


def _bytes(directory: Path, *names: str) -> dict[str, str]:
    return {name: _digest((directory / name).read_bytes()) for name in names}


def _measured(name: str) -> bool:
    return any(word in name for word in MEASURED)


def _metrics(path: Path) -> dict[str, str]:
    """Each number of a result that is none of the machine's."""
    values: Mapping[str, object] = json.loads(path.read_text())
    return {name: repr(value) for name, value in values.items() if not _measured(name)}


def _store(directory: Path) -> dict[str, str]:
    """The records by key; a key twice is no result of one run."""
    from data.store.records import RecordStore

    with RecordStore.open(directory / "labels.zarr") as store:
        records = list(store.records(None))
    state = {"keys": str(len(records)), "distinct keys": str(len({key for key, _ in records}))}
    for key, record in records:
        values = {n: np.asarray(v).tolist() for n, v in record.items() if n != "log" and not _measured(n)}
        state[key] = _digest(sorted(values.items()))
    return state


def _library(directory: Path) -> dict[str, str]:
    from data.molecules.library import PreparedLibrary, read_part

    library = PreparedLibrary.open(directory)
    parts = [read_part(directory, part) for part in library.parts]
    table = [(p.text.tobytes(), p.lines.tolist(), p.table.atoms.tolist(), p.table.bonds.tolist()) for p in parts]
    return {"table": _digest(table), **_bytes(directory, "rejects.csv"), **_metrics(directory / "metrics.json")}


def _screen(directory: Path) -> dict[str, str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from experiments.screening.ledger import result_parts

    # The threads that parse decide which row is in which part, not what is in it.
    rows = pa.concat_tables([pq.read_table(part) for part in result_parts(directory)]).sort_by("line")
    state = {"rows": _digest(rows.to_pydict()), **_bytes(directory, "rejects.csv", "top.csv")}
    return state | _metrics(directory / "metrics.json")


def _training(directory: Path) -> dict[str, str]:
    from benchmarks.faults.small_surrogates import asked
    from surrogates.saved import load_surrogate

    surrogate = load_surrogate(directory / "surrogate")
    answers = {name: values.tolist() for name, values in asked(surrogate, "properties").items()}
    state = {"answers": _digest(answers), **_bytes(directory, "split.json", "rejects.csv")}
    epochs = [json.loads(line)["epoch"] for line in (directory / "train.jsonl").read_text().splitlines()]
    return state | {"epochs": str(epochs)} | _metrics(directory / "metrics.json")


def _windows(directory: Path) -> dict[str, str]:
    from data.sphere.window_store import WindowStore

    store = WindowStore.open(directory)
    data = store.dataset()
    arrays = [(str(name), data[name].values.tolist()) for name in data.variables]
    return {"arrays": _digest(arrays), "facts": _digest([store.layout, store.statistics, store.times.tolist()])}


#: Name of a stage -> what is killed.
COMMANDS: Mapping[str, FaultCommand] = {
    "simulate": FaultCommand(
        lambda input_folder, out: [
            "simulate", f"inputs={input_folder}/few.smi", "simulator=xtb", "campaign.workers=1", f"run.dir={out}",
        ],
        _store,
    ),
    "prepare": FaultCommand(
        lambda input_folder, out: [
            "prepare", f"candidates={input_folder}/candidates.smi", f"out={out}", "workers=1", f"run.dir={out}-run",
        ],
        _library,
    ),
    "screen": FaultCommand(
        lambda input_folder, out: [
            "screen", f"surrogate={input_folder}/surrogate", f"candidates={input_folder}/candidates.smi", f"out={out}",
            "top_k=5", "workers=1",
        ],
        _screen,
    ),
    "train": FaultCommand(
        lambda input_folder, out: [
            "train", "task=molecules/properties", f"data.file={input_folder}/labels.csv", "data.target=heavy",
            "data.split=random", "train.epochs=6", "train.mlflow=false", "train.checkpoint_every_s=0.05",
            "model.network.features=4", "model.network.layers=1", "model.network.readout=4",
            "model.ensemble=1", "model.buckets=1", f"run.dir={out}",
        ],
        _training,
    ),
    "windows": FaultCommand(
        lambda input_folder, out: [
            "windows", f"source.path={input_folder}/states.nc", "source.static=[]", f"out={out}", f"run.dir={out}-run",
        ],
        _windows,
    ),
}  # fmt: skip
