"""Every configuration composes, and builds the object that it describes."""

from __future__ import annotations

import copy
import functools
import json
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from teachers import has_environment

from data.errors import InputError
from data.files import write_json
from data.plain import from_plain, to_plain
from data.settings import build
from data.spec import check, input_hash
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.writing import Segment, write_windows
from experiments.application.choices import CONF
from experiments.application.choices import options as options_of
from experiments.application.renamed import CHOICES
from experiments.application.stage import instantiate
from experiments.application.strict import missing_choice
from experiments.campaigns.sampled import draw_requests
from experiments.forecasting.forecast_evaluation import ForecastEvaluation
from experiments.pipelines.settings import PipelineSettings
from experiments.screening.library_screen import Objective
from experiments.screening.objective import read_objective
from experiments.stages.calibrate import CalibrateSettings
from experiments.stages.distil import DistilSettings
from experiments.stages.evaluate import EvaluateSettings
from experiments.stages.forecast import ForecastStageSettings
from experiments.stages.grow import GrowSettings
from experiments.stages.predict import PredictSettings
from experiments.stages.prepare import PrepareSettings
from experiments.stages.prune import PruneSettings
from experiments.stages.report import ReportSettings
from experiments.stages.screen import ScreenSettings
from experiments.stages.serve import ServeSettings
from experiments.stages.simulate import SimulateSettings
from experiments.stages.train import TrainSettings, task_of
from experiments.stages.windows import WindowsSettings
from simulators.adapter import Simulator
from simulators.atmosphere.core.initial_states import WINDS
from simulators.campaigns.campaign import CampaignConfig
from simulators.chemistry.conformers import ConformerConfig
from surrogates.cascade.cascade_card import CascadeCard, Promised, RungCard, Tolerance
from surrogates.cascade.risk import ErrorModel
from surrogates.family import FAMILIES, RENAMED
from surrogates.learning.loop import TrainConfig
from surrogates.potentials.task import PotentialTask

#: Simulators by pre-trained models -> the package of each.
PRETRAINED = {"so3lr": "so3krates_torch", "chgnet": "chgnet", "admet": "admet_ai"}


def names(folder: str) -> list[str]:
    return sorted(p.stem for p in (CONF / folder).glob("*.yaml"))


def composed(config: str, *overrides: str):  # type: ignore[no-untyped-def]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(config, list(overrides))


def finished_case(folder: Path) -> list[str]:
    """A case with a number of a function object, and the settings that read it."""
    for place, text in {
        "system/controlDict": "",
        "constant/nu": "nu [0 2 -1 0 0 0 0] 0.01;",
        "postProcessing/drag/0/coefficient.dat": "# Time Cd\n1 2.5\n",
    }.items():
        path = folder / "run" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [
        f"simulator.path={folder}",
        "simulator.parameters={nu: m2 s-1}",
        "simulator.places={nu: 'constant/nu:nu'}",
        "simulator.fields=[]",
        "simulator.mesh=null",
        "simulator.scalars={cd: {object: drag, column: Cd, units: '1'}}",
    ]


@pytest.mark.parametrize("name", names("simulator"))
def test_a_simulator_is_built(name: str, tmp_path: Path) -> None:
    if name.startswith("openfoam") and shutil.which("icoFoam") is None:
        pytest.skip("OpenFOAM is not installed; `make openfoam` installs it")
    overrides = []
    if name == "frames":
        (tmp_path / "frames.xyz").write_text("1\nenergy=1.0\nH 0.0 0.0 0.0\n")
        overrides = [f"simulator.file={tmp_path}/frames.xyz"]
    if name == "table":
        (tmp_path / "labels.csv").write_text("smiles,gap\nC,1.0\n")
        overrides = [f"simulator.file={tmp_path}/labels.csv", "simulator.outputs=[gap]"]
    if name == "openfoam_case":
        overrides = ["simulator.case.path=channel", "simulator.case.commands=[blockMesh,icoFoam]"]
        overrides += ["simulator.case.parameters={viscosity: m2 s-1, pressure_drop: m2 s-2, wall_velocity: m s-1}"]
        overrides += ["simulator.case.constants={cells: 4, step: 0.1, interval: 1, end: 1}"]
        overrides += ["simulator.case.fields=[U]", "simulator.case.mesh=[x,y]"]
    if name == "openfoam_finished":
        overrides = finished_case(tmp_path)
    if name == "cascade":
        rungs = [instantiate(composed("simulate", f"simulator={rung}").simulator) for rung in ("xtb", "ase")]
        errors = (ErrorModel(0.0, 1.0, 1.0), None)
        cards = tuple(
            RungCard(label, {}, rung.fingerprint, rung.name, 1.0, errors=model)
            for label, rung, model in zip(("xtb", "ase"), rungs, errors, strict=True)
        )
        tolerance, promised = Tolerance({"energy": 0.1}, {"energy": "eV"}), Promised(0.1, None, 0.1, 9, 9, 0, 0, "", 0)
        write_json(tmp_path / "cascade.json", to_plain(CascadeCard(cards, tolerance, promised)))
        overrides = [f"simulator.directory={tmp_path}"]
    simulator = instantiate(composed("simulate", f"simulator={name}", "inputs=x", *overrides).simulator)
    if name in PRETRAINED and not has_environment(PRETRAINED[name]):
        with pytest.raises(InputError, match="make teachers"):
            _ = simulator.fingerprint
        return
    assert isinstance(simulator, Simulator)
    assert len(simulator.fingerprint) == 64


@pytest.mark.parametrize("name", names("model"))
def test_a_surrogate_is_described(name: str) -> None:
    node = composed("train", f"model={name}", "data.file=x", "data.target=y").model
    config = FAMILIES[node.kind].task.model_settings(node)
    assert config.ensemble >= 1
    assert from_plain(type(config), json.loads(json.dumps(to_plain(config)))) == config


def test_an_unknown_architecture_or_key_is_named() -> None:
    with pytest.raises(InputError, match="no architecture 'nequip'; there are painn, ace"):
        PotentialTask.model_settings(composed("train", "model=painn", "model.network.architecture=nequip").model)
    with pytest.raises(InputError, match="degree"):
        PotentialTask.model_settings(composed("train", "model=painn", "+model.network.degree=3").model)


@pytest.mark.parametrize("name", names("train"))
def test_a_recipe_is_one(name: str) -> None:
    config = composed("train", f"train={name}", "data.file=x", "data.target=y")
    assert build(TrainConfig, config.train, where="train").epochs > 0


@pytest.mark.parametrize("name", names("objective"))
def test_an_objective_is_one(name: str) -> None:
    config = composed("pipeline", f"objective={name}", "task=molecules")
    build(Objective, config.objective, where="objective")


#: The tasks and studies that `understudy train` takes; task=molecules is one of `understudy pipeline`.
TRAININGS = [f"{group}={name}" for group in ("task", "study") for name in options_of(group) if name != "molecules"]


@functools.cache
def training_of(choice: str) -> DictConfig:
    """What `understudy train` composes for a task or study, with the settings of Hydra; not to be changed."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [choice], return_hydra_config=True)


@pytest.mark.parametrize("choice", TRAININGS)
def test_a_task_or_study_describes_a_training_of_its_kind(choice: str) -> None:
    config = copy.deepcopy(training_of(choice))
    task = FAMILIES[config.model.kind].task
    assert config.model.kind == task.KIND
    assert task.model_settings(config.model).ensemble >= 1
    needed = [key for key in ("file", "train", "target") if OmegaConf.is_missing(config.data, key)]
    for key in needed:
        config.data[key] = "x"
    assert type(build(task.DATA, config.data, where="data")) is task.DATA
    build(TrainConfig, config.train, where="train")


def test_the_task_on_meshes_learns_drag_and_lift_too() -> None:
    config = composed("train", "task=fluids/meshes", "data.file=x")
    assert build(FAMILIES["meshes"].task.DATA, config.data, where="data").scalars == ["drag", "lift"]
    assert FAMILIES["meshes"].task.model_settings(config.model).network.blocks > 1


@pytest.mark.parametrize("name", names("source"))
def test_a_source_of_states_is_one(name: str) -> None:
    more = ["source.surrogate=y"] if name == "drift" else []
    source = instantiate(composed("windows", f"source={name}", "source.path=x", *more).source)
    assert source.path == "x"


@pytest.mark.parametrize("name", names("forecasts"))
def test_an_evaluation_of_forecasts_is_one(name: str) -> None:
    node = composed("evaluate", "surrogate=x", f"forecasts={name}", "forecasts.file=x").forecasts
    assert build(ForecastEvaluation, node, where="forecasts").references


#: Each kind of drawn requests with a simulator that takes them.
DRAWN = {
    "fourier": "kdv",
    "burgers": "burgers",
    "matern": "navier_stokes",
    "blobs": "gray_scott",
    "body": "openfoam_body",
    "cavity": "openfoam_cavity",
    "channel": "openfoam",
    "step": "openfoam_step",
    "turbulent_step": "openfoam_turbulent_step",
    "drag": "ngsolve",
    "seeds": "held_suarez",
    "analysis": "held_suarez",
    "jet": "shallow_water",
    "windows": "held_suarez",
    **dict.fromkeys(("uniform", "lhs", "sobol", "grid"), "openfoam_step"),
}
#: Ranges for a sampling that has none.
RANGES = "sampling.ranges={velocity: {low: 0.5, high: 1.5, log: true}, step: {low: 0.3, high: 0.6}}"


def an_analysis(path: Path) -> Path:
    """A file of an isothermal atmosphere at rest, at three pressure levels of a coarse grid."""
    coords = {"level": [100, 500, 1000], "latitude": np.linspace(-75, 75, 6), "longitude": np.arange(0, 360, 30)}
    shape = [len(v) for v in coords.values()]
    fields = {name: np.zeros(shape) for name in ("u_component_of_wind", "v_component_of_wind")}
    fields |= {"temperature": np.full(shape, 280.0), "surface_pressure": np.full(shape[1:], 1e5)}
    dims = {3: tuple(coords), 2: ("latitude", "longitude")}
    xr.Dataset({k: (dims[v.ndim], v) for k, v in fields.items()}, coords).to_netcdf(path, engine="scipy")
    return path


def states_of(analysis: Path, path: Path) -> Path:
    """Windows of atmospheres that grow warmer."""
    with xr.open_dataset(analysis) as data:
        times = np.datetime64("2001-01-01", "ns") + np.arange(40) * np.timedelta64(24, "h")
        states = data.load().expand_dims(time=times).copy(deep=True)
    states["temperature"] = states["temperature"] + xr.DataArray(0.1 * np.arange(40), {"time": times})
    channels = [WeatherChannel(name, level) for name in ("temperature", *WINDS) for level in (100.0, 500.0, 1000.0)]
    grid = WeatherGrid(*(tuple(float(v) for v in states[d].values) for d in ("latitude", "longitude")))
    layout = WeatherLayout(grid, (*channels, WeatherChannel("surface_pressure")), step_hours=24.0, calendar=False)
    write_windows(path, [Segment.of(states)], layout, fingerprint="f" * 64)
    return path


@pytest.mark.parametrize("name", names("sampling"))
def test_drawn_requests_fit_their_simulator_and_go_on_from_fewer(name: str, tmp_path: Path) -> None:
    # A sampling that is named after its simulator needs no line in the table.
    simulator = DRAWN.get(name, name)
    if simulator.startswith("openfoam") and shutil.which("icoFoam") is None:
        pytest.skip("OpenFOAM is not installed; `make openfoam` installs it")
    choices = [f"simulator={simulator}", f"sampling={name}"]
    if name == "analysis":
        choices += ["simulator.start=state", f"sampling.initial.path={an_analysis(tmp_path / 'a.nc')}"]
    if name == "windows":
        path = states_of(an_analysis(tmp_path / "a.nc"), tmp_path / "windows")
        choices += ["simulator.start=state", f"sampling.initial.path={path}"]
    if name in ("uniform", "lhs", "sobol", "grid"):
        choices.append(RANGES)
    size = 25 if name == "grid" else 3
    config = composed("simulate", *choices, f"sampling.count={size}")
    solver = instantiate(config.simulator)
    drawn, count = draw_requests(config.sampling, solver)
    requests = list(drawn)
    assert count == len(requests) == size
    for request in requests:
        check(request, solver.spec.inputs, sizes=solver.spec.sizes)
    assert len({input_hash(request) for request in requests}) == size
    if config.sampling.get("method") in ("lhs", "grid"):
        return
    fewer = composed("simulate", *choices, "sampling.count=2").sampling
    assert [input_hash(r) for r in draw_requests(fewer, solver)[0]] == [input_hash(r) for r in requests[:2]]


@pytest.mark.parametrize("name", names(""))
def test_a_stage_composes(name: str) -> None:
    assert composed(name).stage == name


#: Choice of an earlier version -> the stage that takes it and the present choice.
EARLIER = {
    "molecules": ("pipeline", "task=molecules"),
    "molecules/graph": ("train", "task=molecules/properties"),
    "molecules/forces": ("train", "task=molecules/few_labels"),
    "fluids/trajectory": ("train", "task=fluids/trajectories"),
    "fluids/field": ("train", "task=fluids/fields"),
    "fluids/mesh": ("train", "task=fluids/meshes"),
    "fluids/drag": ("train", "task=fluids/drag"),
    "fluids/apebench": ("train", "study=fluids/apebench"),
    "fluids/darcy": ("train", "study=fluids/darcy"),
    "fluids/navier_stokes": ("train", "study=fluids/navier_stokes"),
    "weather/forecast": ("train", "task=weather/forecasts"),
    "weather/held_suarez": ("train", "study=weather/held_suarez"),
    "weather/t2m_uk": ("train", "study=weather/t2m_uk"),
}


def test_earlier_names_of_experiments_choose_the_same_settings() -> None:
    assert set(EARLIER) == set(options_of("experiment"))
    default = {stage: composed(stage, "run.dir=r") for stage in ("pipeline", "train")}
    for name, (stage, present) in EARLIER.items():
        config = composed(stage, f"experiment={name}", "run.dir=r")
        assert config == composed(stage, present, "run.dir=r"), name
        # That task is the default of its stage.
        assert (config == default[stage]) == (name == "molecules/graph"), name


def test_a_group_of_data_or_of_training_has_the_word_of_its_kind() -> None:
    trained = {kind for kind, family in FAMILIES.items() if family.trained}
    assert set(names("data")) == trained
    assert trained <= set(names("train"))
    for choice in TRAININGS:
        config = training_of(choice)
        choices = config.hydra.runtime.choices
        assert choices["data"] == choices["train"] == config.model.kind, choice


@pytest.mark.parametrize(("group", "earlier"), [(g, name) for g, rows in CHOICES.items() for name in rows])
def test_an_earlier_choice_names_the_present_one(group: str, earlier: str) -> None:
    present = CHOICES[group][earlier]
    assert present in names(group)
    assert earlier not in names(group)
    error = missing_choice(group, earlier, names(group))
    assert str(error) == f"{group}: the choice {earlier} is called {present} now. Write {group}={present}"


@pytest.mark.parametrize("earlier", RENAMED)
def test_an_earlier_word_of_a_kind_names_the_present_one(earlier: str) -> None:
    config = composed("train", f"model.kind={earlier}")
    with pytest.raises(InputError, match=rf"^model.kind: this kind is called {RENAMED[earlier]} now"):
        task_of(config)


def test_the_pipeline_builds_all_its_parts() -> None:
    config = composed("pipeline", "task=molecules")
    for node in (config.cheap, config.expensive):
        assert set(config.targets) <= {v.name for v in instantiate(node.simulator).spec.outputs}
        build(CampaignConfig, node.campaign, where="campaign")


def test_a_wrong_key_or_type_is_named() -> None:
    with pytest.raises(InputError, match="colour"):
        build(TrainConfig, OmegaConf.create({"colour": "red"}), where="train")
    with pytest.raises(InputError, match="epochs"):
        build(TrainConfig, OmegaConf.create({"epochs": "many"}), where="train")


def options(node: DictConfig) -> set[str]:
    return {str(key) for key in node}


def test_every_option_can_be_set_because_its_file_lists_it() -> None:
    for name in names("train"):
        node = composed("train", f"train={name}", "data.file=x", "data.target=y").train
        assert options(node) == {f.name for f in fields(TrainConfig)}, name
    for name in names("objective"):
        node = composed("pipeline", f"objective={name}", "task=molecules").objective
        assert options(node) == {f.name for f in fields(Objective)}, name
    assert options(composed("simulate").campaign) == {f.name for f in fields(CampaignConfig)}
    for name in ("simulate", "pipeline"):
        assert options(composed(name).conformers) == {f.name for f in fields(ConformerConfig)}, name
    for choice in TRAININGS:
        config = training_of(choice)
        data = FAMILIES[config.model.kind].task.DATA
        assert options(config.data) == {f.name for f in fields(data)}, choice


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("pipeline", PipelineSettings),
        ("simulate", SimulateSettings),
        ("train", TrainSettings),
        ("evaluate", EvaluateSettings),
        ("forecast", ForecastStageSettings),
        ("predict", PredictSettings),
        ("grow", GrowSettings),
        ("prune", PruneSettings),
        ("distil", DistilSettings),
        ("prepare", PrepareSettings),
        ("report", ReportSettings),
        ("calibrate", CalibrateSettings),
        ("screen", ScreenSettings),
        ("serve", ServeSettings),
        ("windows", WindowsSettings),
    ],
)
def test_the_keys_of_a_stage_are_those_that_its_code_knows(stage: str, settings: type) -> None:
    # A group of which nothing need be chosen is there once something is.
    optional = {
        "train": ["simulator@baseline=xtb", "launcher=submitit"],
        "distil": ["simulator=xtb", "sampling=fourier"],
        "simulate": ["sampling=fourier", "launcher=submitit"],
        "prepare": ["launcher=submitit"],
        "screen": ["launcher=submitit"],
        "evaluate": ["comparison=burgers", "forecasts=held_out"],
        "grow": ["model=painn"],
        "prune": ["model=painn"],
    }
    chosen = optional.get(stage, [])
    assert options(composed(stage, *chosen)) == {f.name for f in fields(settings)}


def test_windows_are_changed_and_added_as_the_help_says() -> None:
    added = composed("pipeline", "objective.windows.gap=[2,9]", "+objective.windows.energy=[-9,0]").objective
    assert read_objective(added).windows == {"gap": [2, 9], "energy": [-9, 0]}
    for stage in ("pipeline", "screen"):
        assert "+objective.windows." in (CONF / f"{stage}.yaml").read_text()


def test_every_file_says_what_it_is() -> None:
    for path in Path(CONF).rglob("*.yaml"):
        lines = path.read_text().splitlines()
        assert lines[0].startswith("#"), path
