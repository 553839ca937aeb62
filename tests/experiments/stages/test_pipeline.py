"""The whole line at small size, with real GFN2-xTB and real PySCF, killed on its way and resumed."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from forked_commands import Command
from rdkit import Chem
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams
from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator
from rdkit.DataStructs import TanimotoSimilarity

from data.store.records import RecordStore

SMALL = [
    "task=molecules", "library.size=1500", "cheap.count=60", "pretrain.epochs=3", "pretrain.mlflow=false",
    "finetune.epochs=4", "expensive.train=8", "expensive.calibration=10", "expensive.test=10",
    "cheap.campaign.workers=1", "expensive.curve=[4]", "recheck.top=3", "recheck.random=2", "screen.top_k=50",
    "expensive.simulator.method=hf", "expensive.simulator.basis=sto-3g",
    "model.network.features=16", "model.network.layers=1", "model.ensemble=2", "model.buckets=1",
    "refine.top=12", "refine.labels=2", "objective.windows.gap=[10.0,20.0]", "objective.hit=2.0",
    "filters=[brenk]", "diversity.picker=leader", "diversity.similarity=0.3",
]  # fmt: skip

fingerprint = GetMorganGenerator(radius=2, fpSize=2048).GetFingerprint


def start(run: Path, *more: str) -> Command:
    return Command("pipeline", *SMALL, f"run.dir={run}", *more)


@pytest.mark.slow
def test_the_pipeline_from_library_to_report(tmp_path: Path, run_notebook: Callable[..., list[dict[str, Any]]]) -> None:
    run = tmp_path / "run"
    process = start(run)
    store, deadline = run / "labels" / "expensive.zarr", time.monotonic() + 1200
    while not (store / "journal.bin").exists() or (store / "journal.bin").stat().st_size < 2000:
        assert process.poll() is None, process.said
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process = start(run)
    out, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, out
    for word in ("candidates screened", "re-checked hits", "whole run", str(run / "report.html")):
        # A long path is folded, never cut.
        assert "".join(word.split()) in "".join(out.split())

    with RecordStore.open(store) as records:
        keys, status = list(records.keys()), records.column("status")
        gap, smiles = records.column("gap"), records.column("smiles")
    assert len(keys) == len(set(keys))
    truth = {s: g for s, g, ok in zip(smiles, gap, status, strict=True) if ok == "ok"}

    frame = pd.read_parquet(run / "evaluation.parquet")
    assert frame.part.value_counts().to_dict() == {"calibration": 10, "train": 8, "test": 10}
    assert frame.smiles.is_unique
    # What the evaluation calls truth is what the simulator wrote.
    assert all(truth[s] == g for s, g in zip(frame.smiles, frame.gap, strict=True))
    metrics = json.loads((run / "metrics.json").read_text())
    test = frame[frame.part == "test"]
    assert metrics["evaluate/gap/surrogate/mae_ev"] == pytest.approx((test.gap_pred - test.gap).abs().mean())
    card = json.loads((run / "surrogate" / "surrogate.json").read_text())
    for target in ("gap", "dipole_moment"):
        head = f"evaluate/{target}/surrogate/"
        kept = {name: value for name, value in metrics.items() if name.startswith(head)}
        assert kept
        assert kept.items() <= card["scores"].items()
    # The fit that decides is in MLflow, once, with its held-out scores; those of the learning curve are not.
    stores = sorted((run / "training").glob("*/mlruns"))
    assert [store.parent.name for store in stores] == ["finetune"]
    assert len(list(stores[0].rglob("gap/surrogate/mae_ev"))) == 1
    train = frame[frame.part == "train"]
    assert np.allclose(frame.gap_mean, train.gap.mean())

    parts = sorted((run / "screen" / "results").glob("*.parquet"))
    screened = pd.concat([pd.read_parquet(p) for p in parts])
    assert len(screened) == 1500 == metrics["screen/molecules"]
    assert screened.smiles.is_unique
    with open(run / "screen" / "top.csv", newline="") as file:
        top = list(csv.DictReader(file))
    allowed = screened[screened.in_domain & screened.gap.between(10.0, 20.0)]
    params = FilterCatalogParams()
    params.AddCatalog(FilterCatalogParams.FilterCatalogs.BRENK)
    catalogue = FilterCatalog(params)

    def has_alert(smiles: str) -> bool:
        return bool(catalogue.HasMatch(Chem.MolFromSmiles(smiles)))

    best = allowed.sort_values("dipole_moment", ascending=False)
    best = best[[not has_alert(s) for s in best.smiles]]
    assert float(top[0]["dipole_moment"]) == pytest.approx(best.dipole_moment.iloc[0], rel=1e-5)

    checked = pd.read_parquet(run / "recheck.parquet")
    assert checked.group.value_counts().to_dict() == {"top": 3, "random": 2}
    assert not set(checked[checked.group == "random"].smiles) & set(frame.smiles)
    # The re-checked best are those of the middle rung, without a label, best first by the probability of being a hit.
    refined = pd.read_parquet(run / "refinement.parquet")
    assert len(refined) == 12 == metrics["refinement/candidates"]
    assert set(refined.smiles) <= set(screened.smiles)
    # Some of the best may have been labelled before, as molecules of the training.
    fresh = refined[~refined.smiles.isin(frame.smiles)]
    assert fresh.labelled.sum() == 2 == metrics["refinement/labels"]
    fresh = refined[~refined.labelled & (refined.status == "ok")]
    leaders: list[str] = []
    for smiles in fresh.smiles:
        bits = fingerprint(Chem.MolFromSmiles(smiles))
        if all(TanimotoSimilarity(bits, fingerprint(Chem.MolFromSmiles(other))) <= 0.3 for other in leaders):
            leaders.append(smiles)
    assert checked[checked.group == "top"].smiles.tolist() == leaders[:3]
    # Those with an alert are listed, and are as good as the worst of the others.
    refused = pd.read_csv(run / "filtered.csv")
    assert len(refused) == metrics["refinement/filtered"] == metrics["refinement/filtered/Brenk"] > 0
    assert all(map(has_alert, refused.smiles))
    assert not any(map(has_alert, refined.smiles))
    assert refused.score.min() >= refined.screen_score.min()
    with RecordStore.open(run / "labels" / "cheap.zarr") as records:
        cheap = dict(zip(records.column("smiles"), records.column("dipole_moment"), strict=True))
    assert all(cheap[s] == d for s, d in zip(refined.smiles, refined.cheap_dipole_moment, strict=True))
    hits = checked.gap.between(10.0, 20.0) & (checked.dipole_moment >= 2.0)
    assert checked.hit.tolist() == hits.tolist()

    costs = {row["stage"]: row for row in json.loads((run / "costs.json").read_text())}
    assert {"cheap labels", "expensive labels", "pretraining", "fine-tuning", "screening", "recheck"} <= set(costs)
    assert costs["refinement"]["items"] > 12
    assert costs["refinement labels"]["items"] == 2
    whole = metrics["cost/whole_run_core_seconds"]
    assert metrics["cost/speedup_whole_run"] == pytest.approx(
        metrics["cost/expensive_core_seconds_per_molecule"] * 1500 / whole
    )
    page = (run / "report.html").read_text()
    assert "<svg" in page
    assert "could not be shown" not in page
    assert "<script" not in page
    assert 'src="http' not in page

    # The notebook opens a real run as it does one of made-up numbers.
    outputs = run_notebook("accuracy_versus_cost", {"UNDERSTUDY_RUN": str(run)})
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    shown = outputs[-1]["data"]["text/plain"]
    assert "dipole_moment" in shown
    assert f"{test.gap.std():.6f}"[:5] in shown

    # A third time there is nothing left to do, and nothing changes.
    process = start(run)
    out, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, out
    again = json.loads((run / "metrics.json").read_text())
    for name in (
        "evaluate/gap/surrogate/mae_ev",
        "screen/molecules",
        "recheck/top/hits",
        "labels/expensive/core_seconds",
    ):
        assert again[name] == metrics[name]
