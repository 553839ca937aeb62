"""Runs a stage in this process with its composed configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from data.json_files import read_plain
from experiments.application.choices import CONF


def run_stage(
    function: Callable[[DictConfig, Path], None], name: str, run_dir: Path, *overrides: Any
) -> dict[str, float]:
    """The metrics of a stage that runs with these overrides in a directory."""
    key = "run.dir" if name == "train" else "out"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(name, [*map(str, overrides), f"{key}={run_dir}"])
    run_dir.mkdir(parents=True, exist_ok=True)
    function(config, run_dir)
    return read_plain(run_dir / "metrics.json", dict[str, float], remedy="")
