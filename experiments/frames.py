"""Frames of a file as a table of structures."""

from __future__ import annotations

from pathlib import Path

from data.molecules import read
from data.rejects import RejectLog
from data.structures import Structures


def read_structures(path: Path, rejects: RejectLog | None) -> Structures:
    """The frames of a file; those that cannot be read go to `rejects`.

    Raises:
        InputError: none can be used, a cell has no extent, or atoms lie on top of each other.
    """
    return Structures.from_frames(read(path, rejects=rejects), str(path))
