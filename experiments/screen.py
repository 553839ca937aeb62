"""`understudy screen`: stream candidates through a trained surrogate and keep the best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

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


def screen(config: DictConfig, run_dir: Path) -> None:
    """Screen the file or library `config.candidates`."""
    settings = build(ScreenSettings, config, where="")
    objective = build(Objective, config.objective, where="objective")
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
