"""Grows a mixture: where new data lie outside of its domain, a new expert learns them, and the old ones stay.

The new expert begins, by default, from the weights of the old one that is nearest. With `replay` it learns frames of
that one, with its answers as labels (pseudo-labels), beside the new frames, each under a head of its own, so that the
body does not forget what the old frames taught it (after Robins 1995, doi:10.1080/09540099550039318). What is saved of
it is the head of the new data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from data.errors import InputError
from data.settings import build
from data.structures.structures import Structures
from experiments.application.run_directory import configuration_checked
from experiments.experts.members import Members
from surrogates.learning.fit_note import note_fit
from surrogates.learning.learned_from import Hashes
from surrogates.learning.loop import TrainConfig
from surrogates.learning.resuming import record_training_data
from surrogates.mixture.fit import fit_mixture_surrogate
from surrogates.mixture.memory import Memory, none_of, some_of
from surrogates.mixture.surrogate import MixtureSurrogate
from surrogates.potentials.facts import PotentialConfig
from surrogates.potentials.fit import MAIN, FineTuning
from surrogates.potentials.heads import only_active
from surrogates.potentials.scores import score
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.potentials.task import Frames, PotentialParts, PotentialTask
from surrogates.potentials.training_frames import Files
from surrogates.potentials.tuning import continued_config

#: Errors whose growth on the old frames is reported.
ERRORS = ("energy_mae_mev", "forces_mae_mev_per_angstrom")


@dataclass(frozen=True)
class GrowConfig:
    """How a mixture grows.

    Attributes:
        outside: least share of the new frames that must lie outside of the domain.
        replay: number of frames of the old expert to learn beside the new ones, with its answers as labels.
        memory: how many frames to keep of what an expert learned from, and of its tests.
        seed: seed of the choice of these frames.
    """

    outside: float = 0.1
    replay: int = 0
    memory: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.outside <= 1:
            raise ValueError(f"outside must lie in [0, 1], got {self.outside}")
        if self.replay < 0 or self.memory < 1 or self.seed < 0:
            raise ValueError("replay and seed must be 0 or more, and memory at least 1")


@dataclass(frozen=True)
class NewExpert:
    """The training of the new expert.

    Attributes:
        name: its name.
        files: files of the new data.
        training: training recipe.
        network: settings of its network; None to begin from the weights of the old expert that is nearest.
    """

    name: str
    files: Files
    training: TrainConfig
    network: PotentialConfig | None = None


@dataclass(frozen=True)
class Grown:
    """A mixture with a new expert.

    Attributes:
        members: the mixture with the frames of its experts.
        learned: hashes of the geometries that the new expert learned from.
        metrics: see `grow`.
    """

    members: Members
    learned: Hashes
    metrics: dict[str, float]


def share_outside(mixture: MixtureSurrogate, frames: Structures, least: float, where: str) -> float:
    """The share of frames outside of the domain of a mixture.

    Raises:
        InputError: it is below `least`, so that there is nothing to grow for.
    """
    outside = 1.0 - float(mixture.inside(frames).mean())
    if outside < least:
        shares = mixture.shares(frames)
        nearest = max(shares, key=lambda name: shares[name])
        raise InputError(
            f"{outside:.0%} of the {len(frames):,} frames lie outside of the domain of the mixture, fewer than "
            f"outside={least:g}: nothing is grown",
            where=where,
            remedy=f"Train its expert {nearest} further with them (understudy train tune.surrogate=DIR), "
            "or give a lower outside=",
        )
    return outside


def grow(members: Members, new: NewExpert, data: Frames, config: GrowConfig, run_dir: Path) -> Grown:
    """Train the new expert and save the mixture with it to `run_dir/surrogate`.

    Args:
        members: the mixture so far, with its frames.
        new: the training of the new expert.
        data: the new frames.
        config: how it grows.
        run_dir: receives everything; a training that was stopped in it resumes.

    Returns:
        The grown mixture, hashes of what the new expert learned from, and the metrics: `domain/outside`, `before/...`
        and `after/...` (scores on the test frames of each expert), `growth/<expert>` (the largest relative growth of an
        error of an old one), loads and costs.

    Raises:
        InputError: the new frames lie inside of the domain, or the name is that of an expert.
    """
    mixture = members.mixture
    if new.name in mixture.names:
        raise InputError(f"there is an expert {new.name} already", where="expert", remedy="Give expert=NAME another")
    bound = data.train.take(np.flatnonzero(~data.train.alone()))
    outside = share_outside(mixture, bound, config.outside, "data.train")
    settings, tuning, source = new.network, None, ""
    if settings is None:
        source = nearest_expert(mixture, bound)
        potential: PotentialSurrogate = mixture.experts[mixture.names.index(source)]
        replay = replayed(potential, members.memories[source].learned, config.replay, config.seed)
        tuning, settings = FineTuning(potential, replay), continued_config(potential.facts.config, potential)
    data = replace(data, tuning=tuning)
    task = PotentialTask(new.files, settings, new.training)
    if tuning is not None:
        # A head of a new name begins with references of its own.
        task = replace(task, tune=replace(task.tune, head=_free_head(tuning.potential, new.name)))
    parts = task.split(data, run_dir)
    record_training_data(run_dir, task.identity(parts))
    configuration_checked(run_dir)
    expert, result = task.fit(parts, run_dir)
    note_fit(result, run_dir)
    expert = task.calibrate(expert, parts)
    old_head = {} if tuning is None else _old_head_scores(expert, members, source, tuning.potential.facts.active)
    expert = only_active(expert).with_facts(scores=task.score(expert, parts))
    memories = {**members.memories, new.name: memory_of(parts, config)}
    experts = dict(zip(mixture.names, mixture.experts, strict=True)) | {new.name: expert}
    learned = {name: memory.learned for name, memory in memories.items()}
    grown = Members(fit_mixture_surrogate(experts, learned, mixture.facts.config), memories)
    before, after = members.test_scores("before"), grown.test_scores("after")
    metrics = {
        "domain/outside": outside,
        "train/seconds": result.seconds,
        "train/core_seconds": result.core_seconds,
        "train/frames": float(len(parts.train)),
        "mixture/experts": float(len(experts)),
        "mixture/parameters": float(grown.mixture.facts.parameters),
        **before,
        **after,
        **growth(before, after, mixture.names),
        **old_head,
        **grown.loads(),
    }
    return Grown(replace(grown, mixture=grown.mixture.with_facts(scores=metrics)), parts.learned, metrics)


def nearest_expert(mixture: MixtureSurrogate, frames: Structures) -> str:
    """The expert that has learned most of the elements of frames; of several the one with the most weights."""
    facts = mixture.facts.experts
    best = max(facts, key=lambda e: (len(set(e.elements) & set(frames.elements)), e.parameters))
    return best.name


def replayed(potential: PotentialSurrogate, learned: Structures, count: int, seed: int) -> Structures | None:
    """Frames that a potential has learned from, with its own answers as labels, for the head that gave them."""
    if not count:
        return None
    frames = some_of(learned, count, seed)
    answer = potential.predict_structures(frames, error_bars=False)
    energy = answer.energy if potential.facts.head.has_energy else np.full(len(frames), np.nan)
    labelled = replace(frames, energy=energy, forces=answer.forces, stress=np.full_like(frames.stress, np.nan))
    return labelled.with_head(potential.facts.index)


def memory_of(parts: PotentialParts, config: GrowConfig) -> Memory:
    """The frames to keep of a training."""
    used = [part for part in (parts.train, parts.valid, parts.calibration) if part is not None]
    learned = Structures.concatenate(used)
    learned = learned.take(np.flatnonzero(~learned.alone()))
    tests = list(parts.read.tests.values())
    held_out = Structures.concatenate(tests) if tests else none_of(learned)
    held_out = held_out.take(np.flatnonzero(~held_out.alone()))
    return Memory(some_of(learned, config.memory, config.seed), some_of(held_out, config.memory, config.seed))


def growth(before: dict[str, float], after: dict[str, float], names: tuple[str, ...]) -> dict[str, float]:
    """The largest relative growth of an error on the test frames of each expert, as `growth/<expert>`."""
    grown: dict[str, float] = {}
    for name in names:
        ratios = [
            after[f"after/{name}/{error}"] / before[f"before/{name}/{error}"] - 1.0
            for error in ERRORS
            if before.get(f"before/{name}/{error}", 0.0) > 0 and f"after/{name}/{error}" in after
        ]
        if ratios:
            grown[f"growth/{name}"] = max(ratios)
    return grown


def _old_head_scores(trained: PotentialSurrogate, members: Members, source: str, head: str) -> dict[str, float]:
    """Scores of the old head on the body of the new expert, on the tests of the old expert.

    Nobody is answered by this head, which is not saved. The scores say what one network forgets that is fine-tuned with
    or without replay.
    """
    tests = members.memories[source].tests
    if not len(tests):
        return {}
    return score(trained.with_facts(active=head), tests, f"old_head/{source}", f"tests of {source}")


def _free_head(potential: PotentialSurrogate, name: str) -> str:
    """A name that no head of a potential has."""
    return name if name not in potential.facts.heads else f"{name}_{MAIN}_{len(potential.facts.heads)}"


def potential_settings(model: Any) -> PotentialConfig | None:
    """The settings of the new network; None where none is chosen.

    Raises:
        InputError: the choice is a network of another kind, or a key is unknown.
    """
    if model is None:
        return None
    if model.get("kind") != "potentials":
        raise InputError(
            f"an expert for geometries is a potential, not one of {model.get('kind')}",
            where="model",
            remedy="Choose model=painn or model=ace",
        )
    return PotentialTask.model_settings(model)


def plain(node: Any) -> Any:
    """A part of a configuration as plain values; None where nothing is chosen."""
    return None if node is None else OmegaConf.to_container(node, resolve=True)


def training_recipe(node: Any) -> TrainConfig:
    """The recipe in the group `train` of a stage."""
    return build(TrainConfig, node, where="train")
