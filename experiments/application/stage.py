"""Functions that all stages share: the Hydra application, typed settings, input files and closing tables."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import hydra
import hydra.errors
import hydra.utils
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data.errors import InputError, UsageError
from data.plain import to_plain
from data.ranges import refuse_out_of_range
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.spec import SimulationError
from data.suggestions import did_you_mean
from data.terminal import show_pairs
from data.value_types import annotations_of, as_written, fits, refuse_other_kinds
from experiments.application.choices import CONF
from experiments.application.json_document import report_error, run_reported
from experiments.application.log_format import begin_log_files, leave_log_files
from experiments.application.renamed import present_targets, refuse_renamed
from experiments.application.run_directory import (
    is_first_process,
    keep_json,
    progress_followed,
    rejects_path,
    run_directory,
    writes_files,
)
from experiments.application.strict import explained, refuse_flattened, refuse_missing_choices, refuse_unused
from experiments.application.system_errors import BROKEN_PIPE, reader_is_gone, system_error
from experiments.application.targets import refuse_other_targets
from surrogates.learning.pathways import initialise_pathways

LOG = logging.getLogger(__name__)
T = TypeVar("T")
#: Stage -> what says which of its keys it does not look at; filled when the module of a stage is imported.
_UNUSED: dict[str, Callable[[DictConfig], Mapping[str, str]] | None] = {}


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
    around: Callable[[DictConfig], AbstractContextManager[None]] | None = None,
) -> Callable[[], None]:
    """The Hydra application of a stage.

    Args:
        name: name of the primary configuration, `conf/<name>.yaml`.
        function: stage, which is called with the composed configuration and the run directory.
        unused: of a configuration: key, with all below it -> why it is not looked at; an argument that sets one is
            refused.
        around: context of the whole command, entered before its run directory is claimed.
    """
    _UNUSED[name] = unused

    def task(config: DictConfig) -> None:
        # An exception that leaves this function would be decorated by Hydra; SystemExit passes through.
        try:
            refuse_missing_choices()
            refuse_flattened(name, config)
            refuse_renamed(config, HydraConfig.get().overrides.task)
            if unused is not None:
                refuse_unused(HydraConfig.get().overrides.task, unused(config))
            initialise_pathways()
            with ExitStack() as stack:
                if around is not None:
                    stack.enter_context(around(config))
                path = Path(HydraConfig.get().runtime.output_dir)
                run = stack.enter_context(run_reported(config, path))
                run_dir = stack.enter_context(run_directory(config, path, name))
                run.claimed = True
                if writes_files(config):
                    begin_log_files()
                    stack.enter_context(progress_followed(run_dir, name))
                else:
                    leave_log_files()
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

    command = hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(task)

    def run() -> None:
        with _composed_once():
            command()

    return run


@contextmanager
def _composed_once() -> Iterator[None]:
    """Let Hydra compose the configuration once within the block.

    It would otherwise compose all of it before that to look for `hydra.mode`, which no configuration of this package
    sets and no argument may: whether `--multirun` is given decides. For the help of a stage it would list all groups
    and their files, for nine tenths of the time, whether or not the text shows them.
    """
    whole_help = Hydra.get_help

    def get_help(hydra: Hydra, settings: DictConfig, *arguments: Any, **more: Any) -> str:
        if "CONFIG_GROUPS" not in settings.template:
            hydra.format_config_groups = lambda *_: ""  # type: ignore[method-assign]
        return whole_help(hydra, settings, *arguments, **more)

    look, Hydra.get_mode = Hydra.get_mode, lambda *arguments, **more: None  # type: ignore[method-assign]
    Hydra.get_help = get_help  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = look  # type: ignore[method-assign]
        Hydra.get_help = whole_help  # type: ignore[method-assign]


def unused_of(stage: str) -> Callable[[DictConfig], Mapping[str, str]] | None:
    """What says of a configuration which keys the stage does not look at; None if it looks at all of them.

    The module of the stage has to be imported.
    """
    return _UNUSED[stage]


def fail(error: Exception, arguments: Sequence[str] = ()) -> int:
    """Print one line that names the problem and the remedy, and return the exit status of a usage error.

    Args:
        error: the error.
        arguments: arguments of the command, which remedies repeat.
    """
    error = explained(error, arguments)
    report_error(error)
    parts = [" ".join(line.split()) for line in str(error).strip().splitlines()]
    text = "; ".join(part for part in parts if part and not part.startswith(("full_key:", "object_type=")))
    print(f"understudy: {text}", file=sys.stderr)
    return 2


def instantiate(node: DictConfig) -> Any:
    """The object that a configuration describes by `_target_`, if it is in the table of allowed classes.

    Raises:
        InputError: a `_target_` anywhere in `node` is not in `application.targets`, a number is out of range, or the
            target refuses its arguments.
    """
    if not isinstance(node, DictConfig):
        raise InputError(f"a group of keys with a _target_ is needed, got {as_written(node)}")
    plain = present_targets(OmegaConf.to_container(node, resolve=True))
    refuse_other_targets(plain)
    where = str(node._get_full_key(None) or "")
    refuse_out_of_range(plain, where)
    plain = _with_texts(plain)
    _refuse_other_kinds(plain, where, plain_alone=True)
    try:
        return hydra.utils.instantiate(plain, _convert_="all")
    except hydra.errors.InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, (InputError, SimulationError)):
            raise cause from error
        if isinstance(cause, TypeError) and (match := re.search(r"unexpected keyword argument '(\w+)'", str(cause))):
            raise _unknown_argument(plain, match[1]) from error
        # What a class cannot take is explained by its annotations where these say it.
        _refuse_other_kinds(plain, where)
        if isinstance(cause, ValueError):
            raise InputError(str(cause), where=where or None, key=where or None) from error
        raise


def _parts(plain: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parts of a configuration that a class of their own is built from, each with its key."""
    if isinstance(plain, list):
        for one in plain:
            yield from _parts(one, where)
    elif isinstance(plain, dict):
        for key, value in plain.items():
            yield from _parts(value, ".".join(filter(None, (where, str(key)))))
        if isinstance(plain.get("_target_"), str):
            yield where, plain


def _with_texts(plain: Any) -> Any:
    """A configuration in which numbers that stand for texts are texts, such as a file that is called 1."""
    for _, part in _parts(plain, ""):
        hints = annotations_of(hydra.utils.get_object(part["_target_"]))
        for key, value in part.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if key in hints and number and not fits(value, hints[key]) and fits(str(value), hints[key]):
                part[key] = str(value)
    return plain


def _refuse_other_kinds(plain: Any, where: str, *, plain_alone: bool = False) -> None:
    for key, part in _parts(plain, where):
        # A part with a class of its own is built before it is given to this one.
        values = {name: value for name, value in part.items() if not any(_parts(value, ""))}
        refuse_other_kinds(hydra.utils.get_object(part["_target_"]), values, key, plain_alone=plain_alone)


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
            return UsageError("no such key", where=name, key=name, remedy=" ".join(filter(None, remedies)))
    return UsageError("no such key", where=name, key=name, remedy="See --help")


@contextmanager
def first_rejects(run_dir: Path) -> Iterator[RejectLog | None]:
    """`rejects.csv` of a run; if several processes read the same files, only the first one writes it."""
    if not is_first_process():
        yield None
        return
    with RejectLog(rejects_path(run_dir)) as rejects:
        yield rejects


@contextmanager
def reading_shown(readings: list[Reading], run_dir: Path) -> Iterator[None]:
    """Show what was read when the block ends, even if a file is refused, because the table says why."""
    try:
        yield
    finally:
        show_readings(readings, run_dir)


def show_readings(readings: Sequence[Reading], run_dir: Path, *, printed: bool = True) -> None:
    """Print what was read from each source in one table, and save it as `reading.json` of the run.

    If several processes read the same files, only the first one prints and writes.

    Args:
        readings: reading of each source.
        run_dir: directory that receives the file.
        printed: whether to print the table.
    """
    if not readings or not is_first_process():
        return
    keep_json(run_dir, "reading.json", [to_plain(reading) for reading in readings])
    if not printed:
        return
    show_pairs("What was read", [line for reading in readings for line in reading.lines()])
