"""Run directories with the files that commands write, for tests of what lists and shows them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from data.files import write_json, write_text


def write_progress(run: Path, stage: str, **changes: Any) -> None:
    """Write `progress.json` of a run of another machine, whose lock cannot be seen here."""
    facts: dict[str, Any] = {
        "format": 1, "stage": stage, "state": "finished", "step": "training", "done": 8.0, "total": 8.0, "share": 1.0,
        "rate_per_s": 2.0, "left_s": None, "note": "", "failures": {}, "problem": "", "core_seconds": 90.0,
        "seconds": 61.0, "updated": time.time(), "every_s": 3.0, "host": "node17", "pid": 7,
    }  # fmt: skip
    write_json(run / "progress.json", {**facts, **changes}, listed=False)


def write_training(
    run: Path, losses: list[float], *, settings: Mapping[str, Any] | None = None, **progress: Any
) -> Path:
    """Write a training with a validation loss for each epoch, and the settings `model.width` and those given."""
    config = {"stage": "train", "model": {"width": 64, **(settings or {})}, "run": {"dir": run.name}}
    write_text(run / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
    rows = [
        {"epoch": i + 1, "step": 4 * i, "valid/loss": loss, "train/loss": loss / 2} for i, loss in enumerate(losses)
    ]
    (run / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(run / "metrics.json", {"test/gap/mae_ev": losses[-1], "train/core_seconds": 7200.0})
    write_text(run / "log.txt", f"the log of {run.name}\n")
    write_progress(run, "train", **progress)
    return run
