"""Small files of runs and their outputs that resuming, pages and Python read again; see `stored_files`.

Each entry of `RESULTS` writes a directory of which one file is broken, and reads all that depends on this file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.faults.own_files import make_library, make_screen, read_library
from benchmarks.faults.small_surrogates import forecasts
from data.claim import MARK, claim, marked_kind
from data.files import write_json
from data.molecules.library import CARD, PreparedLibrary, read_part
from data.plain import to_plain
from data.reading_summary import Reading
from data.spec import Variable
from data.store.creation import BEGUN, clear_begun
from data.store.records import RecordStore
from data.store.store_reader import MANIFEST
from experiments.active.results import curve
from experiments.active.round_rows import read_round, round_line
from experiments.comparison import comparison_page, result
from experiments.comparison.contenders import Point
from experiments.comparison.resolution import GridError
from experiments.pages import accuracy_sections, findings, screen_sections
from experiments.pages.reading_section import reading_table
from experiments.pages.run_files import load_run
from experiments.pages.screen_page import render_screen
from experiments.pipelines.cross_validation import cross_validate
from experiments.screening.library_writing import PROGRESS, Done, resume
from surrogates.forecasts.training_references import NOTE, TrainingReferences
from understudy.stages import Run


@dataclass(frozen=True)
class StoredResult:
    """A file of a directory that is read again.

    Attributes:
        file: its name.
        make: writes the directory.
        read: reads all that depends on the file.
        json: whether it is JSON, of which single values are changed too.
    """

    file: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    json: bool = True


def _claimed(path: Path) -> None:
    with claim(path, "test"):
        pass


#: What the preparation below is of.
ORIGIN = {"file": "a.smi", "bytes": 60}


def _begun_library(path: Path) -> None:
    """A preparation that was killed before its card was written."""
    make_library(path)
    size = (path / "rejects.csv").stat().st_size
    write_json(path / PROGRESS, to_plain(Done(dict(ORIGIN), list(PreparedLibrary.open(path).parts), 9, 60, 9, size)))
    (path / CARD).unlink()


def _resumed_library(path: Path) -> object:
    done = resume(path, dict(ORIGIN))
    return done and [read_part(path, part).text for part in done.parts]


def _comparison(path: Path) -> None:
    path.mkdir(parents=True)
    points = (
        Point("32 points", "solver", 0.2, 1.0, 0.01, 1.0, 4, {1: 1.5, 4: 1.0}, 1.5, 2.0),
        Point("64 points", "solver", 0.05, 8.0, 0.01, 8.1, 4, {4: 8.0}, 9.0, 9.0),
        Point("net", "surrogate", 0.1, 0.1, None, 0.1, 4, {4: 0.1}, 0.2, 3.0, 0, 100.0, 50.0, "", 0.9, 0.8),
    )
    grids = (GridError(32, 0.1, 0.2, True), GridError(64, None, float("inf"), False))
    result.Comparison("Burgers", points, "128 points", 1e-4, 5, 1, resolution=grids).write(path)


def _compared(path: Path) -> object:
    comparison = result.read(path)
    return comparison_page.headline(comparison), [comparison_page.worth(p, comparison) for p in comparison.surrogates]


def _run(path: Path) -> None:
    """The files of a pipeline from which its page is made, without a screen."""
    path.mkdir(parents=True)
    rows = [
        {"method": method, "target": "gap", "labels": n, "mae": error / n, "unit": "eV", "seconds": 1.0 * n}
        for method, error in (("surrogate", 2.0), ("mean", 3.0))
        for n in (10, 20)
    ]
    write_json(path / "learning_curve.json", rows)
    costs = [
        {"stage": stage, "item": "molecule", "items": 40, "wall_seconds": 8.0, "core_seconds": 16.0}
        for stage in ("cheap labels", "expensive labels", "pretraining", "fine-tuning", "screening")
    ]
    write_json(path / "costs.json", costs)
    metrics = {f"evaluate/gap/{method}/mae_ev": 0.1 for method in ("surrogate", "mean")}
    metrics |= {"cost/speedup_per_molecule": 90.0, "screen/molecules": 1000, "funnel/candidates": 1000}
    metrics |= {"funnel/valid": 990, "funnel/in_domain": 900, "labels/expensive/done": 40}
    write_json(path / "metrics.json", metrics)
    rng = np.random.default_rng(0)
    frame: dict[str, Any] = {
        "smiles": ["C" * (1 + i % 9) for i in range(30)],
        "part": ["train", "calibration", "test"] * 10,
    }
    frame["gap"] = rng.normal(6.0, 1.0, 30)
    frame |= {
        f"gap_{name}": frame["gap"] + 0.1 * k for k, name in enumerate(("pred", "low", "high", "cheap", "mean"), 1)
    }
    frame["gap_std"] = np.full(30, 0.1)
    pd.DataFrame(frame).to_parquet(path / "evaluation.parquet")


def _page(*sections: Callable[[Any], str]) -> Callable[[Path], object]:
    """Some sections of the page of a run."""
    return lambda path: [section(load_run(path)) for section in sections]


def _read_files(path: Path) -> None:
    path.mkdir(parents=True)
    reading = Reading("a.csv", "table with comma", "rows", 9, 8, {"gap": "eV"}, {"empty": 1}, {"x": "y"}, ("neutral",))
    write_json(path / "reading.json", [to_plain(reading)])


def _screen(path: Path) -> None:
    make_screen(path)
    (path / "recheck.csv").write_text("smiles,gap,status\nC,1.5,ok\nCC,,timeout\n")
    write_json(path / "metrics.json", {"screen/molecules": 60.0, "screen/core_seconds": 2.5, "recheck/hits_top": 1.0})


def _round(path: Path) -> None:
    path.mkdir(parents=True)
    row = {
        "round": 1, "asked": 18, "failed": 1, "labels": 38, "chosen": 12, "audit": 6, "explored": 900,
        "uncertain_share": 0.25, "lost_share": 0.0, "force_error_mev_per_angstrom": 41.5, "mev_per_uncertainty": 0.5,
        "label_core_seconds": 99.5, "test_forces_mae_mev_per_angstrom": 55.0,
    }  # fmt: skip
    write_json(path / "round.json", row)


def _rounds(path: Path) -> object:
    row = read_round(path / "round.json")
    curve(Figure().subplots(), [row], 30.0)
    return round_line(row)


def _store(path: Path) -> None:
    variables = (Variable("x", (), "m", "float64", "x"),), (Variable("y", ("axis",), "m", "float64", "y"),)
    with RecordStore.create(path, *variables, provenance={"simulator": "none", "fingerprint": "f"}) as store:
        store.append("a", {"x": 1.0, "y": np.zeros(3)}, seconds=1.0)


def _records(path: Path) -> object:
    store = RecordStore.open(path)
    return [store.column(name) for name in (*store.inputs, *store.outputs)]


def _begun_store(path: Path) -> None:
    _store(path)
    (path / "store.json").rename(path / BEGUN)


def _references(path: Path) -> None:
    path.mkdir(parents=True)
    times = np.arange("2001-01-01", "2001-01-05", dtype="datetime64[D]").astype("datetime64[s]")
    parts = {"train": (0, 4), "valid": (4, 6), "test": (6, 9)}
    TrainingReferences(path, "ab" * 32, 9, parts, times, None, None, None, {"climatology": "too large"}).save(path)


class _Folds:
    """A training of two folds."""

    @staticmethod
    def folds(_: None, count: int) -> tuple[list[None], str]:
        """No data, and what identifies it."""
        return [None] * count, "data"


def _scored(*_: Any, **__: Any) -> dict[str, float]:
    return {"test/gap/mae_ev": 0.25, "test/coverage_90": 0.9}


def _validated(path: Path, train_on: Callable[..., dict[str, float]] = _scored) -> dict[str, float]:
    return cross_validate(cast(Any, _Folds), None, 2, path, train_on, progress=False)


def _resumed_validation(path: Path) -> dict[str, float]:
    """All folds are finished, so that none is trained."""

    def never(*_: Any, **__: Any) -> dict[str, float]:
        raise AssertionError("a finished fold is trained again")

    return _validated(path, never)


#: Name -> the file.
RESULTS: Mapping[str, StoredResult] = {
    "library": StoredResult(CARD, make_library, read_library),
    "library_progress": StoredResult(PROGRESS, _begun_library, _resumed_library),
    "claim": StoredResult(MARK, _claimed, marked_kind),
    "comparison": StoredResult(result.FILE, _comparison, _compared),
    "learning_curve": StoredResult("learning_curve.json", _run, _page(accuracy_sections.learning_curve)),
    "costs_page": StoredResult("costs.json", _run, _page(screen_sections.costs)),
    "metrics_page": StoredResult("metrics.json", _run, _page(findings.paragraph, screen_sections.funnel)),
    "evaluation": StoredResult(
        "evaluation.parquet", _run, _page(accuracy_sections.accuracy, accuracy_sections.calibration), json=False
    ),
    "metrics": StoredResult("metrics.json", _run, lambda path: Run("train", path).metrics),
    "reading": StoredResult("reading.json", _read_files, reading_table),
    "screen_settings": StoredResult("screen.json", _screen, render_screen),
    "screen_metrics": StoredResult("metrics.json", _screen, render_screen),
    "top": StoredResult("top.csv", _screen, lambda path: Run("screen", path).top(), json=False),
    "top_page": StoredResult("top.csv", _screen, render_screen, json=False),
    "recheck": StoredResult("recheck.csv", _screen, render_screen, json=False),
    "round": StoredResult("round.json", _round, _rounds),
    "fold_metrics": StoredResult("metrics.json", _validated, _resumed_validation),
    "store_manifest": StoredResult(MANIFEST, _store, _records),
    "store_begun": StoredResult(BEGUN, _begun_store, clear_begun),
    "training_references": StoredResult(
        NOTE, _references, lambda path: TrainingReferences.load(path, forecasts().layout)
    ),
}
