"""The board reads only what lies below its folder, keeps foreign text as text, and answers this machine alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import write_progress, write_training

from experiments.board import board_server, run_records
from experiments.board.board_page import write_board
from experiments.board.board_server import BoardServer
from experiments.board.run_records import POINTS, RunRecords, metric_text, run_details
from experiments.cli import main

HOSTILE = "</script><script>alert(1)</script><!--"


@contextlib.contextmanager
def served(root: Path) -> Iterator[BoardServer]:
    """A server of a folder, in a thread."""
    with BoardServer(root) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def answer(server: BoardServer, path: str, *, method: str = "GET", host: str | None = None) -> tuple[int, bytes]:
    """Status and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply.status, body


def embedded(page: str) -> dict[str, Any]:
    """The runs in a page."""
    text = page.split('id="board">', 1)[1].split("</script>", 1)[0]
    facts: dict[str, Any] = json.loads(text)
    return facts


def test_a_run_has_its_metrics_with_units_its_settings_and_its_curves(tmp_path: Path) -> None:
    run = write_training(tmp_path / "a", [0.5, 0.25, 0.125], settings={"dropout": 0.1})
    with (run / "train.jsonl").open("a") as file:
        file.write('{"epoch": 4, "valid/lo')  # the training writes this line
    write_training(run / "fold-1", [3.0])
    details = run_details(run)
    assert details["metrics"] == {"test/gap/mae_ev": [0.125, "0.1250"], "train/core_seconds": [7200.0, "2.00 core-h"]}
    assert details["settings"]["model.dropout"] == "0.1"
    assert [(curve["where"], curve["epochs"]) for curve in details["curves"]] == [("", 3), ("fold-1", 1)]
    assert details["curves"][0]["series"]["valid/loss"] == [[1, 0.5], [2, 0.25], [3, 0.125]]


def test_long_curves_are_thinned_and_keep_their_ends(tmp_path: Path) -> None:
    run = write_training(tmp_path / "a", [1 / (i + 1) for i in range(5000)])
    points = run_details(run)["curves"][0]["series"]["valid/loss"]
    assert len(points) <= POINTS + 1
    assert (points[0], points[-1]) == ([1, 1.0], [5000, 1 / 5000])


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("train/core_seconds", 5400.0, "1.50 core-h"),
        ("screen/seconds", 0.02, "20.0 ms"),
        ("simulate/answered", 12345.0, "12,345"),
        ("test/gap/mae_ev", 0.171234, "0.1712"),
        ("cost/speedup", 3.2e12, "3.200 × 10¹²"),
    ],
)
def test_metrics_read_with_their_unit_and_four_digits(name: str, value: float, text: str) -> None:
    assert metric_text(name, value) == text


def test_links_and_what_is_no_plain_file_are_not_read_and_are_named(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    write_training(root / "plain", [1.0])
    write_training(elsewhere / "secret", [2.0])
    (root / "linked").symlink_to(elsewhere / "secret")
    write_training(root / "link_within", [1.0])
    (root / "link_within" / "metrics.json").unlink()
    (root / "link_within" / "metrics.json").symlink_to(elsewhere / "secret" / "metrics.json")
    write_training(root / "pipe", [1.0])
    (root / "pipe" / "log.txt").unlink()
    os.mkfifo(root / "pipe" / "log.txt")
    (root / "plain" / "fold-1").symlink_to(elsewhere / "secret")
    (root / "plain" / "train.jsonl").unlink()
    (root / "plain" / "train.jsonl").symlink_to(elsewhere / "secret" / "train.jsonl")
    records = RunRecords(root)
    assert set(records.rows) == {"plain"}
    assert records.refused == ["link_within", "pipe"]
    # Neither a linked folder nor a linked history within a run is followed.
    assert all(not curve["series"] for curve in run_details(root / "plain")["curves"])


def test_only_runs_that_changed_or_are_under_way_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_training(tmp_path / name, [1.0])
    write_training(tmp_path / "c", [1.0], state="running")
    records = RunRecords(tmp_path)
    again: list[str] = []
    line = run_records.run_line
    monkeypatch.setattr(run_records, "run_line", lambda path, root: again.append(path.name) or line(path, root))
    records.update()
    assert again == ["c"]
    write_progress(tmp_path / "b", "train", state="failed", problem="no gap")
    records.update()
    assert sorted(again) == ["b", "c", "c"]
    assert records.rows["b"]["problem"] == "no gap"


def test_foreign_text_stays_text_in_the_page(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    run = write_training(root / "x<img src=y>", [1.0], settings={"name": HOSTILE}, problem=HOSTILE, state="failed")
    (run / "log.txt").write_text(HOSTILE)
    assert write_board(root, tmp_path / "board.html") == 1
    page = (tmp_path / "board.html").read_text()
    assert HOSTILE not in page
    assert "<img" not in page
    facts = embedded(page)
    assert facts["runs"][0]["problem"] == HOSTILE
    assert facts["runs"][0]["log"] == [HOSTILE]
    assert facts["details"]["x<img src=y>"]["settings"]["model.name"] == HOSTILE
    # Nothing is loaded, and no other script runs.
    assert "default-src &#x27;none&#x27;" in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?(http|//)", page)


def test_the_server_answers_for_runs_below_its_folder_and_for_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_server, "FRESH_S", 0.0)
    monkeypatch.setattr(board_server, "REST", 0.0)
    root = tmp_path / "runs"
    write_training(root / "a", [1.0, 0.5])
    write_training(tmp_path / "beside", [1.0])
    with served(root) as server:
        assert server.server_address[0] == "127.0.0.1"
        status, page = answer(server, "/")
        assert status == 200
        assert [run["directory"] for run in embedded(page.decode())["runs"]] == ["a"]
        status, body = answer(server, "/run.json?directory=a")
        assert (status, json.loads(body)["metrics"]["test/gap/mae_ev"][0]) == (200, 0.5)
        for path in ("../beside", "..%2Fbeside", "a%2F..%2F..%2Fbeside", "%2Fetc", str(tmp_path / "beside"), "", "b"):
            assert answer(server, f"/run.json?directory={path}")[0] == 404
        assert answer(server, "/../../etc/passwd")[0] == 404
        assert answer(server, "/", method="POST")[0] == 501
        assert answer(server, "/runs.json", method="HEAD") == (200, b"")
        # A name of another site that leads to this machine.
        assert answer(server, "/runs.json", host="evil.example:80")[0] == 403
        write_training(root / "later", [1.0], state="running", share=0.25)
        rows = {run["directory"]: run for run in json.loads(answer(server, "/runs.json")[1])["runs"]}
        assert (rows["later"]["state"], rows["later"]["share"]) == ("running", 0.25)


def test_the_command_writes_a_page_and_replaces_only_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_training(tmp_path / "runs" / "a", [1.0])
    page = tmp_path / "board.html"
    for _ in range(2):
        assert main(["board", str(tmp_path / "runs"), f"out={page}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"page": str(page), "runs": 1}
    page.write_text("a letter")
    assert main(["board", str(tmp_path / "runs"), f"out={page}", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["file"] == str(page)
    assert page.read_text() == "a letter"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent"], "no such folder"),
        ([".", "prot=1"], "Did you mean port?"),
        ([".", "port=99999"], "below 65536"),
        ([".", "port=1", "out=x.html"], "a file has no port"),
    ],
)
def test_what_the_command_does_not_take_is_refused(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["board", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_port_in_use_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["board", str(tmp_path), f"port={port}"]) == 2
    assert f"port {port} cannot be used" in capsys.readouterr().err
