"""Training by several processes on one machine against one: equal results, cost, stops and kills.

`python -m benchmarks.multi_process [--processes 4] [--devices 2] [--tries 4]` runs `understudy train` with virtual CPU
devices (`--xla_force_host_platform_device_count`). Each interruption comes after a random number of epochs to one of
the processes; the same command then resumes, and its surrogate is compared with that of the uninterrupted training.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from flax import nnx

from data.files import write_text
from data.processes.processor import tree_seconds
from data.terminal import columns_table, print_table
from surrogates.saved import load_surrogate

EPOCHS = 6
#: Seconds after which processes that still run count as hanging.
HANGING_S = 600.0
COMMON = ("train.checkpoint_every_s=0", "train.mlflow=false", f"train.epochs={EPOCHS}")


@dataclass(frozen=True)
class TrainingKind:
    """A training of some kind of surrogate.

    Attributes:
        name: word of the kind.
        arguments: those of `understudy train`.
    """

    name: str
    arguments: tuple[str, ...]


def kinds(folder: Path) -> list[TrainingKind]:
    """Trainings of properties and of fields, whose data are written to a folder."""
    generator = np.random.default_rng(0)
    ends = ["C", "N", "O", "C(C)", "C(=O)"]
    smiles = list(dict.fromkeys("C" + "".join(generator.choice(ends, 4)) for _ in range(900)))[:240]
    rows = [f"{s},{sum(c in 'CNO' for c in s)}" for s in smiles]
    write_text(folder / "labels.csv", "smiles,heavy\n" + "\n".join(rows) + "\n")
    properties = (
        "task=molecules/properties", f"data.file={folder / 'labels.csv'}", "data.target=heavy", "model.buckets=1",
        "model.network.features=16", "model.network.layers=1", "model.ensemble=2", "data.parts=[0.6,0.1,0.2,0.1]",
    )  # fmt: skip
    x = np.arange(16) / 16
    size, phase = generator.uniform(0.5, 1.5, (2, 120, 1))
    wave = size * np.sin(2 * np.pi * x + phase)
    fields = {"a": (("sample", "x"), wave), "u": (("sample", "x"), np.roll(wave, 2, axis=1) ** 2)}
    space = {"x": ("x", x, {"units": "m", "long_name": "position"})}
    data = xr.Dataset(fields, coords=space, attrs={"boundary_conditions": "periodic"})
    for name in fields:
        data[name].attrs = {"units": "1", "long_name": name}
    data.to_netcdf(folder / "fields.nc", engine="h5netcdf")
    waves = (
        "task=fluids/fields", f"data.file={folder / 'fields.nc'}", "data.output=u", "data.inputs=[a]",
        "train.batch_size=16", "model.network.width=8", "model.network.layers=1", "model.network.modes=[4]",
    )  # fmt: skip
    return [TrainingKind("properties", properties), TrainingKind("fields", waves)]


def start(kind: TrainingKind, run_dir: Path, processes: int, devices: int) -> list[subprocess.Popen[str]]:
    """Start all processes of a training."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "understudy", "train", *kind.arguments, *COMMON, f"run.dir={run_dir}"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    several = ["devices.distributed=true", f"devices.coordinator=127.0.0.1:{port}", f"devices.processes={processes}"]
    more = [[]] if processes == 1 else [[*several, f"devices.process={k}"] for k in range(processes)]
    return [
        subprocess.Popen(
            [*command, *one], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for one in more
    ]


def wait_for_end(members: Sequence[subprocess.Popen[str]]) -> tuple[list[int | None], list[str]]:
    """Exit statuses (None for a process that hung and was killed) and what was written to standard error."""
    statuses: list[int | None] = []
    texts = []
    deadline = time.monotonic() + HANGING_S
    for member in members:
        try:
            _, text = member.communicate(timeout=max(1.0, deadline - time.monotonic()))
            statuses.append(member.returncode)
        except subprocess.TimeoutExpired:
            member.kill()
            _, text = member.communicate()
            statuses.append(None)
        texts.append(text)
    return statuses, texts


def weights(run_dir: Path) -> list[np.ndarray]:
    """The arrays of a surrogate."""
    model: Any = load_surrogate(run_dir / "surrogate")
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model.model, nnx.Param))]


def largest_difference(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    """The largest difference of two lists of arrays, relative to the largest entry of each array."""
    return max(float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-30)) for x, y in zip(a, b, strict=True))


def epochs_made(run_dir: Path) -> int:
    """Epochs in the history of a run."""
    path = run_dir / "train.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def interrupt(
    kind: TrainingKind, run_dir: Path, options: argparse.Namespace, number: int, process: int
) -> dict[str, Any]:
    """Send a signal to one process after a random number of epochs, and say how all ended."""
    at = random.Random(f"{run_dir.name}").randint(1, EPOCHS - 2)
    members = start(kind, run_dir, options.processes, options.devices)
    while epochs_made(run_dir) < at and all(member.poll() is None for member in members):
        time.sleep(0.01)
    members[process].send_signal(number)
    statuses, texts = wait_for_end(members)
    others = [k for k in range(options.processes) if k != process]
    is_named = all(any(f"Process {process} (" in line for line in texts[k].splitlines()) for k in others)
    return {"statuses": statuses, "named": is_named, "texts": texts}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--devices", type=int, default=2, help="virtual devices of each process")
    parser.add_argument("--tries", type=int, default=4, help="interruptions of each sort, of one process after another")
    parser.add_argument("--only", choices=("properties", "fields"))
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    options = parser.parse_args()
    numbers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="understudy-processes-") as text:
        folder = Path(text)
        for kind in kinds(folder):
            if options.only in (None, kind.name):
                numbers[kind.name] = compare(kind, folder / kind.name, options)
    if options.out is not None:
        write_text(options.out, json.dumps(numbers, indent=1))


def compare(kind: TrainingKind, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One training by one process and by several, and the latter interrupted."""
    folder.mkdir()
    core = {}
    for name, processes, devices in (
        ("one", 1, options.processes * options.devices),
        ("several", options.processes, options.devices),
    ):
        before = tree_seconds()
        statuses, texts = wait_for_end(start(kind, folder / name, processes, devices))
        core[name] = tree_seconds() - before
        if any(statuses):
            raise SystemExit(f"{kind.name}, {name}: {statuses}\n{texts}")
    difference = largest_difference(weights(folder / "several"), weights(folder / "one"))
    rows: list[tuple[str, ...]] = [
        ("largest relative difference of a weight", f"{difference:.2g}"),
        ("core-s of one process", f"{core['one']:.1f}"),
        (f"core-s of {options.processes} processes", f"{core['several']:.1f}"),
    ]
    numbers: dict[str, Any] = {"difference": difference, **core}
    whole = weights(folder / "several")
    for word, number in (("SIGTERM", signal.SIGTERM), ("SIGKILL", signal.SIGKILL)):
        tally = {"all ended": 0, "process named": 0, "resumed bit for bit": 0}
        for turn in range(options.tries):
            process = turn % options.processes
            run_dir = folder / f"{word}-{turn}"
            one = interrupt(kind, run_dir, options, number, process)
            others = [s for k, s in enumerate(one["statuses"]) if word == "SIGTERM" or k != process]
            tally["all ended"] += all(status == 130 for status in others)
            tally["process named"] += one["named"] or word == "SIGTERM"
            if not all(status == 130 for status in others) or (word == "SIGKILL" and not one["named"]):
                print(word, process, one["statuses"], *(t[-600:] for t in one["texts"]), sep="\n  ", file=sys.stderr)
            statuses, _ = wait_for_end(start(kind, run_dir, options.processes, options.devices))
            same = not any(statuses) and all(
                a.tobytes() == b.tobytes() for a, b in zip(weights(run_dir), whole, strict=True)
            )
            tally["resumed bit for bit"] += same
        numbers[word] = {"tries": options.tries, **tally}
        rows += [(f"{word} to one process: {name}", f"{count} of {options.tries}") for name, count in tally.items()]
    print_table(columns_table(kind.name, ("what", "value"), rows))
    return numbers


if __name__ == "__main__":
    main()
