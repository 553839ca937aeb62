"""What a command would do and cost, before it is run: `understudy check` and the tool `check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.agents.composition import Composed, Permissions, compose_stage
from experiments.agents.confinement import Root
from experiments.agents.estimates import NO_RECORD, Estimate, Estimates, estimate
from experiments.agents.row_counts import RowCounts, rows_of


@dataclass(frozen=True)
class Check:
    """A command that would be accepted, as far as this is known without running it.

    Attributes:
        id: identity of the run that it would be.
        stage: name of the stage.
        arguments: settings with which it would run, with the directory of the run.
        directory: directory of the run, relative to the root; None if a value is missing from which it follows.
        ready: whether nothing is missing.
        missing: keys that need a value.
        settings: the resolved configuration.
        rows: what it would process, and what an earlier session has done of it.
        estimates: processor time, memory and bytes from earlier runs.
    """

    id: str
    stage: str
    arguments: tuple[str, ...]
    directory: str | None
    ready: bool
    missing: tuple[str, ...]
    settings: Mapping[str, Any]
    rows: RowCounts
    estimates: Estimates


def check(
    stages: Mapping[str, Any], stage: str, overrides: Sequence[str], root: Root, permissions: Permissions
) -> Check:
    """Compose a command, resolve it, count its rows and estimate its cost; nothing is run and nothing is written.

    Args:
        stages: see `compose_stage`.
        stage: name of the stage.
        overrides: settings as the command takes them.
        root: the folder in which it would run.
        permissions: what is allowed.

    Raises:
        InputError: the command would be refused; the message names the setting or the file.
    """
    return checked(compose_stage(stages, stage, overrides, root, permissions), root)


def checked(composed: Composed, root: Root) -> Check:
    """What a composed command would do and cost."""
    if composed.missing:
        rows = RowCounts(None, said="values are missing")
        core_seconds, memory, disk = (
            Estimate(None, None, None, unit, "values are missing") for unit in ("core-s", "MB", "bytes")
        )
        estimates = Estimates(core_seconds, memory, disk)
    else:
        rows = rows_of(composed.stage, composed.plain, root)
        estimates = estimate(composed.stage, composed.plain, rows, root)
    return Check(
        composed.id,
        composed.stage,
        composed.arguments,
        None if composed.run_dir is None else root.relative(composed.run_dir),
        not composed.missing,
        composed.missing,
        {k: v for k, v in composed.plain.items() if k != "hydra"},
        rows,
        estimates,
    )


__all__ = ["NO_RECORD", "Check", "check", "checked"]
