"""`understudy evaluate`: score a trained surrogate on files that its training did not see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from data.errors import InputError
from data.rejects import RejectLog
from experiments.stage import application, existing_file, summary, write_json
from experiments.train import names, read_table, score_table
from surrogates.base import load_surrogate
from surrogates.devices import enable_compilation_cache
from surrogates.graph.molecular import MolecularSurrogate


def surrogate_directory(value: str | None) -> Path:
    """The directory of a surrogate, from its own path or from that of the run that made it."""
    path = existing_file(value, "surrogate")
    for candidate in (path, path / "surrogate"):
        if (candidate / "surrogate.json").exists():
            return candidate
    raise InputError("no surrogate.json in it", where=str(path), remedy="Name a directory that understudy train made")


def evaluate(config: DictConfig, run_dir: Path) -> None:
    """Score on each of the files, under `test/<stem>/...`."""
    enable_compilation_cache()
    directory = surrogate_directory(config.surrogate)
    files = [existing_file(name, "data.test") for name in names(config.data.test)]
    surrogate = load_surrogate(directory)
    metrics: dict[str, float] = {}
    if isinstance(surrogate, MolecularSurrogate):
        targets = [v.name for v in surrogate.spec.outputs if v.name in surrogate.targets]
        columns = dict(zip(targets, names(config.data.target) or targets, strict=True))
        with RejectLog(run_dir / "rejects.csv") as rejects:
            for path in files:
                labels = read_table(path, config.data.smiles, list(columns.values()), [], rejects)
                rows = np.arange(len(labels.smiles))
                metrics |= score_table(surrogate, labels, rows, f"test/{path.stem}", columns)
    else:
        from experiments.forces import evaluate_forces

        metrics |= evaluate_forces(directory, files, head=config.head)
    write_json(run_dir / "metrics.json", dict(sorted(metrics.items())))
    summary("Evaluated", {**{k: f"{v:.6g}" for k, v in metrics.items()}, "metrics": run_dir / "metrics.json"})


main = application("evaluate", evaluate, root="apply")
