"""Compares errors on neuraloperator's Darcy flow with its own example, at 16 and 32 points, in no more training time.

Both learn from the same 1,000 samples at 16 x 16 and are scored on the same 50 samples at 16 x 16 and at 32 x 32. The
example of the peer trains first, and Understudy stops after the same time, compilation included. Its network also
receives the solution by finite volumes on the same grid, whose own error is printed too; `--set model.coarse=none`
turns that off.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report
from data.errors import InputError

FILES = {"train": "darcy_train_16.pt", "16": "darcy_test_16.pt", "32": "darcy_test_32.pt"}
PEER = Path(__file__).with_name("darcy_peer.py")
#: Training samples that are set aside to select the best weights.
VALID = 50
#: Seconds of the training budget that are reserved for the work after the last step.
CLOSING_S = 5.0


def peer(python: Path, folder: Path, data: Path, threads: int, seed: int) -> tuple[str, float, dict[str, float], int]:
    """Train the peer: its name, training seconds, relative L2 errors by resolution and number of parameters.

    Raises:
        InputError: the peer is not installed.
    """
    if not python.exists():
        raise InputError(f"no {python}", where="--peers", remedy="Run `make peers-fluids`, or give --no-peers")
    folder.mkdir(parents=True, exist_ok=True)
    out, log = (folder / "peer.json").resolve(), (folder / "peer.log").resolve()
    line = [str(python), "-I", str(PEER), "--data", str(data.resolve()), "--seed", str(seed), "--out", str(out)]
    threads_of = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    with open(log, "wb") as file:
        done = subprocess.run(line, env=os.environ | threads_of, cwd=folder, stdout=file, stderr=file)
    if done.returncode:
        raise RuntimeError(f"the peer ended with status {done.returncode}; see {log}")
    scores = json.loads(out.read_text())
    errors = {str(n): float(e) for n, e in scores["relative_l2"].items()}
    return str(scores["version"]), float(scores["seconds"]), errors, int(scores["parameters"])


def ours(
    folder: Path, files: dict[str, Path], seconds: float | None, seed: int, overrides: Sequence[str]
) -> tuple[float, dict[str, float], int]:
    """Train ours: seconds with compilation, relative L2 errors by resolution, number of parameters.

    The errors of the coarse solver alone are under the keys "coarse 16" and "coarse 32".
    """
    import jax
    from flax import nnx
    from hydra import compose, initialize_config_dir

    from data.settings import build
    from experiments.application.choices import CONF
    from experiments.stages.train import task_of, train_on
    from surrogates.fields.scores import score_fields
    from surrogates.fields.surrogate import FieldSurrogate
    from surrogates.fields.task import FieldData
    from surrogates.learning.field_metrics import relative_l2
    from surrogates.learning.sample_task import SampleSets

    shutil.rmtree(folder, ignore_errors=True)
    settings = ["study=fluids/darcy", f"data.file={files['train']}", f"data.parts=[{1000 - VALID},{VALID},0,0]"]
    settings += [f"train.seed={seed}", f"data.seed={seed}", "train.mlflow=false", "train.checkpoint_every_s=null"]
    settings += [f"run.dir={folder}", *overrides]
    if seconds is not None:
        settings.append(f"train.max_seconds={max(1.0, seconds - CLOSING_S)}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", settings)
    from data.fields.field_reading import read_fields

    data = build(FieldData, config.data, where="data")
    reads = {
        name: read_fields(path, output=data.output, inputs=data.inputs, periodic=data.periodic, dims=data.dims)[0]
        for name, path in files.items()
    }
    start = time.perf_counter()
    train_on(task_of(config), SampleSets(reads["train"], {}), folder, progress=False)
    spent = time.perf_counter() - start
    surrogate = FieldSurrogate.load(folder / "surrogate")
    errors = {n: score_fields(surrogate, reads[n], "test")["test/relative_l2"] for n in ("16", "32")}
    coarse = surrogate.facts.coarse
    if coarse is not None:
        for n in ("16", "32"):
            answer = coarse.solve(reads[n].static[..., 0])[:, None, None]
            truth = np.moveaxis(reads[n].states, -1, 2)
            errors[f"coarse {n}"] = float(relative_l2(answer, truth))
    size = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(nnx.state(surrogate.model, nnx.Param)))
    return spent, errors, size


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "", ".venv-peers-fluids")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each program (%(default)s)")
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=None,
        help="time limit of our training, instead of the time that the peer took",
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of our configuration")
    parser.add_argument("--no-peers", action="store_true", help="run Understudy alone")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    files = {name: data_file(options.data, file, "fluids").resolve() for name, file in FILES.items()}
    base = options.out / "darcy"
    measurements: dict[str, list[float]] = {}
    name: str | None = None
    for seed in range(options.seeds):
        limit = options.max_seconds
        theirs: dict[str, float] = {}
        if not options.no_peers:
            name, seconds, theirs, parameters = peer(
                options.peers / "python", base / str(seed), files["train"].parent, len(cores), seed
            )
            limit = seconds if limit is None else limit
            for key, value in {"seconds": seconds, "parameters": float(parameters), **theirs}.items():
                measurements.setdefault(f"peer {key}", []).append(value)
        spent, errors, size = ours((base / str(seed) / "ours").resolve(), files, limit, seed, options.set)
        for key, value in {"seconds": spent, "parameters": float(size), **errors}.items():
            measurements.setdefault(key, []).append(value)
    middle = {key: float(np.median(values)) for key, values in measurements.items()}

    def beside(label: str, key: str, unit: str) -> Result:
        return Result.against(f"Darcy flow: {label}", middle[key], unit, name, middle.get(f"peer {key}"))

    results = [
        beside(f"relative L2 error at 16 x 16, median of {options.seeds}", "16", "1"),
        beside(f"relative L2 error at 32 x 32, median of {options.seeds}", "32", "1"),
        *(
            Result(f"Darcy flow: the coarse solver alone, {n} x {n}", middle[f"coarse {n}"], "1")
            for n in ("16", "32")
            if f"coarse {n}" in middle
        ),
        Result("Darcy flow: worst of these at 16 x 16", max(measurements["16"]), "1"),
        Result("Darcy flow: worst of these at 32 x 32", max(measurements["32"]), "1"),
        beside(f"training on {len(cores)} cores", "seconds", "s"),
        beside("parameters", "parameters", "1"),
    ]
    report("darcy", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
