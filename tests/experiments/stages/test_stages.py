"""Each stage alone, as a script would call it: the files and metrics that other people's scripts rely on."""

from __future__ import annotations

import csv
import functools
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.io import read, write
from forked_commands import Command
from forked_commands import understudy as run_command
from rdkit import Chem

from data.files import write_json
from data.store.records import RecordStore

NETWORK = ["model.network.features=16", "model.network.layers=1", "model.ensemble=2", "model.buckets=1"]


def understudy(*arguments: str | Path, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command; its exit status is checked."""
    done = run_command(*arguments, cwd=cwd)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def chains(count: int) -> list[str]:
    """Distinct molecules."""
    random = np.random.default_rng(0)
    molecules: dict[str, None] = {}
    while len(molecules) < count:
        parts = random.choice(["C", "N", "O", "C(C)", "C(=O)", "C(N)", "C=C"], size=random.integers(2, 6))
        molecules[Chem.CanonSmiles("C" + "".join(parts) + "C")] = None
    return list(molecules)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 300 molecules with a property, and two rows that are none."""
    path = tmp_path_factory.mktemp("table") / "labels.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "smiles", "heavy"])
        for i, smiles in enumerate(chains(300)):
            heavy = Chem.MolFromSmiles(smiles).GetNumHeavyAtoms() + smiles.count("=")
            writer.writerow([f"m{i}", smiles, heavy])
            if i == 50:
                writer.writerow(["bad", "C1CC", 3])
                writer.writerow(["worse", "CCO", "three"])
    return path


@pytest.fixture(scope="module")
def trained(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("train") / "run"
    understudy(
        "train", "task=molecules/properties", f"data.file={table}", "data.smiles=smiles", "data.target=heavy",
        "data.split=random", "data.seed=0", "train.epochs=12", "train.learning_rate=5e-3", "train.ema_decay=0.97",
        "train.mlflow=false", "level=a count of atoms", *NETWORK, f"run.dir={run}", cwd=table.parent,
    )  # fmt: skip
    return run


def test_training_on_a_table_writes_the_metrics_that_scripts_read(trained: Path, table: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    assert {"test/mae", "test/rmse", "test/r2", "test/spearman", "test/coverage_90", "train/seconds"} <= set(metrics)
    assert metrics["test/r2"] > 0.5
    assert (metrics["train/rows"], metrics["train/rows_left_out"]) == (302, 2)
    with open(trained / "rejects.csv", newline="") as file:
        rejects = list(csv.DictReader(file))
    assert [row["line"] for row in rejects] == ["53", "54"]
    split = json.loads((trained / "split.json").read_text())
    assert sorted(i for rows in split.values() for i in rows) == list(range(300))
    card = json.loads((trained / "surrogate" / "surrogate.json").read_text())
    assert card["scores"]["test/mae"] == metrics["test/mae"]
    assert len(card["labels_fingerprint"]) == 64
    labels = json.loads((trained / "surrogate" / "labels.json").read_text())["labels"]
    assert labels == [{"file": table.name, "level": "a count of atoms"}]
    assert (trained / "config.yaml").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("data.seed=1", "data.seed=0 (now 1)"),
        ("model.network.features=8", "model.network.features=16 (now 8)"),
    ],
)
def test_a_run_is_not_resumed_on_other_data(trained: Path, table: Path, changed: str, words: str) -> None:
    before = (trained / "metrics.json").read_bytes()
    done = understudy(
        "train", "task=molecules/properties", f"data.file={table}", "data.target=heavy", "train.epochs=12",
        "train.learning_rate=5e-3", "train.ema_decay=0.97", "train.mlflow=false", *NETWORK, changed,
        f"run.dir={trained}", cwd=table.parent, status=2,
    )  # fmt: skip
    assert words in done.stderr
    assert str(trained) in done.stderr
    assert (trained / "metrics.json").read_bytes() == before


def test_a_screen_into_the_directory_of_a_training_is_refused(trained: Path, table: Path) -> None:
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file() and p.name != ".lock"}
    done = understudy(
        "screen", f"surrogate={trained}", f"candidates={table}", f"out={trained}", cwd=table.parent, status=2
    )
    assert "holds a train, not a screen" in done.stderr
    assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file() and p.name != ".lock"} == before


def test_the_seconds_of_training_are_those_of_all_its_sessions(trained: Path, table: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    newest = sorted((run / "checkpoints").glob("0*"))[-1] / "note.json"
    note = json.loads(newest.read_text())
    note["progress"]["seconds"] = 1000.0
    write_json(newest, note)
    understudy(
        "train", "task=molecules/properties", f"data.file={table}", "data.target=heavy", "train.epochs=12",
        "train.learning_rate=5e-3", "train.ema_decay=0.97", "train.mlflow=false", *NETWORK, f"run.dir={run}",
        cwd=tmp_path,
    )  # fmt: skip
    assert 1000 < json.loads((run / "metrics.json").read_text())["train/seconds"] < 1100


def test_the_signal_of_a_queue_ends_a_training_with_status_130_and_a_checkpoint(table: Path, tmp_path: Path) -> None:
    # Started in the background, where a shell has it ignore Ctrl-C. That Ctrl-C ends a training the same way is tested
    # without the command in tests/surrogates/test_train.py.
    process = Command(
        "train", "task=molecules/properties", f"data.file={table}", "data.target=heavy", "train.epochs=100000",
        "train.checkpoint_every_s=1e6", "train.mlflow=false", *NETWORK, "run.dir=r",
        cwd=tmp_path, apart=True, prepare=functools.partial(signal.signal, signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    deadline = time.monotonic() + 1200
    while not (tmp_path / "r" / "train.jsonl").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=1200)
    assert process.returncode == 130, said
    assert "same command resumes" in said
    assert "Traceback" not in said
    assert len(list((tmp_path / "r" / "checkpoints").glob("0*"))) == 1


def test_evaluating_gives_the_same_on_other_files(trained: Path, table: Path, tmp_path: Path) -> None:
    rings = tmp_path / "rings.csv"
    rings.write_text("smiles,heavy\nc1ccncc1,6\nc1ccsc1,5\n")
    done = understudy(
        "evaluate", f"surrogate={trained}", f"data.test=[{table},{rings}]", f"run.dir={tmp_path / 'e'}", cwd=tmp_path
    )
    assert "2 of 2 molecules are outside the training domain" in done.stdout + done.stderr
    assert "300 of 302 used" in done.stdout
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["test/labels/r2"] > 0.5
    assert (metrics["test/labels/rows"], metrics["test/labels/rows_left_out"]) == (302, 2)
    # Chains of what was learned from are of its kind, whatever the other file holds; rings are not.
    assert metrics["test/labels/in_domain"] > 0.9
    assert metrics["test/rings/in_domain"] == 0
    reading, _ = json.loads((tmp_path / "e" / "reading.json").read_text())
    assert (reading["total"], reading["used"], sum(reading["left_out"].values())) == (302, 300, 2)
    assert {"test/labels/mae", "test/labels/coverage_90"} <= set(metrics)


def test_screening_a_file_and_its_prepared_library_give_the_same(trained: Path, table: Path, tmp_path: Path) -> None:
    understudy("prepare", f"candidates={table}", f"out={tmp_path / 'lib'}", cwd=tmp_path)
    tops = {}
    # A surrogate of an earlier version has no checksums: that is logged before the directory is claimed.
    before = shutil.copytree(trained / "surrogate", tmp_path / "before")
    (before / ".understudy.sha256").unlink()
    for name, surrogate, candidates in (("file", before, table), ("library", trained, tmp_path / "lib")):
        out = tmp_path / name
        understudy(
            "screen", f"surrogate={surrogate}", f"candidates={candidates}", f"out={out}", "top_k=20", cwd=tmp_path
        )
        if surrogate == before:
            assert "made without checksums" in (out / "log.txt").read_text()
        [reading] = json.loads((out / "reading.json").read_text())
        assert (reading["total"], reading["used"]) == ((302, 301) if name == "file" else (301, 301))
        metrics = json.loads((out / "metrics.json").read_text())
        assert metrics["screen/molecules_per_second"] > 0
        assert metrics["screen/peak_memory_mb"] > 0
        parts = [pq.read_table(p) for p in sorted((out / "results").glob("*.parquet"))]
        assert {"smiles", "prediction", "std", "interval", "in_domain"} <= set(parts[0].column_names)
        tops[name] = parts[0].to_pandas()
        with open(out / "top.csv", newline="") as file:
            assert len(list(csv.DictReader(file))) == 20
        assert (out / "rejects.csv").exists()
    assert len(tops["file"]) == len(tops["library"]) == 301  # 300 molecules, and CCO of the row without a label
    assert tops["file"].smiles.tolist() == tops["library"].smiles.tolist()
    assert np.allclose(tops["file"].prediction, tops["library"].prediction, atol=1e-5)
    with open(tmp_path / "lib" / "rejects.csv", newline="") as file:
        assert [row["line"] for row in csv.DictReader(file)] == ["53"]


def test_training_stops_in_time_and_keeps_what_it_has(table: Path, tmp_path: Path) -> None:
    understudy(
        "train", "task=molecules/properties", f"data.file={table}", "data.target=heavy", "train.max_seconds=1",
        "train.epochs=100000", "train.mlflow=false", *NETWORK, f"run.dir={tmp_path / 'r'}", cwd=tmp_path,
    )  # fmt: skip
    fit = json.loads((tmp_path / "r" / "fit.json").read_text())
    assert fit["stopped_by"] == "max_seconds"
    assert "test/mae" in json.loads((tmp_path / "r" / "metrics.json").read_text())


def test_simulating_a_file_makes_a_store_that_training_takes(tmp_path: Path) -> None:
    (tmp_path / "m.smi").write_text("\n".join([*chains(24), "C1CC", "CCO"]) + "\n")
    for _ in range(2):
        understudy("simulate", "inputs=m.smi", "simulator=xtb", "out=labels.zarr", "run.dir=sim", cwd=tmp_path)
    metrics = json.loads((tmp_path / "sim" / "metrics.json").read_text())
    assert metrics["simulate/cached"] == 25
    with RecordStore.open(tmp_path / "labels.zarr") as store:
        assert set(store.column("status")) == {"ok"}
        assert store.dataset()["gap"].attrs["units"] == "eV"
    rejects = (tmp_path / "sim" / "rejects.csv").read_text().splitlines()
    assert len(rejects) == 2
    understudy(
        "train", "task=molecules/properties", "data.file=labels.zarr", "data.target=gap", "train.epochs=2",
        "data.parts=[0.4,0.1,0.4,0.1]", "train.mlflow=false", *NETWORK, "run.dir=r", cwd=tmp_path,
    )  # fmt: skip
    assert json.loads((tmp_path / "r" / "surrogate" / "surrogate.json").read_text())["facts"]["units"] == {"gap": "eV"}


def frames(path: Path, count: int, seed: int) -> Path:
    """Argon trimers with Lennard-Jones energies and forces."""
    random = np.random.default_rng(seed)
    clusters = []
    for _ in range(count):
        corners = np.array([[0, 0, 0], [3.8, 0, 0], [1.9, 3.3, 0]]) + 0.15 * random.normal(size=(3, 3))
        atoms = Atoms("Ar3", positions=corners, calculator=LennardJones(epsilon=0.1, sigma=3.4, rc=20.0))
        atoms.get_forces()
        clusters.append(atoms)
    write(path, clusters, format="extxyz")
    return path


def test_training_on_forces_writes_the_metrics_that_scripts_read(tmp_path: Path) -> None:
    train, one, two = (frames(tmp_path / f"{n}.xyz", c, s) for n, c, s in (("a", 60, 0), ("b", 10, 1), ("c", 10, 2)))
    # Some that are learned from, turned, with their atoms in another order.
    turned = [Atoms("Ar3", positions=atoms.positions[[2, 0, 1]]) for atoms in read(train, ":4")]
    for atoms in turned:
        atoms.rotate(40, (1, 2, 3))
        atoms.calc = LennardJones(epsilon=0.1, sigma=3.4, rc=20.0)
        atoms.get_forces()
    write(two, [*read(two, ":"), *turned], format="extxyz")
    understudy(
        "train", "task=molecules/potentials", f"data.train={train}", "data.valid=0.1", f"data.test=[{one},{two}]",
        "train.epochs=20", "train.mlflow=false", "model.network.features=16", "model.network.layers=1",
        "run.dir=r", cwd=tmp_path,
    )  # fmt: skip
    metrics = json.loads((tmp_path / "r" / "metrics.json").read_text())
    fit = json.loads((tmp_path / "r" / "fit.json").read_text())
    assert fit["seconds"] == metrics["train/seconds"] > 0
    assert 0 <= fit["data_wait_share"] < 1
    names = ("energy_mae_mev", "energy_rmse_mev", "forces_mae_mev_per_angstrom", "forces_rmse_mev_per_angstrom")
    for stem in ("b", "c"):
        assert all(np.isfinite(metrics[f"test/{stem}/{name}"]) for name in names)
    done = understudy(
        "train", "task=molecules/potentials", f"data.train={train}", "data.valid=0.1", "data.seed=1",
        "train.epochs=20", "train.mlflow=false", "model.network.features=16", "model.network.layers=1",
        "run.dir=r", cwd=tmp_path, status=2,
    )  # fmt: skip
    assert "data.seed=0 (now 1)" in done.stderr
    understudy("evaluate", "surrogate=r", f"data.test=[{two}]", "run.dir=e", cwd=tmp_path)
    again = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert again["test/c/seen"] == metrics["test/c/seen"] == 4
    for name in ("energy_mae_mev", "unseen/energy_mae_mev"):
        assert again[f"test/c/{name}"] == pytest.approx(metrics[f"test/c/{name}"], rel=1e-3)
    [reading] = json.loads((tmp_path / "e" / "reading.json").read_text())
    assert reading["quantities"]["learned from"].startswith("4 of 14 frames were learned from")
    assert "test/b/seen" not in metrics


def test_a_sweep_runs_once_for_each_value(table: Path, tmp_path: Path) -> None:
    understudy(
        "train", "--multirun", "task=molecules/properties", f"data.file={table}", "data.target=heavy",
        "data.seed=0,1", "train.epochs=1", "train.mlflow=false", *NETWORK, "run.dir=sweep", cwd=tmp_path,
    )  # fmt: skip
    splits = [json.loads((tmp_path / "sweep" / str(i) / "split.json").read_text()) for i in (0, 1)]
    assert splits[0] != splits[1]


def test_bad_input_ends_with_one_line_that_names_it(table: Path, tmp_path: Path) -> None:
    done = understudy(
        "train", "task=molecules/properties", f"data.file={table}", "data.target=colour", cwd=tmp_path, status=2
    )
    assert "colour" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    done = understudy("screen", f"surrogate={table.parent}", f"candidates={table}", "out=o", cwd=tmp_path, status=2)
    assert "surrogate.json" in done.stderr
