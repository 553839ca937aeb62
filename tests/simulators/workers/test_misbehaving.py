"""Simulators that misbehave in every way that was thought of: what is recorded, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import xarray as xr

from data.spec import Spec, Variable
from data.store.records import RecordStore, verify
from simulators.campaigns import crew, slot
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.testing import Misbehaving, request
from simulators.workers.scratch import MARK, PREFIX, Scratch, marked_processes, scratch, sweep
from simulators.workers.worker import answer

#: Mode -> status, and a part of the message.
EXPECTED = {
    # Ended by itself or by the system.
    "segfault": ("crashed", "the process ended with SIGSEGV"),
    "exit": ("crashed", "the process ended with exit status 3: from below Python"),
    "fork_and_exit": ("crashed", "the process ended with exit status 0"),
    "close_descriptors": ("crashed", "closed the socket on which it answers"),
    "kill_guard": ("crashed", "its guard was killed from outside"),
    # Ended by a limit.
    "halt": ("timeout", "no answer in 3 s"),
    "daemon_and_hang": ("timeout", "no answer in 3 s"),
    "print_and_hang": ("timeout", "no answer in 3 s"),
    "half_answer": ("crashed", "half an answer: 28 bytes, and no more for 0.3 s"),
    "garbled_answer": ("crashed", "its answer is damaged: the checksum of its 400 bytes does not fit"),
    "fill_disk": ("crashed", "30 MB allowed (scratch_mb)"),
    # Answered, and the process went on.
    "large_file": ("crashed", "File too large"),
    "raise": ("crashed", "RuntimeError: on purpose"),
    "sys_exit": ("crashed", "exited with status 3"),
    "interrupt": ("crashed", "KeyboardInterrupt"),
    "bad_message": ("crashed", "_SilentError: its message cannot be made (RuntimeError)"),
    "no_memory": ("out_of_memory", "on purpose"),
    "not_converged": ("not_converged", "on purpose"),
    "nan": ("crashed", "y holds values that are not finite"),
    "shape": ("crashed", "y must have dims ()"),
    "objects": ("crashed", "y must be float64, got object"),
    "no_dataset": ("crashed", "it is no xarray.Dataset but float"),
    "daemon": ("ok", ""),
    "print": ("ok", ""),
    "ok": ("ok", ""),
}


@pytest.mark.parametrize(
    ("dtype", "values", "message"),
    [
        ("int32", np.int64(2**31), "values too large for int32"),
        ("float32", np.float64(1e300), "values too large for float32"),
        ("int32", np.float64(1.0), "must be int32, got float64"),
        ("float64", np.complex128(1.0), "must be float64, got complex128"),
        ("str", np.array(1.0), "must hold strings, got float64"),
    ],
)
def test_an_output_is_never_changed_to_fit(dtype: str, values: np.ndarray, message: str) -> None:
    spec = Spec((), (Variable("y", (), "1", dtype, "an output"),))

    def fitting(value: object) -> np.ndarray:
        simulator = SimpleNamespace(spec=spec, simulate=lambda inputs: xr.Dataset({"y": ((), value)}))
        reply = answer(simulator, {})  # type: ignore[arg-type]
        assert reply.status in ("ok", "crashed")
        assert (message in reply.message) is (reply.status == "crashed")
        return reply.values.get("y")

    assert fitting(values) is None
    fits = np.array("x", dtype=object) if dtype == "str" else np.int8(3)
    assert fitting(fits) == fits


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary files go where they can be counted."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def living(folder: Path) -> list[str]:
    """Processes that were started for a scratch directory in a folder, and the daemon."""
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            ours = process.environ().get(MARK, "").startswith(str(folder)) or str(folder.parent) in process.cmdline()
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                left.append(" ".join(process.cmdline()[-3:]))
    daemon = folder.parent / "daemon"
    # One that was killed before it wrote its number left an empty file.
    with suppress(psutil.Error, OSError, ValueError):
        # One that was killed may wait for its parent to notice.
        if psutil.Process(int(daemon.read_text())).status() != psutil.STATUS_ZOMBIE:
            left.append("daemon")
    return left


def left_after_a_moment(folder: Path, watched: Callable[[str], bool] = bool) -> list[str]:
    """Those of the watched ones that do not end: on a busy machine the death of a killed process takes a moment."""
    end = time.monotonic() + 60.0
    while (left := list(filter(watched, living(folder)))) and time.monotonic() < end:
        time.sleep(0.02)
    return left


def test_each_misbehaviour_has_its_record_and_leaves_no_process_and_no_file(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crew, "STALL_S", 0.3)
    monkeypatch.setattr(slot, "SCRATCH_POLL_S", 0.1)
    monkeypatch.chdir(tmp_path)
    seen = []

    def inputs() -> object:
        for i, mode in enumerate(EXPECTED):
            yield request(float(i), mode)
            # With one worker, this is asked for when the one before has its record.
            seen.append((mode, left_after_a_moment(temporary, "daemon".__eq__) if mode.startswith("daemon") else []))

    config = CampaignConfig(workers=1, timeout_s=3.0, scratch_mb=30, retries=0, give_up_after=None)
    summary = run_campaign(Misbehaving(str(tmp_path)), inputs(), tmp_path / "s", config, progress=False)
    with RecordStore.open(tmp_path / "s") as records:
        columns = [records.column(name).tolist() for name in ("mode", "status", "message", "log")]
    outcomes = {str(mode): (str(status), str(message)) for mode, status, message, _ in zip(*columns, strict=True)}
    assert {mode: status for mode, (status, _) in outcomes.items()} == {
        m: status for m, (status, _) in EXPECTED.items()
    }
    for mode, (_, part) in EXPECTED.items():
        # On a busy machine the watch of temporary files may see the file before its writer sees the refusal.
        allowed = (part, "30 MB of temporary files") if mode == "large_file" else (part,)
        assert any(words in outcomes[mode][1] for words in allowed), (mode, outcomes[mode])
    assert summary.done == 3
    assert all(len(log) < 20_000 for log in columns[3])
    assert all("daemon" not in left for _, left in seen)
    assert living(temporary) == []
    assert list(temporary.iterdir()) == []
    assert {entry.name for entry in tmp_path.iterdir()} == {"s", "calls", "temporary", "daemon"}
    assert "xxxx" not in "".join(capfd.readouterr())
    assert verify(tmp_path / "s") == []


def test_files_that_an_earlier_request_left_do_not_count_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "SCRATCH_POLL_S", 0.1)
    calls_file, truly = tmp_path / "calls", Scratch.megabytes

    def when_the_second_runs(self: Scratch) -> float:
        begun = calls_file.exists() and calls_file.read_text().count("\n") > 1
        return truly(self) if begun else 0.0

    # However fast the machine is, the files of the first are seen while the second runs, which waits for that.
    monkeypatch.setattr(Scratch, "megabytes", when_the_second_runs)
    config = CampaignConfig(workers=1, timeout_s=120.0, scratch_mb=30, retries=0, give_up_after=None)
    requests = [request(0.0, "large_file"), request(1.0, "hang_once")]
    run_campaign(Misbehaving(str(tmp_path)), requests, tmp_path / "s", config, progress=False)
    with RecordStore.open(tmp_path / "s") as records:
        assert records.column("status").tolist() == ["crashed", "ok"], records.column("message").tolist()
    # The second began in the process of the first, and again in a new one.
    calls = [line.split() for line in calls_file.read_text().splitlines()]
    assert [x for x, _, _ in calls] == ["0", "1", "1"]
    assert calls[0][2] == calls[1][2] != calls[2][2]


ENDED = """
import sys
from pathlib import Path
from data.spec import Spec, Variable
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.testing import Misbehaving, request
from simulators.workers.worker import answer
inputs = [request(1.0, "daemon_and_hang")]
run_campaign(Misbehaving(sys.argv[1]), inputs, Path(sys.argv[1], "s"), CampaignConfig(workers=1))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_simulator_started_is_gone_after_its_campaign_was_killed(
    tmp_path: Path, temporary: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen([sys.executable, "-c", ENDED, str(tmp_path)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 1200
    while not ((tmp_path / "daemon").exists() and (tmp_path / "daemon").read_text().endswith("\n")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "daemon" in living(temporary)
    process.send_signal(number)
    process.wait()
    assert left_after_a_moment(temporary) == []
    assert list(temporary.iterdir()) == []


def test_directories_of_dead_processes_are_swept_with_what_works_in_them_and_others_are_left(temporary: Path) -> None:
    dead, in_use = Scratch.make(), Scratch.make()
    (dead.files / "large").write_bytes(b"x" * 10_000)
    (dead.files / "closed").mkdir(mode=0o000)
    assert 0.01 <= dead.megabytes() < 0.1
    stranger = temporary / f"{PREFIX}notes"
    stranger.mkdir()
    (stranger / "notes.txt").write_text("mine")
    elsewhere = temporary.parent / "elsewhere"
    elsewhere.mkdir()
    (temporary / f"{PREFIX}link").symlink_to(elsewhere)
    work = subprocess.Popen(["sleep", "1000003"], env={MARK: str(dead.root)}, start_new_session=True)
    # What the kernel does for a process that is killed.
    os.close(dead.lock)
    with scratch() as folder:
        assert not dead.root.exists()
        assert work.wait(1200) == -signal.SIGKILL
        assert in_use.root.exists()
        assert (stranger / "notes.txt").exists()
        assert elsewhere.exists()
        assert folder.exists()
    assert not folder.exists()
    assert sweep(temporary) == []
    in_use.close()
    assert not in_use.root.exists()


def test_a_process_that_is_just_being_started_is_among_those_of_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Starting:
        """As the kernel shows a process until its program is loaded, and after that."""

        pid, looks = 2**30, 0

        def environ(self) -> dict[str, str]:
            self.looks += 1
            return {} if self.looks == 1 else {MARK: str(tmp_path)}

    monkeypatch.setattr(psutil, "process_iter", lambda: iter([Starting()]))
    assert marked_processes(tmp_path) == [Starting.pid]
