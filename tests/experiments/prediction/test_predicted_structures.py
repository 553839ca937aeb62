"""Predictions that come from and go to SDF and lists of SMILES, and identifiers as vendors write them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from predicting import predicted
from rdkit import Chem
from rdkit.Chem import AllChem
from saved_files import unpack

from data.errors import InputError
from data.molecules.files import read
from experiments.prediction.molecule_output import molecule_writer
from experiments.screening.library_screen import Objective, ScreenConfig, screen
from surrogates.saved import load_surrogate

#: Identifiers: leading zeros, a comma, twice the same, letters of other alphabets, a quotation mark, an exponent.
IDS = ["007", "a,b", "007", "Größe-Ω-分子", 'the "blue" one', "1e5"]
SMILES = ["CCO", "CC=O", "CCN", "c1ccccc1", "CC(C)O", "CCOC"]


@pytest.fixture(scope="module")
def surrogate(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    return once("saved-properties", lambda place: unpack("surrogates/properties", place))


def sdf(path: Path, *, broken: bool) -> list[str]:
    """Molecules with coordinates and data fields, as RDKit writes them; the fourth record may be broken."""
    records = []
    for name, text in zip(IDS, SMILES, strict=True):
        molecule = Chem.AddHs(Chem.MolFromSmiles(text))
        AllChem.EmbedMolecule(molecule, randomSeed=1)
        molecule.SetProp("_Name", f"title of {text}")
        molecule.SetProp("vendor id", name)
        records.append(f"{Chem.MolToMolBlock(molecule)}>  <vendor id>\n{name}\n\n$$$$\n")
    if broken:
        records[3] = records[3].replace("M  END", "M  EN")
    packed = gzip.compress("".join(records).encode()) if path.suffix == ".gz" else "".join(records).encode()
    path.write_bytes(packed)
    return records


def test_an_sdf_comes_back_with_its_structures_and_the_answers(surrogate: Path, tmp_path: Path) -> None:
    records = sdf(tmp_path / "in.sdf.gz", broken=True)
    predicted(tmp_path / "out.sdf", f"surrogate={surrogate}", f"inputs={tmp_path / 'in.sdf.gz'}", "workers=1")
    loaded: Any = load_surrogate(surrogate)
    back = [molecule for molecule in Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False)]  # noqa: C416
    assert len(back) == 6
    for i, (molecule, record) in enumerate(zip(back, records, strict=True)):
        assert molecule.GetProp("vendor id") == IDS[i]
        assert molecule.GetProp("line") == str(i + 1)
        if i == 3:
            assert molecule.GetNumAtoms() == 0
            assert "M  END" in molecule.GetProp("reason")
            assert not molecule.HasProp("gap")
            continue
        before = Chem.MolFromMolBlock(record, removeHs=False)
        assert np.array_equal(molecule.GetConformer().GetPositions(), before.GetConformer().GetPositions())
        assert molecule.GetProp("_Name") == f"title of {SMILES[i]}"
        expected = loaded.simulate(loaded.spec.request({"smiles": SMILES[i]}))
        assert float(molecule.GetProp("gap")) == pytest.approx(float(expected["gap"]), rel=1e-6)
    # Candidates of a screen come from the same reader.
    how = ScreenConfig(workers=1, columns=("vendor id",), objective=Objective(maximize="gap", require_domain=False))
    screen(loaded, tmp_path / "in.sdf.gz", tmp_path / "hits", how, progress=False)
    top = pd.read_csv(tmp_path / "hits" / "top.csv", dtype={"vendor id": str})
    assert sorted(top["line"]) == [1, 2, 3, 5, 6]
    assert [IDS[line - 1] for line in top["line"]] == top["vendor id"].tolist()
    rejects = pd.read_csv(tmp_path / "hits" / "rejects.csv")
    assert rejects["line"].tolist() == [4]
    assert "M  END" in rejects["reason"][0]


def test_a_table_becomes_a_list_of_smiles_and_its_identifiers_stay_texts(surrogate: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [*IDS, "last"], "smiles": [*SMILES, "C1CC"]})
    frame.to_csv(tmp_path / "in.csv", index=False)
    arguments = (f"surrogate={surrogate}", f"inputs={tmp_path / 'in.csv'}", "columns=[id]", "workers=1")
    predicted(tmp_path / "out.smi", *arguments)
    lines = (tmp_path / "out.smi").read_text().splitlines()
    assert lines[0].split("\t")[:4] == ["smiles", "line", "id", "gap"]
    assert [line.split("\t")[2] for line in lines[1:]] == IDS
    with pytest.raises(InputError, match=r"out: cannot tell the kind of table"):
        predicted(tmp_path / "out.mol2", *arguments)


def batch() -> pa.RecordBatch:
    columns: dict[str, Any] = {"line": list(range(1, 8)), "id": [*IDS, "last"], "smiles": [*SMILES, "C1CC"]}
    columns |= {"gap": [1.5, 2.0, 1e-7, 4.0, 5.0, 6.0, None], "in_domain": [True] * 6 + [None]}
    columns["reason"] = pa.array([None] * 6 + ["no ring"], pa.string())
    return pa.RecordBatch.from_pydict(columns)


def test_other_programs_read_what_is_written(tmp_path: Path) -> None:
    rows = batch()
    for kind in (".sdf", ".smi"):
        with open(tmp_path / f"out{kind}", "wb") as file:
            molecule_writer(file, kind, rows.schema.names, "smiles", None)(rows)
    drawn = [molecule for molecule in Chem.SDMolSupplier(str(tmp_path / "out.sdf"))]  # noqa: C416
    assert [molecule.GetProp("id") for molecule in drawn] == [*IDS, "last"]
    assert [molecule.GetProp("_Name") for molecule in drawn] == [*IDS, "last"]
    assert [Chem.MolToSmiles(molecule) for molecule in drawn[:-1]] == [Chem.CanonSmiles(text) for text in SMILES]
    assert [float(molecule.GetProp("gap")) for molecule in drawn[:-1]] == [1.5, 2.0, 1e-7, 4.0, 5.0, 6.0]
    assert np.ptp(drawn[0].GetConformer().GetPositions()[:, 0]) > 1
    assert drawn[-1].GetNumAtoms() == 0
    assert drawn[-1].GetProp("reason") == "no ring"
    assert not drawn[-1].HasProp("gap")
    supplier = Chem.SmilesMolSupplier(str(tmp_path / "out.smi"), delimiter="\t", nameColumn=2)
    listed = [molecule for molecule in supplier]  # noqa: C416
    assert [molecule.GetProp("_Name") for molecule in listed] == IDS
    assert [float(molecule.GetProp("gap")) for molecule in listed] == [1.5, 2.0, 1e-7, 4.0, 5.0, 6.0]
    # It is a file of inputs again.
    again = [row.smiles for row in read(tmp_path / "out.smi")]
    assert again == SMILES
