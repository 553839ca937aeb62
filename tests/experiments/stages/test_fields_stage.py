"""From drawn requests to a trained operator, its scores, and the comparison with its solver: the stages as called."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from data.errors import InputError
from data.fields.field_reading import read_fields
from data.fields.layout import Layout
from data.spec import Coordinate, Variable
from data.store.records import RecordStore
from experiments.application.choices import CONF
from experiments.comparison.result import read
from experiments.comparison.solver_comparison import compare_with_solver
from experiments.stages.evaluate import evaluate
from experiments.stages.simulate import simulate
from experiments.stages.train import train
from surrogates.fields.task import FieldData
from surrogates.learning.sample_parts import split
from surrogates.saved import load_surrogate

SOLVER = ["equation=burgers", "points=32", "save_dt=0.05", "steps=3", "dt=0.0125", "varied=[viscosity]"]
NETWORK = ["model.network.width=8", "model.network.layers=2", "model.network.modes=[8]"]
RECIPE = [
    "train.epochs=15", "train.learning_rate=1e-2", "train.mlflow=false", "train.batch_size=16",
    "data.parts=[40,4,10,10]",
]  # fmt: skip


def composed(config: str, *overrides: str, root: str = "") -> Any:
    with initialize_config_dir(str(CONF / root), version_base="1.3"):
        return compose(config, list(overrides))


def labelled(store: Path, run: Path, count: int) -> None:
    solver = [f"simulator.{s}" for s in SOLVER]
    drawn = ["sampling=burgers", f"sampling.count={count}", "sampling.ranges.viscosity.low=0.02"]
    simulate(composed("simulate", "simulator=burgers", *solver, *drawn, f"out={store}", "campaign.workers=1"), run)


@pytest.fixture(scope="module")
def trained(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A store of 64 trajectories and a run that has trained on them."""

    def make(folder: Path) -> None:
        labelled(folder / "labels.zarr", folder / "simulate", 64)
        arguments = ["task=fluids/trajectories", f"data.file={folder / 'labels.zarr'}", f"run.dir={folder / 'run'}"]
        train(composed("train", *arguments, *NETWORK, *RECIPE), folder / "run")

    return once("fields-stage", make)


def test_an_operator_learns_and_its_scores_are_those_of_the_samples_it_has_not_seen(trained: Path) -> None:
    metrics = json.loads((trained / "run" / "metrics.json").read_text())
    fields, _ = read_fields(trained / "labels.zarr")
    rows = json.loads((trained / "run" / "split.json").read_text())
    assert sorted(row for part in rows.values() for row in part) == list(range(64))
    test = fields.take(np.array(rows["test"]))
    surrogate = load_surrogate(trained / "run" / "surrogate")
    answer = surrogate.predict_fields(test).mean[:, 1:]
    error = np.linalg.norm((answer - test.states[:, 1:]).reshape(10, -1), axis=1)
    relative = error / np.linalg.norm(test.states[:, 1:].reshape(10, -1), axis=1)
    assert metrics["test/relative_l2"] == pytest.approx(relative.mean(), rel=1e-4)
    still = np.linalg.norm((test.states[:, :1] - test.states[:, 1:]).reshape(10, -1), axis=1)
    assert relative.mean() < 0.5 * (still / np.linalg.norm(test.states[:, 1:].reshape(10, -1), axis=1)).mean()
    assert metrics["train/label_core_seconds"] == pytest.approx(float(fields.seconds.sum()))
    assert metrics["train/compilations"] == 1
    assert surrogate.labels_fingerprint == fields.fingerprint


def test_more_requests_go_on_from_those_that_are_there(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "labels.zarr", tmp_path / "s.zarr")
    labelled(tmp_path / "s.zarr", tmp_path / "more", 66)
    assert json.loads((tmp_path / "more" / "metrics.json").read_text())["simulate/cached"] == 64
    with RecordStore.open(tmp_path / "s.zarr") as more, RecordStore.open(trained / "labels.zarr") as before:
        assert len(set(more.keys())) == 66
        assert more.keys()[:64] == before.keys()
        assert np.array_equal(more.column("u")[:64], before.column("u"))


def test_it_is_scored_on_another_store_and_beside_its_solver(
    trained: Path, tmp_path: Path, run_notebook: Callable[..., list[dict[str, Any]]]
) -> None:
    solver = [f"comparison.simulator.{s}" for s in SOLVER if not s.startswith("varied")]
    grids = ["comparison.reference={points: 128, dt: 0.005}", "comparison.finer={points: 256, dt: 0.0025}"]
    rungs = "comparison.rungs=[{points: 12, dt: 0.05}, {points: 16, dt: 0.025}, {points: 32, dt: 0.0125}]"
    small = ["comparison.count=8", "comparison.repeats=1", "comparison.batch_sizes=[8]"]
    small += ["comparison.ranges.viscosity.low=0.02", "comparison.grids=[16,64]"]
    config = composed(
        "evaluate",
        f"surrogate={trained / 'run'}",
        f"data.test=[{trained / 'labels.zarr'}]",
        "comparison=burgers",
        *solver,
        *grids,
        rungs,
        *small,
    )
    evaluate(config, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert 0 < metrics["test/labels/relative_l2"] < 1
    # What is asked is drawn as the labels were.
    assert metrics["test/labels/in_domain"] > 0.8
    assert metrics["comparison/in_domain"] > 0.6
    comparison = json.loads((tmp_path / "comparison.json").read_text())
    errors = [comparison[f"solver/{name}/relative_l2"] for name in ("12 dt 0.05", "16 dt 0.025", "32 dt 0.0125")]
    # A finer grid and a shorter step are better, and the reference is better still.
    assert errors[0] > errors[1] > errors[2] > 3 * comparison["reference/relative_l2_to_refinement"] > 0
    assert comparison["surrogate/fno/label_core_seconds"] > 0
    assert comparison["surrogate/fno/relative_l2"] > errors[2]
    page = (tmp_path / "comparison.html").read_text()
    assert "On other grids than that of its training" in page
    # The grid of the training is added, and judged as the comparison judges it.
    tried = read(tmp_path).resolution
    assert [(e.points, e.trained) for e in tried] == [(16, False), (32, True), (64, False)]
    assert tried[1].surrogate == pytest.approx(comparison["surrogate/fno/relative_l2"], rel=1e-3)
    assert tried[0].solver > tried[1].solver > tried[2].solver > 0
    assert all(e.surrogate is not None and e.surrogate < 1 for e in tried)
    environment = {
        "UNDERSTUDY_RUN": trained / "run",
        "UNDERSTUDY_LABELS": trained / "labels.zarr",
        "UNDERSTUDY_COMPARISON": tmp_path,
    }
    outputs = run_notebook("fluids", {name: str(path) for name, path in environment.items()})
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert sum("image/svg+xml" in output.get("data", {}) for output in outputs) == 2
    text = "".join(output.get("text", "") for output in outputs)
    assert "It was trained on 32 points along each side" in text
    assert "break-even:" in text
    assert "another simulator" not in (tmp_path / "reading.json").read_text()
    OmegaConf.update(config, "comparison.simulator.length", 2.0, force_add=True)
    with pytest.raises(InputError, match="its length along x is 2, 1 has been learned"):
        evaluate(config, tmp_path)
    config.comparison.simulator.length = 1.0
    config.comparison.grids = [256]
    with pytest.raises(InputError, match="256 points are more than the reference has"):
        evaluate(config, tmp_path)


def test_another_grid_than_that_of_the_training_is_refused(trained: Path, tmp_path: Path) -> None:
    config = composed("evaluate", f"surrogate={trained / 'run'}", "comparison=burgers")
    with pytest.raises(InputError, match=r"the surrogate answers on \(32,\) points at 4 times, the solver on \(256,\)"):
        evaluate(config, tmp_path)


def test_a_run_goes_on_with_its_own_samples_alone(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    arguments = ["task=fluids/trajectories", f"data.file={trained / 'labels.zarr'}", f"run.dir={run}", *NETWORK]
    with pytest.raises(InputError, match="the training here was begun with another training part"):
        train(composed("train", *arguments, *RECIPE, "data.seed=1"), run)


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="5 samples cannot calibrate intervals"):
        split(list(map(str, range(50))), FieldData(file="x", parts=[40, 0, 5, 5]))
    with pytest.raises(ValueError, match="parts must be 4 numbers"):
        FieldData(file="x", parts=[0.5, 0.5])
    rows = split(list(map(str, range(50))), FieldData(file="x", parts=[0.6, 0.1, 0.2, 0.1]))
    assert [len(rows[name]) for name in ("train", "valid", "calibration", "test")] == [30, 5, 10, 5]
    assert sorted(np.concatenate(list(rows.values()))) == list(range(50))


def test_a_field_that_does_not_evolve_has_no_ladder_to_be_compared_with(tmp_path: Path) -> None:
    x = Coordinate("x", tuple(float(i) for i in range(256)), "1", "x")
    pressure, size = (Variable(name, dims, "1", "float32", name) for name, dims in (("p", ("x",)), ("k", ())))
    layout = Layout(pressure, None, (), (size,), (x,), (True,))
    surrogate: Any = SimpleNamespace(facts=SimpleNamespace(layout=layout))
    node = composed("evaluate", "surrogate=x", "comparison=burgers").comparison
    with pytest.raises(InputError, match="the surrogate answers p, which does not evolve as the answers of a ladder"):
        compare_with_solver(surrogate, node, tmp_path, 1)
    assert not list(tmp_path.iterdir())
