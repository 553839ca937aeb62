"""Prunes a mixture: distils several experts into one, and takes it only if every old test stays within a tolerance.

The student learns the answers of the experts, not labels: on the frames that they learned from and on displaced copies
of these, which cost a prediction each (distillation, after Hinton et al. 2015, arXiv:1503.02531). Half of the test
frames of each expert calibrate the intervals of the student; the other half decides. The mixture that is read is never
changed; the smaller one is written to another directory.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.plain import to_plain
from data.spec import content_hash
from data.structures.structures import Structures
from experiments.application.run_directory import configuration_checked
from experiments.experts.growing import ERRORS
from experiments.experts.members import Members
from surrogates.learning.fit_note import note_fit
from surrogates.learning.loop import TrainConfig
from surrogates.learning.resuming import record_training_data
from surrogates.mixture.fit import fit_mixture_surrogate
from surrogates.mixture.memory import Memory
from surrogates.potentials.calibration import calibrate_intervals
from surrogates.potentials.facts import PotentialConfig
from surrogates.potentials.fit import fit_potential_surrogate
from surrogates.potentials.scores import score
from surrogates.potentials.training_frames import fingerprint

#: Atoms of a displaced copy are not closer than this to each other, Angstrom.
CLOSEST = 0.6


@dataclass(frozen=True)
class PruneConfig:
    """How a mixture is pruned.

    Attributes:
        tolerance: largest relative growth of any error on the tests of any expert that is replaced.
        experts: names of the experts to replace by one; empty for all.
        name: name of the one that replaces them.
        copies: number of displaced copies of each frame that the student learns from.
        shake_angstrom: standard deviation of a displaced coordinate, Angstrom.
        valid: share of the frames that chooses the best weights.
        seed: seed of displacements and parts.
    """

    tolerance: float = 0.1
    experts: list[str] = field(default_factory=list)
    name: str = "union"
    copies: int = 1
    shake_angstrom: float = 0.03
    valid: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tolerance <= 0 or self.copies < 0 or self.shake_angstrom < 0 or self.seed < 0:
            raise ValueError("tolerance must be above 0, and copies, shake_angstrom and seed 0 or more")
        if not 0 < self.valid < 1:
            raise ValueError(f"valid must lie between 0 and 1, got {self.valid}")


@dataclass(frozen=True)
class Pruned:
    """The outcome.

    Attributes:
        members: the smaller mixture with its frames; None if an error grew by more than the tolerance.
        metrics: scores before and after, growth, sizes, loads and costs.
    """

    members: Members | None
    metrics: dict[str, float]


def prune(
    members: Members, config: PruneConfig, network: PotentialConfig | None, training: TrainConfig, run_dir: Path
) -> Pruned:
    """Distil the chosen experts into one, and test it.

    Args:
        members: the mixture and its frames.
        config: how it is pruned.
        network: settings of the student; None for those of the largest of the chosen experts.
        training: training recipe of the student.
        run_dir: receives checkpoints; a training that was stopped in it resumes.

    Raises:
        InputError: an expert is unknown or has no test frames, or there are fewer than two.
    """
    mixture = members.mixture
    chosen = refuse_unfit(members, config)
    facts = dict(zip(mixture.names, mixture.facts.experts, strict=True))
    experts = dict(zip(mixture.names, mixture.experts, strict=True))
    largest = max(chosen, key=lambda name: facts[name].parameters)
    settings = network or experts[largest].facts.config
    halves = {name: in_halves(members.memories[name].tests, config.seed) for name in chosen}
    taught = Structures.concatenate([lessons(experts[n], members.memories[n].learned, config) for n in chosen])
    order = np.random.default_rng(config.seed).permutation(len(taught))
    valid = max(1, round(config.valid * len(taught)))
    train_rows, valid_rows = np.sort(order[valid:]), np.sort(order[:valid])
    calibrated = all(experts[n].facts.head.forces is not None for n in chosen)
    calibration = Structures.concatenate([first for first, _ in halves.values()]) if calibrated else None
    identity = {"taught frames": fingerprint(taught), "network": content_hash(to_plain(settings))}
    record_training_data(run_dir, identity | {"mixture": mixture.fingerprint})
    configuration_checked(run_dir)
    student, result = fit_potential_surrogate(
        taught.take(train_rows),
        taught.take(valid_rows),
        settings,
        training,
        run_dir,
        label_fingerprint=content_hash([experts[n].fingerprint for n in chosen]),
    )
    note_fit(result, run_dir)
    student = calibrate_intervals(student, calibration, taught.take(valid_rows))
    metrics = compared(members, {name: second for name, (_, second) in halves.items()}, student)
    kept = {name: experts[name] for name in mixture.names if name not in chosen} | {config.name: student}
    memories = {name: members.memories[name] for name in mixture.names if name not in chosen}
    union = [members.memories[name] for name in chosen]
    memories[config.name] = Memory(
        Structures.concatenate([m.learned for m in union]),
        # The first halves have set the intervals.
        Structures.concatenate([second for _, second in halves.values()]),
    )
    learned = {name: memory.learned for name, memory in memories.items()}
    smaller = fit_mixture_surrogate(kept, learned, mixture.facts.config)
    accepted = metrics["prune/largest_growth"] <= config.tolerance
    metrics |= {
        "prune/accepted": float(accepted),
        "prune/tolerance": config.tolerance,
        "prune/parameters_before": float(mixture.facts.parameters),
        "prune/parameters_after": float(smaller.facts.parameters),
        "prune/experts_before": float(len(mixture.names)),
        "prune/experts_after": float(len(smaller.names)),
        "train/seconds": result.seconds,
        "train/core_seconds": result.core_seconds,
        "train/frames": float(len(train_rows)),
        **members.loads(),
        **redundancy(members),
    }
    return Pruned(Members(smaller.with_facts(scores=metrics), memories) if accepted else None, metrics)


def refuse_unfit(members: Members, config: PruneConfig) -> list[str]:
    """Names of the experts to replace.

    Raises:
        InputError: one is unknown, has no test frames to be compared on, or there are fewer than two; or the name of
            the one that replaces them is taken.
    """
    names = members.mixture.names
    chosen = list(dict.fromkeys(config.experts)) or list(names)
    if unknown := [name for name in chosen if name not in names]:
        raise InputError(f"no expert {unknown[0]}", where="experts", remedy=f"There are {', '.join(names)}")
    if len(chosen) < 2:
        raise InputError(
            f"the mixture has {len(names)} expert{'s' * (len(names) > 1)}, of which {len(chosen)} is chosen: it takes "
            "two to be replaced by one",
            where="experts",
            remedy="Grow it first (understudy grow), or name more",
        )
    if config.name in set(names) - set(chosen):
        raise InputError(f"there is an expert {config.name} that stays", where="name", remedy="Give name=OTHER")
    for name in chosen:
        if len(members.memories[name].tests) < 4:
            raise InputError(
                f"the expert {name} has {len(members.memories[name].tests)} test frames, too few to tell whether "
                "another is as good",
                where="surrogate",
                remedy="Grow the mixture with data.test=[FILE] (the first expert: old.test=[FILE])",
            )
    return chosen


def in_halves(tests: Structures, seed: int) -> tuple[Structures, Structures]:
    """Two random halves of test frames."""
    order = np.random.default_rng(seed).permutation(len(tests))
    half = len(tests) // 2
    return tests.take(np.sort(order[:half])), tests.take(np.sort(order[half:]))


def lessons(expert: Any, learned: Structures, config: PruneConfig) -> Structures:
    """Frames and displaced copies of them, with the answers of an expert as labels."""
    rng = np.random.default_rng(config.seed)
    copies = [learned]
    for _ in range(config.copies):
        moved = learned.positions + config.shake_angstrom * rng.normal(size=learned.positions.shape)
        displaced = replace(learned, positions=moved, _neighbours={})
        copies.append(displaced.take(np.flatnonzero(displaced.shortest_distances() >= CLOSEST)))
    frames = Structures.concatenate(copies)
    answer = expert.predict_structures(frames, error_bars=False)
    energy = answer.energy if expert.facts.head.has_energy else np.full(len(frames), np.nan)
    return replace(frames, energy=energy, forces=answer.forces, stress=np.full_like(frames.stress, np.nan))


def compared(members: Members, tests: dict[str, Structures], student: Any) -> dict[str, float]:
    """Scores of the mixture and of the student on the tests of each expert, and the growth of each error."""
    metrics: dict[str, float] = {}
    growths = []
    for name, frames in tests.items():
        before = score(members.mixture, frames, f"before/{name}", f"tests of {name}")
        after = score(student, frames, f"after/{name}", f"tests of {name}")
        metrics |= before | after
        for error in ERRORS:
            old = before.get(f"before/{name}/{error}", 0.0)
            if old > 0:
                new = after.get(f"after/{name}/{error}", float("inf"))
                metrics[f"growth/{name}/{error.partition('_')[0]}"] = new / old - 1.0
                growths.append(new / old - 1.0)
    if not growths:
        raise InputError("no test frame has a label", where="surrogate", remedy="Grow the mixture with labelled tests")
    return metrics | {"prune/largest_growth": max(growths)}


def redundancy(members: Members) -> dict[str, float]:
    """How well other experts answer the tests of each, as errors of forces over those of its own.

    `redundancy/<expert>/<other>` is 1 where the other is as good; there is none where it has not learned the elements.
    """
    mixture, ratios = members.mixture, {}
    for one, name in enumerate(mixture.names):
        tests = members.memories[name].tests
        labelled = np.isfinite(tests.forces)
        if not labelled.any():
            continue
        eligible: np.ndarray = np.asarray(mixture.eligible(tests).all(axis=0))

        def error(expert: int, tests: Structures = tests, labelled: np.ndarray = labelled) -> float:
            answer = mixture.experts[expert].predict_structures(tests, error_bars=False)
            return float(np.abs(answer.forces - tests.forces)[labelled].mean())

        own_error = max(error(one), 1e-12)
        for other, other_name in enumerate(mixture.names):
            if other != one and eligible[other]:
                ratios[f"redundancy/{name}/{other_name}"] = error(other) / own_error
    return ratios
