"""A ladder becomes one simulator: its calibration, its directory, what is refused, and a campaign that is killed."""

from __future__ import annotations

import json
import pickle
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from forked_commands import Command

from benchmarks.faults.small_surrogates import properties
from data.errors import CorruptStoreError, InputError
from data.identity import molecule_keys
from data.spec import dataset, input_hash
from data.splits import canonical
from data.store.records import RecordStore
from experiments.answering.cascade_calibration import LadderSettings, calibrate_cascade
from experiments.answering.labelled_requests import read_labels, without_learned
from experiments.answering.saved_cascade import SavedCascade
from experiments.campaigns.named_simulator import named_simulator
from experiments.pages.page import write_report
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.label_table import SMILES, LabelTable
from surrogates.cascade.risk_calibration import Risk
from surrogates.learning.learned_from import hash_keys, save_hashes

CAMPAIGN = CampaignConfig(workers=1, give_up_after=None)
COUNT = 160


def chain(k: int) -> str:
    """A different molecule for each number."""
    return "N" + "C" * (k % 20 + 1) + "O" + "C" * (k // 20 + 1)


def request(k: int) -> xr.Dataset:
    return dataset((SMILES,), {"smiles": chain(k)})


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two cheap tables and of the last one, which agree where they are right, and a store of labels."""
    path = tmp_path_factory.mktemp("ladder")
    rng = np.random.default_rng(0)
    truth = rng.normal(5.0, 1.0, 2 * COUNT)
    hard = rng.random(2 * COUNT) < 0.3
    first = truth + np.where(hard, 0.5, 0.01) * rng.normal(size=len(truth))
    second = truth + np.where(hard, 0.2, 0.01) * rng.normal(size=len(truth))
    first[5] = np.nan
    for name, values, cost in (("first", first, 0.001), ("second", second, 0.01), ("last", truth, 10.0)):
        frame = pd.DataFrame({"smiles": [chain(k) for k in range(len(values))], "gap": values})
        frame.to_csv(path / f"{name}.csv", index=False)
        (path / name / "labels.zarr").mkdir(parents=True)
        (path / name / "config.yaml").write_text(
            f"simulator:\n  _target_: simulators.label_table.LabelTable\n  file: {path / name}.csv\n"
            f"  outputs: [gap]\n  units: [eV]\n  cost_s: {cost}\n"
        )
    last = named_simulator(str(path / "last"), [], key="cascade")
    with RecordStore.create(
        path / "store.zarr",
        last.spec.inputs,
        last.spec.outputs,
        provenance=last.provenance,
        attrs={"fingerprint": last.fingerprint},
    ) as store:
        for k in range(COUNT):
            values = {"smiles": chain(k), "gap": truth[k]}
            store.append(input_hash(request(k)), values, status="ok", seconds=1.0, threads=1, core_seconds=1.0)
    return path


def settings(path: Path, **changes: Any) -> LadderSettings:
    names = tuple(str(path / name) for name in ("first", "second", "last"))
    return replace(LadderSettings(names, {"gap": 0.1}, Risk(0.1)), **changes)


@pytest.fixture(scope="module")
def calibrated(ladder: Path) -> Path:
    calibrate_cascade(settings(ladder), ladder / "store.zarr", ladder / "out", CAMPAIGN, progress=False)
    return ladder / "out"


def test_a_calibrated_ladder_is_a_simulator_that_keeps_its_promise(ladder: Path, calibrated: Path) -> None:
    cascade = SavedCascade(str(calibrated))
    truth = pd.read_csv(ladder / "last.csv")["gap"].to_numpy()
    fresh = range(COUNT, 2 * COUNT)
    answers = [a for a in cascade.simulate_many([request(k) for k in fresh]) if isinstance(a, xr.Dataset)]
    assert len(answers) == COUNT
    rung = np.array([int(a["rung"]) for a in answers])
    wrong = np.abs(np.array([float(a["gap"]) for a in answers]) - truth[COUNT:]) > 0.1
    assert wrong.mean() <= 0.2  # alpha is 0.1; 112 labels and 160 answers leave this much to chance
    assert not wrong[rung == 2].any()
    # Where the first two disagree, the second one is not trusted; the first one has nothing to be judged by.
    assert set(rung.tolist()) == {1, 2}
    metrics = json.loads((calibrated / "metrics.json").read_text())
    shares = [metrics[f"cascade/rung/{k}/share_answered"] for k in range(3)]
    assert sum(shares) == pytest.approx(1.0)
    assert shares[1] > 0.5
    spent = shares[1] * 0.011 + shares[2] * 10.011
    assert metrics["cascade/core_seconds_per_answer"] == pytest.approx(spent)
    assert metrics["cascade/speedup"] == pytest.approx(10.0 / spent)
    assert metrics["cascade/rung/0/failed"] == 1.0
    assert metrics["cascade/rung/2/core_us_per_answer"] == pytest.approx(1e7)
    page = write_report(calibrated).read_text()
    assert "Answers are off in gap by 0.1 eV or more with a probability of 0.1 at most" in page
    assert page.count("<svg") == 2
    assert metrics["cascade/wrong_share"] <= 0.1
    assert named_simulator("cascade", [f"simulator.directory={calibrated}"], key="x").fingerprint == cascade.fingerprint


def test_a_saved_cascade_travels_to_another_process_and_directory(
    ladder: Path, calibrated: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(calibrated.parent)
    cascade = SavedCascade(calibrated.name)
    dumped = pickle.dumps(cascade)
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(dumped).fingerprint == cascade.fingerprint
    names = [str(ladder / name) for name in ("first", "second", "last")]
    assert SavedCascade(str(calibrated), names).fingerprint == cascade.fingerprint
    with pytest.raises(InputError, match=r"rung 0 .* was calibrated"):
        SavedCascade(str(calibrated), [names[1], names[0], names[2]])
    with pytest.raises(InputError, match="2 rungs, and 3 were calibrated"):
        SavedCascade(str(calibrated), names[:2])
    with pytest.raises(InputError, match=r"no cascade\.json"):
        SavedCascade(str(ladder))


def test_a_changed_card_is_refused(calibrated: Path, tmp_path: Path) -> None:
    for name in ("cascade.json", ".understudy.sha256"):
        (tmp_path / name).write_bytes((calibrated / name).read_bytes())
    card = tmp_path / "cascade.json"
    card.write_text(card.read_text().replace('"alpha": 0.1', '"alpha": 0.2'))
    with pytest.raises(CorruptStoreError, match=r"cascade\.json"):
        SavedCascade(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"risk": Risk(0.005)},
            r"probability of 0\.005 .* it takes 284 fresh labels or more, .* 124 labels are missing",
        ),
        ({"tau": {"dipole": 1.0}}, r"rung 0 .* does not give dipole; it gives gap"),
        ({"rungs": {"xtb": {"method": "GFN1-xTB"}}}, "no rung is called 'xtb'"),
    ],
)
def test_what_cannot_be_promised_is_refused_by_name(
    ladder: Path, tmp_path: Path, changes: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        calibrate_cascade(
            settings(ladder, **changes), ladder / "store.zarr", tmp_path / "out", CAMPAIGN, progress=False
        )
    assert not (tmp_path / "out").exists()


def test_labels_of_another_simulator_are_refused(ladder: Path, tmp_path: Path) -> None:
    swapped = settings(ladder, cascade=tuple(str(ladder / name) for name in ("first", "second")))
    with pytest.raises(InputError, match=r"its labels are of table:gap with other settings .* last rung"):
        calibrate_cascade(swapped, ladder / "store.zarr", tmp_path / "out", CAMPAIGN, progress=False)


def test_labels_that_a_surrogate_has_learned_from_are_left_out(ladder: Path, tmp_path: Path) -> None:
    properties().save(tmp_path / "cheap")
    last = LabelTable(str(ladder / "last.csv"), ("gap",), units=("eV",))
    labelled = read_labels(ladder / "store.zarr", last, "last", ["gap"])
    names = [str(tmp_path / "cheap"), "last"]
    rungs = [properties(), last]
    assert without_learned(labelled, names, rungs).unknown == (names[0],)
    save_hashes(tmp_path / "cheap", hash_keys(molecule_keys([chain(k) for k in range(40)])))
    fresh = without_learned(labelled, names, rungs)
    assert (fresh.seen, len(fresh.requests), fresh.unknown) == (40, COUNT - 40, ())
    assert str(fresh.requests[0]["smiles"].item()) == chain(40)


def test_a_campaign_of_a_cascade_that_is_killed_resumes_with_the_same_answers(calibrated: Path, tmp_path: Path) -> None:
    store, count = tmp_path / "answers.zarr", 200
    (tmp_path / "asked.smi").write_text("".join(f"{chain(k)}\n" for k in range(count)))
    asked = ["simulate", f"inputs={tmp_path}/asked.smi", "simulator=cascade", f"simulator.directory={calibrated}"]
    command = Command(*asked, f"out={store}", f"run.dir={tmp_path}/run", "campaign.workers=1", cwd=tmp_path)
    deadline = time.monotonic() + 1200
    while command.poll() is None and time.monotonic() < deadline:
        if (store / "store.json").exists() and len(RecordStore.open(store)) >= 5:
            command.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    assert command.wait(300) == -signal.SIGKILL, command.said
    with RecordStore.open(store) as before:
        done = len(before)
    assert 5 <= done < count
    cascade = SavedCascade(str(calibrated))
    requests = [dataset((SMILES,), {"smiles": form}) for form in canonical([chain(k) for k in range(count)])]
    summary = run_campaign(cascade, requests, store, CAMPAIGN, progress=False)
    assert (summary.cached, summary.answered) == (done, count)
    with RecordStore.open(store) as records:
        stored = dict(records.records(status=None))
    assert len(stored) == count
    for one, answer in zip(requests, cascade.simulate_many(requests), strict=True):
        assert isinstance(answer, xr.Dataset)
        for name in answer:
            assert stored[input_hash(one)][str(name)] == answer[name].item(), name
