"""Screening designs: the best of any number of rows, however the run was stopped, and solved at the end."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr

from data.errors import InputError
from data.parameters import ParameterLayout, ParameterTable
from data.spec import SimulationError, Spec, Variable, check, content_hash
from experiments.pages.formatting import number
from experiments.pages.page import write_report
from experiments.screening.candidate_chunks import TextChunk
from experiments.screening.design_recheck import RecheckSettings, recheck_designs
from experiments.screening.designs import designs_drawn, designs_in, parse_designs
from experiments.screening.library_screen import Objective, ScreenConfig, ScreenSummary, screen_library
from simulators.requests import Range
from surrogates.learning.loop import TrainConfig
from surrogates.parameters.calibration import calibrate_intervals
from surrogates.parameters.fit import fit_parameter_surrogate
from surrogates.parameters.network import ParameterConfig
from surrogates.parameters.surrogate import ParameterSurrogate

#: A stand-in with a closed form: drag = (a - 0.3)^2 + b^2, known to 0.01, in a domain where a is 0.1 or more.
SURROGATE = '''
import time
import numpy as np

class Bowl:
    """Answers from the parameters alone, so that every row can be checked by hand."""

    def __init__(self, fingerprint="bowl", delay=0.0):
        self.fingerprint = fingerprint
        self.delay = delay

    def compile(self):
        pass

    def predict_table(self, table):
        time.sleep(self.delay)
        drag = (table[:, 0] - 0.3) ** 2 + table[:, 1] ** 2
        std = np.full(len(table), 0.01)
        return {"drag": drag, "drag_std": std, "drag_low": drag - std, "drag_high": drag + std,
                "in_domain": table[:, 0] >= 0.1}
'''
_namespace: dict[str, Any] = {}
exec(SURROGATE, _namespace)
Bowl = _namespace["Bowl"]
NAMES = ("a", "b_3")
RANGES = {"a": Range(0.0, 1.0), "b_3": Range(0.01, 1.0, log=True)}
OBJECTIVE = Objective(minimize="drag")


def config(**changes: object) -> ScreenConfig:
    """Small chunks and parts, so that few rows make many of them."""
    small = {"workers": 1, "chunk_rows": 100, "part_rows": 500, "top_k": 25, "objective": OBJECTIVE}
    return ScreenConfig(**(small | changes))  # type: ignore[arg-type]


def results(out: Path) -> pd.DataFrame:
    """Every row of the results, in the order of the parts."""
    return pd.concat([pq.read_table(p).to_pandas() for p in sorted((out / "results").glob("*.parquet"))])


def screened(out: Path, count: int = 5000, **changes: object) -> ScreenSummary:
    """A screen of drawn designs."""
    return screen_library(Bowl(), designs_drawn(NAMES, RANGES, count, 3), out, config(**changes), progress=False)


def test_the_best_of_drawn_designs_are_exactly_those_of_a_full_sort(tmp_path: Path) -> None:
    summary = screened(tmp_path)
    assert summary.read == summary.valid == 5000
    rows = results(tmp_path)
    assert rows["line"].tolist() == list(range(1, 5001))
    assert rows["a"].between(0, 1).all()
    # A parameter that is drawn in its logarithm has its median at the geometric mean.
    assert np.log10(rows["b_3"]).median() == pytest.approx(-1.0, abs=0.1)
    drag = (rows["a"] - 0.3) ** 2 + rows["b_3"] ** 2
    np.testing.assert_allclose(rows["prediction"], drag, rtol=1e-6)
    inside = (rows["a"] >= 0.1).to_numpy()
    best = rows[inside].assign(drag=drag[inside].astype(np.float32)).sort_values(["drag", "line"])["line"].tolist()[:25]
    top = pd.read_csv(tmp_path / "top.csv")
    assert top["line"].tolist() == best
    assert list(top.columns[:6]) == ["rank", "line", "a", "b_3", "score", "prediction"]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["screen/designs"] == 5000
    assert metrics["screen/designs_per_second"] > 0
    assert metrics["screen/out_of_domain"] == (~inside).sum()


def test_a_screen_of_designs_has_a_page_of_its_own_that_replaces_nothing_else(tmp_path: Path) -> None:
    screened(tmp_path / "out", 500)
    text = write_report(tmp_path / "out").read_text()
    assert "has not run" not in text
    best = pd.read_csv(tmp_path / "out" / "top.csv").iloc[0]
    assert f"<td>{number(float(best.prediction), 4)}</td>" in text
    assert "none of the best was solved" in text
    assert write_report(tmp_path / "out").read_text() == text
    precious = tmp_path / "precious.html"
    precious.write_text("<html>mine</html>")
    with pytest.raises(InputError, match="is no page of this command"):
        write_report(tmp_path / "out", precious)
    assert precious.read_text() == "<html>mine</html>"


def test_a_design_depends_on_the_seed_and_its_number_alone() -> None:
    whole = designs_drawn(NAMES, RANGES, 10_000, 3).source
    pieces = list(whole.pieces(3000, *whole.start))
    table = np.concatenate([piece.chunk.table for piece in pieces])  # type: ignore[union-attr]
    assert table.shape == (10_000, 2)
    assert len(np.unique(table, axis=0)) == 10_000
    fewer = designs_drawn(NAMES, RANGES, 9000, 3).source
    rest = [piece.chunk.table for piece in fewer.pieces(777, 4090, 4091)]  # type: ignore[union-attr]
    np.testing.assert_array_equal(np.concatenate(rest), table[4090:9000])
    other = designs_drawn(NAMES, RANGES, 10, 4).source
    assert not np.array_equal(next(other.pieces(10, 0, 1)).chunk.table, table[:10])  # type: ignore[union-attr]


KILLED = f"""
import sys
from pathlib import Path
from experiments.screening.library_screen import Objective, ScreenConfig, screen_library
from experiments.screening.designs import designs_drawn
from simulators.requests import Range
{SURROGATE}
ranges = {{"a": Range(0.0, 1.0), "b_3": Range(0.01, 1.0, log=True)}}
how = ScreenConfig(workers=1, chunk_rows=100, part_rows=500, top_k=25, objective=Objective(minimize="drag"))
screen_library(Bowl(delay=0.02), designs_drawn(("a", "b_3"), ranges, 5000, 3), Path(sys.argv[1]), how, progress=False)
"""


def test_a_screen_that_was_killed_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    screened(tmp_path / "whole")
    out = tmp_path / "killed"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(out)], env=environment)
    ledger, deadline = out / "ledger.jsonl", time.monotonic() + 300
    while not ledger.exists() or ledger.read_bytes().count(b"\n") < 2:
        assert process.poll() is None, "the screen ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    summary = screened(out)
    assert 1000 <= summary.resumed < 5000
    pd.testing.assert_frame_equal(results(out), results(tmp_path / "whole"))
    for name in ("top.csv", "rejects.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_range_or_count_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    screened(tmp_path, 200)
    with pytest.raises(InputError, match="another candidates"):
        screened(tmp_path, 300)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "parquet"])
def test_every_kind_of_table_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"b_3": rng.random(1200), "name": [f"n{i}" for i in range(1200)], "a": rng.random(1200)})
    path = tmp_path / f"designs.{kind}"
    if kind == "parquet":
        table.to_parquet(path, row_group_size=250)
    else:
        text = table.to_csv(index=False, sep="\t" if kind == "tsv" else ",")
        path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    library = designs_in(path, NAMES)
    screen_library(Bowl(), library, tmp_path / "out", config(), progress=False)
    rows = results(tmp_path / "out")
    np.testing.assert_array_equal(rows[["a", "b_3"]].to_numpy(), table[["a", "b_3"]].to_numpy())
    assert (rows["line"] - (0 if kind == "parquet" else 1)).tolist() == list(range(1, 1201))
    source = library.source
    pieces = list(source.pieces(100, *source.start))
    for cut in (0, len(pieces) // 2):
        rest = [p.chunk.table for p in source.pieces(100, pieces[cut].end, pieces[cut].line)]  # type: ignore[union-attr]
        expected = [p.chunk.table for p in pieces[cut + 1 :]]  # type: ignore[union-attr]
        np.testing.assert_array_equal(np.concatenate(rest), np.concatenate(expected))


def test_rows_that_are_no_designs_are_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "designs.csv"
    path.write_bytes(
        b'a,b_3,x\n0.2,0.3,one\n0.2,,two\n\n0.2,0.4\n"0.5",0.6,"quoted"\n0.2,inf,y\nx,1,y\n0.7,"1,y\n0.9,1,\xff\n'
    )
    screen_library(Bowl(), designs_in(path, NAMES), tmp_path / "out", config(), progress=False)
    rows = results(tmp_path / "out")
    assert rows["line"].tolist() == [2, 6, 10]
    assert rows["a"].tolist() == [0.2, 0.5, 0.9]
    with open(tmp_path / "out" / "rejects.csv", newline="") as file:
        rejects = [(r["file"], int(r["line"]), r["reason"].split(":")[0]) for r in csv.DictReader(file)]
    assert rejects == [
        ("designs.csv", 3, "b_3 is no finite number"),
        ("designs.csv", 5, "2 fields, but the header has 3"),
        ("designs.csv", 7, "b_3 is no finite number"),
        ("designs.csv", 8, "a is no finite number"),
        ("designs.csv", 9, "malformed quotes"),
    ]


def test_fast_and_careful_reading_agree_wherever_a_bad_row_stands() -> None:
    rows = [f"{i / 7},{i / 3}" for i in range(50)]
    fast = parse_designs(TextChunk("\n".join(rows).encode(), 2, ",", 0, 2), NAMES, (0, 1))
    careful = parse_designs(TextChunk("\n".join([*rows, "bad,1"]).encode(), 2, ",", 0, 2), NAMES, (0, 1))
    np.testing.assert_array_equal(fast.table, careful.table)
    np.testing.assert_array_equal(fast.lines, careful.lines)
    assert [r.line for r in careful.rejects] == [52]


def test_a_parquet_row_that_is_no_number_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"a": [0.2, None, 0.4], "b_3": [0.1, 0.2, np.nan]}), path)
    screen_library(Bowl(), designs_in(path, NAMES), tmp_path / "out", config(), progress=False)
    assert results(tmp_path / "out")["line"].tolist() == [1]
    with open(tmp_path / "out" / "rejects.csv", newline="") as file:
        assert [(r["line"], r["reason"]) for r in csv.DictReader(file)] == [
            ("2", "a is no finite number"),
            ("3", "b_3 is no finite number"),
        ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"a,c\n1,2\n", "no column b_3.*a.*b_3"),
        ("a.smi", b"CC\n", "kind of file"),
        ("a.csv", b"", "empty"),
        ("a.parquet", b"not parquet", "cannot be read as Parquet"),
    ],
)
def test_an_unusable_table_is_refused_with_a_remedy(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        designs_in(path, NAMES)
    assert caught.value.remedy


def test_ranges_and_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="ranges are of a"):
        designs_drawn(NAMES, {"a": Range(0, 1)}, 10, 0)
    with pytest.raises(InputError, match="count must be 1"):
        designs_drawn(NAMES, RANGES, 0, 0)
    with pytest.raises(InputError, match="called score"):
        designs_drawn(("score",), {"score": Range(0, 1)}, 10, 0)


def test_memory_is_that_of_chunks_and_parts(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Watched(Bowl):  # type: ignore[valid-type, misc]
        def predict_table(self, table: np.ndarray) -> dict[str, np.ndarray]:
            sizes.append(len(table))
            return super().predict_table(table)  # type: ignore[no-any-return]

    peaks = []
    # The first rows also fill the pools of the allocators, once.
    for count in (100_000, 500_000):
        library = designs_drawn(NAMES, RANGES, count, 0)
        how = config(chunk_rows=2000, part_rows=10_000)
        peaks.append(screen_library(Watched(), library, tmp_path / str(count), how, progress=False).peak_memory_mb)
    assert max(sizes) <= 2048
    # All of the rows at once would be 500,000 x 11 columns x 8 bytes = 44 MB.
    assert peaks[1] < peaks[0] + 15


SPEC = Spec(
    (Variable("a", (), "1", "float64", "a"), Variable("b", (), "m", "float64", "b")),
    (Variable("drag", (), "1", "float64", "drag"),),
)


@dataclass(frozen=True)
class BowlSolver:
    """The same closed form as a simulator, which fails where a + b is above 1.6."""

    fail_above: float = 1.6
    name: str = "bowl"

    @property
    def spec(self) -> Spec:
        return SPEC

    @property
    def provenance(self) -> dict[str, Any]:
        return {"simulator": self.name, "version": "1", "settings": {"fail_above": self.fail_above}}

    @property
    def fingerprint(self) -> str:
        return content_hash(self.provenance)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        check(inputs, SPEC.inputs)
        a, b = float(inputs["a"]), float(inputs["b"])
        if a + b > self.fail_above:
            raise SimulationError("not_converged", "too far")
        return SPEC.answer({"drag": 1 + (a - 0.3) ** 2 + b**2})


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> ParameterSurrogate:
    layout = ParameterLayout(SPEC.inputs, SPEC.outputs, (), {})
    rng = np.random.default_rng(0)

    def table(count: int) -> ParameterTable:
        values = rng.random((count, 2))
        labels = 1 + (values[:, :1] - 0.3) ** 2 + values[:, 1:] ** 2
        return ParameterTable(layout, values, labels, "ab" * 32, np.full(count, 0.1), {})

    recipe = TrainConfig(epochs=500, learning_rate=1e-2, batch_size=64, ema_decay=0.9, checkpoint_every_s=None)
    config = ParameterConfig(ensemble=2, width=16, layers=2)
    surrogate, _ = fit_parameter_surrogate(
        table(256), None, config, recipe, tmp_path_factory.mktemp("run"), progress=False
    )
    return calibrate_intervals(surrogate, table(60))


def test_the_best_of_a_trained_surrogate_are_solved_and_beat_those_at_random(
    learned: ParameterSurrogate, tmp_path: Path
) -> None:
    library = designs_drawn(learned.columns, {"a": Range(0, 1), "b": Range(0, 1)}, 20_000, 1)
    screen_library(learned, library, tmp_path, config(top_k=10, chunk_rows=8192, part_rows=8192), progress=False)
    how = RecheckSettings(top=10, random=30, workers=1)
    metrics = recheck_designs(learned, BowlSolver(), tmp_path, OBJECTIVE, how, progress=False)
    frame = pd.read_csv(tmp_path / "recheck.csv")
    done = frame[frame["status"] == "ok"]
    np.testing.assert_allclose(done["drag"], 1 + (done["a"] - 0.3) ** 2 + done["b"] ** 2, rtol=1e-12)
    assert (frame["status"] == "not_converged").tolist() == (frame["a"] + frame["b"] > 1.6).tolist()
    best = done[done["group"] == "top"]
    assert len(best) == metrics["recheck/top/solved"] == 10
    assert (best["drag"] < 1.03).all()
    error = (best["drag_pred"] - best["drag"]).abs() / best["drag"]
    assert metrics["recheck/top/drag/relative_error"] == pytest.approx(error.mean())
    assert metrics["recheck/top/drag/relative_error"] < 0.02
    random = done[done["group"] == "random"]["drag"]
    assert metrics["recheck/top/beat_best_random"] == (best["drag"] < random.min()).sum() > 0
    assert metrics["recheck/random/failed"] == (frame["status"] != "ok").sum()
    assert not set(best["line"]) & set(frame[frame["group"] == "random"]["line"])
    again = recheck_designs(learned, BowlSolver(), tmp_path, OBJECTIVE, how, progress=False)
    assert again["recheck/core_seconds"] == 0
    assert again["recheck/top/drag/relative_error"] == metrics["recheck/top/drag/relative_error"]


def test_a_simulator_of_another_question_is_refused(learned: ParameterSurrogate, tmp_path: Path) -> None:
    class Other(BowlSolver):
        @property
        def spec(self) -> Spec:
            return Spec((SPEC.inputs[0],), SPEC.outputs)

    with pytest.raises(InputError, match=r"takes a; the surrogate takes a, b"):
        recheck_designs(learned, Other(), tmp_path, OBJECTIVE, RecheckSettings(), progress=False)
    with pytest.raises(InputError, match="no simulator 'gaussian'"):
        RecheckSettings(simulator="gaussian").build_simulator()
