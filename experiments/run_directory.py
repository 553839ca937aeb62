"""The directory of a run: claimed by one process of one stage, and held to the settings that its results depend on.

`config.yaml` is written once everything was checked, so that a refused command changes nothing of a run that is there;
a later command in the same directory has to share with it every setting that its results depend on.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError  # type: ignore[import-untyped]

from data.claim import claim
from data.errors import CorruptStoreError, InputError
from data.files import write_text

CONFIG = "config.yaml"
#: Settings that say where, how fast or how long, and on which no result depends; patterns of dotted keys.
FREE = (
    "run.*", "out", "workers", "*.workers", "devices.*", "campaign.*", "*.campaign.*", "*.max_seconds",
    "*.checkpoint_every_s", "*.mlflow",
)  # fmt: skip
#: More of them by stage. A training is resumed with more epochs or patience, and holds the rest of its recipe itself
#: (`surrogates.train`); labels of any inputs go to one store, which knows its simulator; active learning goes on after
#: its goal or its budget was raised; what a screen depends on is in its `screen.json`.
FREE_OF: Mapping[str, tuple[str, ...]] = {
    "train": ("*.epochs", "*.patience", "data.test", "data.test.*"),
    "simulate": ("inputs", "limit", "sampling.count"),
    "active": ("stop.*", "*.epochs", "*.patience"),
    "screen": ("top_k",),
    "report": ("*",),
}
_CLAIMED: dict[Path, DictConfig] = {}


@contextmanager
def run_directory(config: DictConfig, path: Path, kind: str) -> Iterator[Path]:
    """Claim the directory of a run, and refuse it where it holds one with other settings.

    Args:
        config: composed.
        path: of the directory.
        kind: of the run, such as "train".

    Yields:
        The path. `config.yaml` is in it after `configuration_checked`, or at the end.

    Raises:
        InputError: another process writes there, or it holds something else or a run with other settings.
    """
    shared = bool(OmegaConf.select(config, "devices.distributed", default=False))

    def adopt(directory: Path) -> bool:
        return _read(directory / CONFIG).get("stage") == config.stage

    with claim(path, kind, adopt=adopt, shared=shared) as directory:
        _refuse_other_settings(config, kind, directory)
        _CLAIMED[directory] = config
        try:
            yield path
            configuration_checked(path)
        finally:
            del _CLAIMED[directory]


def configuration_checked(run_dir: Path) -> None:
    """Write `config.yaml` of the run, once nothing of its configuration and input can be refused any more.

    A stage that leaves partial results calls this before the first of them; for the others it is written at the end.
    A directory that no stage has claimed is left alone.
    """
    from surrogates.devices import is_first

    config = _CLAIMED.get(Path(run_dir).expanduser().resolve())
    if config is not None and is_first():
        write_text(run_dir / CONFIG, OmegaConf.to_yaml(config, resolve=True))


def _refuse_other_settings(config: DictConfig, kind: str, directory: Path) -> None:
    before = _leaves(_read(directory / CONFIG))
    if not before:
        return
    now = _leaves(OmegaConf.to_container(config, resolve=True))
    free = (*FREE, *FREE_OF.get(kind, ()))
    changed = [
        key
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and not any(fnmatch.fnmatchcase(key, pattern) for pattern in free)
    ]
    if changed:
        shown = ", ".join(f"{key}={_shown(before, key)} (now {_shown(now, key)})" for key in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise InputError(
            f"the run here was made with {shown}{more}",
            where=str(directory),
            remedy="Give the same settings to resume it, or name another run.dir",
        )


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    text = str(leaves[key]) if key in leaves else "none"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; an empty mapping has no leaf, and a list is one."""
    if not isinstance(node, Mapping):
        return {prefix: node}
    leaves: dict[str, Any] = {}
    for key, value in node.items():
        leaves |= _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def _read(path: Path) -> dict[str, Any]:
    try:
        value = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except FileNotFoundError:
        return {}
    except (YAMLError, OSError, ValueError) as error:
        raise CorruptStoreError(f"not readable: {error}", where=str(path), remedy="Name another run.dir") from error
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}
