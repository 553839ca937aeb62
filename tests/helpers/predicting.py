"""`understudy predict` in the process of the test."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.application.choices import CONF
from experiments.application.run_directory import run_directory
from experiments.stages.predict import predict


def predicted(out: Path, *arguments: str) -> Path:
    """Run the stage with arguments of the command; returns the directory of the run."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("predict", [*arguments, f"out={out}"])
    OmegaConf.resolve(config)
    with run_directory(config, Path(config.run.dir), "predict") as run_dir:
        predict(config, run_dir)
    return run_dir


def predicted_by(surrogate: Path, inputs: Path, out: Path, *arguments: str) -> Path:
    """The same for a surrogate and a file of inputs."""
    return predicted(out, f"surrogate={surrogate}", f"inputs={inputs}", *arguments)
