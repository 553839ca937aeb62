"""The agent of the guide, over standard input and output, against the real server: from `describe` to a shortlist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.store.records import RecordStore
from experiments.campaigns.named_simulator import named_simulator

#: Runs the script of the guide, and prints what its agent comes to as a last line.
AGENT = (
    "import asyncio, json, runpy; names = runpy.run_path('agent.py', run_name='agent'); "
    "print(json.dumps(asyncio.run(names['main']())))"
)


def test_the_agent_of_the_guide_comes_to_a_shortlist_that_the_simulator_confirms(
    repository: Path, tmp_path: Path
) -> None:
    guide = (repository / "docs" / "guides" / "agents.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(import asyncio.*?)```", guide, re.S)
    (tmp_path / "agent.py").write_text(script, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", AGENT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    said, outcome = "\n".join(lines), json.loads(last)
    assert "The person is asked: May understudy simulate exceed the budget" in said
    # Stopping repeated nothing: each request has one record.
    store = RecordStore.open(tmp_path / "labels" / "labels.zarr")
    assert len(set(store.keys())) == len(store) == 36
    # All designs were screened, and the shortlist is that of the whole screen.
    metrics = json.loads((tmp_path / "screen" / "metrics.json").read_text())
    assert metrics["screen/designs"] == 20000
    assert len(outcome["shortlist"]["rows"]) == 5
    # Its simulated values, and the single simulation, are those of the simulator of the labels.
    simulator = named_simulator(str(tmp_path / "labels"), (), key="simulator")
    for row in outcome["shortlist"]["rows"]:
        request = simulator.spec.request({v.name: row[v.name] for v in simulator.spec.inputs})
        assert float(simulator.simulate(request)["fraction"][1, 1]) == pytest.approx(row["fraction_40_B"], rel=1e-6)
        assert row["fraction_40_B_low"] < row["fraction_40_B_pred"] < row["fraction_40_B_high"]
    truth = simulator.simulate(simulator.spec.request(outcome["design"]))["fraction"]
    assert outcome["simulated"]["fingerprint"] == simulator.fingerprint
    assert np.allclose(outcome["simulated"]["values"]["fraction"], truth, rtol=1e-6)
    # The prediction of a call is that of the screen.
    value = outcome["predicted"]["predictions"][0]["values"]["fraction_40_B"]
    assert value["value"] == pytest.approx(outcome["best"]["rows"][0]["fraction_40_B"], rel=1e-4)
    assert outcome["predicted"]["predictions"][0]["in_domain"]
    calls = [json.loads(line)["tool"] for line in (tmp_path / ".understudy" / "calls.jsonl").read_text().splitlines()]
    assert {"describe", "check", "start", "status", "stop", "failures", "query", "predict", "simulate_one"} <= set(
        calls
    )


def test_streamable_http_answers_on_this_machine_and_refuses_other_hosts_and_origins(tmp_path: Path) -> None:
    from mcp.server.mcpserver import MCPServer
    from starlette.testclient import TestClient

    from experiments.agents.confinement import Root
    from experiments.agents.server import build_server
    from experiments.agents.toolbox import Toolbox
    from experiments.cli import STAGES

    server: MCPServer = build_server(Toolbox(STAGES, Root(tmp_path)))
    body = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}
        },
    }  # fmt: skip
    heads = {"accept": "application/json, text/event-stream"}
    with TestClient(server.streamable_http_app(host="127.0.0.1"), base_url="http://127.0.0.1:8765") as client:
        answer = client.post("/mcp", json=body, headers=heads)
        assert answer.status_code == 200
        assert "Understudy labels with simulators" in answer.text
        assert client.post("/mcp", json=body, headers={**heads, "host": "evil.example"}).status_code == 421
        assert client.post("/mcp", json=body, headers={**heads, "origin": "http://evil.example"}).status_code == 403


def test_the_server_says_what_is_wrong_with_its_options(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "understudy", "mcp", "--root", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 2
    assert "no such folder" in done.stderr
