"""Fine-tunes a trained potential: its settings, the head of the new labels, and the replay of old labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from data.errors import InputError
from data.plain import from_plain, to_plain, within
from data.reading_summary import Reading
from data.rejects import Rejects
from data.settings import existing_file
from data.structures.frame_names import FrameKeys
from data.structures.structures import Structures
from surrogates.potentials.facts import PotentialConfig
from surrogates.potentials.fit import MAIN, FineTuning
from surrogates.potentials.structure_reading import read_structures
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.saved import card_errors, read_card, surrogate_directory

#: Seed of the choice of replayed frames.
REPLAY_SEED = 0


@dataclass(frozen=True)
class TuneConfig:
    """The keys of `tune`.

    Attributes:
        surrogate: directory of the trained potential; None to start from fresh weights.
        head: name of the head that learns the new labels.
        replay: old head -> file of frames with labels of that head, which are trained on beside the new ones.
        replay_frames: number of them that are drawn at random from each file; None for all.
        frozen_body: whether only the new head is trained.
        new_elements: whether the new labels may have elements that no head has learned, for which the weights are
            still the initial ones.

    Raises:
        ValueError: the number of frames is below 1.
    """

    surrogate: str | None = None
    head: str = MAIN
    replay: dict[str, str] = field(default_factory=dict)
    replay_frames: int | None = None
    frozen_body: bool = False
    new_elements: bool = False

    def __post_init__(self) -> None:
        if self.replay_frames is not None and self.replay_frames < 1:
            raise ValueError(f"replay_frames must be 1 or more, or null for all, got {self.replay_frames}")


def fine_tuning(
    config: TuneConfig,
    rejects: Rejects | None,
    keys: FrameKeys | None = None,
    readings: list[Reading] | None = None,
) -> FineTuning | None:
    """The trained potential and the frames to replay; None for fresh weights.

    Args:
        config: see `TuneConfig`.
        rejects: receives the replayed frames that cannot be used.
        keys: names of the entries of replayed frames that hold labels.
        readings: receives what was read.

    Raises:
        InputError: a file is missing, a head is unknown, or options contradict each other.
    """
    if config.surrogate is None:
        if config.replay or config.frozen_body:
            raise InputError(
                "there is nothing to replay or freeze without a trained potential",
                where="tune.surrogate",
                remedy="Give tune.surrogate=DIR",
            )
        return None
    potential = PotentialSurrogate.load(surrogate_directory(config.surrogate, "tune.surrogate"))
    heads = list(potential.facts.heads)
    if config.frozen_body and config.head in heads:
        raise InputError(
            f"head {config.head!r} is there already, and with a frozen body it would be all that changes",
            where="tune.head",
            remedy="Give a new head's name",
        )
    parts: list[Structures] = []
    for name, file in config.replay.items():
        if name not in heads:
            raise InputError(f"no head {name!r}", where="tune.replay", remedy=f"There are {', '.join(heads)}")
        frames = read_structures(existing_file(file, f"tune.replay.{name}"), rejects, keys, readings=readings)
        rows = np.flatnonzero(~frames.alone())
        if config.replay_frames is not None and config.replay_frames < len(rows):
            rows = np.sort(np.random.default_rng(REPLAY_SEED).choice(rows, config.replay_frames, replace=False))
        parts.append(frames.take(rows).with_head(heads.index(name)))
    return FineTuning(potential, Structures.concatenate(parts) if parts else None, config.frozen_body)


def refuse_unlearned_elements(config: TuneConfig, tuning: FineTuning | None, frames: Structures, where: str) -> None:
    """Refuse labels with elements that the potential to continue from has not learned under any head.

    Args:
        config: see `TuneConfig`.
        tuning: what `fine_tuning` returned.
        frames: frames with the new labels.
        where: their files.

    Raises:
        InputError: there are such elements, and `new_elements` is not set.
    """
    if tuning is None or config.new_elements:
        return
    learned = {z for head in tuning.potential.facts.heads.values() for z in head.references.elements}
    new = [chemical_symbols[z] for z in frames.elements if z not in learned]
    if new:
        raise InputError(
            f"it has {', '.join(new)}, and the potential of tune.surrogate has learned "
            f"{', '.join(chemical_symbols[z] for z in sorted(learned))} alone",
            where=where,
            remedy="Give tune.surrogate=null, pre-train with these elements, or let them begin with fresh weights by "
            "tune.new_elements=true",
        )


#: Settings of a potential that its weights fix, besides the network.
FIXED = ("ensemble", "repulsion", "repulsion_reach", "distance_floor", "long_range")


def fixed_by_weights(settings: Mapping[str, Any]) -> dict[str, str]:
    """Keys of `model` whose values contradict the weights of `tune.surrogate`, with the reason.

    Args:
        settings: plain mappings `model` and `tune` of a training.

    Raises:
        InputError: there is no surrogate.
    """
    directory = surrogate_directory(settings["tune"]["surrogate"], "tune.surrogate")
    card = read_card(directory)
    if card["kind"] != "potentials":
        # Loading the surrogate reports this error.
        return {}
    with card_errors(directory), within("facts.config"):
        facts = from_plain(dict[str, Any], card.get("facts"))
        old = to_plain(from_plain(PotentialConfig, facts.get("config")))
    new = settings["model"]
    why = "the weights of tune.surrogate hold {}, which stays"
    changed = {
        k: why.format(f"{k}={old[k]}") for k in FIXED if new.get(k) is not None and k in old and new[k] != old[k]
    }
    unused = {f"model.{name}": text for name, text in changed.items()}
    network, old_network = new["network"], old["network"]
    if network.get("architecture") != old_network["architecture"]:
        unused["model.network"] = unused["model="] = why.format(f"a network {old_network['architecture']}")
    else:
        different = [k for k, v in network.items() if k in old_network and old_network[k] != v]
        unused |= {f"model.network.{k}": why.format(f"{k}={old_network[k]}") for k in different}
        if "ensemble" in changed:
            unused["model="] = changed["ensemble"]
    return unused


def continued_config(config: PotentialConfig, potential: PotentialSurrogate) -> PotentialConfig:
    """The settings with those that the trained weights fix: network, ensemble and pair terms."""
    old = potential.facts.config
    return replace(
        config,
        network=old.network,
        ensemble=old.ensemble,
        repulsion=old.repulsion,
        repulsion_reach=old.repulsion_reach,
        distance_floor=old.distance_floor,
        long_range=old.long_range,
    )
