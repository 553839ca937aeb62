"""`understudy serve` as a process: the examples of its guide, a load of many clients, and its end by a signal."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import Client

from benchmarks.faults.small_surrogates import MAKERS
from benchmarks.serving_load import TOLERANCE, Truth, run_load
from data.molecules.featurise import encode
from data.processes.processor import living_seconds

SMILES = ["CCO", "CC=O", "C", "O", "CCN", "C#N", "CC(C)O", "C1CC1", "OCC=O", "CCCC", "COC", "C=C"]
BODY_MB, TIMEOUT_S = 0.1, 1.0


@dataclass
class Served:
    """A running command.

    Attributes:
        process: the command.
        run: its directory.
        client: asks it.
    """

    process: subprocess.Popen[str]
    run: Path
    client: Client


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    one = MAKERS["properties"]()
    directory = tmp_path_factory.mktemp("surrogate") / "gap"
    one.save(directory)
    return directory, one


@pytest.fixture(scope="module")
def served(surrogate: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    run = tmp_path_factory.mktemp("serve") / "run"
    keys = [f"surrogate={surrogate[0]}", "port=0", "largest=8", "workers=1", f"body_mb={BODY_MB}"]
    line = [sys.executable, "-m", "understudy", "serve", *keys, f"timeout_s={TIMEOUT_S}", f"run.dir={run}"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    step = threading.Event()
    while not (run / "server.json").exists():
        assert process.poll() is None, process.communicate()
        step.wait(0.05)
    address = json.loads((run / "server.json").read_text())["address"]
    yield Served(process, run, Client(int(address.rpartition(":")[2])))
    if process.poll() is None:
        process.kill()
        process.communicate()


def blocks(repository: Path, language: str) -> list[str]:
    text = (repository / "docs" / "guides" / "serving.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_examples_of_the_guide_are_answered(
    served: Served, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = blocks(repository, "python")
    assert len(python) == 2
    for block in python:
        exec(block.replace("8765", str(served.client.port)), {})
    by_json, by_arrow = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(r"\[[\d.]+, [\d.]+\] eV \[True, True\]", by_json), by_json
    assert re.match(r"\[[\d.]+, [\d.]+, None\] \[None, None, '.+'\]", by_arrow), by_arrow
    (command,) = [text for text in blocks(repository, "sh") if text.startswith("curl")]
    words = shlex.split(command.replace("\\\n", " "))
    name, _, kind = words[words.index("-H") + 1].partition(": ")
    reply = served.client.ask("POST", "/predict", words[words.index("-d") + 1].encode(), **{name: kind})
    (shown,) = blocks(repository, "json")
    assert set(reply.json) == set(json.loads(shown))
    assert set(reply.json["rows"][0]) == set(json.loads(shown)["rows"][0])
    assert [error["row"] for error in reply.json["errors"]] == [1]


def test_many_clients_at_once_get_right_answers_and_broken_ones_end_nothing(
    served: Served, surrogate: tuple[Path, Any]
) -> None:
    table, bad = encode(SMILES)
    assert not bad
    truth = Truth(SMILES, surrogate[1].predict_table(table))
    programs = _metric(served, "understudy_compiled_programs")
    address = ("127.0.0.1", served.client.port)
    load = run_load(
        address, truth, 20, lambda count: count < 12, body_bytes=int(BODY_MB * 1e6), timeout_s=TIMEOUT_S, seed=3
    )
    assert load.wrong == []
    assert sum(load.requests.values()) == 240
    assert {"rows", "arrow", "malformed", "huge", "nonsense", "abandoned", "slow"} == set(load.requests)
    assert load.rows > 500
    assert load.largest_difference <= TOLERANCE
    assert _metric(served, "understudy_compiled_programs") == programs > 0
    assert served.client.get("/health").json["status"] == "ready"
    assert served.process.poll() is None


def test_a_signal_ends_it_with_status_0_and_a_table_of_what_was_served(served: Served) -> None:
    pid = served.process.pid
    assert living_seconds([pid]) > 0
    assert served.client.predict([{"smiles": "CCO"}]).status == 200
    served.client.predict([{"smiles": "no molecule"}])
    served.process.send_signal(signal.SIGTERM)
    out, err = served.process.communicate(timeout=300)
    assert served.process.returncode == 0, err
    assert "Traceback" not in err
    assert "rows answered" in out
    assert "core-ms for each row" in out
    metrics = json.loads((served.run / "metrics.json").read_text())
    # Of this test alone, which may run without the one before it.
    assert metrics["serve/answered"] >= 1
    assert metrics["serve/refused"] >= 1
    assert metrics["serve/core_seconds"] > 0
    progress = json.loads((served.run / "progress.json").read_text())
    assert (progress["stage"], progress["state"]) == ("serve", "finished")
    assert progress["done"] == metrics["serve/requests"]
    assert progress["failures"]["invalid_input"] == metrics["serve/refused"]
    assert not (served.run / "server.json").exists()


def _metric(served: Served, name: str) -> float:
    (line,) = [x for x in served.client.get("/metrics").body.decode().splitlines() if x.startswith(f"{name} ")]
    return float(line.split()[1])


def test_answers_of_other_sizes_of_batches_are_within_the_tolerance(surrogate: tuple[Path, Any]) -> None:
    """What the load compares with, asked row by row, differs by less than it allows."""
    table, _ = encode(SMILES)
    together = surrogate[1].predict_table(table)
    truth = Truth(SMILES, together)
    for row in range(len(SMILES)):
        alone = surrogate[1].predict_table(table.take(np.array([row])))
        assert all(truth.difference(name, row, alone[name][0]) <= TOLERANCE for name in together)
