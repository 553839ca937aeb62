"""`fit.json`: what a training took, all sessions counted, for people and for the metrics of the stage above."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from data.files import write_json
from surrogates.devices import is_first
from surrogates.train import FitResult

FILE = "fit.json"


def note_fit(result: FitResult, run_dir: Path) -> None:
    """Write `run_dir/fit.json`: what the training took.

    Wall and processor seconds, epochs, why it stopped, the share of waiting for data, compilations.
    """
    if not is_first():
        return
    write_json(
        run_dir / FILE,
        {
            "seconds": result.seconds,
            "core_seconds": result.core_seconds,
            "epochs": len(result.history),
            "stopped_by": result.stopped_by,
            # Of no step there is none.
            "best": result.best if np.isfinite(result.best) else None,
            "data_wait_share": result.data_wait_share,
            "compilations": result.compilations,
            "devices": len(jax.devices()),
        },
    )
