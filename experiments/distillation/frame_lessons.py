"""Frames that a teacher is asked about, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from data.errors import InputError
from data.identity import frame_keys
from data.structures.structures import MIN_DISTANCE, Structures
from experiments.distillation.frame_teachers import FrameTeacher
from experiments.distillation.settings import LessonConfig
from surrogates.potentials.facts import Head
from surrogates.potentials.lessons import FrameAnswers


@dataclass(frozen=True)
class FrameLessons:
    """Frames of the domain of a teacher, and its answers.

    Attributes:
        frames: the frames.
        answers: answers for them.
        head: reference energies and charges of what learns them.
        counts: what became of the frames that were read: `read`, `unknown` (elements, charges, cells or distances that
            the teacher cannot answer), `repeated`, `held_out`, `outside_domain`, `failed` and `answered`.
    """

    frames: Structures
    answers: FrameAnswers
    head: Head
    counts: dict[str, int]


def lesson_frames(
    teacher: FrameTeacher, frames: Structures, held_out: Collection[str], config: LessonConfig, where: str
) -> tuple[Structures, dict[str, int]]:
    """The frames to ask about, each once, and what became of the others.

    Args:
        teacher: the teacher.
        frames: frames that were read; of them `config.count` are drawn.
        held_out: keys (`data.identity`) of labelled frames that must not be learned from by their answers.
        config: how many are drawn.
        where: source of the frames, for messages.

    Raises:
        InputError: none is left.
    """
    if config.count is not None and config.count < len(frames):
        rows = np.random.default_rng(config.seed).choice(len(frames), config.count, replace=False)
        frames = frames.take(np.sort(rows))
    strange = ~teacher.takes(frames) | (frames.shortest_distances() < MIN_DISTANCE) | frames.alone()
    keys = np.array(frame_keys(frames), dtype=object)
    apart = ~strange & np.isin(keys, list(held_out))
    first = np.zeros(len(frames), bool)
    first[np.unique(keys.astype(str), return_index=True)[1]] = True
    repeated = ~strange & ~apart & ~first
    asked = np.flatnonzero(~strange & ~apart & ~repeated)
    inside = teacher.inside(frames.take(asked)) if len(asked) else np.zeros(0, bool)
    counts = {
        "read": len(frames),
        "unknown": int(strange.sum()),
        "repeated": int(repeated.sum()),
        "held_out": int(apart.sum()),
        "outside_domain": int((~inside).sum()),
        "answered": int(inside.sum()),
    }
    if counts["answered"] < 2:
        said = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items())
        raise InputError(
            f"fewer than two of its frames lie in the domain of the teacher: {said}",
            where=where,
            remedy="Give frames like those that the teacher learned from",
        )
    return frames.take(asked[inside]), counts
