"""Every configuration not only composes: what it describes is run, one step of it, on next to nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.io import write
from hydra import compose, initialize_config_dir

from data.store import RecordStore
from data.weather import Channel, WeatherGrid, WeatherLayout
from data.windows import Segment, write_windows
from experiments.fields import train_fields
from experiments.forces import train_forces
from experiments.forecasts import train_forecaster
from experiments.meshes import evaluate_meshes, train_meshes
from experiments.parameters import train_parametric
from experiments.report import report
from experiments.screen import read_objective
from experiments.simulate import simulate
from experiments.stage import CONF
from experiments.train import train_graph
from simulators.base import Variable
from surrogates.base import load_surrogate

sys.path.insert(0, str(Path(__file__).parents[1] / "surrogates" / "graph"))
import small_meshes


def names(folder: str) -> list[str]:
    return sorted(p.stem for p in (CONF / folder).glob("*.yaml"))


def composed(config: str, *overrides: str, root: str = "") -> Any:
    with initialize_config_dir(str(CONF / root), version_base="1.3"):
        return compose(config, list(overrides))


#: Each surrogate with a recipe and a kind of data, so that every file of the three groups is in one row at least.
RUNS = [
    ("mpnn", "graph", "table"),
    ("mpnn_medium", "pretrain", "table"),
    ("mpnn_large", "finetune", "table"),
    ("painn", "forces", "structures"),
    ("painn_ensemble", "forces", "structures"),
    ("ace", "forces", "structures"),
    ("ace_small", "warm", "structures"),
    ("ace_large", "warm", "structures"),
    ("fno", "fields", "fields"),
    ("tfno", "fields", "fields"),
    ("ffno", "fields", "fields"),
    ("unet", "fields", "fields"),
    ("dilated_resnet", "fields", "fields"),
    ("transolver", "fields", "fields"),
    ("deeponet", "fields", "fields"),
    ("parametric", "parametric", "parameters"),
    ("mesh", "meshes", "meshes"),
    ("weather_conv", "weather", "windows"),
    ("weather_sfno", "weather", "windows"),
    ("weather_mesh", "weather", "windows"),
]


#: Of networks that have no layers to take away.
SMALLER = {
    "unet": {"width": 8, "multipliers": [1]},
    "dilated_resnet": {"width": 8, "blocks": 1},
    "deeponet": {"width": 8},
    "weather_conv": {"width": 8, "blocks": 1},
    "weather_sfno": {"width": 8, "blocks": 1},
    "weather_mesh": {"width": 8, "blocks": 1, "refinements": 1},
}


def test_every_file_of_training_is_run() -> None:
    surrogates, recipes, data = ({row[k] for row in RUNS} for k in range(3))
    assert surrogates == set(names("surrogate"))
    assert recipes == set(names("train"))
    assert data == set(names("data"))


@pytest.mark.slow
@pytest.mark.parametrize(("surrogate", "recipe", "data"), RUNS)
def test_one_epoch_of_each_surrogate_and_recipe(surrogate: str, recipe: str, data: str, tmp_path: Path) -> None:
    choices = [f"surrogate={surrogate}", f"train={recipe}", f"data={data}", "train.epochs=1", "train.mlflow=false"]
    if data == "table":
        rows = [f"{'C' * n}{end},{n}" for n in range(1, 12) for end in ("O", "N", "F")]
        (tmp_path / "t.csv").write_text("smiles,y\n" + "\n".join(rows) + "\n")
        more = [f"data.file={tmp_path / 't.csv'}", "data.target=y", "surrogate.buckets=1"]
        metrics = train_graph(composed("train", *choices, *more), tmp_path / "run")
        assert np.isfinite(metrics["test/mae"])
    elif data == "parameters":
        inputs = (Variable("a", (), "1", "float64", "a number"), Variable("b", (), "1", "float64", "another"))
        outputs = (Variable("y", (), "1", "float64", "their sum"),)
        with RecordStore.create(tmp_path / "p.zarr", inputs, outputs, provenance={"fingerprint": "f" * 64}) as store:
            for k in range(60):
                store.append(str(k), {"a": k / 60, "b": (k % 7) / 7, "y": 1 + k / 60 + (k % 7) / 7}, seconds=1.0)
        more = [f"data.file={tmp_path / 'p.zarr'}", "data.target=[y]", "surrogate.width=8", "surrogate.ensemble=2"]
        metrics = train_parametric(composed("train", *choices, *more), tmp_path / "run")
        assert np.isfinite(metrics["test/mae"])
    elif data == "meshes":
        stored = small_meshes.write_store(tmp_path / "m.zarr", small_meshes.samples(24))
        small = {"features": 8, "blocks": 1}
        more = [f"data.file={stored}", f"data.test=[{stored}]", "data.scalars=[drag]", "data.parameters=[speed]"]
        more += [f"surrogate.network.{k}={v}" for k, v in small.items()] + ["data.parts=[8,3,9,4]"]
        metrics = train_meshes(composed("train", *choices, *more), tmp_path / "run")
        assert np.isfinite(metrics["test/m/velocity/relative_l2"])
        assert 0 <= metrics["test/pressure/points_in_band"] <= 1
        assert metrics["train/label_core_seconds"] == 24
        scored = evaluate_meshes(load_surrogate(tmp_path / "run" / "surrogate"), [stored])
        assert scored["test/m/drag/mae"] == metrics["test/m/drag/mae"]
    elif data == "windows":
        latitude, longitude = tuple(np.linspace(-80, 80, 9)), tuple(np.arange(18) * 20.0)
        layout = WeatherLayout(WeatherGrid(latitude, longitude), (Channel("2m_temperature"),), step_hours=6.0)
        times = np.datetime64("2001-01-01", "ns") + np.arange(60) * np.timedelta64(6, "h")
        values = 280 + np.random.default_rng(0).normal(size=(60, 9, 18, 1)).astype(np.float32)
        states = Segment.of(layout.unstack(values, ("time",), {"time": times}))
        write_windows(tmp_path / "w", [states], layout, fingerprint="f" * 64)
        more = [f"surrogate.network.{k}={v}" for k, v in SMALLER[surrogate].items()]
        more += [f"data.file={tmp_path / 'w'}", "surrogate.steps=2", "data.parts=[30,8,15,7]"]
        metrics = train_forecaster(composed("train", *choices, *more), tmp_path / "run")
        assert np.isfinite(metrics["test/rmse/2m_temperature/12h"])
    elif data == "fields":
        x = np.arange(16) / 16
        size, phase = np.meshgrid(np.linspace(0.5, 1.5, 8), np.linspace(0, 6, 5))
        u = size.reshape(-1, 1, 1) * np.sin(2 * np.pi * (x - np.arange(3)[:, None] / 20) + phase.reshape(-1, 1, 1))
        waves = xr.Dataset({"u": (("sample", "time", "x"), u), "initial": (("sample", "x"), u[:, 0])}, {"x": x})
        waves.to_netcdf(tmp_path / "w.nc", engine="scipy")
        small = [f"{k}={v}" for k, v in SMALLER.get(surrogate, {"layers": 1, "width": 8}).items()]
        choices += [f"surrogate.network.{s}" for s in small]
        more = [f"data.file={tmp_path / 'w.nc'}", "data.output=u", "data.inputs=[initial]", "data.periodic=true"]
        metrics = train_fields(composed("train", *choices, *more, "data.parts=[20,4,10,6]"), tmp_path / "run")
        assert np.isfinite(metrics["test/relative_l2"])
        assert 0 <= metrics["test/points_in_band"] <= 1
    else:
        frames = []
        for length in (3.6, 3.7, 3.8, 3.9, 4.0):
            frame = Atoms("Ar2", [[0, 0, 0], [0, 0, length]], calculator=LennardJones(epsilon=0.1, sigma=3.4, rc=20.0))
            frame.get_forces()
            frames.append(frame)
        write(tmp_path / "f.xyz", frames, format="extxyz")
        choices += ["surrogate.network.layers=1", "surrogate.buckets=1", "surrogate.committee=0"]
        more = [f"data.train={tmp_path / 'f.xyz'}", "data.valid=0.2", f"data.test=[{tmp_path / 'f.xyz'}]"]
        metrics = train_forces(composed("train", *choices, *more), tmp_path / "run")
        assert np.isfinite(metrics["test/f/forces_mae_mev_per_angstrom"])
    assert json.loads((tmp_path / "run" / "fit.json").read_text())["epochs"] == 1
    assert load_surrogate(tmp_path / "run" / "surrogate").scores


def molecular(name: str) -> bool:
    """Whether a simulator takes geometries of molecules."""
    return "quantum" in str(composed("simulate", f"simulator={name}").simulator._target_)


@pytest.mark.parametrize("name", [n for n in names("simulator") if molecular(n)])
def test_one_molecule_of_each_simulator(name: str, tmp_path: Path) -> None:
    (tmp_path / "h2.xyz").write_text("2\nProperties=species:S:1:pos:R:3\nH 0.0 0.0 0.0\nH 0.0 0.0 0.74\n")
    config = composed(
        "simulate", f"simulator={name}", f"inputs={tmp_path / 'h2.xyz'}", f"out={tmp_path / 's.zarr'}",
        "campaign.workers=1",
    )  # fmt: skip
    simulate(config, tmp_path / "run")
    with RecordStore.open(tmp_path / "s.zarr") as store:
        assert store.column("status").tolist() == ["ok"], store.column("message")
        assert np.isfinite(store.column("energy")).all()


def test_the_report_of_a_run_is_written_where_it_is_asked_for(synthetic_run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    report(composed("report", f"of={synthetic_run}", f"out={page}", root="apply"), tmp_path)
    assert "<svg" in page.read_text()


@pytest.mark.parametrize("name", names("common/objective"))
def test_each_objective_ranks(name: str) -> None:
    objective = read_objective(composed("screen", f"objective={name}", root="apply").objective)
    values: dict[str, np.ndarray] = {"in_domain": np.array([True, True, False])}
    for target, numbers in (("gap", [5.5, 5.2, 5.1]), ("dipole_moment", [4.0, 7.0, 9.0])):
        values |= {target: np.array(numbers), f"{target}_std": np.full(3, 0.1)}
        values |= {f"{target}_low": np.array(numbers) - 0.2, f"{target}_high": np.array(numbers) + 0.2}
    score = objective.score(values)
    best = {"polar_in_gap_window": 1, "small_gap": 1, "top": 0}[name]
    assert int(np.argmax(score)) == best
    assert score[2] == -np.inf
