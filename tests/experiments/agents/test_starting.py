"""Starting runs within a budget, asking the person beyond it, and watching a short run."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.types import ElicitRequestParams, ElicitResult

from experiments.agents.budgets import Budget
from experiments.agents.confinement import Root
from experiments.agents.server import build_server
from experiments.agents.toolbox import Toolbox
from experiments.cli import STAGES

SETTINGS = ["simulator=robertson", "sampling=robertson", "sampling.count=30"]
#: A stage that ends at once, one that uses a processor until it is stopped, and one that is refused.
END, BURN = "", "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(130))\nwhile True:\n    pass\n"
REFUSE = "import sys\nprint('understudy: inputs: no such file', file=sys.stderr)\nsys.exit(2)\n"


def talk(root: Path, calls: list[tuple[str, dict[str, Any]]], answer: str | None, **options: Any) -> list[Any]:
    """What calls of one conversation come to, whose person gives an answer; None: no one can be asked."""

    async def person(context: object, parameters: ElicitRequestParams) -> ElicitResult:
        assert "May understudy simulate exceed the budget" in parameters.message
        assert answer is not None
        if answer == "decline":
            return ElicitResult(action="decline")
        return ElicitResult(action="accept", content={"allow": answer == "yes"})

    async def run() -> list[Any]:
        box = Toolbox(STAGES, Root(root), **options)
        async with Client(build_server(box), elicitation_callback=None if answer is None else person) as client:
            return [await client.call_tool(tool, arguments) for tool, arguments in calls]

    return asyncio.run(run())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.mark.parametrize("answer", [None, "decline", "no"])
def test_a_run_beyond_the_budget_is_refused_unless_the_person_allows_it(
    answer: str | None, commands: Path, root: Path
) -> None:
    commands.write_text(END)
    start = ("start", {"stage": "simulate", "overrides": SETTINGS})
    (refused,) = talk(root, [start], answer, budget=Budget(rows=20))
    assert refused.is_error
    assert "over_budget" in refused.content[0].text
    assert "30 rows, of which 20 are left" in refused.content[0].text
    assert not (root / ".understudy" / "jobs").exists()


def test_what_the_person_allows_is_started_once_and_no_more_is_allowed(commands: Path, root: Path) -> None:
    commands.write_text(END)
    start = ("start", {"stage": "simulate", "overrides": SETTINGS})
    first, again, listed = talk(root, [start, start, ("runs", {})], "yes", budget=Budget(rows=20))
    one, other = (answer.structured_content["result"] for answer in (first, again))
    assert (one["started"], one["rows"]["total"], other["id"]) == (True, 30, one["id"])
    spending = listed.structured_content["result"]["spending"]
    assert (spending["rows"], spending["rows_left"]) == (30, 0)


def test_no_more_runs_than_allowed_are_under_way_and_a_stop_ends_one(commands: Path, root: Path) -> None:
    commands.write_text(BURN)
    first = {"stage": "simulate", "overrides": SETTINGS, "max_core_seconds": 30}
    second = {"stage": "simulate", "overrides": [*SETTINGS, "sampling.seed=1"]}
    started, refused = talk(root, [("start", first), ("start", second)], None, budget=Budget(jobs=1))
    run = started.structured_content["result"]
    assert run["max_core_seconds"] == 30
    assert refused.is_error
    assert "1 run is under way" in refused.content[0].text
    (stopped,) = talk(root, [("stop", {"run": run["id"], "wait_s": 50})], None)
    assert stopped.structured_content["result"]["state"]["status"]["state"] == "stopped"


def test_a_profile_states_the_shares_of_a_short_run_and_leaves_nothing(commands: Path, root: Path) -> None:
    commands.write_text(BURN)
    call = ("profile", {"stage": "simulate", "overrides": SETTINGS, "seconds": 1})
    (answer,) = talk(root, [call], None)
    profile = answer.structured_content["result"]
    assert not profile["finished"]
    # It computes on one core, and all that it spends is counted.
    assert profile["core_seconds"] == pytest.approx(sum(step["core_seconds"] for step in profile["steps"]))
    share = profile["core_seconds"] / (profile["seconds"] * len(os.sched_getaffinity(0)))
    assert profile["waiting_share"] == pytest.approx(1 - share)
    assert profile["peak_memory_mb"] > 1
    assert answer.structured_content["cost"]["core_seconds"] >= profile["core_seconds"]
    assert not list((root / ".understudy" / "profiles").iterdir())
    commands.write_text(REFUSE)
    (answer,) = talk(root, [call], None)
    assert json.loads(answer.content[0].text)["result"]["problem"] == "inputs: no such file"
