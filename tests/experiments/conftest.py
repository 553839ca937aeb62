"""A run directory of made-up numbers, written as the pipeline writes one, for the report and the notebook."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from omegaconf import OmegaConf
from rdkit import Chem

from data.spec import Variable
from data.store.records import RecordStore
from experiments.screening.hit_rates import HitRate
from surrogates.learning.scores import scores, unit_suffix

UNITS = {"gap": "eV", "dipole_moment": "Debye"}
CENTRE = {"gap": (7.0, 1.2), "dipole_moment": (2.6, 1.4)}
NOISE = {"surrogate": 0.25, "mean": 1.0, "cheap_linear": 0.4, "morgan_ridge": 0.6, "morgan_forest": 0.5}


def molecules(n: int) -> list[str]:
    """`n` distinct small molecules: rings with two substituents."""
    rings = ["c1cc({0})ncc1{1}", "c1oc({0})cc1{1}", "C1CC({0})OC1{1}", "c1c({0})nc({1})o1", "C1C({0})C1{1}"]
    groups = ["C", "N", "O", "F", "C#N", "C=O", "CC", "OC", "C(N)=O", "CF", "NC", "CO", "C#C", "C(C)C", "N=O"]
    every = (r.format(a, b) for a, b, r in itertools.product(groups, groups, rings))
    molecules = dict.fromkeys(Chem.MolToSmiles(Chem.MolFromSmiles(s)) for s in itertools.islice(every, 3 * n + 20))
    return list(molecules)[:n]


def predicted(rng: np.random.Generator, truth: np.ndarray, scale: float, bias: float = 0.0) -> dict[str, np.ndarray]:
    """A prediction with an error of `scale` and an interval that is honest about it."""
    std = scale * rng.uniform(0.6, 1.5, len(truth))
    value = truth + bias + std * rng.standard_normal(len(truth))
    return {"_pred": value, "_std": std, "_low": value - 1.8 * std, "_high": value + 1.8 * std}


def write_run(path: Path, *, candidates: int = 30_000, seed: int = 0, stores: bool = True) -> Path:
    """Write a run directory with made-up numbers that agree with each other.

    Args:
        path: the directory, made here.
        candidates: rows of the screen.
        seed: of every number.
        stores: whether `labels/*.zarr` are written.
    """
    rng = np.random.default_rng(seed)
    targets = list(UNITS)
    names = molecules(260)
    config = {
        "stage": "pipeline",
        "run": {"dir": "runs/synthetic"},
        "candidates": None,
        "targets": targets,
        "seed": 0,
        "objective": {"maximize": "dipole_moment", "minimize": None, "windows": {"gap": [5.0, 6.0]}, "hit": 6.0},
        "cheap": {"simulator": {"method": "GFN2-xTB"}, "count": 2000},
        "expensive": {"simulator": {"method": "b3lyp", "basis": "def2-svp"}, "train": 90},
    }
    (path / "screen" / "results").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(config), path / "config.yaml")
    metrics: dict[str, float] = {}

    part = np.array(["train"] * 90 + ["calibration"] * 40 + ["test"] * 40)
    test = part == "test"
    frame: dict[str, object] = {"smiles": names[: len(part)], "part": part}
    curve: list[dict[str, object]] = []
    for target, unit in UNITS.items():
        centre, spread = CENTRE[target]
        truth = np.maximum(centre + spread * rng.standard_normal(len(part)), 0.1)
        answer = predicted(rng, truth, NOISE["surrogate"] * spread)
        frame |= {target: truth, f"{target}_cheap": 0.6 * truth - 0.5 + 0.2 * rng.standard_normal(len(part))}
        frame |= {f"{target}{suffix}": values for suffix, values in answer.items()}
        test_scores = scores(
            truth[test], answer["_pred"][test], unit, low=answer["_low"][test], high=answer["_high"][test]
        )
        metrics |= {f"evaluate/{target}/surrogate/{k}": v for k, v in test_scores.items()}
        for method in ("mean", "cheap_linear", "morgan_ridge", "morgan_forest"):
            noise = NOISE[method] * spread * rng.standard_normal(len(part))
            values = np.full(len(part), truth[:90].mean()) if method == "mean" else truth + noise
            frame[f"{target}_{method}"] = values
            metrics |= {
                f"evaluate/{target}/{method}/{k}": v for k, v in scores(truth[test], values[test], unit).items()
            }
        for method, labels in itertools.product(NOISE, (15, 30, 60, 90)):
            final = metrics[f"evaluate/{target}/{method}/mae{unit_suffix(unit)}"]
            power = {"surrogate": 0.35, "mean": 0.0, "cheap_linear": 0.1}.get(method, 0.25)
            row = {"method": method, "target": target, "labels": labels, "mae": final * (90 / labels) ** power}
            curve.append(row | {"unit": unit, "seconds": 0.1 * labels})
    pd.DataFrame(frame).to_parquet(path / "evaluation.parquet")
    (path / "learning_curve.json").write_text(json.dumps(curve))

    gap = 7.2 + 1.1 * rng.standard_normal(candidates)
    dipole = np.abs(
        2.2 + 0.9 * rng.standard_normal(candidates) + 0.8 * rng.gamma(1.2, 1.0, candidates) - 0.2 * (gap - 7)
    )
    in_domain = rng.random(candidates) < 0.93
    for k, rows in enumerate(np.array_split(np.arange(candidates), 3)):
        columns: dict[str, object] = {"smiles": [names[i % len(names)] for i in rows], "prediction": dipole[rows]}
        columns |= {"std": np.full(len(rows), 0.3), "interval": np.full(len(rows), 1.0), "in_domain": in_domain[rows]}
        for target, values in (("gap", gap), ("dipole_moment", dipole)):
            columns |= {target: values[rows], f"{target}_std": np.full(len(rows), 0.3)}
            columns |= {f"{target}_low": values[rows] - 0.5, f"{target}_high": values[rows] + 0.5}
        pd.DataFrame(columns).to_parquet(path / "screen" / "results" / f"part-{k:05d}.parquet")
    in_window = in_domain & (gap >= 5) & (gap <= 6)
    (path / "screen" / "top.csv").write_text("smiles,prediction\n" + "".join(f"{s},7.0\n" for s in names[:20]))
    (path / "screen" / "rejects.csv").write_text(
        "file,line,text,reason\nmy.csv,7,C1CC,unclosed ring\n"
        "my.csv,9,c1ccc,cannot kekulize: atoms 0 1 2\nmy.csv,12,,empty\n"
    )

    group = np.array(["top"] * 20 + ["random"] * 20)
    checked: dict[str, object] = {"smiles": names[200:240], "group": group, "rank": [*range(1, 21)] * 2}
    truth_of = {
        "gap": np.concatenate([5.5 + 0.3 * rng.standard_normal(20), 7.0 + 1.1 * rng.standard_normal(20)]),
        "dipole_moment": np.concatenate([6.5 + 0.8 * rng.standard_normal(20), 2.5 + 1.2 * rng.standard_normal(20)]),
    }
    status = np.array(["ok"] * 40)
    status[[11, 33]] = "not_converged", "timeout"
    for target in targets:
        bias = np.where(group == "top", 0.3, 0.0)
        answer = predicted(rng, truth_of[target], 0.3 * CENTRE[target][1], bias)
        checked |= {f"{target}{suffix}": values for suffix, values in answer.items()}
        checked[target] = np.where(status == "ok", truth_of[target], np.nan)
    hit = (truth_of["gap"] >= 5) & (truth_of["gap"] <= 6) & (truth_of["dipole_moment"] >= 6.0) & (status == "ok")
    message = np.where(status == "ok", "", "no convergence after 100 cycles")
    checked |= {"score": checked["dipole_moment_pred"], "hit": hit, "status": status, "message": message}
    checked["seconds"] = np.where(status == "ok", 25.0, np.nan)
    pd.DataFrame(checked).to_parquet(path / "recheck.parquet")
    rates = {}
    for name in ("top", "random"):
        done = (group == name) & (status == "ok")
        rates[name] = HitRate(int(hit[done].sum()), int(done.sum()))
        metrics |= {f"recheck/{name}/hits": rates[name].hits, f"recheck/{name}/molecules": rates[name].trials}
        metrics[f"recheck/{name}/hit_rate"] = rates[name].hits / rates[name].trials
    if rates["random"].hits:
        metrics["recheck/enrichment"] = metrics["recheck/top/hit_rate"] / metrics["recheck/random/hit_rate"]
    metrics["recheck/coverage_90"] = 0.88

    costs = [
        ("library", candidates, 40.0, 70.0),
        ("cheap labels", 2000, 130.0, 240.0),
        ("expensive labels", 170, 850.0, 1600.0),
        ("pretraining", 2000, 110.0, 200.0),
        ("fine-tuning", 90, 20.0, 36.0),
        ("learning curve", 0, 60.0, 110.0),
        ("screening", candidates, 50.0, 96.0),
        ("recheck", 40, 240.0, 440.0),
    ]
    keys = ("stage", "items", "wall_seconds", "core_seconds")
    (path / "costs.json").write_text(
        json.dumps([dict(zip(keys, row, strict=True)) | {"item": "molecule"} for row in costs])
    )
    expensive, cheap, fast = 1600.0 / 170, 240.0 / 2000, 96.0 / candidates
    fixed, whole = 240.0 + 1600.0 + 200.0 + 36.0, 240.0 + 1600.0 + 200.0 + 36.0 + 96.0 + 440.0
    metrics |= {
        "cost/expensive_core_seconds_per_molecule": expensive,
        "cost/cheap_core_seconds_per_molecule": cheap,
        "cost/surrogate_core_seconds_per_molecule": fast,
        "cost/speedup_per_molecule": expensive / fast,
        "cost/fixed_core_seconds": fixed,
        "cost/whole_run_core_seconds": whole,
        "cost/speedup_whole_run": expensive * candidates / whole,
        "cost/break_even_candidates": float(np.ceil(fixed / (expensive - fast))),
        "screen/molecules": candidates,
        "screen/molecules_per_second": candidates / 50.0,
        "screen/peak_memory_mb": 900.0,
        "labels/cheap/done": 1998,
        "labels/cheap/failed": 2,
        "labels/expensive/done": 170,
        "labels/expensive/failed": 1,
        "funnel/candidates": candidates,
        "funnel/valid": candidates - 3,
        "funnel/in_domain": int(in_domain.sum()),
        "funnel/in_window": int(in_window.sum()),
        "funnel/top": rates["top"].trials,
        "funnel/confirmed": rates["top"].hits,
    }
    (path / "metrics.json").write_text(json.dumps(metrics, indent=1))
    (path / "split.json").write_text(json.dumps({"seed": 0, "parts": {}}))
    if stores:
        write_stores(path, names)
    return path


def write_stores(path: Path, names: list[str]) -> None:
    """Label stores of three records each, one of them a failure."""
    inputs = [Variable("smiles", (), "1", "str", "SMILES")]
    outputs = [Variable(t, (), unit, "float64", t) for t, unit in UNITS.items()]
    (path / "labels").mkdir()
    for fidelity, version in (("cheap", "0.5.0"), ("expensive", "2.14.0")):
        provenance = {"simulator": f"synthetic {fidelity}", "version": version, "settings": {}}
        store = path / "labels" / f"{fidelity}.zarr"
        with RecordStore.create(
            store, inputs, outputs, provenance=provenance, attrs={"fingerprint": "ab" * 32}
        ) as records:
            for k, smiles in enumerate(names[:3]):
                values: dict[str, object] = {"smiles": smiles}
                failed = k == 2
                if not failed:
                    values |= {"gap": 5.0 + k, "dipole_moment": 2.0}
                records.append(
                    f"key-{k}",
                    values,
                    status="timeout" if failed else "ok",
                    message="more than 60 s" if failed else "",
                    seconds=1.0,
                    threads=1,
                    attempts=1,
                )


@pytest.fixture(scope="session")
def run_notebook(repository: Path) -> Callable[[str, dict[str, str]], list[dict[str, Any]]]:
    """Executes a notebook from top to bottom with some variables of the environment, and gives its outputs."""

    def execute(name: str, environment: dict[str, str]) -> list[dict[str, Any]]:
        folder = repository / "experiments" / "notebooks"
        notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        assert all(not cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"
        client = NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.execute(env={**os.environ, **environment})
        return [output for cell in notebook.cells for output in cell.get("outputs", [])]

    return execute


@pytest.fixture(scope="session")
def write_synthetic_run() -> Callable[..., Path]:
    """`write_run`, for tests that need a run of their own."""
    return write_run


@pytest.fixture(scope="session")
def synthetic_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of made-up numbers that tests read and do not change."""
    return write_run(tmp_path_factory.mktemp("runs") / "synthetic")
