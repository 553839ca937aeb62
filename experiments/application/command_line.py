"""The commands that run no stage, such as `understudy status`: their arguments, their JSON and their errors."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from data.errors import InputError, UsageError
from experiments.application.json_document import OPTION, error_facts, print_document


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are those of the command."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageError`."""
        raise UsageError(message, where=self.prog, remedy=f"See {self.prog} --help")


def command_parser(name: str, description: str) -> CommandParser:
    """The parser of a command, with the option that all of them have."""
    parser = CommandParser(prog=f"understudy {name}", description=description)
    parser.add_argument(OPTION, action="store_true", help="print JSON in place of text")
    return parser


def answer_command(
    parser: argparse.ArgumentParser, arguments: Sequence[str], run: Callable[[argparse.Namespace], None]
) -> int:
    """Run a command and return its exit status; with `--json` an error is an object on standard output as well.

    Args:
        parser: of its arguments.
        arguments: those of the command line, without its name.
        run: runs it with the parsed ones; prints its answer as its last act.
    """
    try:
        run(parser.parse_args(list(arguments)))
    except SystemExit as end:  # --help
        return end.code if isinstance(end.code, int) else 0
    except InputError as error:
        print(f"understudy: {error}", file=sys.stderr)
        return _failed(error, 2, arguments)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if OPTION not in arguments or isinstance(error, OSError):
            raise
        traceback.print_exc()
        return _failed(error, 1, arguments)
    return 0


def _failed(error: Exception, status: int, arguments: Sequence[str]) -> int:
    if OPTION in arguments:
        print_document({"error": {**error_facts(error), "exit_status": status}})
    return status
