"""Going on from a trained potential: which one, under which head, beside which old labels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from data.errors import InputError
from data.frame_names import FrameKeys
from data.reading import Reading
from data.rejects import RejectLog
from data.structures import Structures
from experiments.frames import read_structures
from experiments.stage import existing_file
from surrogates.graph.facts import PotentialConfig
from surrogates.graph.fit_potential import MAIN, FineTuning
from surrogates.graph.potential import Potential


@dataclass(frozen=True)
class TuneConfig:
    """What `tune.*` says.

    Attributes:
        surrogate: directory of the trained potential; None to begin with fresh weights.
        head: the name under which the new labels are learned.
        replay: old head -> file of frames with its labels, learned on beside the new ones.
        frozen_body: train nothing but the new head.
    """

    surrogate: str | None = None
    head: str = MAIN
    replay: dict[str, str] = field(default_factory=dict)
    frozen_body: bool = False


def fine_tuning(
    config: TuneConfig, run_dir: Path, keys: FrameKeys | None = None, readings: list[Reading] | None = None
) -> FineTuning | None:
    """What to go on from; None for fresh weights.

    Args:
        config: see `TuneConfig`.
        run_dir: gets the frames that cannot be replayed.
        keys: which entries of replayed frames are labels.
        readings: gets what was read.

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
    potential = Potential.load(existing_file(config.surrogate, "tune.surrogate"))
    heads = list(potential.facts.heads)
    if config.frozen_body and config.head in heads:
        raise InputError(
            f"head {config.head!r} is there already, and with a frozen body it would be all that changes",
            where="tune.head",
            remedy="Give a new head's name",
        )
    parts: list[Structures] = []
    with RejectLog(run_dir / "rejects_replay.csv") as rejects:
        for name, file in config.replay.items():
            if name not in heads:
                raise InputError(f"no head {name!r}", where="tune.replay", remedy=f"There are {', '.join(heads)}")
            frames = read_structures(existing_file(file, f"tune.replay.{name}"), rejects, keys, readings=readings)
            parts.append(frames.take(np.flatnonzero(~frames.alone())).with_head(heads.index(name)))
    return FineTuning(potential, Structures.concatenate(parts) if parts else None, config.frozen_body)


def continued_config(config: PotentialConfig, potential: Potential) -> PotentialConfig:
    """The settings with what the trained weights fix: network, ensemble and pair terms."""
    old = potential.facts.config
    return replace(
        config,
        network=old.network,
        ensemble=old.ensemble,
        repulsion=old.repulsion,
        long_range=old.long_range,
    )
