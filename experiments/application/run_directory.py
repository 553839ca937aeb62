"""Claims the directory of a run for one process, and refuses a command whose settings differ from those of the run.

`config.yaml` is written after all checks, so that a refused command does not change an existing run. A later command in
the same directory must have the same value of every setting that the results depend on.
"""

from __future__ import annotations

import fnmatch
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from data.claim import claim
from data.errors import InputError
from data.files import write_json, write_text
from data.progress import follow_progress
from experiments.application.renamed import present_config
from experiments.application.strict import OPEN
from experiments.application.yaml_files import read_yaml

LOG = logging.getLogger(__name__)

CONFIG = "config.yaml"
#: Settings on which no result depends, such as places, speed and time limits; patterns of dotted keys.
FREE = (
    "run.*", "out", "workers", "*.workers", "devices.*", "campaign.*", "*.campaign.*", "*.max_seconds",
    "*.max_core_seconds", "*.checkpoint_every_s", "*.mlflow",
)  # fmt: skip
#: More such settings of each stage. A training may resume with more epochs or patience, and checks the rest of its
#: recipe itself (`surrogates.learning.loop`), and so may that of an expert; labels of any inputs may go to one store,
#: which records its simulator;
#: active learning may resume with another goal or budget; a screen records its settings in `screen.json`.
FREE_OF: Mapping[str, tuple[str, ...]] = {
    "train": ("*.epochs", "*.patience", "data.test", "data.test.*", "level"),
    "grow": ("*.epochs", "*.patience"),
    "prune": ("*.epochs", "*.patience", "tolerance"),
    "distil": ("*.epochs", "*.patience", "alone"),
    "simulate": ("inputs", "limit", "sampling.count"),
    "active": ("stop.*", "*.epochs", "*.patience"),
    "screen": ("top_k", "calibration.labels", "filters", "diversity.*", "publish"),
    "report": ("*",),
    "serve": ("*",),
}
_CLAIMED: dict[Path, _Claim] = {}


@contextmanager
def run_directory(config: DictConfig, path: Path, kind: str) -> Iterator[Path]:
    """Claim the directory of a run, and refuse it if it contains a run with other settings.

    Of several processes of one run the first one claims it; the others only compare their settings.

    Args:
        config: composed configuration.
        path: directory of the run.
        kind: kind of the run, such as "train".

    Yields:
        The path. `config.yaml` is written by `configuration_checked`, or at the end.

    Raises:
        InputError: another process writes to the directory, or it contains something else or a run with other
            settings.
    """
    if not writes_files(config):
        _refuse_other_settings(config, kind, Path(path).expanduser().resolve())
        yield path
        return

    def adopt(directory: Path) -> bool:
        return _read(directory / CONFIG).get("stage") == config.stage

    with claim(path, kind, adopt=adopt) as directory:
        _refuse_other_settings(config, kind, directory)
        _CLAIMED[directory] = _Claim(config, checked=not (directory / CONFIG).exists())
        try:
            yield path
            configuration_checked(path)
        except InputError as error:
            kept = _CLAIMED[directory].keep_rejects()
            if kept is None or error.remedy is None:
                raise
            error.give_remedy(error.remedy.replace("rejects.csv", kept.name))
            raise
        except BaseException:
            # The command was stopped, not refused, so the same command will resume with the input that was read.
            _CLAIMED[directory].settle()
            raise
        finally:
            del _CLAIMED[directory]


@contextmanager
def progress_followed(run_dir: Path, stage: str) -> Iterator[None]:
    """Keep `progress.json` of a claimed run up to date.

    Where the directory holds a run already, nothing is written before the work itself begins, since a command that is
    refused does not change that run.
    """
    claimed = _claimed(run_dir)
    with follow_progress(Path(run_dir), stage, at_once=claimed is None or claimed.checked):
        yield


def writes_files(config: DictConfig) -> bool:
    """Whether this is the process of a run that writes its files, as a single process always is.

    The processes of a distributed run have joined before (`surrogates.learning.processes`), so that JAX can tell.
    """
    return not OmegaConf.select(config, "devices.distributed", default=False) or is_first_process()


def is_first_process() -> bool:
    """Whether this is the first process of a run, or the only one: only one that has loaded JAX can be one of several.

    JAX takes half a second to import, which stages without a network save.
    """
    if "jax" not in sys.modules:
        return True
    from surrogates.learning.devices import is_first

    return is_first()


def refuse_default_directory() -> None:
    """Refuse a command of several processes whose run directory is named after the time at which each of them started.

    Raises:
        InputError: `run.dir` is not among the arguments.
    """
    if "run.dir" not in _set_by_arguments():
        raise InputError("all processes of a run write to one directory", where="run.dir", remedy="Give run.dir=DIR")


def configuration_checked(run_dir: Path) -> None:
    """Write `config.yaml` of the run, once its configuration and input have passed all checks.

    A stage that saves partial results calls this before the first one; for other stages it is written at the end. A
    directory that no stage has claimed is not changed.
    """
    claimed = _claimed(run_dir)
    if claimed is not None and is_first_process():
        claimed.settle()
        write_text(run_dir / CONFIG, OmegaConf.to_yaml(claimed.config, resolve=True), listed=True)


def rejects_path(run_dir: Path, name: str = "rejects.csv") -> Path:
    """The file for rows that a command cannot use.

    If the directory contains a run, rows go to a separate file until `configuration_checked`, and stay there if the
    command is refused, so that the run does not change.
    """
    claimed = _claimed(run_dir)
    if claimed is None or claimed.checked:
        return run_dir / name
    stem, dot, suffix = name.partition(".")
    beside = run_dir / f"{stem}_of_refused{dot}{suffix}"
    claimed.rejects[beside] = run_dir / name
    return beside


def keep_json(run_dir: Path, name: str, value: Any) -> None:
    """Write a file about the input of a command, once the command can no longer be refused; see `rejects_path`."""
    claimed = _claimed(run_dir)
    if claimed is None or claimed.checked:
        write_json(run_dir / name, value)
    else:
        claimed.waiting[run_dir / name] = value


@dataclass
class _Claim:
    """A run directory that this process writes.

    Attributes:
        config: configuration of the command.
        checked: whether the command can no longer be refused, or the directory contains no run that it could change.
        waiting: file -> content that is written as JSON once the command is checked.
        rejects: temporary file of rejected rows -> its final path.
    """

    config: DictConfig
    checked: bool
    waiting: dict[Path, Any] = field(default_factory=dict)
    rejects: dict[Path, Path] = field(default_factory=dict)

    def settle(self) -> None:
        """Move the files about the input to their final paths, because the command is not refused."""
        self.checked = True
        for beside, path in self.rejects.items():
            if beside.exists():
                beside.replace(path)
        for path, value in self.waiting.items():
            write_json(path, value)
        self.rejects, self.waiting = {}, {}

    def keep_rejects(self) -> Path | None:
        """Keep the file of rejected rows of a refused command if it has rows, and return its path."""
        kept = None
        for beside in self.rejects:
            with beside.open("rb") as file:
                # The first line is the header.
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
    """Whether a setting that a run lacks was added by a later version, and has its default value.

    A mapping with free keys has no new settings: a key that the run lacks was added by the user.
    """
    outer = key.split(".")[:-1]
    by_hand = any(key == argument_key or key.startswith(f"{argument_key}.") for argument_key in set_here)
    return key in now and key not in before and not by_hand and not any(part in OPEN for part in outer)


def _set_by_arguments() -> list[str]:
    """Keys whose values the arguments of the command set; choices of a group file are excluded."""
    # Commands that only look at runs do not import Hydra.
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return []
    hydra = HydraConfig.get()
    keys = [argument.partition("=")[0].lstrip("+~") for argument in hydra.overrides.task]
    return [key for key in keys if key not in hydra.runtime.choices]


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    text = str(leaves[key]) if key in leaves else "none"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; an empty mapping has no leaves, and a list is a single leaf."""
    if not isinstance(node, Mapping):
        return {prefix: node}
    leaves: dict[str, Any] = {}
    for key, value in node.items():
        leaves |= _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def _read(path: Path) -> dict[str, Any]:
    return present_config(read_yaml(path, remedy="Name another run.dir")) if path.exists() else {}
