"""The pairs of `benchmarks.rung_pairs` whose samples are fields: Darcy flow, and the Kuramoto-Sivashinsky equation."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import data_file
from benchmarks.pair import Pair

#: Samples of Darcy flow that are learned from, and those of the training on more labels.
FEW, ALL = 200, 950
#: Trajectories of the Kuramoto-Sivashinsky equation; a tenth of them is tested.
TRAJECTORIES = 100
STORE = "trajectories.zarr"
#: The box and the time between states, and of each rung the grid points and the time step.
BOX = ("simulator.length=32", "simulator.save_dt=1.0")
GRIDS = ((20, 0.25), (28, 0.25))


def darcy(options: Namespace, folder: Path) -> list[Pair]:
    """neuraloperator's Darcy flow at 16 x 16 points, tested there and at 32 x 32."""
    train, *tests = (
        data_file(options.data, f"darcy_{name}.pt", "fluids").resolve() for name in ("train_16", "test_16", "test_32")
    )
    errors = {
        f"relative L2 at {points} x {points}": (f"test/{path.stem}/relative_l2", "%", 100.0)
        for points, path in zip((16, 32), tests, strict=True)
    }
    settings = [
        "study=fluids/darcy", f"data.file={train}", f"data.test=[{tests[0]},{tests[1]}]",
        "model.coarse=none", f"data.parts=[{FEW},50,0,0]", "train.max_seconds=null", "train.checkpoint_every_s=null",
    ]  # fmt: skip
    return [
        Pair(
            f"Darcy flow, {FEW} labels",
            "coarse",
            options.epochs or 40,
            settings,
            errors,
            line=partial(_coarse_alone, tests[0]),
            line_name="finite volumes alone",
            more={f"{ALL} labels": [f"data.parts=[{ALL},50,0,0]"]},
            uncounted=partial(_coarse_cost, train),
            answer=partial(_answer_s, lambda _: _darcy_samples(tests[0])),
        )
    ]


def _darcy_samples(path: Path) -> Any:
    from data.fields.field_reading import read_fields

    return read_fields(path, output="field_y", inputs=["field_x"], periodic=False, dims=["sample", "x", "y"])[0]


def _coarse_alone(test: Path, folder: Path) -> float:
    """Relative L2, in %, of the finite volumes of a surrogate on the samples of a file."""
    import numpy as np

    from surrogates.fields.surrogate import FieldSurrogate
    from surrogates.learning.field_metrics import relative_l2

    coarse, samples = FieldSurrogate.load(folder / "surrogate").facts.coarse, _darcy_samples(test)
    assert coarse is not None
    answer = coarse.solve(samples.static[..., 0])[:, None, None]
    return 100 * float(relative_l2(answer, np.moveaxis(samples.states, -1, 2)))


def _coarse_cost(train: Path, folder: Path) -> float:
    """Processor time, s, in which the finite volumes are fitted to the samples of a training, and asked about each."""
    import numpy as np

    from data.json_files import read_plain
    from surrogates.fields.coarse_darcy import CoarseDarcy

    rows = read_plain(folder / "split.json", dict[str, list[int]], remedy="Remove the folder")
    samples = _darcy_samples(train)
    some, others = (samples.take(np.array(rows[part])) for part in ("train", "valid"))
    began = time.process_time()
    coarse = CoarseDarcy.fit(some.static[..., 0], some.states[:, 0, ..., 0])
    for part in (some, others):
        coarse.solve(part.static[..., 0])
    return time.process_time() - began


def fields(options: Namespace, folder: Path) -> list[Pair]:
    """The chaotic state on 64 points over 20 time units, from the solver itself with short steps."""
    from understudy.stages import simulate

    store = folder / STORE
    where = {"sampling.count": TRAJECTORIES, "out": str(store), "run.dir": str(folder / "trajectories")}
    grid = [*BOX, "simulator.points=64", "simulator.steps=20", "simulator.dt=0.05"]
    simulate("simulator=kuramoto_sivashinsky", "sampling=fourier", *grid, **where)
    errors = {
        "relative L2, mean of 20 steps": ("test/relative_l2", "%", 100.0),
        "relative L2, first step": ("test/first_step_relative_l2", "%", 100.0),
        "relative L2, last step": ("test/last_step_relative_l2", "%", 100.0),
    }
    settings = [
        "task=fluids/trajectories", f"data.file={store}", "data.parts=[0.8,0.1,0,0.1]", "train.checkpoint_every_s=null",
        "model.network.width=24", "model.network.layers=3", "model.network.modes=[24]", "model.loss.unroll=2",
        "train.learning_rate=4e-3",
    ]  # fmt: skip
    return [
        Pair(
            f"Kuramoto-Sivashinsky, on {points} points and steps of {dt:g}",
            "kuramoto_sivashinsky",
            options.epochs or 30,
            settings,
            errors,
            rung=[f"rung.settings={json.dumps([*BOX, f'simulator.points={points}', f'simulator.dt={dt}'])}"],
            line=_solver_alone,
            line_name="that solver alone",
            within=True,
            answer=partial(_answer_s, _tested),
            labels=TRAJECTORIES,
        )
        for points, dt in GRIDS
    ]


def _tested(folder: Path) -> Any:
    """The samples of the test part of a training."""
    import numpy as np

    from data.fields.field_reading import read_fields
    from data.json_files import read_plain

    rows = read_plain(folder / "split.json", dict[str, list[int]], remedy="Remove the folder")["test"]
    return read_fields(folder.parent.parent / STORE)[0].take(np.array(rows))


def _solver_alone(folder: Path) -> float:
    """Relative L2, in %, of the rollouts of the coarser solver, on its own grid all the way."""
    from data.json_files import read_plain

    metrics = read_plain(folder / "metrics.json", dict[str, float], remedy="Remove the folder")
    return 100 * metrics["test/solver_alone/relative_l2"]


def _answer_s(samples_of: Callable[[Path], Any], folder: Path) -> float:
    """Processor time of an answer of the surrogate in a folder, s; programs are compiled before."""
    from surrogates.fields.surrogate import FieldSurrogate

    surrogate, samples = FieldSurrogate.load(folder / "surrogate"), samples_of(folder)
    surrogate.predict_fields(samples)
    began, rounds = time.process_time(), 5
    for _ in range(rounds):
        surrogate.predict_fields(samples)
    return (time.process_time() - began) / (rounds * len(samples))
