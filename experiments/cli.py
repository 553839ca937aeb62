"""The `understudy` command, which runs one Hydra application for each stage and returns an exit status.

The status is 0 on success, 2 after a usage or input error (one line, no traceback), 130 after Ctrl-C, SIGTERM or
SIGUSR1, 141 if the reader of a pipe went away, and 1 after an error of the program itself.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple

from data.errors import InputError, UsageError
from data.processes.descendants import end_with_named_parent
from experiments.application.log_format import show_any_text
from experiments.application.system_errors import BROKEN_PIPE, STANDARD_OUTPUT, reader_is_gone, silence, system_error

#: The option of all commands that asks for JSON; see `experiments.application.json_document`.
JSON = "--json"


class Stage(NamedTuple):
    """A stage of the command: the module whose `main` runs it, its line of help, and whether it trains."""

    module: str
    help: str
    trains: bool = False


STAGES: dict[str, Stage] = {
    "pipeline": Stage(
        "experiments.stages.pipeline",
        "label, train, score, screen and re-check in one run, and report it",
        True,
    ),
    "simulate": Stage("experiments.stages.simulate", "run a simulator on many inputs, and store the answers in Zarr"),
    "calibrate": Stage(
        "experiments.stages.calibrate", "make a ladder of simulators one simulator, with a promised error"
    ),
    "active": Stage(
        "experiments.stages.active", "train a potential on few labels, which its own dynamics choose", True
    ),
    "windows": Stage("experiments.stages.windows", "write states of the atmosphere in the layout that training reads"),
    "train": Stage("experiments.stages.train", "train a surrogate on labels", True),
    "evaluate": Stage(
        "experiments.stages.evaluate", "score a surrogate on other files, or compare it with other methods"
    ),
    "grow": Stage("experiments.stages.grow", "give a potential or a mixture an expert for new data", True),
    "prune": Stage("experiments.stages.prune", "replace experts of a mixture by one that learned their answers", True),
    "distil": Stage("experiments.stages.distil", "train a light surrogate on the answers of an expensive one", True),
    "prepare": Stage("experiments.stages.prepare", "featurise a library once, so that repeated screens of it are fast"),
    "screen": Stage("experiments.stages.screen", "stream candidates through a surrogate and keep the best"),
    "predict": Stage("experiments.stages.predict", "answer every row, frame or sample of a file, in a file"),
    "serve": Stage("experiments.stages.serve", "answer requests of HTTP with a surrogate, until it is stopped"),
    "export": Stage("experiments.stages.export", "write the answers of a store to a file for other programs"),
    "forecast": Stage("experiments.stages.forecast", "write forecasts of a trained forecaster from states of a file"),
    "report": Stage("experiments.stages.report", "write the HTML page of a pipeline run"),
}


class Command(NamedTuple):
    """A command that runs no stage: the function that runs it with its arguments, and its line of help.

    One that says what there is takes the stages before its arguments.
    """

    function: str
    help: str
    takes_stages: bool = False


COMMANDS: dict[str, Command] = {
    "status": Command(
        "experiments.runs.commands.status_command", "say how far a run is, what failed in it and what it costs"
    ),
    "merge": Command(
        "experiments.runs.commands.merge_command", "make one output of all shards of simulate, prepare or screen"
    ),
    "publish": Command(
        "experiments.runs.commands.publish_command", "copy a store, a run or a library to a bucket, verified"
    ),
    "runs": Command(
        "experiments.runs.commands.runs_command", "list the runs below a folder with their states, metrics and costs"
    ),
    "board": Command(
        "experiments.board.command.board_command",
        "show the runs below a folder on a page that follows and compares them",
    ),
    "describe": Command(
        "experiments.agents.commands.describe_command",
        "say what there is: simulators, models, objectives, and their keys and units",
        takes_stages=True,
    ),
    "check": Command(
        "experiments.agents.commands.check_command",
        "say what a stage would do and cost, from earlier records, without running it",
        takes_stages=True,
    ),
    "mcp": Command(
        "experiments.agents.commands.mcp_command",
        "serve all of this to programs by the Model Context Protocol (extra agents)",
        takes_stages=True,
    ),
}

EXAMPLES = """\
  understudy pipeline task=molecules candidates=my.csv objective=polar_in_gap_window
  understudy train task=molecules/properties data.file=labels.csv data.target=gap run.dir=runs/gap
  understudy predict surrogate=runs/gap inputs=molecules.csv out=predictions.csv
  understudy screen surrogate=runs/gap candidates=library.smi.gz out=runs/hits top_k=1000"""


def usage() -> str:
    """The text of `understudy --help`."""
    stages = "\n".join(f"  {name:<10} {stage.help}" for name, stage in STAGES.items())
    others = "\n".join(f"  {name:<10} {command.help}" for name, command in COMMANDS.items())
    return (
        "Understudy: learned stand-ins for expensive simulators.\n\n"
        "usage: understudy STAGE [key=value ...]\n\n"
        f"Stages\n{stages}\n\n"
        f"Commands that run no stage, as text or with --json\n{others}\n\n"
        f"Examples\n{EXAMPLES}\n\n"
        "understudy STAGE --help explains the options of a stage, with their units and defaults. Each stage is a\n"
        "Hydra application: key=value sets an option, --multirun runs every combination of comma-separated values,\n"
        "and --cfg job prints all options. With --json a stage ends with one JSON document on standard output.\n"
        "Exit status: 0 success, 2 usage or input error, 130 stopped by Ctrl-C, SIGTERM or SIGUSR1 (the same command\n"
        "resumes), 1 an error of the program itself."
    )


def run_stage(name: str, arguments: Sequence[str]) -> int:
    """Run one stage with its Hydra overrides, and return its exit status."""
    from experiments.application.hydra_options import refuse_unsafe
    from experiments.application.renamed import refuse_moved
    from experiments.application.shard_arguments import with_shard_places
    from experiments.application.url_arguments import with_published_places
    from experiments.launching import array, training
    from experiments.sweeps.asked import asks_sweep

    sweeps = asks_sweep(arguments)
    try:
        refuse_unsafe(arguments)
        refuse_moved(name, arguments)
        arguments = with_published_places(name, arguments)
        if not sweeps and array.asks_launcher(name, arguments):
            return training.launch(arguments) if name == "train" else array.launch(name, arguments)
        arguments = list(arguments) if sweeps else with_shard_places(name, arguments)
    except InputError as error:
        from experiments.application.stage import fail

        return fail(error)
    # A command that waits for jobs needs none of these, which import xarray.
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    from experiments.application.stage import fail
    from experiments.sweeps.sweep import sweep

    # Hydra then raises what it would otherwise print with a traceback.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Hydra reads its overrides here.
    sys.argv = [f"understudy {name}", *arguments]
    try:
        if sweeps:
            return sweep(name, arguments)
        importlib.import_module(STAGES[name].module).main()
    except (InputError, HydraException, OmegaConfBaseException) as error:
        return fail(error, arguments)
    except YAMLError as error:
        return fail(InputError(f"a file of the configuration is not valid YAML: {error}", remedy="Correct it"))
    except Exception as error:
        # This happens before a stage begins, if its run directory or its log cannot be created.
        refused = system_error(error)
        if refused is None:
            raise
        return fail(refused)
    except KeyboardInterrupt:
        print("\nStopped. The same command resumes from here.", file=sys.stderr)
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2 if end.code else 0
    return 0


def stop_as_ctrl_c() -> None:
    """Make SIGTERM and SIGUSR1, with which queues end a job or announce its end, act like Ctrl-C.

    A process that ignores Ctrl-C, such as one that a shell started in the background, still reacts to these two.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        if callable(signal.getsignal(signal.SIGINT)):
            signal.raise_signal(signal.SIGINT)
        else:
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    # A launcher that takes SIGUSR1 itself, and then sends SIGTERM, has all processes below it ignore the former.
    if signal.getsignal(signal.SIGUSR1) is not signal.SIG_IGN:
        signal.signal(signal.SIGUSR1, stop)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the `understudy` command."""
    end_with_named_parent(signal.SIGTERM)
    # Without this, a full disk would print a traceback for each line that cannot be logged.
    logging.raiseExceptions = False
    try:
        status = _command(list(sys.argv[1:] if argv is None else argv))
        if reader_is_gone():
            return BROKEN_PIPE
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        silence()
        return BROKEN_PIPE
    except OSError as error:
        # The standard output cannot be written to.
        refused = system_error(error, STANDARD_OUTPUT)
        if refused is None:
            raise
        from experiments.application.stage import fail

        silence()
        return fail(refused)


def _command(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"understudy {version('understudy')}")
        return 0
    name = arguments[0]
    if name in STAGES:
        stop_as_ctrl_c()
        show_any_text()
        if STAGES[name].trains:
            from experiments.application.heap import keep_freed_memory

            keep_freed_memory()
    if JSON in arguments and name not in COMMANDS:
        from experiments.application.json_document import with_document

        return with_document(name, arguments[1:], lambda rest: _stage(name, rest))
    return _stage(name, arguments[1:])


def _stage(name: str, arguments: Sequence[str]) -> int:
    """Run a stage, or a command that runs none."""
    if name in COMMANDS:
        show_any_text()
        module, _, function = COMMANDS[name].function.rpartition(".")
        run = getattr(importlib.import_module(module), function)
        status: int = run(STAGES, arguments) if COMMANDS[name].takes_stages else run(arguments)
        return status
    if name not in STAGES:
        from experiments.application.stage import fail

        return fail(
            UsageError(
                f"no stage {name!r}", remedy=f"Stages are {', '.join([*STAGES, *COMMANDS])}; see understudy --help"
            )
        )
    return run_stage(name, arguments)


if __name__ == "__main__":
    sys.exit(main())
