"""The lines of the chemist's guide, and those of the README for her, on small files with real xTB and PySCF."""

from __future__ import annotations

import gzip
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest
from guide_lines import NO_STEP, GuideRun, guide_lines, readme_lines

from data.claim import MARK

#: Few labels, and PySCF in a minimal basis.
PIPELINE = [
    "cheap.count=24", "pretrain.epochs=1", "pretrain.mlflow=false", "finetune.epochs=1", "finetune.mlflow=false",
    "expensive.train=4", "expensive.calibration=16", "expensive.test=4", "expensive.curve=[]", "recheck.top=1",
    "recheck.random=1", "screen.top_k=20", "expensive.simulator.basis=sto-3g", "expensive.simulator.method=hf",
    "model.network.features=8", "model.network.layers=1", "model.ensemble=1",
    "model.buckets=1", "refine.top=4", "refine.labels=1", "cheap.campaign.workers=1", "expensive.campaign.workers=1",
    "workers=1",
]  # fmt: skip
PARTS = "data.parts=[0.5,0.1,0.3,0.1]"
SIZES = {
    "runs/mine": PIPELINE,
    "runs/apolar": [*(s for s in PIPELINE if not s.startswith("refine")), "refine.top=0"],
    "runs/on_xtb": [PARTS],
    # All have a dipole moment, so that all are hits, and half of them is what few labels can promise.
    "runs/ladder": [
        "recall=0.5", "confidence=0.6", "calibration.labels=16", "objective.hit=0.01", "+rungs.pyscf.basis=sto-3g",
        "+rungs.pyscf.method=hf",
    ],
    "runs/gap": [PARTS],
    "runs/own-split": [PARTS, NO_STEP],
    "runs/own-files": [PARTS, NO_STEP],
    "runs/assays": [PARTS],
    "runs/light": [
        PARTS, "train.epochs=2", "train.mlflow=false", "alone=false", "model.network.features=8",
        "model.network.layers=1", "model.buckets=1",
    ],
    "labels.zarr": ["limit=1", "simulator.basis=sto-3g"],
}  # fmt: skip
#: Molecules of the library, the smallest ones, because a ladder asks PySCF about nearly all of them.
LIBRARY = 30
STEMS = ("C", "CC", "C=C", "C#C", "FC", "CCC", "CC(C)", "C1CC1", "C=CC", "C#CC", "FCC", "CC=C", "C=CCC", "C1CC1C")
ENDS = ("O", "N", "F", "C=O", "C#N", "OC")

#: Molecules without a label, of the same neighbourhoods of atoms.
SIMILAR = tuple(f"{start}CC{end}" for start in ("CC", "CCC", "CCCC") for end in ("CO", "CN", "CF", "CC=O", "CC#N"))


def molecules() -> list[str]:
    """Small molecules with a dipole moment."""
    return [f"{stem}{end}" for stem in STEMS for end in ENDS]


def write_files(folder: Path) -> None:
    """The files that the lines read."""
    smiles = molecules()
    frame = pd.DataFrame({"id": [f"{i:03d}" for i in range(len(smiles))], "vendor": "a, b", "smiles": smiles})
    frame.to_csv(folder / "my.csv", index=False)
    frame[::-1].to_csv(folder / "molecules.csv", index=False)
    text = "".join(f"{one} m{i}\n" for i, one in enumerate(smiles[:LIBRARY]))
    (folder / "library.smi").write_text(text)
    (folder / "similar.smi").write_text("".join(f"{one}\n" for one in SIMILAR))
    (folder / "library.smi.gz").write_bytes(gzip.compress(text.encode()))
    table = frame.assign(
        gap=[5 + 0.1 * i for i in range(len(smiles))],
        logp=[0.5 * len(s) if i % 3 else math.nan for i, s in enumerate(smiles)],
        toxic=[int("N" in s) for s in smiles],
        active=[float(len(s) > 5) if i % 4 else math.nan for i, s in enumerate(smiles)],
        split=["train", "train", "valid", "calibration", "calibration", "test"] * (len(smiles) // 6),
    )
    for name in ("labels", "assays"):
        table.to_csv(folder / f"{name}.csv", index=False)
    for name, rows in (
        ("train", slice(0, 32)),
        ("valid", slice(32, 40)),
        ("test", slice(40, None)),
        ("others", slice(20)),
    ):
        table[rows].to_csv(folder / f"{name}.csv", index=False)


@pytest.mark.slow
def test_the_lines_of_the_chemist_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)

    def begin_apolar() -> None:
        """Labels and trainings of another objective are the same, so that this run goes on from those of another."""
        for name in ("labels", "training"):
            shutil.copytree(Path("runs/mine") / name, Path("runs/apolar") / name)
        for name in (MARK, "learned_from.json"):
            shutil.copy(Path("runs/mine") / name, "runs/apolar")

    guide = GuideRun(tmp_path, SIZES, {"runs/apolar": begin_apolar})
    page = guide_lines("docs/guides/chemist.md")
    for line in readme_lines("chemist"):
        guide.run(line)
    answers = pd.read_csv("predictions.csv", dtype={"id": str})
    assert answers["id"].tolist() == [f"{i:03d}" for i in reversed(range(len(molecules())))]
    assert answers[["gap", "dipole_moment_low"]].notna().all().all()
    for line in page[1:]:
        guide.run(line)
    assert set(SIZES) <= set(guide.names)
    # Those of the domain, which some atoms of so few training molecules leave.
    ranks = pd.read_csv("runs/hits/top.csv")["rank"].tolist()
    assert LIBRARY // 2 < len(ranks) <= LIBRARY
    assert ranks == list(range(1, len(ranks) + 1))
    assert 0 < len(pd.read_csv("runs/clean-hits/top.csv")) <= len(ranks)
    chances = pd.read_parquet("runs/likely-active/results")["active"]
    assert chances.between(0, 1).all()
    assert chances.nunique() > 1
    assert pd.read_csv("labels.csv")["smiles"].tolist() == molecules()[:1]
    assert all((Path("runs") / name / "report.html").is_file() for name in ("mine", "apolar"))
