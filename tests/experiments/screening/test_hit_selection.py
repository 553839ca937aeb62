"""Hits without structural alerts, and unlike ones: the same as a plain loop over the whole file would choose."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

from data.errors import InputError
from data.molecules.alerts import alerts, check_catalogues, fingerprints
from data.molecules.graph_tables import GraphTable
from experiments.screening.best_rows import TopK
from experiments.screening.hit_selection import Diversity, diverse, refusals
from experiments.screening.library_screen import Objective, ScreenConfig, screen

#: Textbook molecules: a rhodanine and a quinone (PAINS), an acyl chloride and an epoxide (reactive), and harmless ones.
RHODANINE, QUINONE = "O=C1NC(=S)SC1=Cc1ccccc1", "O=C1C=CC(=O)C=C1"
CHLORIDE, EPOXIDE = "CCCCC(=O)Cl", "CCCC1CO1"
HARMLESS = ["CCOCC", "c1ccccc1CC", "CC(=O)NCC", "C1CCCCC1O", "CCOCCC", "c1ccccc1CCC", "CC(=O)NCCC", "C1CCCCC1N"]


class Sized:
    """Prefers large molecules."""

    fingerprint = "sized"

    def compile(self) -> None:
        pass

    def predict_table(self, table: GraphTable) -> dict[str, np.ndarray]:
        size = np.diff(table.atom_start) + np.arange(len(table)) * 1e-3
        return {"size": size, "size_std": size * 0, "size_low": size, "size_high": size, "in_domain": size > 0}


def top(out: Path) -> list[dict[str, str]]:
    with open(out / "top.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_alerts_are_those_of_textbooks() -> None:
    asked = [RHODANINE, QUINONE, CHLORIDE, EPOXIDE, *HARMLESS]
    pains, brenk = (alerts(asked, [name]) for name in ("PAINS", "BRENK"))
    assert [reason is not None for reason in pains] == [True, True, False, False, *[False] * len(HARMLESS)]
    assert str(pains[0]).startswith("PAINS_A: ene_rhod")
    assert [reason is not None for reason in brenk[2:4]] == [True, True]
    assert str(brenk[3]) == "Brenk: Three-membered_heterocycle"
    assert alerts(["no molecule"], ["PAINS"]) == ["RDKit cannot read it again"]
    assert check_catalogues(["pains", "Brenk", "PAINS"], "filters") == ("PAINS", "BRENK")
    with pytest.raises(InputError, match=r"filters: no catalogue 'PAIN'.*PAINS"):
        check_catalogues(["PAIN"], "filters")


def test_a_refused_candidate_makes_room_for_the_next_and_is_listed(tmp_path: Path) -> None:
    smiles = [*HARMLESS, RHODANINE, QUINONE, CHLORIDE, EPOXIDE, "ClC(=O)CCCC"] * 3
    ids = ["007", "a,b", "007", "Größe-Ω-分子", 'the "blue" one', "1e5", *(f"{i:03d}" for i in range(6, len(smiles)))]
    pd.DataFrame({"id": ids, "smiles": smiles}).to_csv(tmp_path / "in.csv", index=False)
    how: dict[str, Any] = {"workers": 1, "chunk_rows": 8, "part_rows": 16, "top_k": 4, "columns": ("id",)}
    how["objective"] = Objective(maximize="size")
    out = tmp_path / "out"
    screen(Sized(), tmp_path / "in.csv", out, ScreenConfig(**how), progress=False)
    assert top(out)[0]["smiles"] == RHODANINE
    assert not (out / "filtered.csv").exists()
    # The finished screen is run again with filters, and nothing is predicted again.
    filtered = ScreenConfig(**how, filters=("PAINS", "BRENK"))
    summary = screen(Sized(), tmp_path / "in.csv", out, filtered, progress=False)
    catalogue = FilterCatalogParams()
    for name in ("PAINS", "BRENK"):
        catalogue.AddCatalog(getattr(FilterCatalogParams.FilterCatalogs, name))
    catalogue = FilterCatalog(catalogue)
    best: dict[str, float] = {}
    for i, text in enumerate(smiles):
        molecule = Chem.MolFromSmiles(text)
        if not catalogue.HasMatch(molecule):
            score = molecule.GetNumAtoms() + i % 8 * 1e-3
            best[Chem.CanonSmiles(text)] = max(score, best.get(Chem.CanonSmiles(text), 0))
    expected = sorted(best, key=lambda text: -best[text])[:4]
    assert [Chem.CanonSmiles(row["smiles"]) for row in top(out)] == expected
    assert all(row["id"] == ids[int(row["line"]) - 2] for row in top(out))
    parts = sorted((out / "results").glob("*.parquet"))
    assert [text for part in parts for text in pq.read_table(part).column("id").to_pylist()] == ids
    with open(out / "filtered.csv", newline="") as file:
        refused = list(csv.DictReader(file))
    worst = float(top(out)[-1]["score"])
    assert all(float(row["score"]) > worst for row in refused)
    assert {row["smiles"] for row in refused} >= {RHODANINE}
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["screen/filtered"] == len(refused) == sum((summary.filtered or {}).values())
    assert metrics["screen/filtered/PAINS_A"] >= 1
    # Without them it is as it was.
    screen(Sized(), tmp_path / "in.csv", out, ScreenConfig(**how), progress=False)
    assert top(out)[0]["smiles"] == RHODANINE
    assert not (out / "filtered.csv").exists()


def test_what_is_refused_does_not_depend_on_batches() -> None:
    smiles = [*HARMLESS, RHODANINE, CHLORIDE] * 3
    score = np.random.default_rng(0).permutation(len(smiles)).astype(float)
    selections = []
    for size in (1, 7, len(smiles)):
        best = TopK(5, None, refusals(["PAINS", "BRENK"], ["smiles"]))
        for first in range(0, len(smiles), size):
            rows = slice(first, first + size)
            lines = np.arange(len(smiles))[rows]
            best.add(pa.RecordBatch.from_pydict({"line": lines, "smiles": smiles[rows], "score": score[rows]}))
            best.table()
        table = best.table()
        assert table is not None
        selections.append((table.column("line").to_pylist(), sorted(one.line for one in best.refused())))
    assert selections[0] == selections[1] == selections[2]
    order = np.argsort(-score)
    kept = [int(i) for i in order if smiles[i] in HARMLESS][:5]
    assert selections[0][0] == kept
    assert selections[0][1] == sorted(int(i) for i in order if smiles[i] not in HARMLESS and score[i] > score[kept[-1]])


def test_leaders_are_unlike_and_the_best_of_their_groups() -> None:
    random = np.random.default_rng(1)
    smiles = [
        "C" * random.integers(1, 9) + str(random.choice(["O", "N", "c1ccccc1", "C(=O)O", "C#N"])) for _ in range(60)
    ]
    bits = fingerprints(smiles)
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(text)) for text in smiles]
    assert (bits == np.array([list(one) for one in prints])).all()
    for similarity in (0.4, 0.6, 1.0):
        leaders: list[int] = []
        for i, one in enumerate(prints):
            if all(DataStructs.TanimotoSimilarity(one, prints[j]) <= similarity for j in leaders):
                leaders.append(i)
        for count in (5, 60):
            picked = diverse(bits, count, Diversity("leader", similarity))
            assert picked.tolist() == leaders[:count], similarity
    spread = diverse(bits, 6, Diversity("maxmin"))
    assert spread[0] == 0
    assert (np.diff(spread) > 0).all()

    def closest(rows: list[int]) -> float:
        return max(DataStructs.TanimotoSimilarity(prints[i], prints[j]) for i in rows for j in rows if i < j)

    assert closest(spread.tolist()) < closest(list(range(6)))
    assert diverse(bits[:0], 5, Diversity("leader")).tolist() == []
    assert diverse(bits[:3], 5, Diversity("maxmin")).tolist() == [0, 1, 2]


@pytest.mark.parametrize("picker", ["leader", "maxmin"])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 200])
def test_more_hits_may_be_asked_for_than_there_are(picker: str, count: int) -> None:
    bits = np.eye(8, 64, dtype=np.uint8)
    chosen = diverse(bits, count, Diversity(picker=picker, similarity=0.5))
    assert len(chosen) == min(count, 8)
    assert len(diverse(bits[:0], count, Diversity(picker=picker))) == 0


def test_top_csv_holds_unlike_hits_of_a_pool(tmp_path: Path) -> None:
    (tmp_path / "in.smi").write_text("\n".join(HARMLESS))
    how: dict[str, Any] = {"workers": 1, "top_k": 4, "objective": Objective(maximize="size")}
    diversity = Diversity("leader", 0.45, pool=8)
    summary = screen(
        Sized(), tmp_path / "in.smi", tmp_path / "out", ScreenConfig(**how, diversity=diversity), progress=False
    )
    rows = top(tmp_path / "out")
    assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
    assert (np.diff([float(row["score"]) for row in rows]) < 0).all()
    prints = fingerprints([row["smiles"] for row in rows]).astype(float)
    both = prints @ prints.T
    sums = prints.sum(axis=1)
    tanimoto = both / (sums[:, None] + sums[None] - both)
    assert tanimoto[np.triu_indices(len(rows), 1)].max() <= 0.45
    assert summary.pool == 8
    assert summary.top == len(rows)
    with pytest.raises(ValueError, match="picker must be one of leader, maxmin"):
        Diversity("butina")
