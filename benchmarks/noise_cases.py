"""Small trainings of every kind of surrogate, and the error of each, for `benchmarks.noise`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import data_file

#: Settings that every training shares.
SHARED = ("train.mlflow=false", "train.checkpoint_every_s=null", "train.seed=0")


@dataclass(frozen=True)
class NoiseCase:
    """One kind of surrogate.

    Attributes:
        kind: word of the kind.
        what: what is learned, and from how much.
        metric: name of the error.
        unit: its unit.
        settings: writes the data below a folder and returns the overrides of `understudy train`; takes the folder of
            real data and that folder.
        error: the error of a surrogate on held-out samples; takes task, parts and surrogate.
    """

    kind: str
    what: str
    metric: str
    unit: str
    settings: Callable[[Path, Path], list[str]]
    error: Callable[[Any, Any, Any], float]


def trained(case: NoiseCase, settings: Sequence[str], folder: Path) -> tuple[Any, Any, Any]:
    """The task of a case, the parts of its data, and a trained surrogate without intervals."""
    from hydra import compose, initialize_config_dir

    from experiments.application.choices import CONF
    from experiments.stages.train import task_of

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*SHARED, *settings, f"run.dir={folder}"])
    task = task_of(config)
    parts = task.split(task.read(None, []), folder, progress=False)
    surrogate, _ = task.fit(parts, folder, progress=False)
    return task, parts, surrogate


def scored(key: str) -> Callable[[Any, Any, Any], float]:
    """The error that the scores of a task name so."""

    def error(task: Any, parts: Any, surrogate: Any) -> float:
        return float(task.score(surrogate, parts)[key])

    return error


def simulated(folder: Path, *overrides: str) -> Path:
    """A store of a small campaign, which an earlier run may have made."""
    from hydra import compose, initialize_config_dir

    from experiments.application.choices import CONF
    from experiments.application.stage import instantiate
    from experiments.campaigns.sampled import draw_requests
    from simulators.campaigns.campaign import CampaignConfig, run_campaign

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("simulate", list(overrides))
    simulator = instantiate(config.simulator)
    requests, total = draw_requests(config.sampling, simulator)
    run_campaign(simulator, requests, folder / "labels.zarr", CampaignConfig(workers=1), total=total, progress=False)
    return folder / "labels.zarr"


def _properties(data: Path, folder: Path) -> list[str]:
    from benchmarks.models import read_gaps

    gaps = read_gaps(data_file(data, "qm9_homo_lumo_gap_hartree.csv"))
    rows = np.random.default_rng(0).permutation(len(gaps.smiles))[:3_500]
    file = gaps.write(folder / "gaps.csv", rows)
    settings = ["task=molecules/properties", f"data.file={file}", "data.target=gap", "data.unit=meV"]
    return [*settings, "data.parts=[2000,500,0,1000]", "model.ensemble=1", "train.epochs=40"]


def _potentials(data: Path, folder: Path) -> list[str]:
    from ase.io import read, write

    frames = read(data_file(data, "rmd17_ethanol_test_MD.xyz"), ":60")
    write(folder / "test.xyz", frames)
    learned = read(data_file(data, "rmd17_ethanol_train.xyz"), ":150")
    write(folder / "train.xyz", learned)
    settings = ["task=molecules/potentials", "model=ace_small", f"data.train={folder / 'train.xyz'}"]
    return [*settings, f"data.test=[{folder / 'test.xyz'}]", "data.valid=0.1", "train.epochs=80"]


def _fields(data: Path, folder: Path) -> list[str]:
    file = data_file(data, "darcy_train_16.pt", "fluids")
    names = ["data.output=field_y", "data.inputs=[field_x]", "data.dims=[sample,x,y]", "data.periodic=false"]
    network = ["model.network.width=16", "model.network.layers=3", "model.network.modes=[6]"]
    parts = "data.parts=[800,50,0,150]"
    return ["task=fluids/fields", f"data.file={file}", *names, parts, *network, "train.epochs=30"]


def _meshes(data: Path, folder: Path) -> list[str]:
    solver = ["simulator=ngsolve", "simulator.fields=true", "simulator.order=2", "simulator.body_maxh=0.05"]
    store = simulated(folder, *solver, "sampling=drag", "sampling.count=80")
    network = ["model.network.features=32", "model.network.blocks=6", "train.epochs=40"]
    return ["task=fluids/meshes", f"data.file={store}", "data.parts=[60,4,0,16]", *network]


def _parameters(data: Path, folder: Path) -> list[str]:
    store = simulated(folder, "simulator=robertson", "sampling=robertson", "sampling.count=600")
    return ["task=kinetics/robertson", f"data.file={store}", "data.parts=[450,50,0,100]", "model.ensemble=1"]


def _forecasts(data: Path, folder: Path) -> list[str]:
    from data.sphere.writing import write_windows
    from simulators.atmosphere.reanalysis.reanalysis import Reanalysis

    source = Reanalysis(str(data_file(data, "era5_t2m_hourly_2019-03_uk.grib", "weather")))
    shutil.rmtree(folder / "windows", ignore_errors=True)
    write_windows(folder / "windows", source.segments(), source.layout, fingerprint=source.fingerprint)
    # Blending with references, which have no weights of the networks, would hide their noise.
    return ["study=weather/t2m_uk", f"data.file={folder / 'windows'}", "model.blend=false", "model.ensemble=1"]


def _forecast_error(task: Any, parts: Any, surrogate: Any) -> float:
    from surrogates.forecasts.scores import Protocol, score

    store, steps = parts.read.store, surrogate.facts.config.steps
    scores = score({"forecast": surrogate}, Protocol(store, parts.span("test"), steps, 48), store.climatology((0, 376)))
    return float(np.sqrt((scores["rmse"].isel(region=0).sel(system="forecast") ** 2).mean()))


CASES = (
    NoiseCase(
        "properties", "gaps of 2,000 molecules of QM9", "mean absolute error", "meV", _properties, scored("test/mae"),
    ),
    NoiseCase(
        "potentials", "energies and forces of 135 frames of ethanol", "mean absolute error of force components",
        "meV/A", _potentials, scored("test/test/forces_mae_mev_per_angstrom"),
    ),
    NoiseCase(
        "fields", "pressure of 800 Darcy flows, 16 x 16", "relative L2 error", "1", _fields,
        scored("test/relative_l2"),
    ),
    NoiseCase(
        "meshes", "flow around 60 bodies", "relative L2 error of the velocity", "1", _meshes,
        scored("test/velocity/relative_l2"),
    ),
    NoiseCase(
        "parameters", "Robertson's kinetics, 450 requests", "typical factor of error, minus 1", "1", _parameters,
        scored("test/factor_error"),
    ),
    NoiseCase(
        "forecasts", "2 m temperature, 376 hours around the British Isles", "RMSE over leads of 1 to 24 h", "K",
        _forecasts, _forecast_error,
    ),
)  # fmt: skip
