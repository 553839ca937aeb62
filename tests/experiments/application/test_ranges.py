"""Every number of every configuration has its range, and what lies outside is refused before anything is built."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from data.errors import InputError
from data.molecules.featurise import encode
from data.ranges import RANGES, interval_of, refuse_out_of_range
from data.settings import build
from data.spec import SimulationError
from experiments.active.active_learning import ActiveConfig
from experiments.application.choices import CONF
from experiments.application.stage import instantiate
from experiments.campaigns.sampled import Sampling
from experiments.comparison.solver_comparison import FluidComparison
from experiments.forecasting.forecast_evaluation import ForecastEvaluation
from experiments.pipelines.settings import PipelineSettings
from experiments.screening.design_recheck import RecheckSettings
from experiments.screening.library_screen import Objective
from experiments.stages.active import PARTS
from experiments.stages.prepare import PrepareSettings
from experiments.stages.screen import ScreenSettings
from experiments.stages.serve import ServeSettings
from experiments.stages.simulate import SimulateSettings
from simulators.campaigns.campaign import CampaignConfig
from simulators.chemistry.conformers import ConformerConfig, embed
from simulators.chemistry.xtb import XTB
from surrogates.family import FAMILIES
from surrogates.learning.loop import TrainConfig
from surrogates.potentials.dynamics.dynamics import DynamicsConfig
from surrogates.properties.property_table import read_table

Builder = Callable[[DictConfig], Any]
#: A surrogate of each kind, and one of its numbers.
NETWORKS = {
    "properties": ("mpnn", "network.features"),
    "fields": ("fno", "network.width"),
    "parameters": ("mlp", "width"),
    "meshes": ("meshgraphnet", "ensemble"),
    "forecasts": ("latlon_conv", "damping"),
    "potentials": ("painn", "network.cutoff_angstrom"),
}
#: A number of the group of data of each kind.
DATA = {
    "properties": "seed",
    "potentials": "calibration",
    "fields": "seed",
    "meshes": "seed",
    "parameters": "parts[0]",
    "forecasts": "parts[0]",
}
TASKS = {kind: family.task for kind, family in FAMILIES.items()}


def built(cls: type, where: str) -> Builder:
    return lambda node: build(cls, node, where=where)


def active(config: DictConfig) -> Any:
    return build(ActiveConfig, {name: config[name] for name in PARTS}, where="")


#: Stage, choices, the key of a part ("" for the whole), what builds it, and one of its numbers.
PARTS_BUILT: list[tuple[str, str, str, Builder, str]] = [
    ("simulate", "simulator=xtb", "simulator", instantiate, "electronic_temperature"),
    ("simulate", "simulator=ngsolve", "simulator", instantiate, "body.radius"),
    *(
        ("train", f"model={name}", "model", TASKS[kind].model_settings, number)
        for kind, (name, number) in NETWORKS.items()
    ),
    ("train", "train=properties", "train", built(TrainConfig, "train"), "max_seconds"),
    ("train", "train=properties", "train", built(TrainConfig, "train"), "patience"),
    *(("train", f"data={kind}", "data", built(TASKS[kind].DATA, "data"), number) for kind, number in DATA.items()),
    ("simulate", "sampling=burgers", "sampling", built(Sampling, "sampling"), "ranges.viscosity.low"),
    ("screen", "objective=small_gap", "objective", built(Objective, "objective"), "kappa"),
    ("windows", "source=file", "source", instantiate, "step_hours"),
    ("evaluate", "forecasts=held_out", "forecasts", built(ForecastEvaluation, "forecasts"), "starts"),
    ("evaluate", "comparison=burgers", "comparison", built(FluidComparison, "comparison"), "simulator.dt"),
    ("screen", "", "recheck", built(RecheckSettings, "recheck"), "top"),
    ("simulate", "", "campaign", built(CampaignConfig, "campaign"), "timeout_s"),
    ("simulate", "", "conformers", built(ConformerConfig, "conformers"), "n_conformers"),
    ("simulate", "", "", built(SimulateSettings, ""), "limit"),
    ("pipeline", "", "", built(PipelineSettings, ""), "expensive.train"),
    ("screen", "", "", built(ScreenSettings, ""), "top_k"),
    ("prepare", "", "", built(PrepareSettings, ""), "workers"),
    ("serve", "surrogate=x", "", built(ServeSettings, ""), "port"),
    ("active", "", "", active, "explore.temperature_kelvin"),
]


@pytest.mark.parametrize(
    ("stage", "choice", "key", "builder", "number"),
    PARTS_BUILT,
    ids=[f"{p[0]}-{p[1]}-{p[4]}" for p in PARTS_BUILT],
)
def test_what_is_built_has_its_numbers_in_range(
    stage: str, choice: str, key: str, builder: Builder, number: str
) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(stage, [choice] if choice else [])
    node = config[key] if key else config
    OmegaConf.set_struct(config, False)
    for value in (math.nan, math.inf, -math.inf):
        OmegaConf.update(node, number, value)
        with pytest.raises(InputError, match=number.rpartition(".")[2].removesuffix("[0]")):
            builder(node)


#: Names of keys that are null until they are a number.
NULLABLE = frozenset(
    {"max_seconds", "patience", "workers", "limit", "dt", "dealias", "tolerance", "courant", "step_minutes", "hit"}
    | {"step_hours", "final_energy_weight", "final_forces_weight", "truncation", "processes", "process", "steps"}
)


def numbers(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of the numbers of a plain configuration, indices of lists included."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from numbers(value, (*path, str(key)))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from numbers(value, (*path, str(index)))
    elif (isinstance(node, int | float) and not isinstance(node, bool)) or (node is None and path[-1] in NULLABLE):
        yield path


def in_files() -> Iterator[tuple[str, ...]]:
    """Paths of all numbers of all files, each under the key where its file goes."""
    for path in sorted(CONF.rglob("*.yaml")):
        folder = path.relative_to(CONF).parts[:-1]
        group = [part for part in folder if part not in ("base", "experiment")]
        if folder[:1] == ("experiment",):
            group = []
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        assert isinstance(content, dict)
        plain = {str(key): value for key, value in content.items() if key not in ("hydra", "defaults")}
        yield from (tuple(p for p in (*group, *inner_path) if not p.isdigit()) for inner_path in numbers(plain))


#: Value -> the keys by which a number may be that, of those in the files; `*` is any key.
SENSIBLE: dict[float, str] = {
    -1: "hit kappa windows.* low high parameters.* constants.* grid.* angle x y region",
    math.nan: "",
    math.inf: "windows.*",
    1e9: "epochs validate_every patience max_seconds clip_norm weight_decay checkpoint_every_s noise input_noise seed "
    "energy_weight forces_weight stress_weight scalar_weight final_energy_weight final_forces_weight zonal_weight "
    "spectral_weight day_weights weights.* parts valid calibration train test limit library.size cheap.count "
    "sampling.count comparison.count top_k top random curve retries "
    "expensive.* timeout_s memory_mb scratch_mb give_up_after hit windows.* low high max_iterations max_steps "
    "max_cycles cost_s record_every leash_ev_per_angstrom force_error_mev_per_angstrom rounds_in_row "
    "labels rounds length save_dt dt "
    "growth radius aspect peak reynolds end height maxh body_maxh mean_velocity steady_tolerance courant clearance "
    "repeats parameters.* constants.* grid.* times every angle x y decay amplitude tau alpha step_minutes save_hours "
    "step_hours diffusion_hours mass_tolerance logarithms.*",
}


def test_every_number_of_every_file_is_tried_at_the_edges() -> None:
    paths = set(in_files())
    assert len(paths) > 250
    lacking = sorted(".".join(path) for path in paths if interval_of(path) is None)
    assert not lacking
    for value, keys in SENSIBLE.items():
        sensible = set(keys.split())
        for path in paths:
            rules = sensible & {path[-1], ".".join(path[-2:]), ".".join([*path[-2:-1], "*"])}
            where = ".".join(path[:-1])
            if rules:
                refuse_out_of_range({path[-1]: value}, where)
            else:
                with pytest.raises(InputError, match=path[-1]):
                    refuse_out_of_range({path[-1]: value}, where)


def test_every_value_of_every_file_lies_in_its_range() -> None:
    for path in sorted(CONF.rglob("*.yaml")):
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        assert isinstance(content, dict)
        groups = [part for part in path.relative_to(CONF).parts[:-1] if part not in ("base", "experiment")]
        refuse_out_of_range({k: v for k, v in content.items() if k != "hydra"}, ".".join(groups))


def test_intervals_are_open_and_closed_as_they_are_written() -> None:
    for name, value, refused in [
        ("ema_decay", 0.0, False),
        ("ema_decay", 1.0, True),
        ("learning_rate", 0.0, True),
        ("learning_rate", 1e-12, False),
        ("warmup_fraction", 1.0, False),
        ("warmup_fraction", 1.0001, True),
        ("some_name", 3.0, False),
        ("some_name", -math.inf, True),
    ]:
        if refused:
            with pytest.raises(InputError, match=name):
                refuse_out_of_range({"train": [{name: value}]})
        else:
            refuse_out_of_range({"train": [{name: value}]})
    for written in RANGES.values():
        assert re.fullmatch(r"[\[(]\S+, \S+[\])]", written)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_the_classes_themselves_refuse_what_is_no_limit_and_no_temperature(value: float) -> None:
    for make in (
        lambda: CampaignConfig(timeout_s=value),
        lambda: XTB(electronic_temperature=value),
        lambda: DynamicsConfig(temperature_kelvin=value),
        lambda: TrainConfig(warmup_fraction=value),
        lambda: TrainConfig(weight_decay=value),
    ):
        with pytest.raises((ValueError, InputError)):
            make()
    if not value > 0:
        for make in (lambda: TrainConfig(max_seconds=value), lambda: TrainConfig(checkpoint_every_s=value)):
            with pytest.raises((ValueError, InputError)):
                make()


def test_a_variable_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("smiles,gap\nC,1\n")
    with pytest.raises(InputError, match=r"data\.target: a column is named twice"):
        read_table(tmp_path / "a.csv", "smiles", ["gap", "gap"], [], None)
    (tmp_path / "b.csv").write_text("smiles,gap,gap\nC,1,2\n")
    with pytest.raises(InputError, match="2 columns are named 'gap'"):
        read_table(tmp_path / "b.csv", "smiles", ["gap"], [], None)


@pytest.mark.parametrize("smiles", ["\0CCO", "CCO\0", "CCO\0N"])
def test_a_molecule_has_no_nul_in_it(smiles: str) -> None:
    assert encode([smiles, "CC"])[1] == [(0, "has a NUL byte")]
    with pytest.raises(SimulationError, match="has a NUL byte"):
        embed(smiles, ConformerConfig())
