"""`understudy prepare`: featurise a library once, so that it can be screened fast and repeatedly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from data.files import write_json
from data.settings import build, existing_file
from data.shards import Shard
from data.terminal import show_pairs
from experiments.application.stage import StageSettings, application
from experiments.screening.candidate_sources import unused_of_candidates
from experiments.screening.library_writing import prepare as prepare_library
from simulators.chemistry.standardise import check_steps


@dataclass(frozen=True)
class PrepareSettings(StageSettings):
    """The keys of `understudy prepare`.

    Raises:
        ValueError: `workers` is below 1, or a step of `standardise` is unknown.
    """

    candidates: str = MISSING
    out: str = MISSING
    smiles: str = "smiles"
    standardise: tuple[str, ...] = ()
    workers: int | None = None
    shard: str | None = None
    launcher: Any = None

    def __post_init__(self) -> None:
        check_steps(self.standardise)
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be 1 or more, got {self.workers}")


def prepare(config: DictConfig, run_dir: Path) -> None:
    """Prepare a library from the file of candidates that `config` names."""
    settings = build(PrepareSettings, config, where="")
    out = Path(settings.out)
    prepared = prepare_library(
        existing_file(settings.candidates, "candidates"),
        out,
        smiles=settings.smiles,
        standardise=settings.standardise,
        workers=settings.workers,
        shard=None if settings.shard is None else Shard.parse(settings.shard),
    )
    metrics = prepared.metrics()
    rejected = prepared.molecules - prepared.valid
    write_json(out / "metrics.json", metrics)
    show_pairs(
        "Prepared",
        {
            "molecules": f"{prepared.valid:,}, rejected {rejected:,} (see {out / 'rejects.csv'})",
            "rate": f"{metrics['prepare/molecules_per_second']:,.0f} molecules/s over {prepared.seconds:.1f} s",
            "size": f"{prepared.bytes / 1e6:,.1f} MB, {prepared.bytes / max(1, prepared.valid):.0f} bytes a molecule",
            "library": out,
        },
    )


def unused_in_preparation(config: DictConfig) -> dict[str, str]:
    """Keys that this kind of file does not use, with the reason; see `experiments.application.strict`."""
    return unused_of_candidates(Path(str(config.candidates)))


main = application("prepare", prepare, unused=unused_in_preparation)
