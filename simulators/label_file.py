"""What simulators of labels that are known already share: checks of their settings, and the digest of a file."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from data.errors import InputError


def check_label_file(file: str, cost_s: float) -> None:
    """Check the settings `file` and `cost_s` of a simulator of known labels.

    Args:
        file: path of the file with the labels.
        cost_s: declared cost of one answer, core-seconds.

    Raises:
        InputError: the cost is no finite number of 0 or more, or there is no such file.
    """
    if not (math.isfinite(cost_s) and cost_s >= 0):
        raise InputError(f"must be a finite number of 0 or more, got {cost_s}", where="simulator.cost_s")
    if not Path(file).expanduser().is_file():
        raise InputError(f"no such file: {file}", where="simulator.file", remedy="Check the path")


def digest_of_file(file: str) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal."""
    with open(Path(file).expanduser(), "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
