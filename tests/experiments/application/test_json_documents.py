"""With `--json` a command prints one JSON document, however it ends, and all else goes to standard error."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from absl.logging import PythonHandler
from omegaconf import DictConfig

from data.errors import CorruptStoreError, InputError
from data.extras import MissingExtraError
from data.files import write_json
from data.processes.wire import pack, unpack
from data.spec import SimulationError
from data.store.records import RecordStore
from data.terminal import progress_bar, show_pairs
from experiments.application.json_document import error_facts, with_document
from experiments.application.stage import application, fail
from experiments.cli import COMMANDS, STAGES, main
from surrogates.properties.property_split import fixed_by_column

ERROR = {"kind", "problem", "where", "file", "row", "key", "remedy", "exit_status"}
DOCUMENT = {
    "format", "stage", "state", "exit_status", "directory", "files", "metrics", "failures", "readings", "tables",
    "cost", "error",
}  # fmt: skip
COSTS = {"core_seconds", "wall_seconds", "core_seconds_all_sessions"}
#: Requests of a cheap simulator, which SciPy answers in milliseconds.
ROBERTSON = ["simulator=robertson", "simulator.points=3", "sampling=robertson", "campaign.workers=1"]


def document_of(*arguments: str | Path) -> tuple[dict[str, Any], str]:
    """The document of a command, which is all of its standard output, and its standard error."""
    out, err = io.StringIO(), io.StringIO()
    # Hydra ends all handlers of logs, and that of absl then closes the stream that was standard error before.
    with (
        patch.object(PythonHandler, "close"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main([*map(str, arguments), "--json"])
    document = json.loads(out.getvalue())
    assert set(document) == DOCUMENT
    assert set(document["cost"]) == COSTS
    assert document["exit_status"] == status
    assert document["stage"] == arguments[0]
    assert (document["error"] is None) == (status == 0)
    if status:
        assert set(document["error"]) >= ERROR
        assert document["error"]["exit_status"] == status
    return document, err.getvalue()


@pytest.mark.parametrize("stage", ["report", "screen", "simulate", "train"])
def test_a_key_that_a_stage_does_not_know_is_named_in_its_document(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document, said = document_of(stage, "no_such_key=1", f"run.dir={tmp_path / 'run'}")
    error = document["error"]
    assert (document["state"], document["exit_status"]) == ("refused", 2)
    assert (error["kind"], error["key"]) == ("usage_error", "no_such_key")
    assert "Keys here are" in error["remedy"]
    assert said.strip().splitlines()[-1].startswith("understudy: no_such_key: no such key")


#: What a stage needs, so that its configuration is complete.
NEEDED = {"calibrate": ["labels=x", "out=o"], "windows": ["source=file"], "report": ["of=x"]}
OUT = ("distil", "export", "forecast", "grow", "predict", "prepare", "prune")


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_ends_with_what_it_made_what_it_cost_and_where_it_lies(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The application of the stage, with its own configuration, around a function that works for a moment.
    monkeypatch.chdir(tmp_path)

    def work(config: DictConfig, run_dir: Path) -> None:
        print("a library says something")
        with progress_bar("working", 4) as bar:
            bar.update(4, failures={"timeout": 1})
        sum(range(200_000))
        (tmp_path / "made.txt").write_text("made")
        write_json(run_dir / "metrics.json", {"test/mae_ev": 0.25})
        write_json(run_dir / "reading.json", [{"source": "x.csv", "used": 3}])
        show_pairs("Made", {"size": "3 MB", "file": tmp_path / "made.txt", "nothing": tmp_path / "absent"})

    runner = application(stage, work)
    module = STAGES[stage].module.rpartition(".")[2]
    stand_in = type(sys)(f"stand_in_{module}")
    stand_in.main = runner  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, STAGES[stage].module, stand_in)
    needed = [*NEEDED.get(stage, []), *(["out=o"] if stage in OUT else [])]
    document, said = document_of(stage, f"run.dir={tmp_path / 'run'}", *needed)
    assert document["error"] is None, said
    assert document["state"] == "finished"
    assert document["directory"] == str(tmp_path / "run")
    assert document["files"] == {"file": str(tmp_path / "made.txt")}
    assert document["metrics"] == {"test/mae_ev": 0.25}
    assert document["failures"] == {"timeout": 1}
    assert document["readings"] == [{"source": "x.csv", "used": 3}]
    assert document["tables"][-1]["title"] == "Made"
    assert ["size", "3 MB"] in document["tables"][-1]["rows"]
    cost = document["cost"]
    assert 0 < cost["core_seconds"] <= cost["core_seconds_all_sessions"] + 60
    assert cost["wall_seconds"] > 0
    assert "a library says something" in said
    assert "Made" in said


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], str]]:
    """Documents of real commands: a campaign that is stopped and resumed, and a training on its labels."""
    folder = tmp_path_factory.mktemp("chain")
    store, run = folder / "labels.zarr", folder / "run"
    append = RecordStore.append

    def interrupted(records: RecordStore, *values: Any, **more: Any) -> None:
        append(records, *values, **more)
        if len(records) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    documents = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordStore, "append", interrupted)
        documents["stopped"] = document_of(
            "simulate", *ROBERTSON, "sampling.count=24", f"out={store}", f"run.dir={folder / 'labels'}"
        )
    documents["simulate"] = document_of(*documents["stopped"][0]["error"]["resume"][1:])
    signal.signal(signal.SIGINT, before)
    documents["train"] = document_of(
        "train", "task=kinetics/robertson", f"data.file={store}", "data.parts=[10,3,9,2]", "model.ensemble=1",
        "model.width=4", "model.layers=1", "train.epochs=2", "train.mlflow=false", f"run.dir={run}",
    )  # fmt: skip
    return documents


@pytest.mark.parametrize(
    ("stage", "file", "metric"),
    [
        ("simulate", "records", "simulate/core_seconds"),
        ("train", "surrogate", "test/factor_error"),
    ],
)
def test_real_commands_name_their_files_metrics_and_costs(
    chain: dict[str, tuple[dict[str, Any], str]], stage: str, file: str, metric: str | None
) -> None:
    document, said = chain[stage]
    assert document["error"] is None, said
    assert Path(document["files"][file]).exists()
    assert document["metrics"]
    assert all(np.isfinite(value) for value in document["metrics"].values())
    assert metric is None or metric in document["metrics"]
    # Workers of a campaign are counted.
    assert document["cost"]["core_seconds"] > 0
    assert document["tables"]
    if stage == "train":
        assert document["readings"][0]["used"] == 24


def test_a_campaign_without_an_answer_says_which_failures_it_had(tmp_path: Path) -> None:
    document, _ = document_of("simulate", *ROBERTSON, "simulator.max_steps=1", "sampling.count=3", "campaign.retries=0",
                              f"run.dir={tmp_path / 'run'}")  # fmt: skip
    assert (document["exit_status"], document["failures"]) == (2, {"not_converged": 3})
    error = document["error"]
    assert "3 not_converged" in error["problem"]
    assert error["file"] == str(tmp_path / "run" / "labels.zarr")
    assert "campaign.retry_failed=true" in error["remedy"]


def test_an_interrupted_campaign_gives_the_command_that_resumes_it(
    chain: dict[str, tuple[dict[str, Any], str]],
) -> None:
    document, said = chain["stopped"]
    assert (document["state"], document["exit_status"]) == ("stopped", 130), said
    assert document["error"]["kind"] == "stopped"
    resumed, _ = chain["simulate"]
    assert document["error"]["resume"][:2] == ["understudy", "simulate"]
    assert 5 <= resumed["metrics"]["simulate/cached"] < 24
    assert resumed["metrics"]["simulate/answered"] == 24
    # Both sessions are counted.
    assert resumed["cost"]["core_seconds_all_sessions"] > resumed["cost"]["core_seconds"] / 2


def test_a_run_without_a_directory_of_its_own_is_resumed_in_the_one_that_it_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def work(config: DictConfig, run_dir: Path) -> None:
        raise KeyboardInterrupt

    stand_in = type(sys)("stand_in")
    stand_in.main = application("simulate", work)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, STAGES["simulate"].module, stand_in)
    document, _ = document_of("simulate", "simulator=robertson", "sampling=robertson")
    assert document["state"] == "stopped"
    assert document["error"]["resume"][-1] == f"run.dir={document['directory']}"
    # One that chose its output resumes with that.
    stand_in.main = application("screen", work)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, STAGES["screen"].module, stand_in)
    document, _ = document_of("screen", "surrogate=x", "candidates=y")
    assert document["error"]["resume"][-1].startswith("out=")
    assert document["error"]["resume"][-1].removeprefix("out=") in document["directory"]


def test_a_fault_of_the_program_is_an_error_with_its_traceback_apart(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(arguments: object) -> int:
        raise RuntimeError("a bug")

    assert with_document("train", ["--json"], broken) == 1
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["state"], document["error"]["kind"]) == ("failed", "internal_error")
    assert document["error"]["problem"] == "RuntimeError: a bug"
    assert "Traceback" in printed.err


#: Writes past Python's streams, as compiled libraries and other programs do.
NOISY = """
import os, sys
from experiments.application.json_document import with_document

def run(arguments):
    os.write(1, b"from a library\\n")
    os.system("echo from a program")
    print("from Python")
    return 0

sys.exit(with_document("train", ["--json"], run))
"""


def test_what_is_written_to_the_stream_itself_does_not_reach_standard_output() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["state"] == "finished"
    assert sorted(done.stderr.splitlines()) == ["from Python", "from a library", "from a program"]


@pytest.mark.parametrize("option", ["--help", "--cfg=job"])
def test_an_option_that_begins_no_run_has_no_document(option: str) -> None:
    document, _ = document_of("train", option)
    assert (document["error"]["kind"], document["exit_status"]) == ("usage_error", 2)


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (InputError("no number", where="a.csv, line 7", file="a.csv", row=7, remedy="Write one"),
         {"kind": "input_error", "file": "a.csv", "row": 7, "remedy": "Write one"}),
        (CorruptStoreError("cut short", where="x"), {"kind": "damaged_file", "where": "x"}),
        (MissingExtraError("it needs VTK", "vtk"), {"kind": "missing_extra", "problem": "it needs VTK"}),
        (SimulationError("timeout", "more than 60 s"), {"kind": "timeout", "problem": "more than 60 s"}),
        (ZeroDivisionError("by 0"), {"kind": "internal_error", "problem": "ZeroDivisionError: by 0"}),
    ],
)  # fmt: skip
def test_errors_are_told_apart_by_their_kind(error: Exception, facts: dict[str, Any]) -> None:
    document = error_facts(error)
    assert {name: document[name] for name in facts} == facts
    if isinstance(error, MissingExtraError):
        assert "pip install" in document["remedy"]
        assert "vtk" in document["remedy"]


def test_the_file_and_the_row_of_an_error_come_through_a_parsing_process() -> None:
    with pytest.raises(InputError) as caught:
        fixed_by_column(["train", "tarin"], [2, 3], "labels.csv", "part")
    head, *beside = pack(caught.value)
    sent = unpack(bytes(head), [bytearray(part) for part in beside])
    assert error_facts(sent) == error_facts(caught.value)
    assert (sent.file, sent.row) == ("labels.csv", 3)


def test_another_remedy_changes_the_text_of_an_error() -> None:
    error = InputError("no rows", where="a.csv", remedy="See rejects.csv")
    error.give_remedy("See b.csv")
    assert str(error) == "a.csv: no rows. See b.csv"
    assert fail(error) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_without_a_stage_give_the_same_errors(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--json", "--no-such-option"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert set(error) >= ERROR
    assert (error["kind"], error["exit_status"]) == ("usage_error", 2)
