"""`understudy predict` on tables: every row, in its place, with its columns, whatever is wrong in it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.units import Hartree, kcal, kJ, mol
from predicting import predicted
from saved_files import unpack

from data.errors import InputError
from data.spec import dataset
from experiments.prediction.truth import TruthScores
from surrogates.learning.scores import scores
from surrogates.saved import load_surrogate

MOLECULES = (
    "id,smiles,gap,vendor\n"
    '007,CCO,7.25,"a, b"\n'
    "x1,no molecule,1.0,=1+1\n"
    "x2,CC=O,unknown,c\n"
    "x3,C1CC\n"
    "x4,,3.0,d\n"
    "x5,CCN,6.5,e\n"
)


@pytest.fixture(scope="module")
def saved(once: Callable[[str, Callable[[Path], object]], Path]) -> Callable[[str], Path]:
    """The directory of the saved surrogate of a kind."""
    return lambda kind: once(f"saved-{kind}", lambda place: unpack(f"surrogates/{kind}", place))


def test_every_row_of_a_table_of_molecules_is_answered_or_has_a_reason(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text(MOLECULES)
    surrogate: Any = load_surrogate(saved("properties"))
    arguments = (f"surrogate={saved('properties')}", f"inputs={tmp_path / 'in.csv'}", "workers=1")
    run_dir = predicted(tmp_path / "out.csv", *arguments)
    table = pd.read_csv(tmp_path / "out.csv", dtype={"id": str})
    assert list(table.columns) == [
        "line", "id", "smiles", "vendor", "gap", "gap_std", "gap_low", "gap_high", "gap_true", "in_domain", "reason",
    ]  # fmt: skip
    assert table["line"].tolist() == [2, 3, 4, 5, 6, 7]
    assert table["id"].fillna("").tolist() == ["007", "x1", "x2", "", "x4", "x5"]
    # A spreadsheet would run this cell, which is why it is written with an apostrophe.
    assert table["vendor"].fillna("").tolist() == ["a, b", "'=1+1", "c", "", "d", "e"]
    for _, row in table[table["reason"].isna()].iterrows():
        answer = surrogate.simulate(dataset(surrogate.spec.inputs, {"smiles": row["smiles"]}))
        assert row["gap"] == pytest.approx(float(answer["gap"]), rel=1e-6)
        assert row["gap_std"] == pytest.approx(float(answer["gap_std"]), rel=1e-6)
    lacking = table["reason"].notna()
    assert lacking.tolist() == [False, True, False, True, True, False]
    assert table.loc[lacking, ["gap", "gap_std", "gap_low", "gap_high", "in_domain"]].isna().all(axis=None)
    assert table["gap_true"].fillna(-1).tolist() == [7.25, 1.0, -1, -1, 3.0, 6.5]
    rejects = pd.read_csv(run_dir / "rejects.csv")
    assert rejects["line"].tolist() == [3, 5, 6]
    assert rejects["reason"].tolist() == table.loc[lacking, "reason"].tolist()
    pairs = table[table["gap"].notna() & table["gap_true"].notna()]
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["predict/rows"] == 6
    assert metrics["predict/gap/pairs"] == len(pairs) == 2
    assert metrics["predict/gap/mae_ev"] == pytest.approx((pairs["gap"] - pairs["gap_true"]).abs().mean())
    assert "Predicted against true gap" in (run_dir / "report.html").read_text()
    assert json.loads((run_dir / "columns.json").read_text())["gap_low"] == "eV"
    assert not (run_dir / "parts").exists()
    # Whole, and so not written again; nor over the file of somebody else.
    before = (tmp_path / "out.csv").stat().st_mtime_ns
    predicted(tmp_path / "out.csv", *arguments)
    assert (tmp_path / "out.csv").stat().st_mtime_ns == before
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(InputError, match="is not replaced"):
        predicted(tmp_path / "mine.csv", *arguments)
    with pytest.raises(InputError, match="would replace the input"):
        predicted(tmp_path / "in.csv", *arguments)
    (tmp_path / "in.csv").write_text(MOLECULES.replace("CCN", "CCC"))
    with pytest.raises(InputError, match="predictions for another inputs"):
        predicted(tmp_path / "out.csv", *arguments)


def test_every_kind_of_table_holds_the_same_rows(saved: Callable[[str], Path], tmp_path: Path) -> None:
    frame = pd.DataFrame({"case": ["a", "b", "c"], "speed": [1.0, 20.0, np.nan], "wave_3": 0.5, "wave_4": -0.5})
    frame["measured"] = [3.0, 4.0, 5.0]
    frame.to_parquet(tmp_path / "in.parquet")
    frame.to_csv(tmp_path / "in.csv.gz", index=False)
    tables = []
    for source, suffix in (("in.parquet", "parquet"), ("in.csv.gz", "csv.zst"), ("in.parquet", "tsv.bz2")):
        out = tmp_path / f"{source}.{suffix}"
        predicted(
            out, f"surrogate={saved('parameters')}", f"inputs={tmp_path / source}", "columns=[case]", "target=measured"
        )
        if suffix == "parquet":
            schema = pq.read_schema(out)
            assert schema.field("force_low").metadata == {b"unit": b"N"}
            table = pd.read_parquet(out)
        else:
            packed = None if suffix != "csv.zst" else pa.CompressedInputStream(pa.OSFile(str(out)), "zstd").read()
            table = pd.read_csv(out if packed is None else io.BytesIO(packed), sep="\t" if packed is None else ",")
        tables.append(table.drop(columns=["line", "reason"]))
        assert table["reason"].notna().tolist() == [False, False, True]
    assert tables[0]["case"].tolist() == ["a", "b", "c"]
    assert tables[0]["in_domain"].tolist()[:2] == [True, False]
    surrogate: Any = load_surrogate(saved("parameters"))
    expected = surrogate.predict_table(frame[["speed", "wave_3", "wave_4"]].to_numpy()[:2])
    np.testing.assert_array_equal(tables[0]["force"][:2], expected["force"])
    assert tables[0]["force_true"].tolist() == [3.0, 4.0, 5.0]
    for table in tables[1:]:
        assert list(table.columns) == list(tables[0].columns)
        numbers = tables[0].select_dtypes("number")
        pd.testing.assert_frame_equal(table[numbers.columns].astype(float), numbers.astype(float))


def test_a_file_without_a_molecule_leaves_no_table(saved: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "in.smi").write_text("no molecule\n")
    with pytest.raises(InputError, match=r"none of the 1 rows is a molecule.*rejects\.csv"):
        predicted(
            tmp_path / "out.csv", f"surrogate={saved('properties')}", f"inputs={tmp_path / 'in.smi'}", "workers=1"
        )
    assert not (tmp_path / "out.csv").exists()
    with pytest.raises(InputError, match="cannot tell the kind of table"):
        predicted(tmp_path / "out.xlsx", f"surrogate={saved('properties')}", f"inputs={tmp_path / 'in.smi'}")


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from experiments.prediction.rows import RowQuestion, predict_rows
from experiments.screening.designs import designs_in
from experiments.screening.library_screen import ScreenConfig

class Double:
    fingerprint = "double"
    calls = 0
    def compile(self): pass
    def predict_table(self, table):
        Double.calls += len(table) > 0
        if Double.calls > int(sys.argv[2]):
            os.kill(os.getpid(), 9)
        return {"y": 2 * table[:, 0], "in_domain": table[:, 0] > 0}

def answer(folder):
    library = designs_in(folder / "in.csv", ("x",), columns=["id"], without=())
    question = RowQuestion(library, ("id",), {}, {"y": "m"}, np.zeros((0, 1)))
    how = ScreenConfig(workers=1, chunk_rows=10, part_rows=20, streams=1)
    return predict_rows(Double(), question, folder / "out.csv", folder / "run", how, progress=False)

if __name__ == "__main__":
    (Path(sys.argv[1]) / "run").mkdir(exist_ok=True)
    answer(Path(sys.argv[1]))
"""


def test_a_run_that_was_killed_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,x\n" + "".join(f"r{i},{i if i % 7 else 'bad'}\n" for i in range(200)))
    line = [sys.executable, "-c", KILLED, str(tmp_path), "9"]
    done = subprocess.run(line, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert done.returncode == -9
    assert not (tmp_path / "out.csv").exists()
    assert len((tmp_path / "run" / "parts" / "ledger.jsonl").read_bytes().splitlines()) >= 2
    space: dict[str, Any] = {"__name__": "here"}
    exec(KILLED, space)
    sys_argv, sys.argv = sys.argv, ["", str(tmp_path), "1000"]
    try:
        answers = space["answer"](tmp_path)
    finally:
        sys.argv = sys_argv
    assert answers.summary.resumed >= 40
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["id"].tolist() == [f"r{i}" for i in range(200)]
    assert table["y"].fillna(-1).tolist() == [2 * i if i % 7 else -1 for i in range(200)]
    assert table["reason"].notna().sum() == 29


def test_true_values_in_another_unit_are_doubted() -> None:
    gaps = np.linspace(4.0, 9.0, 40)
    for unit, size in {"Hartree": Hartree, "kcal/mol": kcal / mol, "kJ/mol": kJ / mol, "meV": 1e-3}.items():
        scores = TruthScores("eV")
        scores.add(gaps / size, gaps + 0.1)
        assert scores.doubt.endswith(f"as if the true values were in {unit}")
    alike, few, other = TruthScores("eV"), TruthScores("eV"), TruthScores("Debye")
    alike.add(gaps, gaps + 1.0)
    few.add(gaps[:9] / Hartree, gaps[:9])
    other.add(gaps, 7 * gaps)
    assert not alike.doubt
    assert not few.doubt
    assert other.doubt == "predictions are 7 times as large on average; the true values may be in another unit"


def test_sums_over_batches_are_the_scores_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(100.0, 1.0, 5000)
    value = truth + rng.normal(0.0, 0.3, 5000)
    low, high = value - 0.4, value + 0.4
    value[7] = np.nan
    summed = TruthScores("eV")
    for rows in np.array_split(np.arange(5000), 7):
        summed.add(truth[rows], value[rows], low[rows], high[rows])
    keep = np.isfinite(value)
    whole = scores(truth[keep], value[keep], "eV", low=low[keep], high=high[keep])
    mine = summed.metrics()
    assert mine.pop("pairs") == 4999
    assert mine == pytest.approx({name: whole[name] for name in mine})
    assert set(whole) - set(mine) == {"spearman"}
    equal = TruthScores("eV")
    for _ in range(3):
        equal.add(np.full(70, 7.1), np.zeros(70))
    assert set(equal.metrics()) == {"pairs", "mae_ev", "rmse_ev"}
    assert len(summed.shown) == 2000
    assert abs(summed.shown[:, 0].mean() - truth.mean()) < 0.1
