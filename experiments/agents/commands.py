"""`understudy describe`, `understudy check` and `understudy mcp`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.extras import MissingExtraError
from data.terminal import columns_table, print_table, show_pairs
from experiments.agents.budgets import Budget
from experiments.agents.check import Check, check
from experiments.agents.composition import Permissions
from experiments.agents.confinement import Root
from experiments.agents.description import KINDS, Description, describe
from experiments.agents.estimates import Estimate
from experiments.application.command_line import answer_command, command_parser
from experiments.application.json_document import print_document
from experiments.application.targets import PROGRAMS, WITHOUT

#: What a person at a terminal may do, who has given the command.
PERSON = Permissions(frozenset(PROGRAMS), network=True, person=True)
NETWORK = "network"
PORT = 8765


def describe_command(stages: Mapping[str, Any], arguments: Sequence[str]) -> int:
    """`understudy describe [KIND [NAME]] [--json]`."""
    parser = command_parser(
        "describe",
        "What there is: stages, simulators, models, objectives and samplings, with keys, units, ranges and defaults.",
    )
    parser.add_argument("kind", metavar="KIND", nargs="?", default="overview", help=f"one of {', '.join(KINDS)}")
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="one of them, in detail")

    def run(options: argparse.Namespace) -> None:
        described = describe(stages, options.kind, options.name, PERSON)
        if options.json:
            print_document(asdict(described))
        else:
            _show_description(described)

    return answer_command(parser, arguments, run)


def check_command(stages: Mapping[str, Any], arguments: Sequence[str]) -> int:
    """`understudy check STAGE [key=value ...] [--json]`."""
    parser = command_parser(
        "check",
        "What a command would do and cost: settings, rows, and core-seconds, memory and bytes from the records of "
        "earlier runs below the working directory. Nothing is run.",
    )
    parser.add_argument("stage", metavar="STAGE", help=f"one of {', '.join(stages)}")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="settings of the command")

    def run(options: argparse.Namespace) -> None:
        root = Root(Path.cwd().anchor, Path.cwd())
        checked = check(stages, options.stage, options.overrides, root, PERSON)
        if options.json:
            print_document(asdict(checked))
        else:
            show_pairs(f"understudy {checked.stage}", check_rows(checked))

    return answer_command(parser, arguments, run)


def mcp_command(stages: Mapping[str, Any], arguments: Sequence[str]) -> int:
    """`understudy mcp [--root DIR] [--read-only] ...`."""
    budget = Budget()
    parser = command_parser(
        "mcp",
        "Serve runs, results and simulators below a folder to programs by the Model Context Protocol, over standard "
        "input and output, or over HTTP on this machine.",
    )
    parser.add_argument("--root", default=".", help="folder beyond which nothing is read or written (default: .)")
    parser.add_argument("--read-only", action="store_true", help="offer no tool that starts or stops a run")
    parser.add_argument(
        "--core-seconds", type=float, default=budget.core_seconds, metavar="N",
        help=f"processor time that programs may spend below the root (default: {budget.core_seconds:g})",
    )  # fmt: skip
    parser.add_argument(
        "--rows", type=int, default=budget.rows, metavar="N",
        help=f"rows of all runs that they start (default: {budget.rows:,})",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=budget.jobs, metavar="N", help=f"runs at a time (default: {budget.jobs})"
    )
    parser.add_argument(
        "--allow", action="append", default=[], choices=[*PROGRAMS, NETWORK],
        help="simulators that run programs, or addresses of other hosts, which are refused otherwise",
    )  # fmt: skip
    parser.add_argument("--http", action="store_true", help="serve streamable HTTP on 127.0.0.1 in place of stdio")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"port of --http (default: {PORT})")

    def run(options: argparse.Namespace) -> None:
        try:
            limits = Budget(options.core_seconds, options.rows, options.jobs)
        except ValueError as error:
            raise InputError(str(error), where="--core-seconds, --rows, --jobs") from error
        root = Root(options.root)
        try:
            from experiments.agents.server import build_server
            from experiments.agents.toolbox import Toolbox
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types"):
                raise
            raise MissingExtraError("the package mcp is not installed", "agents") from error
        allowed = Permissions(frozenset(options.allow) - {NETWORK}, NETWORK in options.allow)
        # Simulators that this process builds itself are restricted as those of runs are.
        os.environ[WITHOUT] = ",".join(allowed.refused)
        os.chdir(root.path)
        server = build_server(Toolbox(stages, root, allowed, limits, options.read_only))
        if options.http:
            # On a local address the SDK checks the hosts and origins of requests.
            print(f"understudy: http://127.0.0.1:{options.port}/mcp serves {root.path}", file=sys.stderr)
            server.run("streamable-http", host="127.0.0.1", port=options.port)
        else:
            server.run("stdio")

    return answer_command(parser, arguments, run)


def check_rows(checked: Check) -> list[tuple[str, str]]:
    """The rows of the table of a command that was checked."""
    rows = [("run", checked.directory or "follows from a value that is missing")]
    rows += [("missing", key) for key in checked.missing]
    if checked.ready:
        total = "not known" if checked.rows.total is None else f"{checked.rows.total:,}"
        done = f", of which {checked.rows.done:,} are done" if checked.rows.done else ""
        rows.append(("rows", f"{total}{done}; {checked.rows.said}"))
        one = checked.estimates
        rows += [("processor time", _said(one.core_seconds)), ("memory", _said(one.memory)), ("disk", _said(one.disk))]
        rows += [("earlier run", name) for name in one.runs[:5]]
    return rows


def _said(estimate: Estimate) -> str:
    if estimate.value is None:
        limit = "" if estimate.high is None else f"at most {estimate.high:,.4g} {estimate.unit}: "
        return f"{limit or 'not known: '}{estimate.basis}"
    ends = "" if estimate.low is None or estimate.high is None else f" ({estimate.low:,.3g} to {estimate.high:,.3g})"
    return f"about {estimate.value:,.3g} {estimate.unit}{ends}; {estimate.basis}"


def _show_description(described: Description) -> None:
    title = " ".join(filter(None, (described.kind, described.name)))
    if described.help and described.name:
        print(described.help)
    for kind, entries in (described.entries or {}).items():
        print_table(columns_table(kind, ("name", "what it is"), [[e.name, e.help] for e in entries], texts=2))
    for label, quantities in (("inputs", described.inputs), ("outputs", described.outputs)):
        if quantities:
            rows = [[q.name, " ".join(q.dims), q.units, q.long_name] for q in quantities]
            print_table(columns_table(f"{label} of {title}", ("name", "dims", "unit", "what it is"), rows, texts=4))
    if described.note:
        print(f"Inputs and outputs: {described.note}")
    if described.choices:
        show_pairs(f"choices of {title}", {name: ", ".join(options) for name, options in described.choices.items()})
    if described.keys:
        rows = [[key.name, key.default, key.range, key.help] for key in described.keys]
        print_table(columns_table(f"settings of {title}", ("key", "default", "range", "what it is"), rows, texts=4))
