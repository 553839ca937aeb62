"""The directory of a run: claimed by one process of one stage, and held to the settings that its results depend on.

`config.yaml` is written once everything was checked, so that a refused command changes nothing of a run that is there;
a later command in the same directory has to share with it every setting that its results depend on.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from data.claim import claim
from data.errors import InputError
from data.files import write_json, write_text
from experiments.strict import OPEN
from experiments.yaml_files import read_yaml

LOG = logging.getLogger(__name__)

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
_CLAIMED: dict[Path, _Claim] = {}


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
        _CLAIMED[directory] = _Claim(config, checked=not (directory / CONFIG).exists())
        try:
            yield path
            configuration_checked(path)
        except InputError as error:
            kept = _CLAIMED[directory].refused()
            if kept is None or error.remedy is None:
                raise
            raise type(error)(
                error.problem, where=error.where, remedy=error.remedy.replace("rejects.csv", kept.name)
            ) from error
        except BaseException:
            # Stopped, not refused: what it has read is what the same command goes on with.
            _CLAIMED[directory].settle()
            raise
        finally:
            del _CLAIMED[directory]


def configuration_checked(run_dir: Path) -> None:
    """Write `config.yaml` of the run, once nothing of its configuration and input can be refused any more.

    A stage that leaves partial results calls this before the first of them; for the others it is written at the end.
    A directory that no stage has claimed is left alone.
    """
    from surrogates.devices import is_first

    claimed = _claimed(run_dir)
    if claimed is not None and is_first():
        claimed.settle()
        write_text(run_dir / CONFIG, OmegaConf.to_yaml(claimed.config, resolve=True), listed=True)


def rejects_path(run_dir: Path, name: str = "rejects.csv") -> Path:
    """Where the rows go that a command cannot use, while it may still be refused.

    In a directory that holds a run they go beside its own until `configuration_checked`, and stay there if the command
    is refused: nothing of the run changes.
    """
    claimed = _claimed(run_dir)
    if claimed is None or claimed.checked:
        return run_dir / name
    stem, dot, suffix = name.partition(".")
    beside = run_dir / f"{stem}_of_refused{dot}{suffix}"
    claimed.rejects[beside] = run_dir / name
    return beside


def keep_json(run_dir: Path, name: str, value: Any) -> None:
    """Write a file that tells of the input of a command, once it is not refused any more; see `rejects_path`."""
    claimed = _claimed(run_dir)
    if claimed is None or claimed.checked:
        write_json(run_dir / name, value)
    else:
        claimed.waiting[run_dir / name] = value


@dataclass
class _Claim:
    """A run directory that this process writes.

    Attributes:
        config: of the command.
        checked: whether the command cannot be refused any more, or there is no run that it could harm.
        waiting: file -> JSON that is written then.
        rejects: file of rejected rows -> where it goes then.
    """

    config: DictConfig
    checked: bool
    waiting: dict[Path, Any] = field(default_factory=dict)
    rejects: dict[Path, Path] = field(default_factory=dict)

    def settle(self) -> None:
        """The command is not refused: what it told of its input is that of the run."""
        self.checked = True
        for beside, path in self.rejects.items():
            if beside.exists():
                beside.replace(path)
        for path, value in self.waiting.items():
            write_json(path, value)
        self.rejects, self.waiting = {}, {}

    def refused(self) -> Path | None:
        """The command is refused: its rejected rows stay beside those of the run, where there are any."""
        kept = None
        for beside in self.rejects:
            with beside.open("rb") as file:
                # The first line names the columns.
                several = sum(1 for _ in islice(file, 2)) > 1
            if several:
                kept = beside
            else:
                beside.unlink()
        return kept


def _claimed(run_dir: Path) -> _Claim | None:
    return _CLAIMED.get(Path(run_dir).expanduser().resolve())


def _refuse_other_settings(config: DictConfig, kind: str, directory: Path) -> None:
    before = _leaves(_read(directory / CONFIG))
    if not before:
        return
    now = _leaves(OmegaConf.to_container(config, resolve=True))
    free = (*FREE, *FREE_OF.get(kind, ()))
    differing = [
        key
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and not any(fnmatch.fnmatchcase(key, pattern) for pattern in free)
    ]
    set_here = _set_by_arguments()
    new = [key for key in differing if _is_default_of_new(key, before, now, set_here)]
    changed = [key for key in differing if key not in new]
    if new and not changed:
        LOG.warning(
            "%s: the run here was made before %s could be set; the default is taken: %s",
            directory,
            " and ".join(new),
            ", ".join(f"{key}={_shown(now, key)}" for key in new),
        )
    if changed:
        shown = ", ".join(f"{key}={_shown(before, key)} (now {_shown(now, key)})" for key in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise InputError(
            f"the run here was made with {shown}{more}",
            where=str(directory),
            remedy="Give the same settings to resume it, or name another run.dir",
        )


def _is_default_of_new(key: str, before: Mapping[str, Any], now: Mapping[str, Any], set_here: Sequence[str]) -> bool:
    """Whether a setting that a run lacks is one of a later version, left at its default.

    A mapping that takes any keys has no new settings: what it lacks was added by hand.
    """
    outer = key.split(".")[:-1]
    by_hand = any(key == argument_key or key.startswith(f"{argument_key}.") for argument_key in set_here)
    return key in now and key not in before and not by_hand and not any(part in OPEN for part in outer)


def _set_by_arguments() -> list[str]:
    """Keys of values that the arguments of the command set; choices of a file of a group are none."""
    if not HydraConfig.initialized():
        return []
    hydra = HydraConfig.get()
    keys = [argument.partition("=")[0].lstrip("+~") for argument in hydra.overrides.task]
    return [key for key in keys if key not in hydra.runtime.choices]


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
    return read_yaml(path, remedy="Name another run.dir") if path.exists() else {}
