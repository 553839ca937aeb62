"""A disk that is full, a path that cannot be used and a pipe that was closed end a command in one line, or in none."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.files import atomic_path, write_bytes, write_json
from experiments.application.stage_costs import Ledger
from experiments.application.system_errors import BROKEN_PIPE, REMEDIES, system_error
from surrogates.learning.checkpoints import save_arrays

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("number", REMEDIES)
def test_every_refusal_of_the_system_names_the_file_and_the_remedy(number: int) -> None:
    error = OSError(number, os.strerror(number), "some/file")
    wrapped = ValueError("a handler failed")
    wrapped.__cause__ = error
    for outer in (error, wrapped):
        said = system_error(outer)
        assert said is not None
        assert said.where == "some/file"
        assert said.remedy
        assert len(str(said).splitlines()) == 1


def test_a_refusal_that_a_library_tells_as_text_alone_is_known() -> None:
    for error in (
        RuntimeError("RESOURCE_EXHAUSTED: Failed to write 308503 bytes to file 7: No space left on device"),
        OSError("Unable to synchronously flush: No space left on device"),
        ValueError("database or disk is full"),
    ):
        said = system_error(error, "runs/a")
        assert said is not None
        assert str(said).startswith("runs/a: no space left on device. Make room there")
    assert "ulimit -n" in str(system_error(RuntimeError("open: Too many open files"), "runs/a"))
    assert system_error(KeyError("ours")) is None
    assert system_error(FileNotFoundError(errno.ENOENT, "no name")) is None


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write to the disk fails, as the system says it: without the name of a file."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(os, "posix_fallocate", full)


def test_a_full_disk_is_told_with_the_file_that_was_written(tmp_path: Path, full_disk: None) -> None:
    for write in (
        lambda path: write_bytes(path, b"1"),
        lambda path: save_arrays(path, {"a": np.zeros(3)}, {}),
    ):
        with pytest.raises(OSError, match="No space left") as caught:
            write(tmp_path / "wanted")
        assert str(system_error(caught.value)).startswith(f"{tmp_path / 'wanted'}: no space left on device")
        # Nothing is left of what could not be written.
        assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_for_a_moment_loses_no_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.application.stage_costs.UPDATE_S", 0.01)
    failed = []

    def full(path: Path, value: object) -> None:
        failed.append(value)
        if len(failed) < 3:
            raise OSError(errno.ENOSPC, "full")
        write_json(path, value)

    monkeypatch.setattr("experiments.application.stage_costs.write_json", full)
    ledger = Ledger(tmp_path / "costs.json")
    with ledger.stage("labels") as cost:
        while len(failed) < 3:
            pass
        cost.items = 7
    assert Ledger(tmp_path / "costs.json").costs["labels"].items == 7


def test_a_limit_on_the_size_of_files_is_found_before_the_arrays_are_written(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            save_arrays(tmp_path / "kept", [np.zeros(100_000)], {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(system_error(caught.value)).startswith(f"{tmp_path / 'kept'}: file too large. Raise the limit")
    assert not list(tmp_path.iterdir())


def test_a_reader_that_went_away_is_no_fault() -> None:
    command = f"{sys.executable} -m experiments.cli --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=300, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": ""},
    )  # fmt: skip
    assert done.stdout.strip() in (str(BROKEN_PIPE), "0")  # `true` may end after the help was written
    assert done.stderr == ""


def test_a_standard_output_that_takes_nothing_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "experiments.cli", "--help"], stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=300, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("understudy: standard output: no space left on device.")
    assert len(done.stderr.splitlines()) == 1


def test_a_run_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "understudy", "report", f"run.dir={tmp_path / 'file' / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert str(tmp_path / "file") in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_written_in_part_is_named_as_what_it_was_to_become(tmp_path: Path) -> None:
    with pytest.raises(PermissionError) as caught, atomic_path(tmp_path / "wanted") as part:
        raise PermissionError(errno.EACCES, "no", str(part))
    assert caught.value.filename == str(tmp_path / "wanted")
