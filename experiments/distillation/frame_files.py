"""What a potential answers, and frames that were made, in files that a stopped run does not repeat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from data.checksums import verify
from data.errors import CorruptStoreError
from data.files import listed_path, make_directory
from data.structures.structures import Structures
from data.terminal import progress_bar
from surrogates.potentials.lessons import FrameAnswers, ask_frames
from surrogates.potentials.surrogate import PotentialSurrogate

#: Frames that are answered before the answers are written.
PART_FRAMES = 512
REMEDY = "Remove the directory of the run and distil again"
_COLUMNS = tuple(field.name for field in fields(Structures) if not field.name.startswith("_"))
_ANSWERS = tuple(field.name for field in fields(FrameAnswers))


def kept_frames(path: Path, make: Callable[[], Structures]) -> Structures:
    """The frames in a file, which `make` makes where it is not there.

    Raises:
        CorruptStoreError: the file was damaged.
    """
    if not path.is_file():
        make_directory(path.parent)
        frames = make()
        _write(path, {name: getattr(frames, name) for name in _COLUMNS})
    columns: dict[str, Any] = dict(_read(path, _COLUMNS))
    return Structures(**columns)


def frame_answers(
    teacher: PotentialSurrogate, frames: Structures, folder: Path, seed: int, *, curvatures: bool = True
) -> FrameAnswers:
    """The answers of the teacher, in files of so many frames; those that are there are read.

    Args:
        teacher: the teacher.
        frames: the frames.
        folder: receives the files, and holds those of an earlier run.
        seed: seed of the directions of curvatures.
        curvatures: whether curvatures are asked for; see `ask_frames`.

    Raises:
        CorruptStoreError: a file was damaged.
    """
    make_directory(folder)
    parts = []
    with progress_bar("answers of the teacher", len(frames)) as bar:
        for number, first in enumerate(range(0, len(frames), PART_FRAMES)):
            place = folder / f"{number:06d}{'' if curvatures else '-without-curvatures'}.npz"
            some = frames.take(np.arange(first, min(first + PART_FRAMES, len(frames))))
            if not place.is_file():
                _write(place, ask_frames(teacher, some, [seed, number], curvatures=curvatures).arrays())
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
