"""`understudy screen`: stream candidates through a trained surrogate and keep the best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from data.errors import InputError
from experiments.evaluate import surrogate_directory
from experiments.screening import Objective, ScreenConfig
from experiments.screening import screen as screen_file
from experiments.stage import StageSettings, application, build, existing_file
from surrogates.base import load_surrogate
from surrogates.devices import enable_compilation_cache
from surrogates.graph.molecular import MolecularSurrogate


@dataclass(frozen=True)
class ScreenSettings(StageSettings):
    """The keys of `understudy screen`."""

    surrogate: str = MISSING
    candidates: str = MISSING
    out: str = MISSING
    smiles: str = "smiles"
    top_k: int = 1000
    workers: int | None = None
    objective: Any = MISSING


def read_objective(node: DictConfig) -> Objective:
    """What is sought, from the configuration; the bounds of a window may be written as whole numbers.

    Raises:
        InputError: see `build`.
    """
    plain: Any = OmegaConf.to_container(node, resolve=True)
    windows = plain.get("windows")
    if isinstance(windows, dict):
        # OmegaConf takes no integer for a float within a list.
        plain["windows"] = {
            name: [float(v) if type(v) is int else v for v in window] if isinstance(window, list) else window
            for name, window in windows.items()
        }
    return build(Objective, plain, where="objective")


def screen(config: DictConfig, run_dir: Path) -> None:
    """Screen the file or library `config.candidates`."""
    settings = build(ScreenSettings, config, where="")
    objective = read_objective(config.objective)
    names = ("top_k", "smiles", "workers")
    how = build(ScreenConfig, {name: getattr(settings, name) for name in names}, where="")
    enable_compilation_cache()
    surrogate = load_surrogate(surrogate_directory(settings.surrogate))
    if not isinstance(surrogate, MolecularSurrogate):
        raise InputError(
            "this surrogate takes geometries, not SMILES",
            where="surrogate",
            remedy="Screen with one that understudy train experiment=molecules/graph made",
        )
    candidates = existing_file(settings.candidates, "candidates")
    screen_file(surrogate, candidates, Path(settings.out), replace(how, objective=objective))


main = application("screen", screen, root="apply")
