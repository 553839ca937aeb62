"""Every key and every choice of every stage is used or refused."""

from __future__ import annotations

import ast
import dataclasses
import json
import typing
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from forked_commands import endings
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from data.errors import InputError
from experiments.active.active_learning import ActiveConfig
from experiments.application.choices import CONF, groups, options
from experiments.application.renamed import refuse_renamed
from experiments.application.stage import RunDirectory
from experiments.application.strict import explained, refuse_unused
from experiments.campaigns.sampled import Sampling
from experiments.cli import STAGES
from experiments.experts.growing import GrowConfig
from experiments.experts.members import OldFiles
from experiments.experts.pruning import PruneConfig
from experiments.forecasting.forecast_evaluation import ForecastEvaluation
from experiments.pipelines.settings import PipelineSettings
from experiments.screening.design_recheck import RecheckSettings
from experiments.screening.library_screen import Objective
from experiments.stages.active import ActiveSettings
from experiments.stages.calibrate import CalibrateSettings
from experiments.stages.distil import DistilSettings
from experiments.stages.evaluate import EvaluateSettings, unused_in_evaluation
from experiments.stages.grow import GrowSettings, unused_in_growing
from experiments.stages.pipeline import unused_in_pipeline
from experiments.stages.predict import unused_in_prediction
from experiments.stages.prepare import PrepareSettings, unused_in_preparation
from experiments.stages.prune import PruneSettings
from experiments.stages.report import ReportSettings
from experiments.stages.screen import ScreenSettings, unused_in_screen
from experiments.stages.serve import ServeSettings, unused_in_serving
from experiments.stages.simulate import SimulateSettings, unused_in_simulation
from experiments.stages.train import TrainSettings, unused_in_training
from experiments.stages.windows import WindowsSettings
from simulators.campaigns.campaign import CampaignConfig
from simulators.chemistry.conformers import ConformerConfig
from surrogates.cascade.risk_calibration import Risk
from surrogates.family import FAMILIES
from surrogates.learning.loop import TrainConfig
from surrogates.mixture.facts import MixtureConfig
from surrogates.potentials.tuning import TuneConfig


def composed(stage: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(stage, list(overrides))


def misspelt() -> list[tuple[str, str, str]]:
    """Stage, group, and an option of it."""
    choices = [(stage, group, options(group)[-1]) for stage in STAGES for group in groups(stage) if options(group)]
    return [*choices, ("pipeline", "task", "molecules"), ("train", "experiment", "molecules/graph")]


def test_a_misspelt_choice_is_refused_by_every_stage_and_the_right_one_offered(tmp_path: Path) -> None:
    asked = []
    for stage, group, option in misspelt():
        required = {
            "evaluate": ["surrogate=x"],
            "screen": ["surrogate=x", "candidates=x"],
            "windows": ["out=x"],
            "grow": ["surrogate=x", "out=x"],
            "prune": ["surrogate=x", "out=x"],
            "distil": ["teacher=x", "inputs=x", "out=x"],
            "forecast": ["surrogate=x", "out=x"],
        }
        asked.append([stage, *required.get(stage, []), f"{group}={option[:-2]}{option[-1]}{option[-2]}", "run.dir=r"])
    assert len(asked) > 20
    for arguments, (stage, group, option), (status, said) in zip(
        asked, misspelt(), endings(asked, tmp_path), strict=True
    ):
        assert status == 2, (arguments, said)
        assert len(said.strip().splitlines()) == 1, (arguments, said)
        assert "no choice" in said, (stage, group, said)
        assert option in said.partition("There are")[0], (arguments, said)


#: What the code of each part of a configuration is built into.
SETTINGS: tuple[type, ...] = (
    *(GrowSettings, PruneSettings, OldFiles, GrowConfig, PruneConfig, MixtureConfig),
    *(TrainSettings, EvaluateSettings, PrepareSettings, ReportSettings, ScreenSettings, SimulateSettings),
    *(CalibrateSettings, Risk, ServeSettings, DistilSettings),
    *(WindowsSettings, PipelineSettings, ActiveSettings, ActiveConfig),
    *(TuneConfig, TrainConfig, RecheckSettings, Sampling, Objective, CampaignConfig),
    *(family.task.DATA for family in FAMILIES.values()),
    *(ConformerConfig, ForecastEvaluation),
)


def read_names(root: Path) -> tuple[set[str], set[str]]:
    """Attributes that the code reads anywhere, and its words, by which it may read a group."""
    names: set[str] = set()
    words: set[str] = set()
    for package in ("data", "simulators", "surrogates", "experiments"):
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    names.add(node.attr)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    words.add(node.value)
    return names, words


def test_every_setting_is_read_by_some_code(repository: Path) -> None:
    names, words = read_names(repository)
    # Hydra reads the directory of a run, by interpolation.
    waiting, seen = list(SETTINGS), {RunDirectory}
    while waiting:
        kind = waiting.pop()
        if kind in seen:
            continue
        seen.add(kind)
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            allowed = names | words if hints[field.name] is typing.Any else names
            assert field.name in allowed, f"{kind.__name__}.{field.name} is never read"
            if dataclasses.is_dataclass(hints[field.name]):
                waiting.append(typing.cast(type, hints[field.name]))


#: Tasks of `understudy train` by the kind of surrogate, and the keys that it makes no use of.
OF_POTENTIALS = ["tune.head=a", "tune.frozen_body=true", "+tune.replay.main=a.xyz"]
TRAINED: dict[str, list[str]] = {
    "task=molecules/properties": ["tune.surrogate=a", *OF_POTENTIALS, "simulator@baseline=xtb", "rung.store=a"],
    "task=fluids/fields": ["tune.surrogate=a", *OF_POTENTIALS, "simulator@baseline=xtb", "rung.store=a"],
    "task=fluids/meshes": ["tune.surrogate=a", *OF_POTENTIALS, "simulator@baseline=xtb", "rung.store=a"],
    "task=fluids/drag": ["tune.surrogate=a", *OF_POTENTIALS, "simulator@baseline=xtb", "rung.store=a"],
    "task=weather/forecasts": [*OF_POTENTIALS, "simulator@baseline=xtb", "rung.store=a"],
    "task=molecules/potentials": ["tune.frozen_body=true", "+tune.replay.main=a.xyz", "rung.store=a"],
}


@pytest.mark.parametrize("task", TRAINED)
def test_a_training_refuses_what_its_kind_makes_no_use_of(task: str) -> None:
    for override in [*TRAINED[task], "devices.processes=2", "devices.coordinator=a:1"]:
        config = composed("train", task, override)
        with pytest.raises(InputError, match="is not used"):
            refuse_unused([task, override], unused_in_training(config))
    used = ["train.epochs=3", "run.dir=r", "data.seed=1", "tune.surrogate=null", "devices.distributed=false"]
    refuse_unused([task, *used], unused_in_training(composed("train", task)))


def test_what_the_weights_fix_cannot_be_set_beside_them(tmp_path: Path) -> None:
    old = OmegaConf.to_container(composed("train", "task=molecules/potentials").model)
    assert isinstance(old, dict)
    # A card holds the entries of the loss beside the others.
    settings = {k: v for k, v in old.items() if k not in ("kind", "loss")} | old["loss"] | {"repulsion": True}
    write_card(tmp_path, {"kind": "potentials", "facts": {"config": settings}})

    def refuse(*overrides: str) -> None:
        arguments = ["task=molecules/potentials", f"tune.surrogate={tmp_path}", *overrides]
        refuse_unused(arguments, unused_in_training(composed("train", *arguments)))

    refuse()
    refuse("model=painn", f"model.network.features={old['network']['features']}", "tune.frozen_body=true")
    for override in (
        "model=ace",
        "model.network.features=17",
        "model.ensemble=7",
        "model=painn_ensemble",
    ):
        with pytest.raises(InputError, match=r"is not used: the weights of tune\.surrogate hold"):
            refuse(override)


def write_card(folder: Path, card: Mapping[str, object]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "surrogate.json").write_text(json.dumps({"format": 1, **card}))
    return folder


#: stage -> (kind of surrogate or of input, arguments, those that are refused).
APPLICATIONS: list[tuple[str, str, list[str], list[str]]] = [
    ("evaluate", "properties", ["data.smiles=a", "data.target=b"], ["head=a"]),
    ("evaluate", "parameters", ["data.target=b"], ["head=a", "data.smiles=a"]),
    ("evaluate", "potentials", ["head=a", "data.energy_key=e"], ["data.smiles=a", "data.target=b"]),
    ("evaluate", "fields", ["data.test=[a]"], ["head=a", "data.smiles=a", "data.target=b", "data.energy_key=e"]),
    ("evaluate", "meshes", ["data.test=[a]"], ["head=a", "data.smiles=a", "data.target=b"]),
    ("evaluate", "forecasts", ["forecasts=held_out"], ["head=a", "data.smiles=a", "data.target=b", "data.test=[a]"]),
    (
        "screen", "properties", ["candidates=a.csv", "smiles=a", "workers=2"],
        ["recheck.simulator=ngsolve", "recheck.top=3", "sampling.count=3", "+sampling.ranges.a={low: 1, high: 2}"],
    ),
    ("screen", "properties", ["candidates=a.smi"], ["smiles=a"]),
    ("screen", "parameters", ["candidates=a.csv"], ["smiles=a", "workers=2", "sampling.seed=1", "recheck.top=2"]),
    ("screen", "parameters", ["candidates=sampled", "sampling.count=9", "recheck.simulator=ngsolve"], ["smiles=a"]),
    ("screen", "parameters", ["candidates=a.csv", "columns=[a]"], []),
    ("screen", "parameters", ["candidates=sampled"], ["columns=[a]"]),
    ("predict", "properties", ["inputs=a.csv", "out=o", "smiles=a", "columns=[a]", "target=b", "workers=2"], []),
    ("predict", "properties", ["inputs=a.smi", "out=o"], ["smiles=a"]),
    ("predict", "parameters", ["inputs=a.csv", "out=o", "target=b"], ["smiles=a", "workers=2"]),
    ("predict", "potentials", ["inputs=a.xyz", "out=o", "head=a", "charge_key=q"], ["dims=[sample,x]", "smiles=a"]),
    ("serve", "properties", ["workers=1", "largest=30"], ["head=a", "neighbours=9"]),
    ("serve", "parameters", ["port=0"], ["largest=30", "workers=1", "standardise=[neutral]"]),
    ("serve", "potentials", ["head=a", "largest=30", "neighbours=9"], ["workers=1"]),
    ("predict", "fields", ["inputs=a.npz", "out=o", "dims=[sample,x]"], ["smiles=a", "columns=[a]", "target=b"]),
    (
        "simulate", "", ["sampling=fourier", "simulator=burgers"],
        ["inputs=a.smi", "smiles=a", "limit=3", "conformers.seed=1"],
    ),
    ("simulate", "", ["inputs=a.csv", "smiles=a", "conformers.seed=1"], []),
    ("simulate", "", ["inputs=a.smi", "limit=3"], ["smiles=a", "charge_key=q"]),
    ("simulate", "", ["inputs=a.xyz", "charge_key=q"], ["smiles=a", "conformers.n_conformers=3"]),
    ("prepare", "", ["candidates=a.smi", "out=o"], ["smiles=a"]),
    ("grow", "potentials", ["out=o", "replay=3", "old.train=[a.xyz]", "route.certain=0.5"], []),
    ("grow", "potentials", ["out=o", "model=painn"], ["replay=3"]),
    ("grow", "mixture", ["out=o", "replay=3"], ["old.train=[a.xyz]", "route.certain=0.5"]),
    ("prepare", "", ["candidates=a.csv", "out=o", "smiles=a"], []),
    ("pipeline", "", ["library.size=9"], ["smiles=a"]),
    ("pipeline", "", ["candidates=a.csv", "smiles=a"], ["library.size=9"]),
]  # fmt: skip
UNUSED: dict[str, Callable[[DictConfig], Mapping[str, str]]] = {
    "evaluate": unused_in_evaluation,
    "screen": unused_in_screen,
    "predict": unused_in_prediction,
    "serve": unused_in_serving,
    "simulate": unused_in_simulation,
    "prepare": unused_in_preparation,
    "grow": unused_in_growing,
    "pipeline": unused_in_pipeline,
}


@pytest.mark.parametrize(
    ("stage", "kind", "used", "unused"), APPLICATIONS, ids=[" ".join(map(str, case[:3])) for case in APPLICATIONS]
)
def test_a_stage_refuses_what_it_makes_no_use_of(
    stage: str, kind: str, used: list[str], unused: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "a.smi", "a.xyz"):
        (tmp_path / name).write_text("C\n")
    if kind:
        used = [*used, f"surrogate={write_card(tmp_path / 'surrogate', {'kind': kind})}"]
    refuse_unused(used, UNUSED[stage](composed(stage, *used)))
    for override in unused:
        with pytest.raises(InputError, match="is not used"):
            refuse_unused([*used, override], UNUSED[stage](composed(stage, *used, override)))


def test_the_keys_of_active_learning_are_those_that_its_code_knows() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("active", ["start=C"])
    assert {str(key) for key in config} == {f.name for f in dataclasses.fields(ActiveSettings)}


@pytest.mark.parametrize(
    ("stage", "argument", "group"),
    [
        ("grow", "model.network.features=8", "model"),
        ("evaluate", "comparison.count=2", "comparison"),
        ("simulate", "sampling.count=2", "sampling"),
        ("train", "baseline.method=hf", "simulator@baseline"),
    ],
)
def test_a_key_of_a_group_without_a_choice_says_what_to_choose(stage: str, argument: str, group: str) -> None:
    with pytest.raises(HydraException) as raised:
        composed(stage, argument)
    said = str(explained(raised.value, [argument]))
    assert said.startswith(f"{argument.partition('=')[0]}: no {group} is chosen")
    assert f"Write {group}=NAME" in said
    assert "Did you mean" not in said


@pytest.mark.parametrize("stage", ["grow", "prune"])
def test_a_network_is_chosen_beside_the_directory_of_a_surrogate(stage: str) -> None:
    config = composed(stage, "surrogate=runs/two", "out=runs/three", "model=ace_small")
    refuse_renamed(config, ["surrogate=runs/two", "model=ace_small"])
    with pytest.raises(InputError, match="called model"):
        refuse_renamed({"surrogate": {"ensemble": 2}, "model": {}}, [])
