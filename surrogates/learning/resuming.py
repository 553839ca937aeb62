"""Records what data a training learns from, and refuses to resume it with other data.

A run resumes from the weights of its checkpoint. With other molecules, labels or parts these weights would be wrong
without any sign of it: a finished run would train no further step, and would be scored on its own training data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data.errors import InputError
from data.files import write_json
from data.json_files import read_plain
from surrogates.learning.devices import is_first, refuse_other_processes

FILE = "learned_from.json"


def record_training_data(run_dir: Path, facts: Mapping[str, str], *, begun: bool | None = None) -> None:
    """Record what data a run is about to learn from, or refuse to resume a run that learned from other data.

    Args:
        run_dir: directory of the run.
        facts: name of each kind of data, in words that a message can use ("training part") -> its hash.
        begun: whether the directory already holds results; None looks for checkpoints or a surrogate in it.

    Raises:
        InputError: the run was begun and a hash differs, or it has results and no record of its data; or another
            process of the training has other data.
        CorruptStoreError: the record cannot be read.
    """
    refuse_other_processes(facts, str(run_dir))
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
