"""Every tool has schemas, refuses a wrong argument, and answers with what lies on the disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mcp import Client, MCPError
from saved_files import unpack

from data.claim import claim
from data.files import write_json, write_text
from data.progress import follow_progress
from data.rejects import RejectLog
from data.store.records import RecordStore
from experiments.agents.budgets import Budget
from experiments.agents.confinement import Root
from experiments.agents.reading import PAGE
from experiments.agents.server import build_server
from experiments.agents.toolbox import Toolbox
from experiments.campaigns.named_simulator import named_simulator
from experiments.cli import STAGES, main

TOOLS = (
    "describe", "check", "start", "status", "stop", "runs", "read", "query", "failures", "predict", "simulate_one",
    "profile", "test",
)  # fmt: skip
KINETICS = ["simulator=robertson", "sampling=robertson"]
NAME = KINETICS[0].partition("=")[2]
#: Tool -> arguments that fit its schema and are wrong, and words of the refusal.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "describe": ({"kind": "simulator", "name": "robersson"}, "Did you mean robertson"),
    "check": ({"stage": "simulate", "overrides": ["nosuch=1"]}, "no such key"),
    "start": ({"stage": "simulate", "overrides": ["out=../labels.zarr"]}, "outside of the root"),
    "status": ({"run": "campaign/none"}, "no run"),
    "stop": ({"run": "campaign"}, "no call started"),
    "runs": ({"folder": "/"}, "outside of the root"),
    "read": ({"run": "campaign", "what": "top"}, "It has metrics, rejects, configuration, log, progress"),
    "query": ({"source": "campaign/labels.zarr", "columns": ["rate_9"]}, "Did you mean rate_"),
    "failures": ({"run": "../campaign"}, "outside of the root"),
    "predict": ({"surrogate": "campaign", "inputs": [{}]}, "no surrogate.json"),
    "simulate_one": ({"simulator": NAME, "inputs": {"rate_1": 1.0}}, "takes rate_1, rate_2"),
    "profile": ({"stage": "simulate", "overrides": ["simulator=openfoam"]}, "runs programs"),
    "test": ({"kind": "simulator", "name": NAME}, "no requests are given"),
}
COSTS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a campaign of which two requests failed, and the results of a screen."""
    folder = tmp_path_factory.mktemp("root")
    simulator = named_simulator(NAME, ["simulator.points=2"], key="simulator")
    with claim(folder / "campaign", "simulate") as run, follow_progress(run, "simulate"):
        write_text(run / "config.yaml", "stage: simulate\nout: campaign/labels.zarr\n")
        write_json(run / "metrics.json", {"simulate/answered": 4.0, "simulate/failed": 2.0})
        write_text(run / "log.txt", "".join(f"line {i} é\n" for i in range(4000)))
        with RejectLog(run / "rejects.csv") as rejects:
            rejects.add(folder / "designs.csv", 3, "a\x1b[2Jb", "no number: 'a'")
        with RecordStore.create(
            run / "labels.zarr", simulator.spec.inputs, simulator.spec.outputs, coords=simulator.spec.coords,
            provenance={"simulator": simulator.name},
        ) as store:  # fmt: skip
            for k, cost in enumerate(COSTS):
                values: dict[str, Any] = {v.name: 0.01 * (k + 1) for v in simulator.spec.inputs}
                facts: dict[str, Any] = {"seconds": 1.0, "threads": 1, "core_seconds": float(cost)}
                if k in (2, 4):
                    facts |= {"status": "not_converged", "message": f"failed after {k}00 steps\n\x1b[31mignore all"}
                else:
                    values["fraction"] = np.full((2, 3), k / 10)
                store.append(f"key-{k}", values, **facts)
    results = folder / "screen" / "results"
    results.mkdir(parents=True)
    frame = pd.DataFrame({"line": np.arange(3000), "y": np.random.default_rng(0).normal(size=3000)})
    for part, rows in enumerate((frame[:1400], frame[1400:])):
        rows.to_parquet(results / f"part-{part:05d}.parquet")
    (folder / "secret").symlink_to("/etc")
    return folder


def asked(root: Path, talk: Callable[[Client], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """What a conversation with a server in this process comes to."""

    async def run() -> Any:
        async with Client(build_server(Toolbox(STAGES, Root(root), **options))) as client:
            return await talk(client)

    return asyncio.run(run())


async def refusal_of_resource(client: Client, uri: str) -> str:
    try:
        await client.read_resource(uri)
    except MCPError as error:
        return str(error)
    return ""


def called(root: Path, tool: str, /, **arguments: Any) -> Any:
    """The result of a call that succeeds."""
    answer = asked(root, lambda client: client.call_tool(tool, arguments))
    assert not answer.is_error, answer.content
    assert set(answer.structured_content) == {"result", "cost"}
    assert answer.structured_content["cost"]["core_seconds"] >= 0
    # The text is the same object, for clients that read text alone.
    assert json.loads(answer.content[0].text)["result"] == answer.structured_content["result"]
    return answer.structured_content["result"]


def refused(root: Path, tool: str, /, **arguments: Any) -> str:
    answer = asked(root, lambda client: client.call_tool(tool, arguments))
    assert answer.is_error
    return str(answer.content[0].text)


def test_every_tool_has_schemas_and_says_what_it_changes(root: Path) -> None:
    tools = asked(root, lambda client: client.list_tools()).tools
    assert sorted(tool.name for tool in tools) == sorted(TOOLS)
    for tool in tools:
        assert tool.description
        assert tool.input_schema["type"] == tool.output_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False
        assert set(tool.output_schema["properties"]) == {"result", "cost"}
        hints = tool.annotations
        assert hints is not None
        assert hints.read_only_hint == (tool.name not in ("start", "stop"))
        assert hints.destructive_hint == (tool.name == "stop")
        assert hints.idempotent_hint is not None
    only_reading = asked(root, lambda client: client.list_tools(), read_only=True).tools
    assert {tool.name for tool in only_reading} == set(TOOLS) - {"start", "stop", "profile"}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_wrong_argument_is_refused_with_what_to_do(tool: str, root: Path) -> None:
    arguments, words = WRONG[tool]
    assert words in refused(root, tool, **arguments).replace('\\"', '"').replace('", "remedy": "', ". ")
    # A name that the tool does not have is an error too, and no default is taken.
    assert "Extra inputs are not permitted" in refused(root, tool, **arguments, verbose=True)
    wrong_type = {name: {"a": 1} for name in arguments}
    assert "validation error" in refused(root, tool, **wrong_type)


def test_no_path_leads_out_of_the_root(root: Path) -> None:
    for tool, arguments in (
        ("read", {"run": "secret", "what": "log"}),
        ("query", {"source": "secret/x.csv"}),
        ("runs", {"folder": "secret"}),
        ("predict", {"surrogate": "/etc", "inputs": [{}]}),
        ("simulate_one", {"simulator": "secret", "inputs": {}}),
        ("test", {"kind": "surrogate", "name": "../x"}),
    ):
        assert "outside of the root" in refused(root, tool, **arguments), tool
    for uri in ("understudy://runs/secret/metrics", "understudy://runs/../x/metrics", "understudy://docs/../README.md"):
        assert asked(root, partial(refusal_of_resource, uri=uri)).startswith(("run: 'secret' lies outside", "Unknown"))


def test_pages_of_a_file_add_up_to_the_file(root: Path) -> None:
    whole, offset, pages = "", 0, 0
    while offset is not None:
        page = called(root, "read", run="campaign", what="log", offset=offset)
        assert len(page["content"].encode()) <= PAGE
        whole, offset, pages = whole + page["content"], page["next_offset"], pages + 1
    assert whole == (root / "campaign" / "log.txt").read_text()
    assert pages > 1
    assert called(root, "read", run="campaign", what="log", offset=-10)["content"] == "e 3999 é\n"


def test_queries_give_the_rows_that_fulfil_all_conditions(root: Path) -> None:
    frame = pd.concat(map(pd.read_parquet, sorted((root / "screen" / "results").glob("*.parquet"))))
    expected = frame[(frame.y > 1) & (frame.line < 2000)].sort_values("y", ascending=False)
    where = [{"column": "y", "operator": ">", "value": 1}, {"column": "line", "operator": "<", "value": 2000}]
    rows = called(root, "query", source="screen", where=where, order_by="y", descending=True, limit=7, offset=2)
    assert rows["matching"] == len(expected)
    assert [row["line"] for row in rows["rows"]] == expected.line[2:9].tolist()
    assert rows["next_offset"] == 9
    # A page ends after 20 kB, and the next one goes on behind it.
    page = called(root, "query", source="screen", limit=1000)
    assert 0 < len(page["rows"]) < 1000
    assert called(root, "query", source="screen", limit=1, offset=page["next_offset"])["rows"][0]["line"] == len(
        page["rows"]
    )


def test_queries_of_a_campaign_know_units_and_give_no_values_of_failures(root: Path) -> None:
    rows = called(
        root, "query", source="campaign/labels.zarr", order_by="core_seconds", columns=["core_seconds", "status"]
    )
    assert rows["units"]["rate_1"] == "s-1"
    assert [row["core_seconds"] for row in rows["rows"]] == pytest.approx(COSTS)
    failed = called(
        root, "query", source="campaign/labels.zarr", where=[{"column": "status", "operator": "!=", "value": "ok"}]
    )
    assert [row["rate_1"] for row in failed["rows"]] == pytest.approx([0.03, 0.05])
    for condition in (
        {"column": "status", "operator": "<", "value": [1]},
        {"column": "rate_1", "operator": "contains", "value": "x"},
        {"column": "rate_1", "operator": "==", "value": "x"},
    ):
        refused(root, "query", source="campaign/labels.zarr", where=[condition])


def test_failures_are_grouped_with_an_example_and_harmless_text(root: Path) -> None:
    answer = called(root, "failures", run="campaign")
    assert (answer["failed"], answer["answered"]) == (2, 4)
    solver, rejected = answer["groups"]
    assert (solver["kind"], solver["count"]) == ("not_converged", 2)
    assert solver["message"] == "failed after 200 steps \\x1b[31mignore all"
    assert solver["example"]["rate_1"] == pytest.approx(0.03)
    assert "max_steps" in solver["remedy"]
    assert (rejected["kind"], rejected["example"]["line"]) == ("rejected", "3")
    assert "\x1b" not in json.dumps(answer)


def test_runs_status_resources_and_prompts_tell_of_a_run(root: Path) -> None:
    listed = called(root, "runs")
    (run,) = [one for one in listed["runs"] if one["directory"] == "campaign"]
    assert (run["stage"], run["state"], run["metrics"]["simulate/failed"]) == ("simulate", "finished", 2)
    state = called(root, "status", run="campaign", wait_s=50)
    assert (state["status"]["state"], state["records"], state["ended"]) == ("finished", 6, True)

    async def attached(client: Client) -> tuple[Any, Any]:
        resource = await client.read_resource("understudy://runs/campaign/metrics")
        return resource, await client.get_prompt("why_did_it_fail", {"run": "campaign"})

    resource, prompt = asked(root, attached)
    assert json.loads(resource.contents[0].text) == {"simulate/answered": 4.0, "simulate/failed": 2.0}
    assert "'campaign'" in prompt.messages[0].content.text


def test_every_call_is_recorded_and_what_was_there_stays(root: Path) -> None:
    path = root / ".understudy" / "calls.jsonl"
    called(root, "describe")
    before = path.read_bytes()
    refused(root, "status", run="none")
    after = path.read_bytes()
    assert after.startswith(before)
    last = json.loads(after.splitlines()[-1])
    assert (last["tool"], last["arguments"]) == ("status", '{"run": "none"}')
    assert last["outcome"].startswith("error:")


def test_a_simulator_answers_one_request_as_in_this_process_and_keeps_its_promises(root: Path) -> None:
    request = {"rate_1": 0.04, "rate_2": 1e4, "rate_3": 3e7, "initial_b": 0.0, "initial_c": 0.0}
    settings = ["simulator.points=2"]
    one = called(root, "simulate_one", simulator=NAME, inputs=request, settings=settings)
    simulator = named_simulator(NAME, ["simulator.points=2"], key="simulator")
    truth = simulator.simulate(simulator.spec.request(request))
    assert one["status"] == "ok"
    assert np.array_equal(one["values"]["fraction"], truth["fraction"])
    assert (one["fingerprint"], one["units"]) == (simulator.fingerprint, {"fraction": "1"})
    failed = called(root, "simulate_one", simulator=NAME, inputs={**request, "initial_b": 2.0}, settings=settings)
    assert (failed["status"], failed["values"]) == ("invalid_input", {})
    tested = called(root, "test", kind="simulator", name=NAME, requests=[request], settings=settings)
    assert tested["passed"]
    assert all(promise["kept"] for promise in tested["promises"])


def test_predictions_are_those_of_the_surrogate_with_interval_domain_units_and_fingerprint(root: Path) -> None:
    from surrogates.saved import load_surrogate

    directory, _ = unpack("surrogates/parameters", root / "saved")
    surrogate = load_surrogate(directory)
    box = surrogate.facts.domain
    low, high = np.array(box.low), np.array(box.high)
    rows = np.stack([low, (low + high) / 2, high + 0.1 * (high - low)])
    inputs = [{k: v.tolist() for k, v in surrogate.facts.layout.named(row).items()} for row in rows]
    truth = surrogate.predict_table(rows)
    answer = called(root, "predict", surrogate="saved", inputs=[*inputs, {"nosuch": 1.0}])
    name = surrogate.targets[0]
    for place, prediction in enumerate(answer["predictions"][:3]):
        value = prediction["values"][name]
        assert value["value"] == pytest.approx(float(truth[name][place]))
        assert prediction["in_domain"] == bool(truth["in_domain"][place])
        if name in surrogate.facts.conformal:
            assert value["low"] == pytest.approx(float(truth[f"{name}_low"][place]))
            assert answer["coverage"] == pytest.approx(0.9)
    assert [one["in_domain"] for one in answer["predictions"]] == [True, True, False, None]
    assert answer["predictions"][3]["error"].startswith("takes ")
    assert (answer["fingerprint"], answer["units"][name]) == (
        surrogate.fingerprint,
        surrogate.facts.layout.outputs[0].units,
    )
    tested = called(root, "test", kind="surrogate", name="saved", requests=inputs[:2])
    assert tested["passed"], tested
    spent = asked(
        root, lambda client: client.call_tool("predict", {"surrogate": "saved", "inputs": inputs}),
        budget=Budget(core_seconds=1e-6),
    )  # fmt: skip
    assert "is spent" in spent.content[0].text


def test_outputs_that_are_arrays_are_said_in_words_with_their_units(root: Path) -> None:
    unpack("surrogates/fields", root / "waves")
    request = {"initial": np.zeros((1, 8)).tolist(), "speed": 0.1}
    wrong = {"initial": [[0.0]], "speed": 0.1}
    answer = called(root, "predict", surrogate="waves", inputs=[request, wrong])
    first, second = answer["predictions"]
    assert first["arrays"]["u"].startswith("array of shape (")
    assert (first["in_domain"], answer["units"]) == (True, {"u": "m"})
    assert second["error"].startswith("invalid_input")


def test_describe_and_check_are_commands_with_the_same_answer(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    assert main(["describe", "simulator", NAME, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == called(root, "describe", kind="simulator", name=NAME)
    settings = [*KINETICS, "sampling.count=9"]
    assert main(["check", "simulate", *settings, "--json"]) == 0
    answer = called(root, "check", stage="simulate", overrides=settings)
    assert json.loads(capsys.readouterr().out) == answer
    assert answer["rows"]["total"] == 9
    assert main(["check", "simulate", *settings]) == 0
    assert "no earlier run" in capsys.readouterr().out
    assert main(["describe", "simulator", "nosuch", "--json"]) == 2
    assert "no simulator" in json.loads(capsys.readouterr().out)["error"]["problem"]
