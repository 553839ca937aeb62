"""Campaigns over a simulator that segfaults, hangs, eats memory and raises, killed and resumed."""

from __future__ import annotations

import json
import math
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import xarray as xr

from data.errors import InputError
from data.spec import SimulationError, input_hash
from data.store.records import RecordStore, verify
from simulators.campaigns import crew
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.campaigns.outlook import Outlook
from simulators.testing import Misbehaving, MisbehavingTogether, request

QUICK = CampaignConfig(workers=1, timeout_s=120.0, memory_mb=400, retries=1, give_up_after=None)
ALONE = CampaignConfig(workers=1)


def statuses(store: Path) -> dict[tuple[float, str], str]:
    with RecordStore.open(store) as records:
        columns = [records.column(name) for name in ("x", "mode", "status")]
    return {(float(x), str(mode)): str(status) for x, mode, status in zip(*columns, strict=True)}


def calls(folder: Path) -> Counter[str]:
    return Counter(line.rsplit(" ", 1)[0] for line in (folder / "calls").read_text().splitlines())


def test_a_failure_is_recorded_with_its_kind_and_the_rest_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    modes = {
        "eat_memory": "out_of_memory",
        "exit": "crashed",
        "not_converged": "not_converged",
        "flaky": "ok",
        "ok": "ok",
    }
    inputs = [request(float(i), mode) for i, mode in enumerate(modes)] + [request(float(i)) for i in range(100, 110)]
    summary = run_campaign(Misbehaving(str(tmp_path)), inputs, tmp_path / "s", QUICK, progress=False)
    status_of = statuses(tmp_path / "s")
    for i, (mode, status) in enumerate(modes.items()):
        assert status_of[(float(i), mode)] == status, mode
    assert summary.done == 12
    assert summary.failed == {"crashed": 1, "out_of_memory": 1, "not_converged": 1}
    with RecordStore.open(tmp_path / "s") as records:
        y, x, status = (records.column(n) for n in ("y", "x", "status"))
        assert all(b == a * a for a, b, s in zip(x, y, status, strict=True) if s == "ok")
        message = dict(zip(records.column("mode"), records.column("message"), strict=True))
        attempts = dict(zip(records.column("mode"), records.column("attempts"), strict=True))
        logs = dict(zip(records.column("mode"), records.column("log"), strict=True))
    # What libraries below Python print goes into the record, not to the terminal.
    assert "exit status 3: from below Python" in message["exit"]
    assert "from below Python" not in "".join(capfd.readouterr())
    assert "400 MB" in message["eat_memory"]
    assert json.loads(logs["not_converged"]) == {"cycles": 50}
    # A second try is given to what may pass then, and to nothing else.
    assert attempts["exit"] == attempts["flaky"] == 2
    assert attempts["not_converged"] == 1
    assert verify(tmp_path / "s") == []


CAMPAIGN = """
import sys
from pathlib import Path
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.testing import Misbehaving, MisbehavingTogether, request
folder = Path(sys.argv[1])
modes = {2: "segfault", 14: "raise", 20: "hang", 30: "eat_memory"}
inputs = (request(float(i), modes.get(i, "ok")) for i in range(60))
# Time enough to eat so much, also on a busy machine.
config = CampaignConfig(workers=2, timeout_s=4.0, memory_mb=400, retries=0)
summary = run_campaign(Misbehaving(str(folder), float(sys.argv[2])), inputs, folder / "s", config, progress=False)
print(summary.requested, summary.done + sum(summary.failed.values()) + summary.cached)
"""


def start(folder: Path, seconds: float = 0.04) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CAMPAIGN, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def recorded(store: Path) -> int:
    try:
        with RecordStore.open(store) as records:
            return len(records)
    except InputError:
        return 0


def wait_for(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until that many records are there."""
    deadline = time.monotonic() + 300
    while recorded(folder / "s") < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(folder: Path) -> list[int]:
    """Workers that still run; one that is dead may wait for long to be reaped where there is no init."""
    pids = []
    for pid in {int(line.rsplit(" ", 1)[1]) for line in (folder / "calls").read_text().splitlines()}:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                pids.append(pid)
    return pids


def test_a_campaign_that_is_killed_twice_ends_complete_and_without_duplicates(tmp_path: Path) -> None:
    for more in (12, 40):
        process = start(tmp_path)
        wait_for(tmp_path, more, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    stored = recorded(tmp_path / "s")
    assert 40 <= stored < 60
    deadline = time.monotonic() + 300
    while alive(tmp_path):
        assert time.monotonic() < deadline, "workers outlived the campaign"
        time.sleep(0.02)
    before = calls(tmp_path)
    out, _ = start(tmp_path).communicate(timeout=300)
    assert out.split() == ["60", "60"]
    with RecordStore.open(tmp_path / "s") as records:
        keys, x = list(records.keys()), records.column("x")
    assert len(keys) == len(set(keys)) == 60
    assert sorted(x.tolist()) == [float(i) for i in range(60)]
    expected = {"segfault": "crashed", "raise": "crashed", "hang": "timeout", "eat_memory": "out_of_memory", "ok": "ok"}
    status_of = statuses(tmp_path / "s")
    assert {mode for _, mode in status_of} == set(expected)
    assert all(status == expected[mode] for (_, mode), status in status_of.items())
    # What was in the store was not computed again.
    assert sum((calls(tmp_path) - before).values()) == 60 - stored
    assert verify(tmp_path / "s") == []


def test_the_same_request_never_runs_twice(tmp_path: Path) -> None:
    simulator = Misbehaving(str(tmp_path))
    inputs = [request(1.0), request(2.0), request(1.0)]
    first = run_campaign(simulator, inputs, tmp_path / "s", ALONE, progress=False)
    again = run_campaign(simulator, [*inputs, request(3.0)], tmp_path / "s", ALONE, progress=False)
    assert (first.requested, first.done, first.cached) == (2, 2, 0)
    assert (again.requested, again.done, again.cached) == (3, 1, 2)
    assert all(count == 1 for count in calls(tmp_path).values())


def test_requests_that_are_answered_together_fail_one_by_one(tmp_path: Path) -> None:
    # Each of these ends, or is refused, in the middle of many that are answered together.
    modes = {20: "segfault", 30: "not_converged", 40: "flaky", 50: "raise", 60: "shape", 61: "segfault"}
    inputs = [request(float(i), modes.get(i, "ok")) for i in range(120)]
    store, config = tmp_path / "s", CampaignConfig(workers=1, give_up_after=None)
    summary = run_campaign(MisbehavingTogether(str(tmp_path)), inputs, store, config, progress=False)
    assert summary.answered == 120 - 5
    assert summary.failed == {"crashed": 4, "not_converged": 1}
    with RecordStore.open(store) as records:
        names = ("x", "y", "status", "attempts", "core_seconds")
        columns = {name: np.asarray(records.column(name)) for name in names}
    answered = columns["status"] == "ok"
    np.testing.assert_array_equal(columns["y"][answered], columns["x"][answered] ** 2)
    # Whoever was asked with one that failed lost no attempt by it.
    attempts = dict(zip(columns["x"].tolist(), columns["attempts"].tolist(), strict=True))
    expected = {float(x): 2 for x, mode in modes.items() if mode in ("segfault", "raise", "shape")}
    assert {x: n for x, n in attempts.items() if n > 1} == expected
    assert (columns["core_seconds"] > 0).all()
    together = [int(line.split()[1]) for line in calls(tmp_path) if line.startswith("together")]
    assert max(together) > 16


def test_failures_are_tried_again_only_on_request(tmp_path: Path) -> None:
    simulator = Misbehaving(str(tmp_path))
    once = CampaignConfig(workers=1, retries=0)
    both = [request(1.0, "flaky"), request(2.0, "raise")]
    run_campaign(simulator, both, tmp_path / "s", once, progress=False, none_answered=True)
    assert set(statuses(tmp_path / "s").values()) == {"crashed"}
    retry = CampaignConfig(workers=1, retries=0, retry_failed=True)
    summary = run_campaign(simulator, [request(1.0, "flaky")], tmp_path / "s", retry, progress=False)
    assert summary.done == 1
    assert statuses(tmp_path / "s")[(1.0, "flaky")] == "ok"
    again = run_campaign(simulator, [request(1.0, "flaky")], tmp_path / "s", retry, progress=False)
    assert again.cached == 1


def test_ctrl_c_stops_at_once_and_the_next_run_goes_on(tmp_path: Path) -> None:
    # Slow enough that it is under way when the signal comes, however busy the machine.
    process = start(tmp_path, 0.3)
    wait_for(tmp_path, 3, process)
    begun = calls(tmp_path).total()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=300)
    assert process.returncode != 0
    assert not alive(tmp_path)
    stored = recorded(tmp_path / "s")
    assert 3 <= stored < 60
    # None begins after the signal; a few may before it is seen.
    assert calls(tmp_path).total() < begun + 20 < 60
    out, _ = start(tmp_path, 0.0).communicate(timeout=300)
    assert out.split() == ["60", "60"]


def test_each_process_has_its_threads_and_none_inherits_those_of_the_parent(tmp_path: Path) -> None:
    config = CampaignConfig(workers=1, threads=3)
    summary = run_campaign(Misbehaving(str(tmp_path)), [request(1.0)], tmp_path / "s", config, progress=False)
    with RecordStore.open(tmp_path / "s") as records:
        assert records.column("threads").tolist() == [3]
        assert records.column("omp_threads").tolist() == [3]
        dataset = records.dataset()
    # Three threads that sleep cost nothing.
    assert summary.core_seconds == pytest.approx(float(dataset["core_seconds"][0]))
    assert dataset["core_seconds"].attrs["units"] == "s"
    assert dataset["seconds"].attrs["units"] == "s"
    assert os.environ.get("OMP_NUM_THREADS") != "3"


def test_a_cost_is_processor_time_of_all_programs_and_a_busy_machine_does_not_change_it(tmp_path: Path) -> None:
    cores = os.sched_getaffinity(0)
    busy: list[subprocess.Popen[bytes]] = []

    def inputs() -> Iterator[xr.Dataset]:
        yield request(0.0)
        for mode in ("burn", "burn_program"):
            yield request(0.25, mode)
        # From here on the one core belongs to two other processes as well.
        busy.extend(subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(2))
        yield request(0.26, "burn")
        yield request(0.26, "burn_program")
        yield request(0.27, "burn_and_hang")

    try:
        os.sched_setaffinity(0, {min(cores)})
        config = CampaignConfig(workers=1, timeout_s=2.0)
        summary = run_campaign(Misbehaving(str(tmp_path)), inputs(), tmp_path / "s", config, progress=False)
    finally:
        os.sched_setaffinity(0, cores)
        for process in busy:
            process.kill()
            process.wait()
    with RecordStore.open(tmp_path / "s") as records:
        columns = {name: records.column(name) for name in ("mode", "x", "status", "seconds", "core_seconds")}
    assert columns["status"].tolist() == ["ok"] * 5 + ["timeout"]
    # Programs that a simulation started count as its own work does, those that were killed too.
    # Where three processes share a core, kernels that count by ticks are off by a third; wall time is three times it.
    np.testing.assert_allclose(columns["core_seconds"][1:], columns["x"][1:], rtol=0.4)
    assert all(columns["seconds"][3:5] > 1.2 * columns["core_seconds"][3:5])
    assert summary.core_seconds == pytest.approx(float(columns["core_seconds"].sum()))


def test_what_the_whole_will_cost_is_said_before_it_is_spent() -> None:
    outlook = Outlook(processes=2, timeout_s=600.0)
    assert not outlook.due(59.0, 0)
    assert outlook.due(61.0, 0)
    # 500 molecules of at least a minute on two workers: 250 minutes, and 500 times ten minutes by two at most.
    text = outlook.say((0.0, 0.0), 0, [(60.0, 58.0), (60.0, 58.0)], 500)
    assert "None of the first 2 simulations has ended after 60 s" in text
    assert "take at least 4.2 h with 2 workers, 8.1 h of processor time" in text
    assert "42 h where all run into campaign.timeout_s=600" in text
    assert not outlook.due(100.0, 4)
    assert outlook.due(100.0, 5)
    # Five that took 10 s each and two that have run for 25 s: 100 s over 5 ended.
    text = outlook.say((50.0, 45.0), 5, [(25.0, 20.0), (25.0, 20.0)], 900)
    assert "The first 5 simulations took 20 s each, 17 s of processor time" in text
    assert "the 900 that are left take about 2.5 h with 2 workers, 4.2 h of processor time" in text
    assert not outlook.due(1e9, 100)
    # What is over within a minute needs no warning.
    assert Outlook(2, None).say((0.5, 0.5), 5, [], 100) == ""


def test_the_cost_of_a_long_campaign_is_printed_while_it_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = [request(float(i)) for i in range(6)]
    run_campaign(Misbehaving(str(tmp_path), 0.05), inputs, tmp_path / "s", ALONE, total=100_000)
    said = " ".join(capfd.readouterr().err.split())
    assert re.search(r"The first [56] simulations took 0\.\d+ s each.* the 99,99\d that are left take about", said)


def test_a_campaign_whose_first_requests_mostly_fail_stops_and_says_how_to_go_on(tmp_path: Path) -> None:
    simulator, config = Misbehaving(str(tmp_path)), CampaignConfig(workers=1, retries=0, give_up_after=4)
    inputs = [request(float(i), "ok" if i == 1 else "not_converged" if i else "raise") for i in range(8)]
    for _ in range(2):
        # The second call finds the same in the store, and runs nothing.
        with pytest.raises(InputError, match="3 of the first 4 requests failed") as raised:
            run_campaign(simulator, inputs, tmp_path / "s", config, progress=False, key="expensive.campaign")
        assert "2 not_converged: on purpose; 1 crashed: RuntimeError: on purpose" in str(raised.value)
        assert "expensive.campaign.give_up_after=null" in str(raised.value)
        assert sum(calls(tmp_path).values()) == 4
    summary = run_campaign(simulator, inputs, tmp_path / "s", replace(config, give_up_after=None), progress=False)
    assert (summary.done, summary.cached, summary.answered) == (0, 4, 1)
    assert sum(calls(tmp_path).values()) == 8


def test_a_campaign_in_which_all_requests_failed_ends_in_an_error_also_when_it_is_asked_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    simulator, config = Misbehaving(str(tmp_path)), CampaignConfig(workers=1, retries=0)
    inputs = [request(1.0, "raise"), request(2.0, "not_converged"), request(3.0, "not_converged")]
    for _ in range(2):
        with pytest.raises(InputError, match=r"all 3 requests failed: 2 not_converged: on purpose; 1 crashed: Runtime"):
            run_campaign(simulator, inputs, tmp_path / "s", config)
        shown = " ".join(capfd.readouterr().out.split())
        assert "failed 2 not_converged: on purpose failed 1 crashed: RuntimeError: on purpose" in shown
    # One answer is worth keeping: the table says why the others have none.
    run_campaign(simulator, [*inputs, request(4.0)], tmp_path / "s", config)
    assert "in the store before 3 (3 of them failed) failed 2 not_converged" in " ".join(capfd.readouterr().out.split())


def test_a_store_carries_the_provenance_and_fingerprint_of_its_simulator_and_nothing_else(tmp_path: Path) -> None:
    simulator = Misbehaving(str(tmp_path))
    run_campaign(simulator, [request(1.0)], tmp_path / "s", ALONE, progress=False)
    with RecordStore.open(tmp_path / "s") as records:
        assert records.attrs == {**simulator.provenance, "fingerprint": simulator.fingerprint}


def test_labels_of_two_methods_are_not_mixed(tmp_path: Path) -> None:
    run_campaign(Misbehaving(str(tmp_path)), [request(1.0)], tmp_path / "s", ALONE, progress=False)
    with pytest.raises(InputError, match="another store"):
        run_campaign(Misbehaving(str(tmp_path), version=2), [request(1.0)], tmp_path / "s", ALONE, progress=False)


def test_a_store_of_before_an_output_existed_is_filled_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    simulator = Misbehaving(str(tmp_path))
    attrs, (square, threads) = {"fingerprint": simulator.fingerprint}, simulator.spec.outputs
    facts: dict[str, Any] = {"provenance": simulator.provenance, "attrs": attrs}
    RecordStore.create(tmp_path / "s", simulator.spec.inputs, [square], **facts).close()
    run_campaign(simulator, [request(3.0)], tmp_path / "s", ALONE, progress=False)
    with RecordStore.open(tmp_path / "s") as records:
        assert records.outputs == ("y",)
        assert records.column("y").tolist() == [9.0]
    assert "omp_threads" in caplog.text
    other = replace(threads, name="cores")
    RecordStore.create(tmp_path / "t", simulator.spec.inputs, [square, other], **facts).close()
    with pytest.raises(InputError, match="holds cores, which testing:misbehaving does not give"):
        run_campaign(simulator, [request(3.0)], tmp_path / "t", ALONE, progress=False)


def test_a_request_costs_little_beyond_its_simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, woken = 300, 0

    class Watched(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> list[Any]:
            nonlocal woken
            ready = super().select(timeout)
            woken += bool(ready)
            return ready

    watched = SimpleNamespace(
        DefaultSelector=Watched, EVENT_READ=selectors.EVENT_READ, EVENT_WRITE=selectors.EVENT_WRITE
    )
    monkeypatch.setattr(crew, "selectors", watched)
    simulator = Misbehaving(str(tmp_path))
    inputs = (request(float(i)) for i in range(count))
    begin = time.process_time()
    summary = run_campaign(simulator, inputs, tmp_path / "s", CampaignConfig(workers=2), progress=False)
    spent = time.process_time() - begin
    assert summary.done == count
    # Two workers answer: each answer is taken as it comes, not at the next look at the limits, and in one piece or two.
    assert count // 2 <= woken <= 2 * count + 10
    # What cannot be spared on any machine: the request is made and hashed, and a record is written.
    begin = time.process_time()
    with RecordStore.create(
        tmp_path / "alone", simulator.spec.inputs, simulator.spec.outputs, provenance=simulator.provenance, attrs={}
    ) as records:
        for i in range(count):
            one = request(float(i))
            values = {"x": float(i), "mode": "ok", "y": float(i * i), "omp_threads": 1}
            records.append(input_hash(one), values, status="ok", message="", seconds=0.0, threads=1, attempts=1)
    assert spent < 10 * (time.process_time() - begin)


def test_inputs_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    ahead = []

    def inputs() -> Iterator[xr.Dataset]:
        for i in range(12):
            calls_so_far = len((tmp_path / "calls").read_text().splitlines()) if i > 1 else 0
            ahead.append(i - calls_so_far)
            yield request(float(i))

    (tmp_path / "calls").touch()
    summary = run_campaign(Misbehaving(str(tmp_path)), inputs(), tmp_path / "s", ALONE, progress=False)
    assert summary.done == 12
    assert max(ahead) <= 1


def test_a_simulator_that_cannot_be_loaded_spoils_no_request(tmp_path: Path) -> None:
    simulator = Misbehaving(str(tmp_path), loads=False)
    with pytest.raises(InputError, match=r"cannot be loaded in another process: .*exit status 7"):
        run_campaign(simulator, [request(1.0)], tmp_path / "s", ALONE, progress=False)
    assert recorded(tmp_path / "s") == 0


def test_a_missing_component_ends_the_campaign_without_a_record(tmp_path: Path) -> None:
    inputs = [request(1.0), request(2.0, "missing"), request(3.0)]
    with pytest.raises(SimulationError, match="on purpose") as raised:
        run_campaign(Misbehaving(str(tmp_path)), inputs, tmp_path / "s", ALONE, progress=False)
    assert (raised.value.kind, raised.value.details) == ("missing_component", {"component": "basis set"})
    assert statuses(tmp_path / "s") == {(1.0, "ok"): "ok"}


def test_a_leak_over_many_quick_requests_meets_the_memory_limit_and_costs_no_answer(tmp_path: Path) -> None:
    inputs = [request(float(i), "leak") for i in range(25)]
    config = CampaignConfig(workers=1, memory_mb=250)
    summary = run_campaign(Misbehaving(str(tmp_path)), inputs, tmp_path / "s", config, progress=False)
    assert summary.done == 25
    processes = {line.rsplit(" ", 1)[1] for line in (tmp_path / "calls").read_text().splitlines()}
    assert 2 <= len(processes) < 6


def test_a_death_is_seen_though_a_program_outlives_it_and_a_bad_request_kills_nothing(tmp_path: Path) -> None:
    bad = xr.Dataset({"x": ("row", [1.0, 2.0]), "mode": ((), "ok")})
    began = time.monotonic()
    summary = run_campaign(
        Misbehaving(str(tmp_path)),
        [request(1.0, "orphan"), bad, request(2.0)],
        tmp_path / "s",
        CampaignConfig(workers=1, timeout_s=900, retries=0),
        progress=False,
    )
    # The limit of time was not waited for.
    assert time.monotonic() - began < 900
    assert summary.done == 1
    assert summary.failed == {"crashed": 1, "invalid_input": 1}
    left = [p for p in psutil.process_iter(["cmdline", "status"]) if p.info["cmdline"] == ["sleep", "1000001"]]
    assert not [p for p in left if p.info["status"] != psutil.STATUS_ZOMBIE]
    with RecordStore.open(tmp_path / "s") as records:
        status, message = records.column("status").tolist(), records.column("message").tolist()
    assert "x must have dims" in message[status.index("invalid_input")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("workers", 0), ("timeout_s", -1.0), ("timeout_s", math.nan), ("timeout_s", math.inf), ("retries", -1)),
        *(("retries", math.nan), ("memory_mb", 0), ("scratch_mb", 0), ("give_up_after", 0)),
    ],
)
def test_a_wrong_number_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        CampaignConfig(**{name: value})  # type: ignore[arg-type]
