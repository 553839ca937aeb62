"""A run directory as typed objects: whatever is there is read, whatever is not is named with the reason."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Bool, Float
from omegaconf.errors import OmegaConfBaseException

from data.cells import plain
from data.checksums import verify
from data.errors import InputError
from experiments.scores import unit_suffix
from experiments.screening_ledger import result_parts, verified_rejects
from experiments.screening_objective import Objective
from experiments.yaml_files import read_yaml

T = TypeVar("T")

#: Long names and units that the project gives its outputs; a run's own files come first.
KNOWN: Mapping[str, tuple[str, str]] = {
    "energy": ("Energy", "eV"),
    "homo": ("HOMO energy", "eV"),
    "lumo": ("LUMO energy", "eV"),
    "gap": ("HOMO-LUMO gap", "eV"),
    "dipole_moment": ("Dipole moment", "Debye"),
}
BASELINES: tuple[str, ...] = ("mean", "cheap_linear", "morgan_ridge", "morgan_forest")
#: Stages that come before the first prediction; the learning curve serves the report alone.
FIXED_STAGES: tuple[str, ...] = ("conformers", "cheap labels", "dear labels", "pretraining", "fine-tuning")
#: What reading a missing, truncated or foreign file can raise.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, pa.ArrowException, OmegaConfBaseException, InputError)


@dataclass(frozen=True)
class Target:
    """A property that the surrogate predicts.

    Attributes:
        name: as in columns and keys.
        label: for axes and tables.
        unit: of every value of it; "" if the run does not say.
    """

    name: str
    label: str
    unit: str

    @property
    def lower(self) -> str:
        """The label within a sentence."""
        return self.label if self.label[:2].isupper() else self.label[:1].lower() + self.label[1:]


@dataclass(frozen=True)
class Predictions:
    """Simulated and predicted values of one target; arrays (molecule,) in the target's unit, NaN where unknown.

    Attributes:
        truth: by the dear simulator.
        value, std, low, high: prediction, its standard deviation, and the ends of its 90% interval.
        cheap: by the cheap simulator.
        baselines: predictions of the baselines.
    """

    truth: Float[np.ndarray, " molecule"]
    value: Float[np.ndarray, " molecule"]
    std: Float[np.ndarray, " molecule"]
    low: Float[np.ndarray, " molecule"]
    high: Float[np.ndarray, " molecule"]
    cheap: Float[np.ndarray, " molecule"] | None = None
    baselines: Mapping[str, Float[np.ndarray, " molecule"]] = field(default_factory=dict)

    def take(self, rows: np.ndarray) -> Predictions:
        """The molecules of an index or a mask."""
        return Predictions(
            self.truth[rows],
            self.value[rows],
            self.std[rows],
            self.low[rows],
            self.high[rows],
            None if self.cheap is None else self.cheap[rows],
            {name: values[rows] for name, values in self.baselines.items()},
        )

    @property
    def known(self) -> Bool[np.ndarray, " molecule"]:
        """Whether truth and prediction are both finite."""
        return np.isfinite(self.truth) & np.isfinite(self.value)

    @property
    def inside(self) -> Bool[np.ndarray, " molecule"]:
        """Whether the interval, ends included, holds the truth; False where the truth is unknown."""
        return (self.low <= self.truth) & (self.truth <= self.high)


@dataclass(frozen=True)
class Evaluation:
    """`evaluation.parquet`: every molecule with a dear label and its part of the split."""

    smiles: tuple[str, ...]
    part: np.ndarray
    targets: Mapping[str, Predictions]

    def of(self, target: str, part: str) -> Predictions:
        """One target's molecules of one part, those with finite truth and prediction."""
        found = self.targets[target]
        return found.take((self.part == part) & found.known)

    def count(self, part: str) -> int:
        """Number of molecules in a part."""
        return int((self.part == part).sum())


@dataclass(frozen=True)
class Recheck:
    """`recheck.parquet`: the best candidates ("top") and a uniform sample ("random"), simulated."""

    smiles: tuple[str, ...]
    group: np.ndarray
    rank: np.ndarray
    hit: Bool[np.ndarray, " molecule"]
    status: np.ndarray
    message: tuple[str, ...]
    seconds: Float[np.ndarray, " molecule"]
    targets: Mapping[str, Predictions]

    def rows(self, group: str) -> Bool[np.ndarray, " molecule"]:
        """Mask of the molecules of a group whose simulation succeeded."""
        return (self.group == group) & (self.status == "ok")


@dataclass(frozen=True)
class CurvePoint:
    """One point of the learning curve: test error of a method after so many dear labels."""

    method: str
    target: str
    labels: int
    mae: float
    unit: str
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What a stage cost; the same fields as in `costs.json`."""

    stage: str
    items: int
    item: str
    wall_seconds: float
    core_seconds: float


@dataclass(frozen=True)
class Failures:
    """What did not work in a stage.

    Attributes:
        done: how many succeeded; None if the file does not say.
        reasons: how many failed for each reason.
        examples: a few (what, reason, message).
    """

    done: int | None
    reasons: Mapping[str, int]
    examples: tuple[tuple[str, str, str], ...]

    @property
    def failed(self) -> int:
        """Sum over the reasons."""
        return sum(self.reasons.values())


@dataclass(frozen=True)
class Run:
    """A run directory.

    Attributes:
        path: the directory.
        metrics: finite numbers of `metrics.json`.
        config: `config.yaml` as plain values.
        targets: what was predicted, the pushed property of the objective first.
        objective: what was sought; None if the configuration does not say.
        evaluation, recheck, curve, costs: as in the files of these names; None or empty if absent.
        parts: Parquet files of the screen, in order.
        rejects: candidates that could not be read.
        labels: outcome of the campaigns "cheap" and "dear", where their stores can be read.
        absent: file -> why it could not be used.
    """

    path: Path
    metrics: Mapping[str, float]
    config: Mapping[str, Any]
    targets: tuple[Target, ...]
    objective: Objective | None
    evaluation: Evaluation | None
    recheck: Recheck | None
    curve: tuple[CurvePoint, ...]
    costs: tuple[Cost, ...]
    parts: tuple[Path, ...]
    rejects: Failures | None
    labels: Mapping[str, Failures]
    absent: Mapping[str, str]

    def metric(self, key: str) -> float | None:
        """A number of `metrics.json`, or None."""
        return self.metrics.get(key)

    def unit_metric(self, target: Target, method: str, name: str) -> tuple[str, float | None]:
        """Key and value of a score whose key ends in the target's unit, such as `mae_ev`."""
        key = f"evaluate/{target.name}/{method}/{name}{unit_suffix(target.unit)}"
        return key, self.metric(key)

    def cost(self, stage: str) -> Cost | None:
        """The entry of a stage in `costs.json`."""
        return next((c for c in self.costs if c.stage == stage), None)

    def method_name(self, fidelity: str) -> str:
        """Name of the "cheap" or "dear" method from the configuration, such as "B3LYP/def2-SVP"."""
        simulator = (self.config.get(fidelity) or {}).get("simulator") or {}
        method, basis = simulator.get("method"), simulator.get("basis")
        if not method:
            return f"the {fidelity} simulator"
        if not basis:
            return str(method)
        family, dash, name = str(basis).partition("-")
        pretty = f"def2-{name.upper()}" if dash and family.lower() == "def2" else str(basis)
        return f"{str(method).upper()}/{pretty}"


class Reader:
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
            if path.is_file():
                verify(path, remedy="Run the stage that writes it again")
            return read(path)
        except UNREADABLE as error:
            text = " ".join(str(error).split()) or type(error).__name__
            self.absent[name] = f"it cannot be read ({type(error).__name__}: {text[:200]})"
            return default


def load_run(path: Path) -> Run:
    """Everything that a run directory holds.

    Raises:
        InputError: there is no such directory, or it holds none of a run's files.
    """
    if not path.is_dir():
        raise InputError("no such run directory", where=str(path), remedy="Give the run.dir of a pipeline run")
    reader = Reader(path)
    nothing: dict[str, Any] = {}
    unmeasured: dict[str, float] = {}
    no_points: tuple[CurvePoint, ...] = ()
    no_costs: tuple[Cost, ...] = ()
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
    for name in ("cheap", "dear"):
        found = reader.read(f"labels/{name}.zarr", _store_failures, None)
        if found is not None:
            labels[name] = found
    rejects = reader.read("screen/rejects.csv", _rejects, None)
    return Run(
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
    return read_yaml(path, remedy="Restore it from a copy")


def _metrics(path: Path) -> dict[str, float]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError("expected an object of numbers")
    numbers = {k: float(v) for k, v in value.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {k: v for k, v in numbers.items() if math.isfinite(v)}


def _curve(path: Path) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(r["method"], r["target"], int(r["labels"]), float(r["mae"]), r["unit"], float(r["seconds"]))
        for r in json.loads(path.read_text(encoding="utf-8"))
    )


def _costs(path: Path) -> tuple[Cost, ...]:
    return tuple(
        Cost(r["stage"], int(r["items"]), r["item"], float(r["wall_seconds"]), float(r["core_seconds"]))
        for r in json.loads(path.read_text(encoding="utf-8"))
    )


def _objective(config: Mapping[str, Any], reader: Reader) -> Objective | None:
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
    made = []
    for name in names:
        label, unit = KNOWN.get(name, (name.replace("_", " ").capitalize(), ""))
        made.append(Target(name, label, units.get(name, unit)))
    pushed = objective.target(names) if objective and names else None
    return tuple(sorted(made, key=lambda t: t.name != pushed))


def _predictions(frame: pd.DataFrame, target: str) -> Predictions:
    def column(name: str) -> np.ndarray:
        return frame[name].to_numpy(dtype=np.float64, na_value=np.nan)

    return Predictions(
        column(target),
        column(f"{target}_pred"),
        column(f"{target}_std"),
        column(f"{target}_low"),
        column(f"{target}_high"),
        column(f"{target}_cheap") if f"{target}_cheap" in frame else None,
        {name: column(f"{target}_{name}") for name in BASELINES if f"{target}_{name}" in frame},
    )


def _evaluation(frame: pd.DataFrame, names: Sequence[str]) -> Evaluation | None:
    part = frame["part"].astype(str).to_numpy()
    smiles = tuple(frame["smiles"].astype(str))
    return Evaluation(smiles, part, {name: _predictions(frame, name) for name in names})


def _recheck(frame: pd.DataFrame, names: Sequence[str]) -> Recheck | None:
    return Recheck(
        tuple(frame["smiles"].astype(str)),
        frame["group"].astype(str).to_numpy(),
        frame["rank"].to_numpy(dtype=np.int64),
        frame["hit"].to_numpy(dtype=bool),
        frame["status"].astype(str).to_numpy(),
        tuple(frame["message"].fillna("").astype(str)),
        frame["seconds"].to_numpy(dtype=np.float64, na_value=np.nan),
        {name: _predictions(frame, name) for name in names},
    )


def _rejects(path: Path, examples: int = 8) -> Failures | None:
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
    return Failures(None, dict(reasons.most_common()), tuple(shown.values()))


def _store_failures(path: Path, examples: int = 6) -> Failures | None:
    """Outcome of a campaign from its store: how many succeeded, and why the others did not."""
    from data.store import RecordStore

    with RecordStore.open(path) as store:
        status, message, smiles = ([str(v) for v in store.column(name)] for name in ("status", "message", "smiles"))
    reasons = Counter(s for s in status if s != "ok")
    shown = [(x, s, m) for x, s, m in zip(smiles, status, message, strict=True) if s != "ok"]
    return Failures(sum(s == "ok" for s in status), dict(reasons.most_common()), tuple(shown[:examples]))
