"""What every stage shares: composing its configuration, its run directory, and what it leaves behind.

Hydra stays in this module and in the YAML: a stage's own function takes plain, typed values.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import hydra
import hydra.errors
import hydra.utils
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from data.errors import InputError
from simulators.base import SimulationError

PACKAGES = ("data", "simulators", "surrogates", "experiments")
CONF = Path(__file__).parent / "conf"
T = TypeVar("T")


def application(name: str, function: Callable[[DictConfig, Path], None], *, root: str = "") -> Callable[[], None]:
    """The Hydra application of a stage.

    Args:
        name: its primary config, `conf/<root>/<name>.yaml`.
        function: called with the composed configuration and the run directory.
        root: folder under `conf/` in which groups are looked for. Stages that take a trained surrogate
            as `surrogate=DIR` have a root of their own, because where a group `surrogate/` exists Hydra
            takes that key for a choice of file.
    """

    def task(config: DictConfig) -> None:
        # An exception that leaves this function would be decorated by Hydra; SystemExit passes through.
        try:
            run_dir = Path(HydraConfig.get().runtime.output_dir)
            write_text(run_dir / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
            function(config, run_dir)
        except (InputError, OmegaConfBaseException) as error:
            raise SystemExit(fail(error)) from error
        except SimulationError as error:
            if error.kind not in ("invalid_input", "missing_component"):
                raise
            raise SystemExit(fail(error)) from error

    return hydra.main(version_base="1.3", config_path=str(CONF / root), config_name=name)(task)


def fail(error: Exception) -> int:
    """Print one line that names the problem and the remedy; the exit status of a usage error."""
    parts = [" ".join(line.split()) for line in str(error).strip().splitlines()]
    text = "; ".join(part for part in parts if part and not part.startswith(("full_key:", "object_type=")))
    print(f"understudy: {text}", file=sys.stderr)
    return 2


def instantiate(node: DictConfig) -> Any:
    """The object that a configuration describes by `_target_`, if it is one of this project's.

    Raises:
        InputError: a `_target_` anywhere in `node` lies outside the four packages, or the target
            refuses its arguments.
    """
    plain = OmegaConf.to_container(node, resolve=True)

    def targets(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [str(value["_target_"])] if "_target_" in value else []
            return own + [t for item in value.values() for t in targets(item)]
        return [t for item in value for t in targets(item)] if isinstance(value, list) else []

    for target in targets(plain):
        if target.split(".")[0] not in PACKAGES:
            raise InputError(
                f"_target_ {target!r} is outside this project", remedy=f"Targets begin with one of {PACKAGES}"
            )
    try:
        return hydra.utils.instantiate(plain, _convert_="all")
    except hydra.errors.InstantiationException as error:
        if isinstance(error.__cause__, (InputError, SimulationError)):
            raise error.__cause__ from error
        raise


def build(cls: type[T], node: DictConfig | Mapping[str, Any], *, where: str) -> T:
    """A frozen dataclass from a part of the configuration: unknown keys and wrong types are errors.

    Raises:
        InputError: naming the key, what was expected and what was found.
    """
    try:
        merged = OmegaConf.merge(_writable(OmegaConf.structured(cls)), node)
        made = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise InputError(str(error).splitlines()[0], where=f"{where}.{error.full_key or ''}".strip(".")) from error
    except (ValueError, TypeError) as error:
        raise InputError(str(error), where=where) from error
    assert isinstance(made, cls)
    return made


def _writable(schema: Any) -> Any:
    """A schema of frozen dataclasses, nested ones too, into which values can be merged."""
    OmegaConf.set_readonly(schema, False)
    for key in schema:
        node = schema._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none():
            _writable(node)
    return schema


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """`write_text` of indented JSON; a NaN is an error, because no number is better than a wrong one."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def existing_file(value: str | None, key: str) -> Path:
    """The path that a required key names.

    Raises:
        InputError: the key is empty, or there is no such file.
    """
    if value is None:
        raise InputError("a path is needed", where=key, remedy=f"Give {key}=PATH")
    path = Path(value).expanduser()
    if not path.exists():
        raise InputError(f"no such file: {path}", where=key, remedy="Check the path")
    return path


def summary(title: str, rows: Mapping[str, object]) -> None:
    """Print the short table that ends a stage."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column()
    # A path that is cut short is no path.
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(f"[dim]{name}[/]", str(value))
    Console().print(table)
