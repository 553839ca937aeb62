"""Old names of keys in configurations and in the files of a run, with the names that they have now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: First words of keys of a configuration -> the present word.
KEYS = {"dear": "expensive", "surrogate": "model"}
#: Words in names of metrics, of costs and of stores of labels -> the present word.
RESULTS = {"dear": "expensive"}


def present_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """The plain configuration of a run of any version, with the present names of its keys.

    `surrogate` is a mapping only where it holds the settings of a network to train; in other stages it is the directory
    of a trained surrogate, and keeps its name.
    """
    return {KEYS.get(key, key) if isinstance(value, Mapping) else key: value for key, value in config.items()}
