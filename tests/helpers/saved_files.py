"""Unpacks what an earlier version saved; see tests/saved/README.md."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

SAVED = Path(__file__).parents[1] / "saved"
SURROGATES = tuple(sorted(path.stem for path in (SAVED / "surrogates").glob("*.json")))


def unpack(name: str, place: Path) -> tuple[Path, dict[str, Any]]:
    """The directory that was saved, such as "surrogates/fields", unpacked, and what was recorded about it."""
    with zipfile.ZipFile(SAVED / f"{name}.zip") as archive:
        archive.extractall(place)
    return place, json.loads((SAVED / f"{name}.json").read_text())
