"""`understudy status` and `understudy runs`: runs as tables or as JSON, without changing anything."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from data.terminal import columns_table, print_table, show_pairs
from experiments.application.command_line import answer_command, command_parser
from experiments.application.json_document import print_document, standard_output_kept
from experiments.runs.listing import RunLine, runs_below, share_text
from experiments.runs.status import RunStatus, run_status
from simulators.campaigns.outlook import span


def status_command(arguments: Sequence[str]) -> int:
    """`understudy status DIR [--json]`."""
    parser = command_parser(
        "status",
        "The state of a run: running, finished, stopped, failed or lost; share done, rate, time left, "
        "failures by kind, cost, and the last lines of its log. Nothing is changed.",
    )
    parser.add_argument("directory", metavar="DIR", help="run.dir of the command")

    def run(options: argparse.Namespace) -> None:
        status = run_status(options.directory)
        if options.json:
            print_document(asdict(status))
        else:
            show_pairs(f"Run {options.directory}", status_rows(status))

    return answer_command(parser, arguments, run)


def runs_command(arguments: Sequence[str]) -> int:
    """`understudy runs [DIR] [--json]`."""
    parser = command_parser(
        "runs",
        "The runs below a folder: stage, state, share done, headline metrics and cost.",
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", default="runs", help="a folder (default: runs)")

    def run(options: argparse.Namespace) -> None:
        lines = runs_below(Path(options.directory))
        if options.json:
            print_document([{**asdict(line.status), "metrics": dict(line.headline)} for line in lines])
            return
        heads = ("run", "stage", "state", "metrics", "done", "core-s")
        rows = [_row(line) for line in lines]
        print_table(columns_table(f"Runs below {options.directory}", heads, rows, texts=4))

    return answer_command(parser, arguments, run)


def merge_command(arguments: Sequence[str]) -> int:
    """`understudy merge OUT [--json]`."""
    parser = command_parser(
        "merge",
        "Make one output of the shards of simulate, prepare or screen with shard=i/n. A shard that is "
        "missing or half-finished is named, and nothing is written.",
    )
    parser.add_argument("out", metavar="OUT", help="out of the commands; the shards lie in OUT.shards")

    def run(options: argparse.Namespace) -> None:
        from experiments.merging.merge import merge

        with standard_output_kept() if options.json else nullcontext():
            merged = merge(Path(options.out))
        if options.json:
            print_document({**asdict(merged), "out": str(merged.out)})
            return
        rows = {"shards": f"{merged.shards} of understudy {merged.stage}", "output": str(merged.out)}
        show_pairs("Merged", rows | {name: f"{value:,.6g}" for name, value in merged.metrics.items()})

    return answer_command(parser, arguments, run)


def publish_command(arguments: Sequence[str]) -> int:
    """`understudy publish SOURCE URL [--json]`."""
    parser = command_parser(
        "publish",
        "Copy a store (folded, and sharded into few objects), a run or a prepared library to a bucket. Each "
        "object is written only where there is none, and read back; the same command resumes.",
    )
    parser.add_argument("source", metavar="SOURCE", help="directory of a store, a run or a library")
    parser.add_argument("url", metavar="URL", help="s3://BUCKET/NAME or gs://BUCKET/NAME")

    def run(options: argparse.Namespace) -> None:
        from experiments.publishing.publish import publish

        copy = publish(Path(options.source), options.url)
        if options.json:
            print_document(asdict(copy))
            return
        rows = {"objects": f"{copy.objects:,} of {copy.bytes:,} bytes, {copy.written:,} of them written now"}
        rows |= {} if copy.records is None else {"records": f"{copy.records:,}"}
        show_pairs("Published", rows | {"verified": "each was read back and compared", "URL": copy.url})

    return answer_command(parser, arguments, run)


def status_rows(status: RunStatus) -> list[tuple[str, str]]:
    """The rows of the table of one run."""
    rows = [("stage", status.stage), ("state", status.state + (f": {status.problem}" if status.problem else ""))]
    if status.step:
        share = share_text(status)
        of = "" if status.total in (None, 1.0) else f", {status.done:,.0f} of {status.total:,.0f}"
        rows.append(("step", f"{status.step}{': ' if share else ''}{share}{of}"))
    if status.note:
        rows.append(("rate", status.note))
    elif status.rate_per_s is not None and status.total != 1:
        rows.append(("rate", f"{status.rate_per_s:,.3g}/s"))
    if status.left_s is not None:
        rows.append(("time left", f"about {span(status.left_s)}"))
    rows += [("failed", f"{count:,} {kind}") for kind, count in status.failures.items()]
    if status.core_seconds is not None:
        rows.append(("cost", f"{status.core_seconds:,.1f} core-s in all sessions"))
    if status.updated is not None:
        rows.append(("written", f"{span(max(0.0, time.time() - status.updated))} ago by {status.host}, {status.pid}"))
    return [*rows, *(("log", line) for line in status.log)]


def _row(line: RunLine) -> list[str]:
    status = line.status
    cost = "" if status.core_seconds is None else f"{status.core_seconds:,.1f}"
    metrics = "  ".join(f"{name}={value:.4g}" for name, value in line.headline.items())
    return [status.directory, status.stage, status.state, metrics, share_text(status), cost]
