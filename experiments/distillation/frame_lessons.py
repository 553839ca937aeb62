"""Frames of a file, or of the teacher's own dynamics, and what a potential answers for those of its domain."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from data.checksums import verify
from data.errors import CorruptStoreError, InputError
from data.files import listed_path, make_directory
from data.identity import frame_keys
from data.structures.structures import MIN_DISTANCE, Structures
from data.terminal import progress_bar
from experiments.active.exploration import ExploreConfig, explore
from experiments.distillation.settings import LessonConfig
from surrogates.potentials.lessons import FrameAnswers, ask_frames
from surrogates.potentials.surrogate import PotentialSurrogate

#: Frames that are answered before the answers are written.
PART_FRAMES = 512
#: Word in place of a file: the frames are those of the teacher's own dynamics.
DYNAMICS = "dynamics"
REMEDY = "Remove the directory of the run and distil again"
_COLUMNS = tuple(field.name for field in fields(Structures) if not field.name.startswith("_"))
_ANSWERS = tuple(field.name for field in fields(FrameAnswers))


@dataclass(frozen=True)
class FrameLessons:
    """Frames of the domain of a teacher, and its answers.

    Attributes:
        frames: the frames.
        answers: answers for them.
        counts: what became of the frames that were read: `read`, `unknown` (elements, charges or distances that the
            teacher cannot answer), `repeated`, `held_out`, `outside_domain` and `answered`.
    """

    frames: Structures
    answers: FrameAnswers
    counts: dict[str, int]


def dynamics_frames(
    teacher: PotentialSurrogate, start: Structures, config: ExploreConfig, seed: int, path: Path
) -> Structures:
    """Frames of the teacher's own dynamics, from labelled frames; those in `path` if they are there.

    Raises:
        InputError: the teacher has no standard deviations, which stop walkers that leave what it knows.
        CorruptStoreError: the file was damaged.
    """
    if not path.is_file():
        make_directory(path.parent)
        frames = explore(teacher, start, config, seed).frames
        _write(path, {name: getattr(frames, name) for name in _COLUMNS})
    columns: dict[str, Any] = dict(_read(path, _COLUMNS))
    return Structures(**columns)


def lesson_frames(
    teacher: PotentialSurrogate, frames: Structures, held_out: Collection[str], config: LessonConfig, where: str
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
    elements, charges = teacher.facts.references.elements, teacher.facts.head.charges
    strange = np.bincount(frames.molecule, ~np.isin(frames.numbers, elements), len(frames)) > 0
    strange |= ~np.isin(frames.charge, charges) | (frames.shortest_distances() < MIN_DISTANCE) | frames.alone()
    keys = np.array(frame_keys(frames), dtype=object)
    apart = ~strange & np.isin(keys, list(held_out))
    first = np.zeros(len(frames), bool)
    first[np.unique(keys.astype(str), return_index=True)[1]] = True
    repeated = ~strange & ~apart & ~first
    asked = np.flatnonzero(~strange & ~apart & ~repeated)
    inside = teacher.novelties(frames.take(asked)) <= 1.0 if len(asked) else np.zeros(0, bool)
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


def frame_answers(teacher: PotentialSurrogate, frames: Structures, folder: Path, seed: int) -> FrameAnswers:
    """The answers of the teacher, in files of so many frames; those that are there are read.

    Raises:
        CorruptStoreError: a file was damaged.
    """
    make_directory(folder)
    parts = []
    with progress_bar("answers of the teacher", len(frames)) as bar:
        for number, first in enumerate(range(0, len(frames), PART_FRAMES)):
            place = folder / f"{number:06d}.npz"
            some = frames.take(np.arange(first, min(first + PART_FRAMES, len(frames))))
            if not place.is_file():
                _write(place, ask_frames(teacher, some, [seed, number]).arrays())
            answers = FrameAnswers(**_read(place, _ANSWERS))
            if len(answers.energy) != len(some) or len(answers.atomic) != len(some.numbers):
                raise CorruptStoreError("holds answers for other frames", where=str(place), remedy=REMEDY)
            parts.append(answers)
            bar.advance(len(some))
    return FrameAnswers.concatenate(parts)


def _write(place: Path, arrays: dict[str, np.ndarray]) -> None:
    with listed_path(place) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _read(place: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    verify(place, remedy=REMEDY)
    try:
        with np.load(place, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise CorruptStoreError(f"cannot be read: {error}", where=str(place), remedy=REMEDY) from error
