"""Reads the directory of a pipeline run: what is there becomes an object, and what is not is named with the reason."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from omegaconf.errors import OmegaConfBaseException

from data.checksums import verify
from data.errors import InputError
from data.formats.cells import plain
from data.json_files import parse_json
from data.plain import entry, from_plain
from experiments.application.renamed import RESULTS, present_config
from experiments.application.yaml_files import read_yaml
from experiments.pages.pipeline_run import (
    OTHERS,
    CostRow,
    CurvePoint,
    HeldOutPredictions,
    PipelineRun,
    RecheckedMolecules,
    StageFailures,
    Target,
    TargetPredictions,
)
from experiments.screening.ledger import result_parts, verified_rejects
from experiments.screening.objective import Objective

T = TypeVar("T")
#: Their sums are in a ledger, which their readers compare.
VERIFIED_BY_THEIR_READERS = frozenset({"screen/rejects.csv"})

#: Long names and units that the project gives its outputs; a run's own files come first.
OUTPUTS: Mapping[str, tuple[str, str]] = {
    "energy": ("Energy", "eV"),
    "homo": ("HOMO energy", "eV"),
    "lumo": ("LUMO energy", "eV"),
    "gap": ("HOMO-LUMO gap", "eV"),
    "dipole_moment": ("Dipole moment", "Debye"),
}
#: What reading a missing, truncated or foreign file can raise.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, pa.ArrowException, OmegaConfBaseException, InputError)


class RunReader:
    """Reads the files of one run; what cannot be read is noted in `absent` instead of raising."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.absent: dict[str, str] = {}

    def read(self, name: str, read: Callable[[Path], T], default: T) -> T:
        """`read(path / name)`, or `default` with the reason noted."""
        path = self.path / name
        if not path.exists():
            self.absent[name] = "the file is not there: the stage that writes it has not run"
            return default
        try:
            if path.is_file() and name not in VERIFIED_BY_THEIR_READERS:
                verify(path, remedy="Run the stage that writes it again")
            return read(path)
        except UNREADABLE as error:
            text = " ".join(str(error).split()) or type(error).__name__
            self.absent[name] = f"it cannot be read ({type(error).__name__}: {text[:200]})"
            return default


def load_run(path: Path) -> PipelineRun:
    """Everything that a run directory holds.

    Raises:
        InputError: there is no such directory, or it holds none of a run's files.
    """
    if not path.is_dir():
        raise InputError("no such run directory", where=str(path), remedy="Give the run.dir of a pipeline run")
    reader = RunReader(path)
    nothing: dict[str, Any] = {}
    unmeasured: dict[str, float] = {}
    no_points: tuple[CurvePoint, ...] = ()
    no_costs: tuple[CostRow, ...] = ()
    config = reader.read("config.yaml", _config, nothing)
    metrics = reader.read("metrics.json", _metrics, unmeasured)
    curve = reader.read("learning_curve.json", _curve, no_points)
    costs = reader.read("costs.json", _costs, no_costs)
    frame = reader.read("evaluation.parquet", pd.read_parquet, pd.DataFrame())
    checked = reader.read("recheck.parquet", pd.read_parquet, pd.DataFrame())
    nowhere: tuple[Path, ...] = ()
    results = (path / "screen" / "results").is_dir()
    parts = reader.read("screen/results", lambda p: tuple(result_parts(p.parent)), nowhere) if results else nowhere
    if not parts:
        reader.absent.setdefault("screen/results", "there are no Parquet parts: the screen has not run")
    if not (config or metrics or len(frame) or parts or costs):
        raise InputError(
            "this is not a run directory: it has no config.yaml, metrics.json, evaluation.parquet or screen/",
            where=str(path),
            remedy="Give the run.dir of a pipeline run",
        )
    objective = _objective(config, reader)
    targets = _targets(config, metrics, curve, frame, objective)
    names = [t.name for t in targets]
    evaluation = reader.read("evaluation.parquet", lambda _: _evaluation(frame, names), None) if len(frame) else None
    recheck = reader.read("recheck.parquet", lambda _: _recheck(checked, names), None) if len(checked) else None
    labels = {}
    for name in ("cheap", "expensive"):
        old = [f"labels/{o}.zarr" for o, new in RESULTS.items() if new == name and (path / f"labels/{o}.zarr").exists()]
        failures = reader.read(old[0] if old else f"labels/{name}.zarr", _store_failures, None)
        if failures is not None:
            labels[name] = failures
    rejects = reader.read("screen/rejects.csv", _rejects, None)
    return PipelineRun(
        path,
        metrics,
        config,
        targets,
        objective,
        evaluation,
        recheck,
        curve,
        costs,
        parts,
        rejects,
        labels,
        dict(reader.absent),
    )


def _config(path: Path) -> dict[str, Any]:
    return present_config(read_yaml(path, remedy="Restore it from a copy"))


def _metrics(path: Path) -> dict[str, float]:
    value = parse_json(path.read_bytes())
    if not isinstance(value, dict):
        raise ValueError("expected an object of numbers")
    numbers = {k: float(v) for k, v in value.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {_present_name(k): v for k, v in numbers.items() if math.isfinite(v)}


def _present_name(name: str) -> str:
    """A name of a metric or of a stage as it is now."""
    for old, new in RESULTS.items():
        name = re.sub(rf"\b{old}(?=\b|_)", new, name)
    return name


def _curve(path: Path) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(
            entry(row, "method", str), entry(row, "target", str), entry(row, "labels", int), entry(row, "mae", float),
            entry(row, "unit", str), entry(row, "seconds", float),
        )
        for row in from_plain(list[dict[str, Any]], parse_json(path.read_bytes()))
    )  # fmt: skip


def _costs(path: Path) -> tuple[CostRow, ...]:
    return tuple(
        CostRow(
            _present_name(entry(row, "stage", str)), entry(row, "items", int), entry(row, "item", str),
            entry(row, "wall_seconds", float), entry(row, "core_seconds", float),
        )
        for row in from_plain(list[dict[str, Any]], parse_json(path.read_bytes()))
    )  # fmt: skip


def _objective(config: Mapping[str, Any], reader: RunReader) -> Objective | None:
    node = config.get("objective")
    if not isinstance(node, dict):
        reader.absent["config.yaml: objective"] = "the configuration does not say what was sought"
        return None
    try:
        windows = {str(k): [float(v) for v in w] for k, w in (node.get("windows") or {}).items()}
        hit = node.get("hit")
        return Objective(
            maximize=node.get("maximize"),
            minimize=node.get("minimize"),
            windows=windows,
            hit=None if hit is None else float(hit),
            kappa=float(node.get("kappa") or 0.0),
            confident=bool(node.get("confident", False)),
            require_domain=bool(node.get("require_domain", True)),
        )
    except (ValueError, TypeError) as error:
        reader.absent["config.yaml: objective"] = f"it cannot be understood ({error})"
        return None


def _targets(
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    curve: Sequence[CurvePoint],
    frame: pd.DataFrame,
    objective: Objective | None,
) -> tuple[Target, ...]:
    """Names from the configuration, else from what was predicted; units from the curve, else as known."""
    configured = config.get("targets")
    names = [str(t) for t in configured] if isinstance(configured, list) else []
    names = names or [c.removesuffix("_pred") for c in map(str, frame.columns) if c.endswith("_pred")]
    names = names or list(
        dict.fromkeys(k.split("/")[1] for k in metrics if k.startswith("evaluate/") and k.count("/") > 2)
    )
    units = {point.target: point.unit for point in curve}
    targets = []
    for name in names:
        label, unit = OUTPUTS.get(name, (name.replace("_", " ").capitalize(), ""))
        targets.append(Target(name, label, units.get(name, unit)))
    pushed = objective.target(names) if objective and names else None
    return tuple(sorted(targets, key=lambda t: t.name != pushed))


def _predictions(frame: pd.DataFrame, target: str) -> TargetPredictions:
    def column(name: str) -> np.ndarray:
        return frame[name].to_numpy(dtype=np.float64, na_value=np.nan)

    return TargetPredictions(
        column(target),
        column(f"{target}_pred"),
        column(f"{target}_std"),
        column(f"{target}_low"),
        column(f"{target}_high"),
        column(f"{target}_cheap") if f"{target}_cheap" in frame else None,
        {name: column(f"{target}_{name}") for name in OTHERS if f"{target}_{name}" in frame},
    )


def _evaluation(frame: pd.DataFrame, names: Sequence[str]) -> HeldOutPredictions | None:
    part = frame["part"].astype(str).to_numpy()
    smiles = tuple(frame["smiles"].astype(str))
    return HeldOutPredictions(smiles, part, {name: _predictions(frame, name) for name in names})


def _recheck(frame: pd.DataFrame, names: Sequence[str]) -> RecheckedMolecules | None:
    return RecheckedMolecules(
        tuple(frame["smiles"].astype(str)),
        frame["group"].astype(str).to_numpy(),
        frame["rank"].to_numpy(dtype=np.int64),
        frame["hit"].to_numpy(dtype=bool),
        frame["status"].astype(str).to_numpy(),
        tuple(frame["message"].fillna("").astype(str)),
        frame["seconds"].to_numpy(dtype=np.float64, na_value=np.nan),
        {name: _predictions(frame, name) for name in names},
    )


def _rejects(path: Path, examples: int = 8) -> StageFailures | None:
    """Counted line by line, so that a file of any size is read in little memory."""
    reasons: Counter[str] = Counter()
    shown: dict[str, tuple[str, str, str]] = {}
    with verified_rejects(path.parent).open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames is not None and "reason" not in rows.fieldnames:
            raise ValueError(f"expected a column 'reason', found {rows.fieldnames}")
        for row in rows:
            reason = str(row.get("reason") or "no reason given")
            kind = reason.split(":")[0].strip()[:80]
            reasons[kind] += 1
            if kind not in shown and len(shown) < examples:
                shown[kind] = (f"line {row.get('line')}: {plain(str(row.get('text')))}", kind, reason)
    return StageFailures(None, dict(reasons.most_common()), tuple(shown.values()))


def _store_failures(path: Path, examples: int = 6) -> StageFailures | None:
    """Outcome of a campaign from its store: how many succeeded, and why the others did not."""
    from data.store.records import RecordStore

    with RecordStore.open(path) as store:
        status, message, smiles = ([str(v) for v in store.column(name)] for name in ("status", "message", "smiles"))
    reasons = Counter(s for s in status if s != "ok")
    shown = [(x, s, m) for x, s, m in zip(smiles, status, message, strict=True) if s != "ok"]
    return StageFailures(sum(s == "ok" for s in status), dict(reasons.most_common()), tuple(shown[:examples]))
