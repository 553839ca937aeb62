"""The keys of `understudy pipeline`, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from data.errors import InputError
from experiments.application.stage import StageSettings
from experiments.screening.hit_selection import Diversity
from experiments.screening.objective import Objective
from simulators.adapter import Simulator
from surrogates.learning.conformal import fewest_points


@dataclass(frozen=True)
class LibrarySize:
    """`library`: number of molecules that are enumerated if no candidates are given."""

    size: int = 1_000_000


@dataclass(frozen=True)
class Cheap:
    """`cheap`: the simulator for pre-training, and the number of its labels."""

    simulator: Any = MISSING
    campaign: Any = MISSING
    count: int = 10_000


@dataclass(frozen=True)
class ExpensiveLabels:
    """`expensive`: the expensive simulator for fine-tuning and testing, and the number of its labels in each part."""

    simulator: Any = MISSING
    campaign: Any = MISSING
    train: int = 60
    calibration: int = 35
    test: int = 45
    curve: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Best:
    """`screen`: number of the best candidates that are kept."""

    top_k: int = 1000


@dataclass(frozen=True)
class Refinement:
    """`refine`: number of the best candidates that the cheap simulator answers, and of further labels among them."""

    top: int = 2000
    labels: int = 30


@dataclass(frozen=True)
class RecheckCounts:
    """`recheck`: number of the best and of random candidates that are simulated."""

    top: int = 20
    random: int = 20


@dataclass(frozen=True)
class PipelineSettings(StageSettings):
    """The keys of `understudy pipeline`, see `conf/pipeline.yaml`.

    Raises:
        ValueError: a number is out of range, or a target is named twice.
    """

    candidates: str | None = None
    smiles: str = "smiles"
    library: LibrarySize = field(default_factory=LibrarySize)
    targets: list[str] = field(default_factory=list)
    seed: int = 0
    workers: int | None = None
    conformers: Any = MISSING
    cheap: Cheap = field(default_factory=Cheap)
    expensive: ExpensiveLabels = field(default_factory=ExpensiveLabels)
    model: Any = MISSING
    pretrain: Any = MISSING
    finetune: Any = MISSING
    objective: Any = MISSING
    screen: Best = field(default_factory=Best)
    filters: tuple[str, ...] = ()
    diversity: Diversity = field(default_factory=Diversity)
    refine: Refinement = field(default_factory=Refinement)
    recheck: RecheckCounts = field(default_factory=RecheckCounts)

    def __post_init__(self) -> None:
        least = {
            "seed": (self.seed, 0),
            "library.size": (self.library.size, 1),
            "cheap.count": (self.cheap.count, 2),
            "expensive.train": (self.expensive.train, 1),
            "expensive.calibration": (self.expensive.calibration, 0),
            "expensive.test": (self.expensive.test, 2),
            "screen.top_k": (self.screen.top_k, 1),
            "refine.top": (self.refine.top, 0),
            "refine.labels": (self.refine.labels, 0),
            "recheck.top": (self.recheck.top, 0),
            "recheck.random": (self.recheck.random, 0),
            "workers": (1 if self.workers is None else self.workers, 1),
            "expensive.curve": (min(self.expensive.curve, default=1), 1),
        }
        for key, (value, bound) in least.items():
            if value < bound:
                raise ValueError(f"{key} must be {bound} or more, got {value}")
        if self.refine.top and self.expensive.train + self.expensive.calibration < fewest_points():
            raise ValueError(
                f"expensive.train and expensive.calibration must be {fewest_points()} or more in all, from which the "
                f"cheap simulator is corrected, or refine.top 0; got "
                f"{self.expensive.train + self.expensive.calibration}"
            )
        if 0 < self.expensive.calibration < fewest_points():
            raise ValueError(
                f"expensive.calibration must be {fewest_points()} or more, which 90% intervals need, or 0 to do "
                f"without calibrated intervals; got {self.expensive.calibration}"
            )
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets must be one name or more, each once; got {self.targets}")


def refuse_unanswerable(targets: list[str], objective: Objective, simulators: Mapping[str, Simulator]) -> None:
    """Check, before anything is computed, that every simulator gives the targets, and that they suit the objective.

    Raises:
        InputError: a simulator does not give a target, or the objective names a quantity that is not a target.
    """
    for fidelity, simulator in simulators.items():
        outputs = {v.name: v for v in simulator.spec.outputs}
        for target in targets:
            if target not in outputs or outputs[target].dims:
                numbers = ", ".join(name for name, v in outputs.items() if not v.dims and v.dtype.startswith("float"))
                raise InputError(
                    f"{simulator.name} gives no scalar named {target!r}",
                    where="targets",
                    remedy=f"It gives {numbers}; {fidelity}.simulator.outputs asks for more",
                )
    missing = objective.missing(targets)
    if missing:
        raise InputError(
            f"the objective names {' and '.join(missing)}, which is not a target",
            where="objective",
            remedy=f"Add it to targets, which are {', '.join(targets)}, or choose another objective",
        )
