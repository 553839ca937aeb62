"""`understudy prune`: replace experts of a mixture by one that learned their answers, if every old test allows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from data.files import write_json
from data.settings import build
from data.terminal import show_pairs
from experiments.application.stage import StageSettings, application
from experiments.experts.growing import plain, potential_settings, training_recipe
from experiments.experts.members import saved_members
from experiments.experts.pruning import PruneConfig
from experiments.experts.pruning import prune as prune_members
from surrogates.learning.devices import enable_compilation_cache
from surrogates.learning.learned_from import read_hashes
from surrogates.saved import surrogate_directory


@dataclass(frozen=True)
class PruneSettings(StageSettings):
    """The keys of `understudy prune`; groups are checked where they are used."""

    surrogate: str | None = MISSING
    out: str = MISSING
    tolerance: float = 0.1
    experts: list[str] = field(default_factory=list)
    name: str = "union"
    copies: int = 1
    shake_angstrom: float = 0.03
    valid: float = 0.05
    seed: int = 0
    train: Any = MISSING
    model: Any = None


def prune(config: DictConfig, run_dir: Path) -> None:
    """Distil experts into one, compare it with them on their tests, and save the smaller mixture if it is as good."""
    settings = build(PruneSettings, config, where="")
    directory = surrogate_directory(settings.surrogate, "surrogate")
    pruning = build(PruneConfig, {n: getattr(settings, n) for n in PruneConfig.__dataclass_fields__}, where="")
    network = potential_settings(plain(config.get("model")))
    recipe = training_recipe(plain(config.train))
    enable_compilation_cache()
    pruned = prune_members(saved_members(directory), pruning, network, recipe, run_dir)
    write_json(run_dir / "metrics.json", dict(sorted(pruned.metrics.items())))
    rows: dict[str, Any] = closing_rows(pruned.metrics)
    if pruned.members is None:
        rows["not pruned"] = f"an error grew by more than tolerance={pruning.tolerance:g}; the mixture stays as it is"
    else:
        pruned.members.save(run_dir / "surrogate", [read_hashes(directory)])
        rows["surrogate"] = run_dir / "surrogate"
    show_pairs("Pruned" if pruned.members is not None else "Not pruned", rows)


def closing_rows(metrics: Mapping[str, float]) -> dict[str, Any]:
    """The rows of the table that ends the stage: sizes, errors before and after, use and redundancy."""
    shown = [
        name
        for name in metrics
        if name.startswith(("prune/", "growth/", "mixture/", "redundancy/", "train/seconds", "train/core_seconds"))
        or (name.startswith(("before/", "after/")) and "_mae_" in name)
    ]
    return {name: f"{metrics[name]:.6g}" for name in shown}


main = application("prune", prune)
