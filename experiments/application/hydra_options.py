"""Restricts the options that the command passes to Hydra, so that none of them runs code from outside the package.

Hydra loads a pickle for `--experimental-rerun` under any prefix of that name, and instantiates callbacks, launchers and
sweepers that a configuration names. Only listed options are accepted, by their full names. A directory of
configurations (`--config-dir`) may hold values for the groups of this package, but no settings of Hydra itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf
from yaml import YAMLError  # type: ignore[import-untyped]

from data.errors import InputError, UsageError

#: Options without a value, options that require one, and options whose value is optional.
FLAGS = frozenset({"--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"})
VALUED = frozenset({"--cfg", "-c", "--package", "-p", "--config-dir", "-cd"})
OPTIONAL = frozenset({"--info", "-i", "--shell-completion", "-sc"})
#: Keys of Hydra that choose where and how often a stage runs.
HYDRA_KEYS = re.compile(r"hydra\.(verbose|sweep\.(dir|subdir)|run\.dir|sweeper\.max_batch_size)=")
#: Launchers of a sweep, and the keys that say what each of its jobs gets. Keys that hold lines of a script, such as
#: `setup`, and values that could end such a line, are not among them.
LAUNCHERS = re.compile(r"hydra/launcher=(basic|submitit_local|submitit_slurm)")
LAUNCHER_KEYS = re.compile(
    r"hydra\.launcher\.(timeout_min|cpus_per_task|gpus_per_node|mem_gb|name|partition|qos|comment|constraint|exclude|gres"
    r"|cpus_per_gpu|mem_per_gpu|mem_per_cpu|account|signal_delay_s|max_num_timeout|array_parallelism)=[\w.:,@%+/\[\]-]*"
)
OF_HYDRA = re.compile(r"[+~]*hydra[./@=]")


def refuse_unsafe(arguments: Sequence[str]) -> None:
    """Refuse options that are not listed, and settings of Hydra itself that could name code.

    Raises:
        InputError: an argument is refused; the message names it.
    """
    awaited = ""
    for argument in arguments:
        if awaited:
            name, value, awaited = awaited, argument, ""
        elif argument.startswith("-"):
            name, equals, value = argument.partition("=")
            if name not in FLAGS | VALUED | OPTIONAL:
                options = ", ".join(sorted(o for o in FLAGS | VALUED | OPTIONAL if o.startswith("--")))
                raise UsageError(f"no option {name}", remedy=f"There are {options}")
            if name in VALUED and not equals:
                awaited = name
        else:
            allowed = HYDRA_KEYS.match(argument) or LAUNCHERS.fullmatch(argument) or LAUNCHER_KEYS.fullmatch(argument)
            if OF_HYDRA.match(argument) and not allowed:
                raise InputError(
                    "this key of Hydra cannot be set, because some of its keys name code to run",
                    where=argument.partition("=")[0],
                    remedy="hydra.verbose, hydra.sweep.dir, hydra.sweep.subdir, hydra/launcher=submitit_local or "
                    "submitit_slurm, and what a job gets, such as hydra.launcher.timeout_min, may be given",
                )
            continue
        if name in ("--config-dir", "-cd") and value:
            refuse_hydra_within(Path(value))


def refuse_hydra_within(directory: Path) -> None:
    """Refuse a directory of configurations that sets keys of Hydra itself, such as callbacks.

    Raises:
        InputError: a file is refused or unreadable; the message names it.
    """
    for path in sorted([*directory.rglob("*.yaml"), *directory.rglob("*.yml")]):
        try:
            text = path.read_text(encoding="utf-8")
            content = OmegaConf.to_container(OmegaConf.create(text), resolve=False) if text.strip() else {}
        except (YAMLError, OSError, ValueError) as error:
            problem = " ".join(str(error).split())[:200]
            raise InputError(f"cannot be read: {problem}", where=str(path), remedy="Correct or remove it") from error
        keys = [str(key) for key in content] if isinstance(content, dict) else []
        defaults = content.get("defaults", []) if isinstance(content, dict) else []
        of_hydra = any(key.partition(".")[0] == "hydra" for key in keys) or "hydra" in str(defaults)
        packaged = re.search(r"@package\s+[^\n]*hydra", text) is not None
        if of_hydra or packaged or "hydra" in path.relative_to(directory).parts[:-1]:
            raise InputError(
                "sets keys of Hydra itself, which could name code to run",
                where=str(path),
                remedy="Use only the groups and keys of understudy STAGE --help",
            )
