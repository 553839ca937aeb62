"""What a training learned from, held to when its directory is used again.

A checkpoint goes on from weights. With other molecules, labels or parts those weights would be wrong without a
sign of it: a finished run would train no step more, and be scored on what it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data.errors import InputError
from data.files import write_json
from data.plain import read_plain
from surrogates.devices import is_first

FILE = "learned_from.json"


def record_training_data(run_dir: Path, facts: Mapping[str, str], *, begun: bool | None = None) -> None:
    """Note what a run is about to learn from, or refuse to resume one that learned from other data.

    Args:
        run_dir: of the run.
        facts: what it is, in words that a person can act on ("training part") -> its hash.
        begun: whether the directory holds results already; None: whether it has checkpoints or a surrogate.

    Raises:
        InputError: the run was begun and a fact differs, or its results come without their facts.
        CorruptStoreError: the facts are there and cannot be read.
    """
    path = run_dir / FILE
    if begun is None:
        checkpoints = (run_dir / "checkpoints").glob("*")
        begun = (run_dir / "surrogate").exists() or any(not p.name.startswith(".") for p in checkpoints)
    if begun:
        recorded = _read(path)
        changed = sorted(name for name in {*facts, *recorded} if facts.get(name) != recorded.get(name))
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
    if not path.exists():
        return {}
    return read_plain(path, dict[str, str], remedy="Train in another run.dir")
