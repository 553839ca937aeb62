"""`understudy grow`: give a trained potential, or a mixture, an expert for new data outside of its domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from data.files import write_json
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import build
from data.terminal import show_pairs
from experiments.application.run_directory import rejects_path
from experiments.application.stage import StageSettings, application, reading_shown
from experiments.experts.growing import GrowConfig, NewExpert, plain, potential_settings, training_recipe
from experiments.experts.growing import grow as grow_members
from experiments.experts.members import OldFiles, name_of, read_members
from surrogates.learning.devices import enable_compilation_cache
from surrogates.learning.learned_from import read_hashes
from surrogates.mixture.facts import MixtureConfig
from surrogates.potentials.task import PotentialTask
from surrogates.potentials.training_frames import PotentialData
from surrogates.saved import read_card, surrogate_directory


@dataclass(frozen=True)
class GrowSettings(StageSettings):
    """The keys of `understudy grow`; groups are checked where they are used."""

    surrogate: str | None = MISSING
    out: str = MISSING
    expert: str | None = None
    outside: float = 0.1
    replay: int = 0
    memory: int = 1000
    seed: int = 0
    old: OldFiles = field(default_factory=OldFiles)
    route: Any = MISSING
    data: Any = MISSING
    train: Any = MISSING
    model: Any = None


def grow(config: DictConfig, run_dir: Path) -> None:
    """Read the new frames, refuse those inside of the domain, train the new expert, and save the grown mixture."""
    settings = build(GrowSettings, config, where="")
    directory = surrogate_directory(settings.surrogate, "surrogate")
    growing = build(GrowConfig, {n: getattr(settings, n) for n in GrowConfig.__dataclass_fields__}, where="")
    route = build(MixtureConfig, plain(config.route), where="route")
    files = build(PotentialData, plain(config.data), where="data").files()
    network = potential_settings(plain(config.get("model")))
    new = NewExpert(settings.expert or name_of(files.train[0]), files, training_recipe(plain(config.train)), network)
    enable_compilation_cache()
    readings: list[Reading] = []
    with RejectLog(rejects_path(run_dir)) as rejects, reading_shown(readings, run_dir):
        members = read_members(
            directory, settings.old, rejects, readings, config=route, most=growing.memory, seed=growing.seed
        )
        data = PotentialTask(files, members.mixture.experts[0].facts.config, new.training).read(rejects, readings)
    grown = grow_members(members, new, data, growing, run_dir)
    grown.members.save(run_dir / "surrogate", [read_hashes(directory), grown.learned])
    write_json(run_dir / "metrics.json", dict(sorted(grown.metrics.items())))
    show_pairs("Grown", {**closing_rows(grown.metrics), "surrogate": run_dir / "surrogate"})


def closing_rows(metrics: Mapping[str, float]) -> dict[str, str]:
    """The rows of the table that ends the stage: what lay outside, errors before and after, loads and costs."""
    shown = [
        name
        for name in metrics
        if name.startswith(("domain/", "growth/", "mixture/", "train/seconds", "train/core_seconds"))
        or (name.startswith(("before/", "after/")) and "_mae_" in name)
    ]
    return {name: f"{metrics[name]:.6g}" for name in shown}


def unused_in_growing(config: DictConfig) -> dict[str, str]:
    """Keys that this growth does not use, with the reason; see `experiments.application.strict`."""
    unused: dict[str, str] = {}
    if config.get("model") is not None:
        unused["replay"] = "a network of fresh weights begins from no old expert"
    if not OmegaConf.is_missing(config, "surrogate"):
        kind = read_card(surrogate_directory(config.surrogate, "surrogate"))["kind"]
        if kind == "mixture":
            unused |= dict.fromkeys(("old", "route"), "the mixture keeps that of its own")
    return unused


main = application("grow", grow, unused=unused_in_growing)
