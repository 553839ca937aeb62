"""What a training learned from, held to when its directory is used again.

A checkpoint goes on from weights. With other molecules, labels or parts those weights would be wrong without a
sign of it: a finished run would train no step more, and be scored on what it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from data.errors import CorruptStoreError, InputError
from data.files import write_json
from surrogates.devices import is_first

FILE = "learned_from.json"


def hold_to_data(run_dir: Path, facts: Mapping[str, str]) -> None:
    """Note what a training is about to learn from, or refuse to go on from checkpoints that learned from other data.

    Args:
        run_dir: of the training, with its `checkpoints/` if it was begun before.
        facts: what it is, in words that a person can act on ("training part") -> its hash.

    Raises:
        InputError: checkpoints are there and a fact differs, or they come without their facts.
        CorruptStoreError: the facts are there and cannot be read.
    """
    path = run_dir / FILE
    begun = any(not p.name.startswith(".") for p in (run_dir / "checkpoints").glob("*"))
    if begun:
        held = _read(path)
        changed = sorted(name for name in {*facts, *held} if facts.get(name) != held.get(name))
        if changed:
            raise InputError(
                f"the training here was begun with another {', '.join(changed)}",
                where=str(run_dir),
                remedy="Give the same again to resume it, name another run.dir, or remove this directory to train anew",
            )
    if is_first():
        run_dir.mkdir(parents=True, exist_ok=True)
        write_json(path, dict(facts))


def _read(path: Path) -> dict[str, str]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptStoreError(f"not readable: {error}", where=str(path), remedy="Train in another run.dir") from error
    return {str(name): str(value) for name, value in held.items()} if isinstance(held, dict) else {}
