"""`understudy screen`: stream candidates through a trained surrogate and keep the best."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from data.errors import InputError
from experiments.evaluate import surrogate_directory
from experiments.screening import Objective, ScreenConfig
from experiments.screening import screen as screen_file
from experiments.stage import application, build, existing_file
from surrogates.base import load_surrogate
from surrogates.devices import enable_compilation_cache
from surrogates.graph.molecular import MolecularSurrogate


def screen(config: DictConfig, run_dir: Path) -> None:
    """Screen the file or library `config.candidates`."""
    enable_compilation_cache()
    surrogate = load_surrogate(surrogate_directory(config.surrogate))
    if not isinstance(surrogate, MolecularSurrogate):
        raise InputError(
            "this surrogate takes geometries, not SMILES",
            where="surrogate",
            remedy="Screen with one that understudy train experiment=molecules/graph made",
        )
    screen_file(
        surrogate,
        existing_file(config.candidates, "candidates"),
        Path(config.out),
        ScreenConfig(
            top_k=config.top_k,
            smiles=config.smiles,
            workers=config.workers,
            objective=build(Objective, config.objective, where="objective"),
        ),
    )


main = application("screen", screen, root="apply")
