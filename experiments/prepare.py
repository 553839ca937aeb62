"""`understudy prepare`: featurise a library once, for fast repeated screening."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from experiments.preparing import prepare as prepare_library
from experiments.stage import application, existing_file, summary, write_json


def prepare(config: DictConfig, run_dir: Path) -> None:
    """Prepare the library `config.candidates`."""
    out = Path(config.out)
    made = prepare_library(
        existing_file(config.candidates, "candidates"), out, smiles=config.smiles, workers=config.workers
    )
    metrics = made.metrics()
    write_json(out / "metrics.json", metrics)
    summary(
        "Prepared",
        {
            "molecules": f"{made.valid:,}, rejected {made.molecules - made.valid:,} (see {out / 'rejects.csv'})",
            "rate": f"{metrics['prepare/molecules_per_second']:,.0f} molecules/s over {made.seconds:.1f} s",
            "size": f"{made.bytes / 1e6:,.1f} MB, {made.bytes / made.valid:.0f} bytes a molecule",
            "library": out,
        },
    )


main = application("prepare", prepare, root="apply")
