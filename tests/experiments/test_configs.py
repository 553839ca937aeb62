"""Every configuration composes, and builds the object that it describes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from data.errors import InputError
from experiments.forces import potential_config
from experiments.screening import Objective
from experiments.stage import CONF, build, instantiate
from experiments.train import molecular_config
from simulators.base import Simulator
from simulators.campaign import CampaignConfig
from surrogates.graph.facts import PotentialConfig
from surrogates.train import TrainConfig


def names(folder: str) -> list[str]:
    return sorted(p.stem for p in (CONF / folder).glob("*.yaml"))


def composed(config: str, *overrides: str, root: str = ""):  # type: ignore[no-untyped-def]
    with initialize_config_dir(str(CONF / root), version_base="1.3"):
        return compose(config, list(overrides))


@pytest.mark.parametrize("name", names("simulator"))
def test_a_simulator_is_built(name: str) -> None:
    simulator = instantiate(composed("simulate", f"simulator={name}", "inputs=x").simulator)
    assert isinstance(simulator, Simulator)
    assert len(simulator.fingerprint) == 64


@pytest.mark.parametrize("name", names("surrogate"))
def test_a_surrogate_is_described(name: str) -> None:
    node = composed("train", f"surrogate={name}", "data.file=x", "data.target=y").surrogate
    if node.kind == "molecular":
        assert molecular_config(node).ensemble >= 1
    else:
        config = potential_config(node)
        assert config.ensemble >= 1
        assert PotentialConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_an_unknown_architecture_or_key_is_named() -> None:
    with pytest.raises(InputError, match="no architecture 'nequip'; there are painn, ace"):
        potential_config(composed("train", "surrogate=painn", "surrogate.network.architecture=nequip").surrogate)
    with pytest.raises(InputError, match="degree"):
        potential_config(composed("train", "surrogate=painn", "+surrogate.network.degree=3").surrogate)


@pytest.mark.parametrize("name", names("train"))
def test_a_recipe_is_one(name: str) -> None:
    config = composed("train", f"train={name}", "data.file=x", "data.target=y")
    assert build(TrainConfig, config.train, where="train").epochs > 0


@pytest.mark.parametrize("name", names("common/objective"))
def test_an_objective_is_one(name: str) -> None:
    config = composed("pipeline", f"objective={name}", "experiment=molecules")
    build(Objective, config.objective, where="objective")


@pytest.mark.parametrize("experiment", ["molecules/graph", "molecules/forces"])
def test_an_experiment_composes(experiment: str) -> None:
    config = composed("train", f"experiment={experiment}")
    assert config.surrogate.kind in ("molecular", "potential")


@pytest.mark.parametrize("name", names("apply"))
def test_a_stage_that_applies_a_surrogate_composes(name: str) -> None:
    assert composed(name, root="apply").stage == name


def test_the_pipeline_builds_all_its_parts() -> None:
    config = composed("pipeline", "experiment=molecules")
    for node in (config.cheap, config.dear):
        assert set(config.targets) <= {v.name for v in instantiate(node.simulator).spec.outputs}
        build(CampaignConfig, node.campaign, where="campaign")


def test_a_wrong_key_or_type_is_named() -> None:
    with pytest.raises(InputError, match="colour"):
        build(TrainConfig, OmegaConf.create({"colour": "red"}), where="train")
    with pytest.raises(InputError, match="epochs"):
        build(TrainConfig, OmegaConf.create({"epochs": "many"}), where="train")


def test_every_file_says_what_it_is() -> None:
    for path in Path(CONF).rglob("*.yaml"):
        lines = path.read_text().splitlines()
        assert lines[0].startswith("#"), path
