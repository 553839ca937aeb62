"""`fit.json`: the cost of a training over all its sessions, for people and for the metrics of its stage."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data.files import write_json
from data.json_files import read_plain, reading
from data.plain import entry
from surrogates.learning.checkpoints import RESTORE
from surrogates.learning.devices import is_first
from surrogates.learning.loop import FitResult

LOG = logging.getLogger(__name__)
FILE = "fit.json"


def fit_metrics(run_dir: Path) -> dict[str, float]:
    """Wall and processor seconds of the training in a run directory over all its sessions, as metrics.

    Raises:
        CorruptStoreError: `fit.json` is missing or is not what was written.
    """
    note = read_plain(run_dir / FILE, dict[str, Any], remedy=RESTORE)
    with reading(run_dir / FILE, remedy=RESTORE):
        return {f"train/{name}": entry(note, name, float) for name in ("seconds", "core_seconds")}


#: A training that its time limit ended within this many epochs gets a warning: it has hardly begun. So does one that
#: made less than this share of the epochs that were asked for.
HARDLY, FEW = 2, 0.5


def note_fit(result: FitResult, run_dir: Path) -> None:
    """Write the cost of a training to `run_dir/fit.json`.

    The file holds wall and processor seconds, epochs, why the training stopped, the share of time that it waited for
    data, compilations, devices and processes.
    """
    if not is_first():
        return
    steps = int(result.history[-1]["step"]) if result.history else 0
    timed = result.stopped_by in ("max_seconds", "max_core_seconds")
    if timed and 0 < len(result.history) <= HARDLY:
        LOG.warning(
            "train.%s ended the training after %d step%s, in epoch %d: it has hardly learned, give it longer",
            result.stopped_by,
            steps,
            "" if steps == 1 else "s",
            len(result.history),
        )
    elif timed and result.epochs is not None and result.epochs[0] < FEW * result.epochs[1]:
        LOG.warning(
            "train.%s ended the training after %.3g of %d epochs: it may err much less if it is given longer",
            result.stopped_by,
            *result.epochs,
        )
    write_json(
        run_dir / FILE,
        {
            "seconds": result.seconds,
            "core_seconds": result.core_seconds,
            "epochs": len(result.history),
            "stopped_by": result.stopped_by,
            # Without a step there is no loss.
            "best": result.best if np.isfinite(result.best) else None,
            "data_wait_share": result.data_wait_share,
            "compilations": result.compilations,
            "devices": len(jax.devices()),
            "processes": jax.process_count(),
        },
    )
