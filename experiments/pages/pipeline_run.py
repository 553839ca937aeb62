"""The results of a pipeline run as typed objects; `experiments.pages.run_files` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from experiments.screening.objective import Objective
from surrogates.learning.scores import unit_suffix

BASELINES: tuple[str, ...] = ("mean", "cheap_linear", "morgan_ridge", "morgan_forest")
#: The middle rung of the screen, and the baselines.
OTHERS: tuple[str, ...] = ("refined", *BASELINES)
#: Stages that come before the first prediction; the learning curve serves the report alone.
FIXED_STAGES: tuple[str, ...] = ("conformers", "cheap labels", "expensive labels", "pretraining", "fine-tuning")
#: Stages that are spent on the candidates of the run.
SEARCH_STAGES: tuple[str, ...] = ("screening", "ranking", "refinement", "refinement labels", "recheck")


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
class TargetPredictions:
    """Simulated and predicted values of one target; arrays (molecule,) in the target's unit, NaN where unknown.

    Attributes:
        truth: by the expensive simulator.
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

    def take(self, rows: np.ndarray) -> TargetPredictions:
        """The molecules of an index or a mask."""
        return TargetPredictions(
            self.truth[rows],
            self.value[rows],
            self.std[rows],
            self.low[rows],
            self.high[rows],
            None if self.cheap is None else self.cheap[rows],
            {name: values[rows] for name, values in self.baselines.items()},
        )

    @property
    def complete(self) -> Bool[np.ndarray, " molecule"]:
        """Whether truth and prediction are both finite."""
        return np.isfinite(self.truth) & np.isfinite(self.value)

    @property
    def inside(self) -> Bool[np.ndarray, " molecule"]:
        """Whether the interval, ends included, holds the truth; False where the truth is unknown."""
        return (self.low <= self.truth) & (self.truth <= self.high)


@dataclass(frozen=True)
class HeldOutPredictions:
    """`evaluation.parquet`: every molecule with an expensive label and its part of the split."""

    smiles: tuple[str, ...]
    part: np.ndarray
    targets: Mapping[str, TargetPredictions]

    def of(self, target: str, part: str) -> TargetPredictions:
        """One target's molecules of one part, those with finite truth and prediction."""
        predictions = self.targets[target]
        return predictions.take((self.part == part) & predictions.complete)

    def count(self, part: str) -> int:
        """Number of molecules in a part."""
        return int((self.part == part).sum())


@dataclass(frozen=True)
class RecheckedMolecules:
    """`recheck.parquet`: the best candidates ("top") and a uniform sample ("random"), simulated."""

    smiles: tuple[str, ...]
    group: np.ndarray
    rank: np.ndarray
    hit: Bool[np.ndarray, " molecule"]
    status: np.ndarray
    message: tuple[str, ...]
    seconds: Float[np.ndarray, " molecule"]
    targets: Mapping[str, TargetPredictions]

    def rows(self, group: str) -> Bool[np.ndarray, " molecule"]:
        """Mask of the molecules of a group whose simulation succeeded."""
        return (self.group == group) & (self.status == "ok")


@dataclass(frozen=True)
class CurvePoint:
    """One point of the learning curve: test error of a method after so many expensive labels."""

    method: str
    target: str
    labels: int
    mae: float
    unit: str
    seconds: float


@dataclass(frozen=True)
class CostRow:
    """What a stage cost; the same fields as in `costs.json`."""

    stage: str
    items: int
    item: str
    wall_seconds: float
    core_seconds: float


@dataclass(frozen=True)
class StageFailures:
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
class PipelineRun:
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
        labels: outcome of the campaigns "cheap" and "expensive", where their stores can be read.
        absent: file -> why it could not be used.
    """

    path: Path
    metrics: Mapping[str, float]
    config: Mapping[str, Any]
    targets: tuple[Target, ...]
    objective: Objective | None
    evaluation: HeldOutPredictions | None
    recheck: RecheckedMolecules | None
    curve: tuple[CurvePoint, ...]
    costs: tuple[CostRow, ...]
    parts: tuple[Path, ...]
    rejects: StageFailures | None
    labels: Mapping[str, StageFailures]
    absent: Mapping[str, str]

    def metric(self, key: str) -> float | None:
        """A number of `metrics.json`, or None."""
        return self.metrics.get(key)

    def unit_metric(self, target: Target, method: str, name: str) -> tuple[str, float | None]:
        """Key and value of a score whose key ends in the target's unit, such as `mae_ev`."""
        key = f"evaluate/{target.name}/{method}/{name}{unit_suffix(target.unit)}"
        return key, self.metric(key)

    def cost(self, stage: str) -> CostRow | None:
        """The entry of a stage in `costs.json`."""
        return next((c for c in self.costs if c.stage == stage), None)

    def method_name(self, fidelity: str) -> str:
        """Name of the "cheap" or "expensive" method from the configuration, such as "B3LYP/def2-SVP"."""
        simulator = (self.config.get(fidelity) or {}).get("simulator") or {}
        method, basis = simulator.get("method"), simulator.get("basis")
        if not method:
            return f"the {fidelity} simulator"
        if not basis:
            return str(method)
        family, dash, name = str(basis).partition("-")
        pretty = f"def2-{name.upper()}" if dash and family.lower() == "def2" else str(basis)
        return f"{str(method).upper()}/{pretty}"
