"""Why requests or rows of a run have no answer: grouped messages, an example of each, and what to try."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.store.records import RecordStore
from experiments.agents.confinement import Root, capped
from experiments.agents.run_places import Place

#: Groups of an answer, the largest first.
MOST_GROUPS = 20
#: Entries of an array of a request that are shown.
SHOWN = 8
#: Rows of a file of rejected rows that are looked at.
MOST_ROWS = 100_000
#: Kind of failure -> what to try.
REMEDIES: Mapping[str, str] = {
    "not_converged": "Give the method more room (max_steps, max_iterations or max_cycles), a looser tolerance or "
    "another method, or narrow the ranges of the requests",
    "timeout": "Raise campaign.timeout_s, or choose a cheaper method",
    "crashed": "Look at the message and the log; campaign.retries repeats what may pass",
    "out_of_memory": "Raise campaign.memory_mb, or take fewer workers",
    "invalid_input": "Correct the requests: the message names the variable and what it has to be",
    "missing_component": "Install what the message names",
    "lost": "Run the same command again: the request was lost with its worker",
    "rejected": "Correct or remove these rows; the others were processed",
    "refused": "Follow the message; nothing was run",
}
RETRY = "; campaign.retry_failed=true repeats requests that a store records as failed"
FILES = ("rejects.csv", "screen/rejects.csv", "rejects_of_refused.csv", "failures.csv")


@dataclass(frozen=True)
class FailureGroup:
    """Failures of one kind whose messages differ in numbers only.

    Attributes:
        kind: kind of failure; "rejected" for rows of a file, "refused" for the command itself.
        count: how many there are.
        message: message of one of them; it comes from files and programs.
        example: request or row of that one.
        remedy: what to try.
        where: store or file that records them.
    """

    kind: str
    count: int
    message: str
    example: dict[str, Any]
    remedy: str
    where: str


@dataclass(frozen=True)
class Failures:
    """The failures of a run.

    Attributes:
        run: directory of the run.
        failed, answered: numbers of requests without and with an answer in its stores.
        groups: failures by kind and message, the most frequent first.
    """

    run: str
    failed: int
    answered: int
    groups: tuple[FailureGroup, ...] = ()


@dataclass
class _Group:
    count: int = 0
    message: str = ""
    example: dict[str, Any] = field(default_factory=dict)


def failures(place: Place, root: Root, problem: str = "") -> Failures:
    """The failures of a run.

    Args:
        place: the run.
        root: the folder of all runs.
        problem: why the command itself failed, if it did.
    """
    groups: list[FailureGroup] = []
    answered = failed = 0
    if problem:
        groups.append(
            FailureGroup("refused", 1, capped(problem, 1000), {}, REMEDIES["refused"], root.relative(place.directory))
        )
    for store in place.stores(root):
        ok, some = _of_store(store, root)
        answered, failed = answered + ok, failed + sum(g.count for g in some)
        groups += some
    for name in FILES:
        path = place.directory / name
        if path.is_file() and root.holds(path.resolve()):
            groups += _of_file(path, root)
    groups.sort(key=lambda g: (g.kind != "refused", -g.count))
    return Failures(root.relative(place.directory), failed, answered, tuple(groups[:MOST_GROUPS]))


def _of_store(path: Path, root: Root) -> tuple[int, list[FailureGroup]]:
    records = RecordStore.open(path)
    status, messages = records.column("status"), records.column("message")
    chosen: dict[tuple[str, str], _Group] = {}
    rows: dict[int, _Group] = {}
    for row, (kind, message) in enumerate(zip(status, messages, strict=True)):
        if kind == "ok":
            continue
        group = chosen.setdefault((str(kind), _shape(str(message))), _Group())
        group.count += 1
        if group.count == 1:
            group.message = capped(str(message))
            rows[row] = group
    if rows:
        # Requests are read once, for the examples alone.
        names = records.inputs
        for row, (_, values) in enumerate(records.records(status=None, names=names)):
            if row in rows:
                rows[row].example = {name: shown(values[name]) for name in names if name in values}
    where = root.relative(path)
    groups = [
        FailureGroup(kind, g.count, g.message, g.example, REMEDIES.get(kind, "") + RETRY, where)
        for (kind, _), g in chosen.items()
    ]
    return int((status == "ok").sum()), groups


def _of_file(path: Path, root: Root) -> list[FailureGroup]:
    chosen: dict[str, _Group] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for number, row in enumerate(csv.DictReader(file)):
            if number >= MOST_ROWS:
                break
            reason = str(row.get("reason") or row.get("message") or "no reason")
            group = chosen.setdefault(_shape(reason), _Group())
            group.count += 1
            if group.count == 1:
                group.message = capped(reason)
                group.example = {str(k): capped(str(v)) for k, v in row.items() if k not in ("reason", "message")}
    where = root.relative(path)
    return [
        FailureGroup("rejected", g.count, g.message, g.example, REMEDIES["rejected"], where) for g in chosen.values()
    ]


def _shape(message: str) -> str:
    """A message without its numbers, by which equal causes are grouped."""
    return re.sub(r"[-+]?\d[\d.,]*(?:[eE][-+]?\d+)?", "#", " ".join(message.split()))[:500]


def shown(value: Any) -> Any:
    """A value of a request as plain data; of an array its first entries."""
    if hasattr(value, "tolist"):
        size, flat = getattr(value, "size", 1), value
        if size > SHOWN:
            first = flat.ravel()[:SHOWN].tolist()
            return f"array of shape {tuple(flat.shape)}, which begins with {first}"
        value = value.tolist()
    if isinstance(value, str):
        return capped(value)
    return value if isinstance(value, int | float | bool | list) else capped(str(value))
