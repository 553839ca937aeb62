"""The command that makes a run again: the shipped configuration, and what this one changed in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

CONF = Path(__file__).resolve().parents[1] / "conf"
_PLAIN = re.compile(r"[A-Za-z_][\w./:-]*")


def command(config: Mapping[str, Any]) -> str:
    """A command line that composes to `config`; "" for a configuration that is not a pipeline's.

    Every value that differs from `understudy pipeline task=molecules` is given as an override. If that
    configuration cannot be composed here, every value is given.
    """
    if not config.get("expensive") or "objective" not in config:
        return ""
    shipped = defaults()
    words = ["understudy", "pipeline", "task=molecules"] if shipped else ["understudy", "pipeline"]
    words += differences({k: v for k, v in config.items() if k != "stage"}, shipped)
    return " ".join(shlex.quote(word) for word in words)


def defaults() -> dict[str, Any]:
    """The configuration of `understudy pipeline task=molecules`; empty if it cannot be composed."""
    state = GlobalHydra.instance().hydra
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="report"):
            config = OmegaConf.to_container(compose("pipeline", ["task=molecules", "run.dir=."]), resolve=True)
    except Exception:  # whatever is wrong with the shipped configuration, the report itself can be written
        return {}
    finally:
        GlobalHydra.instance().hydra = state
    return {str(k): v for k, v in config.items()} if isinstance(config, dict) else {}


def differences(config: Mapping[str, Any], shipped: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Hydra overrides that turn `shipped` into `config`, in the order of `config`."""
    overrides = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        if key in shipped and shipped[key] == value:
            continue
        if isinstance(value, dict) and value and isinstance(shipped.get(key, {}), dict) and name != "objective.windows":
            overrides += differences(value, shipped.get(key) or {}, f"{name}.")
        else:
            overrides.append(f"{'' if key in shipped or not shipped else '++'}{name}={literal(value)}")
    if prefix:
        overrides += [f"~{prefix}{key}" for key in shipped if key not in config]
    return overrides


def literal(value: Any) -> str:
    """A value in Hydra's override grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return "[" + ",".join(literal(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{literal(v)}" for k, v in value.items()) + "}"
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in ("null", "true", "false", "nan", "inf"):
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
