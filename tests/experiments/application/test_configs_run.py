"""Every configuration not only composes: what it describes is run, one step of it, on next to nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_meshes
import xarray as xr
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.io import write
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from data.spec import Coordinate, Variable
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.writing import Segment, write_windows
from data.store.records import RecordStore
from experiments import cli
from experiments.application.choices import CONF, options
from experiments.screening.objective import read_objective
from experiments.stages.report import report
from experiments.stages.simulate import simulate
from experiments.stages.train import task_of, train_task
from surrogates.learning.learned_from import read_hashes
from surrogates.learning.loop import _Loop
from surrogates.meshes.task import MeshTask
from surrogates.saved import load_surrogate


def names(folder: str) -> list[str]:
    return sorted(p.stem for p in (CONF / folder).glob("*.yaml"))


def composed(config: str, *overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(config, list(overrides))


#: Surrogates with a recipe and a kind of data; every file of the three groups is here or in an experiment below.
RUNS = [
    ("mpnn_medium", "pretrain", "properties"),
    ("mpnn_large", "finetune", "properties"),
    ("painn_ensemble", "potentials", "potentials"),
    ("ace_small", "warm", "potentials"),
    ("ace_large", "warm", "potentials"),
    ("ffno", "fields", "fields"),
    ("unet", "fields", "fields"),
    ("dilated_resnet", "fields", "fields"),
    ("transolver", "fields", "fields"),
    ("deeponet", "fields", "fields"),
    ("corrector", "fields", "fields"),
    ("icosahedral_mesh", "forecasts", "forecasts"),
]


#: Of networks that have no layers to take away.
SMALLER = {
    "unet": {"width": 8, "multipliers": [1]},
    "dilated_resnet": {"width": 8, "blocks": 1},
    "deeponet": {"width": 8},
    "corrector": {"width": 8, "dilations": [1]},
    "latlon_conv": {"width": 8, "blocks": 1},
    "sfno": {"width": 8, "blocks": 1},
    "icosahedral_mesh": {"width": 8, "blocks": 1, "refinements": 1},
}


#: Of networks that differ from each other in sizes alone, which are the same here, so that one program serves both.
SAME: dict[str, dict[str, int]] = {
    "ace_small": {"degree": 1},
    "ace_large": {"degree": 1, "hidden_degree": 0, "tensor_features": 32, "radial": 4},
}


#: Each task and study that trains a surrogate by itself, with what makes it small; `RUNS` need not name what these use.
EXPERIMENTS = {
    "study=fluids/apebench": ("fields", ["layers=1", "width=8", "modes=[4]"]),
    "study=fluids/darcy": ("darcy", ["layers=1", "width=8", "modes=[3]"]),
    "task=fluids/cells": ("meshes", ["features=8", "blocks=1"]),
    "task=fluids/drag": ("parameters", []),
    "task=fluids/fields": ("fields", ["layers=1", "width=8"]),
    "task=fluids/meshes": ("meshes", ["features=8", "blocks=1"]),
    "study=fluids/navier_stokes": ("fields", ["layers=1", "width=8", "modes=[4]"]),
    "task=fluids/trajectories": ("fields", ["layers=1", "width=8"]),
    "task=kinetics/ignition": ("curves", []),
    "task=kinetics/robertson": ("shares", []),
    "task=molecules/few_labels": ("potentials", []),
    "task=molecules/potentials": ("potentials", ["layers=1"]),
    "task=molecules/properties": ("properties", ["layers=1"]),
    "task=weather/forecasts": ("forecasts", ["width=8", "blocks=1"]),
    "study=weather/held_suarez": ("forecasts", ["width=8", "blocks=1"]),
    "study=weather/t2m_uk": ("forecasts", ["width=8", "blocks=1"]),
}
#: What some of them need besides to be small.
MORE = {
    "study=fluids/darcy": ["train.max_seconds=null"],
    # The frames are of argon, which the shipped potential has not learned.
    "task=molecules/few_labels": ["tune.new_elements=true"],
    "study=fluids/navier_stokes": ["model.loss.unroll=2", "train.max_seconds=null"],
    "task=weather/forecasts": ["model.loss.unroll=2"],
    "study=weather/held_suarez": [
        "train.max_seconds=null",
        "model.truncation=5",
        "model.keep_mass=false",
        "model.mirror=false",
    ],
    "study=weather/t2m_uk": ["model.loss.unroll=2", "model.history=1", "model.network.patch=1"],
}


def test_every_file_of_training_is_run() -> None:
    groups = ("model", "train", "data")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        configs = [compose("train", [name], return_hydra_config=True) for name in EXPERIMENTS]
        # The network that distillation trains by default is run by the tests of that.
        student = compose("distil", return_hydra_config=True).hydra.runtime.choices["model"]
    chosen = [{g: str(c.hydra.runtime.choices[g]) for g in groups} for c in configs]
    # So is the mixture of forecasters that were trained before, by its own tests.
    chosen += [{**chosen[0], "model": model} for model in (student, "forecast_mixture")]
    for k, group in enumerate(groups):
        assert {row[k] for row in RUNS} | {c[group] for c in chosen} == set(names(group))
    # The pipeline trains between campaigns; its own tests stop it and resume.
    assert {f"{g}={name}" for g in ("task", "study") for name in options(g)} == {*EXPERIMENTS, "task=molecules"}


def material(data: str, folder: Path) -> list[str]:
    """Overrides that train on next to nothing of a kind of data, whose files are written to a folder."""
    if data == "properties":
        rows = [f"{'C' * n}{end},{n}" for n in range(1, 12) for end in ("O", "N", "F")]
        (folder / "t.csv").write_text("smiles,y\n" + "\n".join(rows) + "\n")
        return [f"data.file={folder / 't.csv'}", "data.target=y", "model.buckets=1"]
    if data == "parameters":
        inputs = (Variable("a", (), "1", "float64", "a number"), Variable("b", (), "1", "float64", "another"))
        outputs = (Variable("y", (), "1", "float64", "their sum"),)
        with RecordStore.create(folder / "p.zarr", inputs, outputs, provenance={"fingerprint": "f" * 64}) as store:
            for k in range(60):
                store.append(str(k), {"a": k / 60, "b": (k % 7) / 7, "y": 1 + k / 60 + (k % 7) / 7}, seconds=1.0)
        return [f"data.file={folder / 'p.zarr'}", "data.target=[y]", "model.width=8", "model.ensemble=2"]
    if data in ("curves", "shares"):
        name = "mass_fraction" if data == "curves" else "fraction"
        outputs = [Variable(name, ("time", "species"), "1", "float64", "share of each species")]
        if data == "curves":
            outputs.append(Variable("temperature", ("time",), "K", "float64", "temperature"))
        coords = (Coordinate("time", (1e-3, 1.0), "s", "time"), Coordinate("species", ("A", "B"), "1", "species"))
        rate = (Variable("rate", (), "s-1", "float64", "rate constant"),)
        with RecordStore.create(
            folder / "k.zarr", rate, tuple(outputs), coords=coords, provenance={"fingerprint": "f" * 64}
        ) as store:
            for k in range(60):
                left = np.exp(-(k + 1) * np.array([1e-3, 1.0]) / 60)
                answer = {name: np.stack([left, 1 - left], -1), "temperature": 300 + 100 * left}
                store.append(str(k), {"rate": k / 60, **{v.name: answer[v.name] for v in outputs}}, seconds=1.0)
        small = ["model.width=8", "model.ensemble=2"]
        return [f"data.file={folder / 'k.zarr'}", *small, "data.parts=[0.5,0.1,0.2,0.2]"]
    if data == "meshes":
        stored = small_meshes.write_store(folder / "m.zarr", small_meshes.samples(24))
        more = [f"data.file={stored}", f"data.test=[{stored}]", "data.scalars=[drag]", "data.parameters=[speed]"]
        return [*more, "data.parts=[8,3,9,4]", "model.buckets=1"]
    if data == "forecasts":
        latitude, longitude = tuple(np.linspace(-80, 80, 9)), tuple(np.arange(18) * 20.0)
        layout = WeatherLayout(WeatherGrid(latitude, longitude), (WeatherChannel("2m_temperature"),), step_hours=6.0)
        times = np.datetime64("2001-01-01", "ns") + np.arange(90) * np.timedelta64(6, "h")
        values = 280 + np.random.default_rng(0).normal(size=(90, 9, 18, 1)).astype(np.float32)
        states = Segment.of(layout.unstack(values, ("time",), {"time": times}))
        write_windows(folder / "w", [states], layout, fingerprint="f" * 64)
        return [f"data.file={folder / 'w'}", "model.steps=2", "data.parts=[30,13,27,20]"]
    if data == "fields":
        x = np.arange(16) / 16
        size, phase = np.meshgrid(np.linspace(0.5, 1.5, 8), np.linspace(0, 6, 5))
        u = size.reshape(-1, 1, 1) * np.sin(2 * np.pi * (x - np.arange(3)[:, None] / 20) + phase.reshape(-1, 1, 1))
        waves = xr.Dataset({"u": (("sample", "time", "x"), u), "initial": (("sample", "x"), u[:, 0])}, {"x": x})
        waves.to_netcdf(folder / "w.nc", engine="scipy")
        more = [f"data.file={folder / 'w.nc'}", "data.output=u", "data.inputs=[initial]", "data.periodic=true"]
        return [*more, "data.parts=[20,4,10,6]"]
    if data == "darcy":
        where = np.arange(8) / 8
        mask = np.random.default_rng(0).integers(0, 2, (40, 8, 8)).astype(float)
        pressure = np.cumsum(np.cumsum(mask + 1, axis=1), axis=2) / 64
        dims = ("sample", "x", "y")
        samples = xr.Dataset({"field_x": (dims, mask), "field_y": (dims, pressure)}, {"x": where, "y": where})
        samples.to_netcdf(folder / "d.nc", engine="scipy")
        return [f"data.file={folder / 'd.nc'}", "data.parts=[20,4,10,6]"]
    frames = []
    for length in (3.6, 3.7, 3.8, 3.9, 4.0):
        frame = Atoms("Ar2", [[0, 0, 0], [0, 0, length]], calculator=LennardJones(epsilon=0.1, sigma=3.4, rc=20.0))
        frame.get_forces()
        frames.append(frame)
    write(folder / "f.xyz", frames, format="extxyz")
    more = [f"data.train={folder / 'f.xyz'}", "data.valid=0.2", f"data.test=[{folder / 'f.xyz'}]"]
    return [*more, "model.buckets=1", "model.committee=0"]


#: A score that a training on each kind of data ends with.
ENDS = {
    "properties": "test/mae",
    "parameters": "test/mae",
    "shares": "test/factor_error",
    "curves": "test/temperature/coverage_90",
    "meshes": "test/m/velocity/relative_l2",
    "forecasts": "test/rmse/2m_temperature/12h",
    "fields": "test/relative_l2",
    "darcy": "test/relative_l2",
    "potentials": "test/f/forces_mae_mev_per_angstrom",
}


@pytest.mark.slow
@pytest.mark.parametrize(("surrogate", "recipe", "data"), RUNS)
def test_one_epoch_of_each_surrogate_and_recipe(surrogate: str, recipe: str, data: str, tmp_path: Path) -> None:
    choices = [f"model={surrogate}", f"train={recipe}", f"data={data}", "train.epochs=1", "train.mlflow=false"]
    if data in ("fields", "forecasts", "potentials", "properties"):
        on_atoms = data in ("potentials", "properties")
        small = {"layers": 1, "features": 16} if on_atoms else SMALLER.get(surrogate, {"layers": 1, "width": 8})
        # One of them keeps its degree, which decides how long a step is compiled.
        small |= SAME.get(surrogate, {})
        choices += [f"model.network.{k}={v}" for k, v in small.items()]
        choices += ["model.loss.unroll=2"] if surrogate == "corrector" else []
    config = composed("train", *choices, *material(data, tmp_path))
    metrics = train_task(task_of(config), tmp_path / "run")
    assert np.isfinite(metrics[ENDS[data]])
    if data == "fields":
        assert 0 <= metrics["test/points_in_band"] <= 1
    assert json.loads((tmp_path / "run" / "fit.json").read_text())["epochs"] == 1
    assert load_surrogate(tmp_path / "run" / "surrogate").scores


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_training_of_each_experiment_is_stopped_and_goes_on_by_the_same_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, network = EXPERIMENTS[name]
    command = ["train", name, *material(data, tmp_path), *MORE.get(name, [])]
    command += [f"model.network.{value}" for value in network]
    command += ["train.epochs=2", "train.checkpoint_every_s=60", "train.mlflow=false", f"run.dir={tmp_path / 'run'}"]
    end_epoch = _Loop.end_epoch

    def stopped(loop: _Loop, *values: Any, **more: Any) -> None:
        end_epoch(loop, *values, **more)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(_Loop, "end_epoch", stopped)
            assert cli.main(command) == 130
        first = (tmp_path / "run" / "train.jsonl").read_text()
        assert not (tmp_path / "run" / "surrogate").exists()
        assert cli.main(command) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    # The first epoch is not trained again: its row has the seconds that it took.
    history = (tmp_path / "run" / "train.jsonl").read_text()
    assert history.startswith(first)
    assert history.count("\n") == json.loads((tmp_path / "run" / "fit.json").read_text())["epochs"] == 2
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert np.isfinite(metrics[ENDS[data]])
    if data == "meshes":
        assert 0 <= metrics["test/pressure/points_in_band"] <= 1
        # Predicting the mean would score 1, whatever the size of the mean.
        assert 0 < metrics["test/m/pressure/rmse_over_spread"] < 10
        assert metrics["test/m/in_domain"] > 0.3
        # Training, validation and calibration had 20 of these 24; the others are the test part.
        assert metrics["test/m/seen"] == 20
        assert metrics["test/m/unseen/drag/mae"] == metrics["test/drag/mae"]
        assert metrics["train/label_core_seconds"] == 24
        saved = tmp_path / "run" / "surrogate"
        surrogate, hashes = load_surrogate(saved), read_hashes(saved)
        scored = MeshTask.evaluate(surrogate, [tmp_path / "m.zarr"], {}, None, [], learned=hashes)
        for name in ("drag/mae", "seen", "unseen/drag/mae"):
            assert scored[f"test/m/{name}"] == metrics[f"test/m/{name}"]


def molecular(name: str) -> bool:
    """Whether a simulator takes geometries of molecules, by its file or by the one that it changes.

    Composing all of them would take seconds whenever tests are collected.
    """
    file = OmegaConf.load(CONF / "simulator" / f"{name}.yaml")
    if "_target_" in file:
        # Pre-trained models need an environment of their own, and descriptors take SMILES: their own tests run them.
        others = ("teachers", "descriptors")
        return "simulators.chemistry" in file["_target_"] and not any(name in file["_target_"] for name in others)
    return any(molecular(str(base)) for base in file["defaults"] if base != "_self_")


@pytest.mark.parametrize("name", [n for n in names("simulator") if molecular(n)])
def test_one_molecule_of_each_simulator(name: str, tmp_path: Path) -> None:
    atoms = "\nH 0.0 0.0 0.0\nH 0.0 0.0 0.74\n"
    (tmp_path / "h2.xyz").write_text(f"2\nProperties=species:S:1:pos:R:3{atoms}")
    (tmp_path / "labelled.xyz").write_text(f"2\nProperties=species:S:1:pos:R:3 energy=-31.7{atoms}")
    more = [f"simulator.file={tmp_path / 'labelled.xyz'}", "simulator.outputs=[energy]"] if name == "frames" else []
    config = composed(
        "simulate", f"simulator={name}", *more, f"inputs={tmp_path / 'h2.xyz'}", f"out={tmp_path / 's.zarr'}",
        "campaign.workers=1",
    )  # fmt: skip
    simulate(config, tmp_path / "run")
    with RecordStore.open(tmp_path / "s.zarr") as store:
        assert store.column("status").tolist() == ["ok"], store.column("message")
        assert np.isfinite(store.column("energy")).all()


def test_the_report_of_a_run_is_written_where_it_is_asked_for(synthetic_run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    report(composed("report", f"of={synthetic_run}", f"out={page}"), tmp_path)
    assert "<svg" in page.read_text()


@pytest.mark.parametrize("name", names("objective"))
def test_each_objective_ranks(name: str) -> None:
    objective = read_objective(composed("screen", f"objective={name}").objective)
    values: dict[str, np.ndarray] = {"in_domain": np.array([True, True, False])}
    for target, numbers in (("gap", [5.5, 5.2, 5.1]), ("dipole_moment", [4.0, 7.0, 9.0])):
        values |= {target: np.array(numbers), f"{target}_std": np.full(3, 0.1)}
        values |= {f"{target}_low": np.array(numbers) - 0.2, f"{target}_high": np.array(numbers) + 0.2}
    score = objective.score(values)
    best = {"polar_in_gap_window": 1, "small_gap": 1, "top": 0}[name]
    assert int(np.argmax(score)) == best
    assert score[2] == -np.inf
