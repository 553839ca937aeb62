"""Whether a command is a sweep; every command asks, so that this imports nothing."""

from __future__ import annotations

from collections.abc import Sequence

#: Options that ask for a sweep, and those with which Hydra only shows something.
SWEEPS = frozenset({"--multirun", "-m"})
SHOWS = ("--cfg", "-c", "--help", "-h", "--hydra-help", "--info", "-i", "--version", "--shell-completion", "-sc")


def asks_sweep(arguments: Sequence[str]) -> bool:
    """Whether the arguments of a stage ask for a sweep that runs."""
    shows = any(argument.partition("=")[0] in SHOWS for argument in arguments)
    return not shows and any(argument in SWEEPS for argument in arguments)
