"""Runs of an earlier version, whose keys, kinds and classes had other names, resume and serve as before.

`tests/saved/runs/` holds the configurations that the earlier version wrote.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from data.errors import InputError
from data.plain import flat_entries, to_plain
from experiments.application.choices import CONF
from experiments.application.renamed import GROUPED, TARGETS, present_config, refuse_moved
from experiments.application.run_directory import run_directory
from experiments.application.stage import instantiate
from experiments.application.targets import targets
from experiments.application.yaml_files import load_yaml, read_yaml
from experiments.campaigns.named_simulator import named_simulator
from experiments.pages.run_files import load_run
from surrogates.family import FAMILIES

SAVED = Path(__file__).parents[2] / "saved" / "runs"


def composed(stage: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(stage, [*overrides, "run.dir=run"])
    assert isinstance(config, DictConfig)
    return config


#: Present name of a class -> earlier ones.
CLASSES = {"CampaignStates": ("Campaign",), "BodyInChannel": ("Body",), "LabelTable": ("Table",)}


@pytest.mark.parametrize("old", TARGETS)
def test_a_moved_class_is_where_the_table_says_and_nowhere_else(old: str) -> None:
    present = TARGETS[old]
    module, _, name = present.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    assert inspect.isclass(cls)
    assert f"{cls.__module__}.{cls.__qualname__}" == present
    assert present in targets()
    assert old not in targets()
    assert old.rpartition(".")[2] in (name, *CLASSES.get(name, ()))
    old_module = old.rpartition(".")[0]
    try:
        spec = importlib.util.find_spec(old_module)
    except ModuleNotFoundError:
        spec = None
    assert spec is None or not hasattr(importlib.import_module(old_module), old.rpartition(".")[2])


#: Saved configuration -> the stage that wrote it and the present command.
COMMANDS: dict[str, tuple[str, list[str]]] = {
    "train": ("train", ["task=molecules/properties", "data.file=labels.csv", "data.target=gap"]),
    "forecaster": ("train", ["task=weather/forecasts", "data.file=windows"]),
    # The defaults of some numbers are others now, so that the command gives those of the run.
    "pipeline": (
        "pipeline",
        [
            "task=molecules",
            "candidates=my.csv",
            "objective=small_gap",
            "expensive.train=80",
            "expensive.curve=[10,20,40]",
            "cheap.simulator.outputs=[energy,gap,dipole_moment]",
        ],
    ),
    # Potentials repel at short range and see no distance below those of training by default now.
    "active": ("active", ["start=CCO", "model.repulsion=false", "model.distance_floor=0"]),
    "simulate_core": ("simulate", ["simulator=held_suarez", "sampling=analysis"]),
    "simulate_ngsolve": ("simulate", ["simulator=ngsolve", "sampling=drag"]),
    "simulate_pyscf": ("simulate", ["simulator=pyscf", "inputs=a.csv"]),
    "windows": ("windows", ["source=campaign", "source.path=core", "out=w"]),
    "drift": ("windows", ["source=drift", "source.path=w", "source.surrogate=s", "out=w2"]),
}


def test_every_saved_configuration_is_tried() -> None:
    assert {path.stem for path in SAVED.glob("*.yaml")} == set(COMMANDS)


def run_of_before(name: str, folder: Path) -> Path:
    folder.mkdir()
    shutil.copy(SAVED / f"{name}.yaml", folder / "config.yaml")
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_the_same_command_resumes_a_run_of_before(name: str, tmp_path: Path) -> None:
    stage, arguments = COMMANDS[name]
    run = run_of_before(name, tmp_path / "run")
    with run_directory(composed(stage, *arguments), run, stage):
        pass
    after = read_yaml(run / "config.yaml", remedy="")
    assert after == present_config(after), "the run now has the present names"


#: Saved configuration -> an argument that makes other results.
CHANGES = {
    "train": "model.network.features=17",
    "forecaster": "model=icosahedral_mesh",
    "pipeline": "model.ensemble=9",
    "active": "simulator=xtb",
    "simulate_core": "simulator.levels=3",
    "simulate_pyscf": "simulator=xtb",
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_settings_than_those_of_before_are_refused(name: str, tmp_path: Path) -> None:
    stage, arguments = COMMANDS[name]
    run = run_of_before(name, tmp_path / "run")
    config = composed(stage, *arguments, CHANGES[name])
    with pytest.raises(InputError, match="the run here was made with"), run_directory(config, run, stage):
        pass


#: Kind -> a choice of a network of that kind.
NETWORKS = {"potentials": "painn", "fields": "fno", "forecasts": "latlon_conv"}


@pytest.mark.parametrize("kind", GROUPED)
def test_a_key_that_moved_into_a_group_is_where_the_table_says(kind: str) -> None:
    # Cards keep the earlier keys, so the settings know them too.
    task = FAMILIES[kind].task
    model = composed("train", f"model={NETWORKS[kind]}").model
    settings = task.model_settings(model)
    assert flat_entries(type(settings)) == GROUPED[kind]
    written = to_plain(settings)
    for earlier, present in GROUPED[kind].items():
        group, name = present.split(".")
        assert written[earlier] == model[group][name]
        with pytest.raises(InputError, match=rf"^model\.{earlier}: this key is called model\.{present} now"):
            task.model_settings({**model, earlier: "2"})
        if group not in GROUPED[kind]:
            with pytest.raises(InputError, match=rf"^model\.{group}: is a group of settings, got 3\. Give model"):
                task.model_settings({**model, group: 3})


def test_settings_of_before_are_read_into_their_groups(tmp_path: Path) -> None:
    before = read_yaml(SAVED / "forecaster.yaml", remedy="")
    model = present_config({**before, "surrogate": {**before["surrogate"], "unroll": 7, "adjust_runs": 3}})["model"]
    settings = FAMILIES["forecasts"].task.model_settings(model)
    assert (settings.loss.unroll, settings.climate.runs) == (7, 3)
    run = run_of_before("forecaster", tmp_path / "run")
    config = composed(*COMMANDS["forecaster"][:1], *COMMANDS["forecaster"][1], "model.loss.unroll=7")
    with pytest.raises(InputError, match=r"model\.loss\.unroll"), run_directory(config, run, "train"):
        pass


@pytest.mark.parametrize("name", ["simulate_core", "simulate_ngsolve", "simulate_pyscf"])
def test_the_simulator_of_a_run_of_before_is_the_same(name: str, tmp_path: Path) -> None:
    stage, arguments = COMMANDS[name]
    run = run_of_before(name, tmp_path / "run")
    simulator = named_simulator(str(run), [], key="recheck.simulator")
    present = instantiate(composed(stage, *arguments).simulator)
    assert simulator.fingerprint == present.fingerprint
    assert type(simulator) is type(present)


def test_a_page_is_made_of_a_run_of_before(tmp_path: Path) -> None:
    run = load_run(run_of_before("pipeline", tmp_path / "run"))
    assert run.config["model"]["kind"] == "properties"
    assert run.config["cheap"]["simulator"]["_target_"] == "simulators.chemistry.xtb.XTB"
    assert run.objective is not None


def test_a_source_of_before_is_built() -> None:
    source = instantiate(load_yaml(SAVED / "windows.yaml", remedy="").source)
    assert type(source).__name__ == "CampaignStates"


def test_active_learning_is_a_command_of_its_own() -> None:
    with pytest.raises(InputError, match="Write understudy active"):
        refuse_moved("pipeline", ["experiment=molecules/active", "start=CCO"])
    refuse_moved("pipeline", ["experiment=molecules"])
