"""Functions that all stages share: the Hydra application, typed settings, input files and closing tables."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import hydra
import hydra.errors
import hydra.utils
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data.errors import InputError
from data.near import did_you_mean
from data.plain import to_plain
from data.ranges import refuse_out_of_range
from data.reading import Reading
from data.rejects import RejectLog
from data.spec import SimulationError
from experiments.application.choices import CONF
from experiments.application.log_format import begin_log_files
from experiments.application.renamed import present_targets
from experiments.application.run_directory import keep_json, rejects_path, run_directory
from experiments.application.strict import explained, refuse_missing_choices, refuse_unused
from experiments.application.system_errors import BROKEN_PIPE, reader_is_gone, system_error
from experiments.application.targets import refuse_other_targets

LOG = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class RunDirectory:
    """`run`: the directory that receives all results of a run."""

    dir: str = MISSING


@dataclass(frozen=True)
class StageSettings:
    """The keys of every stage; each stage adds its own, so that a key that no code reads is an error.

    Attributes:
        stage: name of the stage.
        run: directory of the run.
    """

    stage: str = MISSING
    run: RunDirectory = field(default_factory=RunDirectory)


def application(
    name: str,
    function: Callable[[DictConfig, Path], None],
    *,
    unused: Callable[[DictConfig], Mapping[str, str]] | None = None,
) -> Callable[[], None]:
    """The Hydra application of a stage.

    Args:
        name: name of the primary configuration, `conf/<name>.yaml`.
        function: stage, which is called with the composed configuration and the run directory.
        unused: of a configuration: key, with all below it -> why it is not looked at; an argument that sets one is
            refused.
    """

    def task(config: DictConfig) -> None:
        # An exception that leaves this function would be decorated by Hydra; SystemExit passes through.
        try:
            refuse_missing_choices()
            if unused is not None:
                refuse_unused(HydraConfig.get().overrides.task, unused(config))
            with run_directory(config, Path(HydraConfig.get().runtime.output_dir), name) as run_dir:
                begin_log_files()
                function(config, run_dir)
        except (InputError, OmegaConfBaseException) as error:
            raise SystemExit(fail(error)) from error
        except SimulationError as error:
            if error.kind not in ("invalid_input", "missing_component"):
                raise
            raise SystemExit(fail(error)) from error
        except Exception as error:
            if isinstance(error, BrokenPipeError) and reader_is_gone():
                raise SystemExit(BROKEN_PIPE) from error
            refused = system_error(error, str(config.run.dir))
            if refused is None:
                raise
            LOG.info("stopped", exc_info=True)  # to log.txt, not to the terminal
            raise SystemExit(fail(refused)) from error

    return hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(task)


def fail(error: Exception) -> int:
    """Print one line that names the problem and the remedy, and return the exit status of a usage error."""
    parts = [" ".join(line.split()) for line in str(explained(error)).strip().splitlines()]
    text = "; ".join(part for part in parts if part and not part.startswith(("full_key:", "object_type=")))
    print(f"understudy: {text}", file=sys.stderr)
    return 2


def instantiate(node: DictConfig) -> Any:
    """The object that a configuration describes by `_target_`, if it is in the table of allowed classes.

    Raises:
        InputError: a `_target_` anywhere in `node` is not in `application.targets`, a number is out of range, or the
            target refuses its arguments.
    """
    plain = present_targets(OmegaConf.to_container(node, resolve=True))
    refuse_other_targets(plain)
    refuse_out_of_range(plain, str(node._get_full_key(None) or "") if isinstance(node, DictConfig) else "")
    try:
        return hydra.utils.instantiate(plain, _convert_="all")
    except hydra.errors.InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, (InputError, SimulationError)):
            raise cause from error
        if isinstance(cause, TypeError) and (match := re.search(r"unexpected keyword argument '(\w+)'", str(cause))):
            raise _unknown_argument(plain, match[1]) from error
        raise


def _unknown_argument(plain: Any, name: str) -> InputError:
    """The error for a key that the class does not take."""

    def holders(value: Any) -> list[dict[str, Any]]:
        inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        here = [value] if isinstance(value, dict) and name in value and "_target_" in value else []
        return here + [holder_below for item in inner for holder_below in holders(item)]

    for holder in holders(plain):
        parameters = list(inspect.signature(hydra.utils.get_object(str(holder["_target_"]))).parameters)
        if name not in parameters:
            remedies = [did_you_mean(name, parameters), f"Keys of {holder['_target_']} are {', '.join(parameters)}"]
            return InputError("no such key", where=name, remedy=" ".join(filter(None, remedies)))
    return InputError("no such key", where=name, remedy="See --help")


def build(cls: type[T], node: DictConfig | Mapping[str, Any], *, where: str) -> T:
    """A frozen dataclass from a part of the configuration: unknown keys and wrong types are errors.

    Args:
        cls: dataclass whose fields are the keys, with the types of their values.
        node: part of the configuration.
        where: key of the part; "" for the whole configuration.

    Raises:
        InputError: a key is unknown or missing, or a value has a wrong type or is out of range; the message names it.
    """
    try:
        merged = OmegaConf.merge(_writable(OmegaConf.structured(cls)), node)
        refuse_out_of_range(OmegaConf.to_container(merged, resolve=False), where)
        settings = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        key = ".".join(part for part in (where, error.full_key) if part)
        if isinstance(error, MissingMandatoryValue):
            raise InputError("a value is needed", where=key, remedy=f"Give {key}=...") from error
        if isinstance(error, ConfigKeyError):
            kind: Any = error.object_type
            keys = [f.name for f in fields(kind)] if is_dataclass(kind) else []
            near = did_you_mean(str(error.key), keys)
            remedy = " ".join(filter(None, [near, f"Keys here are {', '.join(keys)}"])) if keys else "See --help"
            raise InputError("no such key", where=key, remedy=remedy) from error
        raise InputError(str(error).splitlines()[0], where=key or None) from error
    except (ValueError, TypeError) as error:
        raise InputError(str(error), where=where or None) from error
    assert isinstance(settings, cls)
    return settings


def _writable(schema: Any) -> Any:
    """The schema of frozen and nested dataclasses, made writable so that values can be merged into it."""
    OmegaConf.set_readonly(schema, False)
    for key in schema:
        node = schema._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none():
            _writable(node)
    return schema


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


def surrogate_directory(value: str | None, key: str) -> Path:
    """The directory of a surrogate, from its path or that of the run that trained it.

    Raises:
        InputError: there is no surrogate.
    """
    path = existing_file(value, key)
    for candidate in (path, path / "surrogate"):
        if (candidate / "surrogate.json").exists():
            return candidate
    raise InputError("no surrogate.json in it", where=str(path), remedy="Name a directory that understudy train made")


@contextmanager
def first_rejects(run_dir: Path) -> Iterator[RejectLog | None]:
    """`rejects.csv` of a run; if several processes read the same files, only the first one writes it."""
    from surrogates.learning.devices import is_first

    if not is_first():
        yield None
        return
    with RejectLog(rejects_path(run_dir)) as rejects:
        yield rejects


def names(value: str | Sequence[str] | None) -> list[str]:
    """A configured name or list of names as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(v) for v in value]


def refuse_equal_stems(files: Sequence[Path], key: str) -> None:
    """Refuse files whose scores would have the same names.

    Raises:
        InputError: two files have the same stem.
    """
    stems = [path.stem for path in files]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    if twice:
        raise InputError(
            f"two files are called {min(twice)!r}, and their scores would have the same names",
            where=key,
            remedy="Rename one",
        )


def summary(title: str, rows: Mapping[str, object]) -> None:
    """Print the short table that ends a stage."""
    print_pairs(title, [(name, str(value)) for name, value in rows.items()])


def print_pairs(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a table of names and texts without truncating them, because a truncated name or path is useless."""
    console = Console()
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    # Names stay whole on a line, unless they leave too little room for the texts.
    longest = max((len(name) for name, _ in rows), default=0)
    table.add_column(no_wrap=longest <= console.width // 2, overflow="fold")
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(f"[dim]{escape(name)}[/]", escape(text))
    if not console.is_terminal:
        # A file or a pipe has no width, and its readers expect one row on one line.
        console.width = max(console.width, console.measure(table, options=console.options.update(width=10_000)).maximum)
    console.print(table)


def show_readings(readings: Sequence[Reading], run_dir: Path, *, printed: bool = True) -> None:
    """Print what was read from each source in one table, and save it as `reading.json` of the run.

    If several processes read the same files, only the first one prints and writes.

    Args:
        readings: reading of each source.
        run_dir: directory that receives the file.
        printed: whether to print the table.
    """
    from surrogates.learning.devices import is_first

    if not readings or not is_first():
        return
    keep_json(run_dir, "reading.json", [to_plain(reading) for reading in readings])
    if not printed:
        return
    print_pairs("What was read", [line for reading in readings for line in reading.lines()])
