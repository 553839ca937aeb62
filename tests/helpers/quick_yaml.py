"""While the tests run, OmegaConf reads YAML with the parser of libyaml, as `application.yaml_files` does.

Hydra composes settings from files, which OmegaConf reads with a parser in Python. That is a third of what a composition
takes, and the tests compose thousands of them. What is read is the same; of an error, only the words differ.
"""

from __future__ import annotations

from omegaconf import _utils

from experiments.application.yaml_files import quick_loader


def install() -> None:
    """Read quickly from now on."""
    _utils.get_yaml_loader = quick_loader
