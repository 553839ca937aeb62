"""Readers and writers of molecules: every bad row is named with its line, and no good row is lost."""

from __future__ import annotations

import csv
import gzip
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write as ase_write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import AllChem
from small_molecule_files import WATER, block, both, geometries, write

from data.errors import InputError
from data.molecules.files import Row, SmilesChunk, iter_smiles_chunks, read
from data.molecules.writing import write_ase_db, write_csv, write_extxyz, write_sdf
from data.structures.structures import Structures


@pytest.mark.parametrize("suffix", [".smi", ".txt.gz"])
def test_smiles_corpus(tmp_path: Path, suffix: str) -> None:
    text = b"\xef\xbb\xbfSMILES name\r\nCCO ethanol 96%\r\n\r\nC(C\r\n*C\nc1cccc1\nC\xff bad\nC\x00C\n[Na+].[Cl-]\nN"
    good, bad = both(write(tmp_path / f"a{suffix}", text))
    assert [(r.line, r.smiles, r.properties) for r in good] == [
        (2, "CCO", {"name": "ethanol 96%"}),
        (9, "[Na+].[Cl-]", {}),
        (10, "N", {}),
    ]
    assert set(bad) == {4, 5, 6, 7, 8}
    assert "syntax" in bad[4]
    assert "dummy" in bad[5]
    assert bad[7] == "not UTF-8 text"
    unchecked = [row.smiles for row in read(tmp_path / f"a{suffix}", validate=False)]
    chunks = list(iter_smiles_chunks(tmp_path / f"a{suffix}", 2))
    assert [s for chunk in chunks for s in chunk.smiles] == unchecked
    assert [n for chunk in chunks for n in chunk.lines] == [2, 4, 5, 6, 9, 10]
    assert max(len(chunk.smiles) for chunk in chunks) == 2


def test_table_corpus(tmp_path: Path) -> None:
    lines = [
        b"\xef\xbb\xbfid,smiles,gap,note,mu",
        b"1,CCO,1.5,plain,2",
        b'2,CCN,2.5,"a, ""b""\r\n  c",3',
        b"3,CCC,abc,x,1",
        b"4,CCC,nan,x,1",
        b"5,CCC,1e999,x,1",
        b"6,CCC,,x,1",
        b"7,CCC,,x,",
        b"8,,1,x,1",
        b"9,CC,1,x",
        b"10,CC,1,x,1,7",
        b'11,CC,1,"open,1',
        b"12,CF,3.5,x,1",
        b'13,CC,1,"a"b,1',
        b"14,C\xff,1,x,1",
        b"15,C(,1,x,1",
        b"",
        b"16,CCl,1_0,x,1",
        b"17,CBr,-2,x,1",
    ]
    path = write(tmp_path / "a.csv", b"\r\n".join(lines))
    good, bad = both(path, columns=["gap", "mu"])
    assert [(r.line, r.smiles) for r in good] == [
        *[(2, "CCO"), (3, "CCN"), (5, "CCC"), (6, "CCC"), (7, "CCC"), (8, "CCC")],
        *[(14, "CF"), (19, "CCl"), (20, "CBr")],
    ]
    assert good[0].properties == {"gap": 1.5, "mu": 2.0}
    for row in good[2:6]:
        assert math.isnan(row.properties["gap"])
        assert row.properties["mu"] == 1.0
    assert bad[5] == "column gap: 'abc' is not a number; the other values of the row are used"
    assert [bool(row.problems) for row in good] == [row.line in (5, 7, 19) for row in good]
    assert bad[9] == "no value"
    assert bad[11] == "4 fields, but the header has 5"
    assert "malformed quotes" in bad[13]
    assert bad[16] == "not UTF-8 text"
    assert set(bad) == {5, 7, 9, 10, 11, 12, 13, 15, 16, 17, 19}
    assert sum(len(chunk.smiles) for chunk in iter_smiles_chunks(path, 3)) == 11


def test_an_open_quote_takes_no_rows_with_it(tmp_path: Path) -> None:
    rows = [f"{'C' * (i % 20 + 1)},n{i}" for i in range(300)]
    rows[5], rows[90], rows[299] = 'CC,"open', 'CC,"also,open"x', '"CCC,open'
    path = write(tmp_path / "a.csv.gz", "smiles,name\n" + "\n".join(rows) + "\n")
    good, bad = both(path)
    assert set(bad) == {7, 92, 301}
    assert [row.line for row in good] == [n for n in range(2, 302) if n not in bad]
    assert [n for c in iter_smiles_chunks(path, 64) for n in c.lines] == [row.line for row in good]


CELL = st.text(st.sampled_from('ab ,"\n;é'), max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["C", "CCO", "N#N"]), CELL, st.booleans()), max_size=12))
def test_no_good_row_is_lost(tmp_path: Path, rows: list[tuple[str, str, bool]]) -> None:
    """Rows with well quoted cells are all read, whatever broken rows without quotes lie between."""
    path = tmp_path / "a.csv"
    expected = []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["note", "smiles"])
        for smiles, cell, broken in rows:
            if broken:
                file.write("too,many,fields\n")
            else:
                writer.writerow([cell, smiles])
                expected.append(smiles)
    good, bad = both(path)
    assert [row.smiles for row in good] == expected
    assert len(bad) == len(rows) - len(expected)
    assert [s for chunk in iter_smiles_chunks(path, 5) for s in chunk.smiles] == expected


def test_sdf_corpus(tmp_path: Path) -> None:
    ethanol, ion = block("CCO", name="ethanol"), block("[NH4+]", v3000=True)
    cut = "\n".join(block("CC").split("\n")[:6]) + "\n"
    valence = block("CC").replace("  1  2  1  0", "  1  2  3  0")
    letters = block("CC").replace("  1  2  1  0", "  1  x  1  0")
    records = [
        ethanol + ">  <gap>\n1.5\n\n>  <two>\na\nb\n\n$$$$\n",
        cut + "$$$$\n",
        ion + ">  <gap>\n2\n\n$$$$\n",
        valence + "$$$$\n",
        letters + "$$$$\n",
        cut + block("CF") + "$$$$\n",
        block("CN"),
        block("C=O") + "$$$$\n",
    ]
    path = write(tmp_path / "a.sdf", "".join(records).replace("\n", "\r\n"))
    good, bad = both(path)
    assert [row.smiles for row in good] == ["CCO", "[NH4+]", "CF", "CN", "C=O"]
    starts = np.cumsum([1, *(record.count("\n") for record in records)])
    assert set(bad) == {starts[i] for i in (1, 3, 4, 5)}
    assert "M  END" in bad[starts[1]]
    assert "alence" in bad[starts[3]]
    assert [row.line for row in good][:2] == [1, starts[2]]
    first, second = good[0], good[1]
    assert first.properties["name"] == "ethanol"
    assert (first.properties["gap"], first.properties["two"]) == ("1.5", "a\nb")
    assert first.numbers is not None
    assert first.numbers.tolist() == [6, 6, 8, 1, 1, 1, 1, 1, 1]
    assert first.properties["charge"] == 0
    assert second.properties["charge"] == 1
    numeric, rest = both(path, columns=["gap"])
    assert [row.properties["gap"] for row in numeric] == [1.5, 2.0]
    assert len(rest) == 7


def test_a_drawing_is_no_geometry(tmp_path: Path) -> None:
    drawing = Chem.MolFromSmiles("CCO")
    AllChem.Compute2DCoords(drawing)
    row = next(read(write(tmp_path / "a.sdf", Chem.MolToMolBlock(drawing) + "$$$$\n")))
    assert row.smiles == "CCO"
    assert row.positions is None


def test_a_lone_atom_without_its_hydrogens_is_a_molecule(tmp_path: Path) -> None:
    methyl = Chem.MolFromSmiles("[CH3]")
    AllChem.Compute2DCoords(methyl)
    row = next(read(write(tmp_path / "a.sdf", Chem.MolToMolBlock(methyl) + "$$$$\n")))
    assert (row.smiles, row.positions, row.properties["spin"]) == ("[CH3]", None, 1)


def frame(*, count: str = "3", swap: tuple[str, str] = ("", "")) -> str:
    return WATER.replace("3\n", f"{count}\n", 1).replace(*swap)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (frame(count="three"), "number of atoms"),
        (frame(count="5"), "has 1 fields"),
        (frame(count="2"), "more atom lines"),
        (frame(count="0"), "no atoms"),
        (frame(count="999999999"), "has 1 fields"),
        (frame(swap=("H 0.0 0.7 -0.4 0.0 0.0 0.0\n", "")), "has 1 fields"),
        (frame(swap=("0.7", "0.x7")), "'0.x7' is not a number"),
        (frame(swap=("O 0.0", "Qq 0.0")), "unknown element 'Qq'"),
        (frame(swap=("O 0.0", "X 0.0")), "unknown element 'X'"),
        (frame(swap=("0.7", "nan")), "position"),
        (frame(swap=("0.2", "inf")), "force"),
        (frame(swap=("-76.5", "nan")), "energy"),
        (frame(swap=("-76.5", "low")), "energy"),
        (frame(swap=("charge=0", "charge=0.5")), "charge"),
        (frame(swap=("forces:R:3", "forces:R:2")), "fields"),
        (frame(swap=("forces:R:3", "forces:R:2:q:R:1")), "forces have shape"),
        (frame(swap=("forces:R:3", "forces:Q:3")), "cannot be read"),
    ],
)
def test_a_bad_frame_costs_itself(tmp_path: Path, broken: str, reason: str) -> None:
    path = write(tmp_path / "a.xyz", WATER + broken + WATER + WATER)
    good, bad = both(path)
    after = 6 + broken.count("\n")
    assert [row.line for row in good] == [1, after, after + 5]
    assert list(bad) == [6]
    assert reason in bad[6]
    for row in good:
        assert row.properties["energy"] == -76.5
        np.testing.assert_array_equal(row.properties["forces"][0], [0.1, 0.2, 0.3])
    assert len(Structures.from_frames(good, str(path))) == 3


def test_frames_cut_short_and_of_plain_xyz(tmp_path: Path) -> None:
    plain = "2\n2\nH 0 0 0\nh 0 0 0.74 extra\n"
    path = write(tmp_path / "a.xyz.gz", (plain + "\n" + plain + WATER.rsplit("\n", 2)[0]).replace("\n", "\r\n"))
    good, bad = both(path)
    assert [row.line for row in good] == [1, 6]
    assert bad == {10: "cut short: 2 of 3 atom lines"}
    wrong = write(tmp_path / "b.xyz", plain.replace("2\n2", "4\n2", 1) + plain)
    assert [row.line for row in both(wrong)[0]] == [5]


def test_frames_as_ase_writes_them(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5, forces=np.ones((3, 3)))
    atoms.info |= {"spin": 0, "source": "a b"}
    ase_write(tmp_path / "a.extxyz", [atoms, atoms], format="extxyz")
    upper = (tmp_path / "a.extxyz").read_text().replace("energy=", "Energy=").replace("forces:", "Forces:")
    for path in (tmp_path / "a.extxyz", write(tmp_path / "b.xyz", upper)):
        rows = list(read(path))
        assert [row.properties["energy"] for row in rows] == [-1.5, -1.5]
        np.testing.assert_array_equal(rows[1].properties["forces"], np.ones((3, 3)))
        assert rows[0].properties["source"] == "a b"
        assert "pbc" not in rows[0].properties


def test_a_cell_is_told(tmp_path: Path) -> None:
    text = WATER.replace("energy", 'Lattice="9 0 0 0 9 0 0 0 9" pbc="T T F" energy')
    row = next(read(write(tmp_path / "a.xyz", text)))
    assert row.properties["pbc"].tolist() == [True, True, False]
    write_extxyz(tmp_path / "b.xyz", [row])
    again = next(read(tmp_path / "b.xyz"))
    np.testing.assert_array_equal(again.properties["cell"], row.properties["cell"])
    assert again.properties["pbc"].tolist() == [True, True, False]


def test_an_ase_database_with_a_bad_row(tmp_path: Path) -> None:
    rows = geometries()
    rows[1].properties["energy"] = np.inf
    write_ase_db(tmp_path / "a.db", rows)
    good, bad = both(tmp_path / "a.db")
    assert [row.line for row in good] == [1, 3]
    assert "energy" in bad[2]


def test_parquet_corpus(tmp_path: Path) -> None:
    path = tmp_path / "a.pq"
    raw = pa.array([b"CC", b"C\xff", None, b"", b"C(", b"CN", b"CO"])
    smiles = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    gap = [1.0, 1.0, 1.0, 1.0, 1.0, math.inf, 4.0]
    pq.write_table(pa.table({"smiles": smiles, "gap": gap}), path, row_group_size=2)
    good, bad = both(path, columns=["gap"])
    assert [(r.line, r.smiles, r.properties) for r in good] == [(1, "CC", {"gap": 1.0}), (7, "CO", {"gap": 4.0})]
    assert bad[2] == "not UTF-8 text"
    assert set(bad) == {2, 3, 4, 5, 6}
    assert [n for c in iter_smiles_chunks(path, 10) for n in c.lines] == [1, 5, 6, 7]


@pytest.mark.parametrize("kind", [".smi.gz", ".csv.gz", ".xyz.gz", ".sdf.gz"])
@pytest.mark.parametrize("quote", [False, True])
def test_truncated_gzip(tmp_path: Path, kind: str, quote: bool) -> None:
    rng = np.random.default_rng(1)
    names = [f"{n:x}" for n in rng.integers(0, 1 << 62, 400)]
    contents = {
        ".smi.gz": "".join(f"CCO {name}\n" for name in names),
        ".csv.gz": "smiles,name\n"
        + "".join("CCO," + '"' * quote + f"{name}\n" for name in names[:1])
        + "".join(f"CCO,{name}\n" for name in names),
        ".xyz.gz": "".join(WATER.replace("charge", f"id={name} charge") for name in names),
        ".sdf.gz": "".join(f"{block('CCO')}> <id>\n{name}\n\n$$$$\n" for name in names[:50]),
    }
    whole = gzip.compress(contents[kind].encode())
    path = tmp_path / f"a{kind}"
    path.write_bytes(whole[: len(whole) // 2])
    good: list[Row] = []
    with pytest.raises(InputError, match=r"a\..*\.gz, line \d+: cannot be read further") as caught:
        good.extend(read(path))
    assert len(good) > 10
    assert caught.value.where is not None
    assert int(caught.value.where.rsplit(" ", 1)[1]) > good[-1].line
    chunks: list[SmilesChunk] = []
    with pytest.raises(InputError, match="cannot be read further"):
        chunks.extend(iter_smiles_chunks(path, 7))
    assert sum(len(chunk.smiles) for chunk in chunks) == (0 if kind == ".xyz.gz" else len(good))


def test_files_that_cannot_be_read_at_all(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "smiles,gap,gap\nC,1,2\n")
    for act, message in (
        (lambda: read(tmp_path / "no.csv"), "no such file"),
        (lambda: read(write(tmp_path / "a.doc", "C")), "cannot tell the kind"),
        (lambda: read(write(tmp_path / "b.csv", "")), "empty"),
        (lambda: read(write(tmp_path / "b.smi.gz", "\n\n")), "empty"),
        (lambda: read(write(tmp_path / "b.sdf", "\n\n")), "empty"),
        (lambda: read(write(tmp_path / "b.xyz", " \n")), "empty"),
        (lambda: read(table, smiles_column="SMILES"), "no column 'SMILES'"),
        (lambda: read(table, columns=["mu"]), "no column 'mu'"),
        (lambda: read(table, columns=["gap"]), "2 columns are named"),
        (lambda: read(write(tmp_path / "c.csv", 'smiles,"gap\n')), "header"),
        (lambda: read(write(tmp_path / "c.parquet", "C")), "Parquet"),
        (lambda: read(write(tmp_path / "c.db", "not a database at all" * 100)), "ASE database"),
        (lambda: iter_smiles_chunks(table, 5, smiles_column="s"), "no column 's'"),
        (lambda: iter_smiles_chunks(table, 0), "at least one"),
        (lambda: write_csv(tmp_path / "x.smi", {}), "Use one of"),
        (lambda: write_csv(tmp_path / "x.csv", {"a": [1], "b": []}), "lengths"),
        (lambda: write_extxyz(tmp_path / "x.xyz", [Row(1, "C")]), "no geometry"),
        (lambda: write_sdf(tmp_path / "x.sdf", [Row(1, None)]), "no geometry"),
    ):
        with pytest.raises(InputError, match=message):
            list(act() or ())  # type: ignore[no-untyped-call]


def test_without_a_log_bad_rows_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert [row.smiles for row in read(write(tmp_path / "a.smi", "C(\nC\n"))] == ["C"]
    assert "line 1: not a SMILES" in caplog.text
