"""`understudy report`: write the HTML page of an existing run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING, DictConfig

from data.settings import build, existing_file
from data.terminal import show_pairs
from experiments.application.stage import StageSettings, application


@dataclass(frozen=True)
class ReportSettings(StageSettings):
    """The keys of `understudy report`."""

    of: str = MISSING
    out: str | None = None


def report(config: DictConfig, run_dir: Path) -> None:
    """Write the page of the run `config.of`."""
    from experiments.pages.page import write_report

    settings = build(ReportSettings, config, where="")
    page = write_report(existing_file(settings.of, "of"), Path(settings.out) if settings.out else None)
    show_pairs("Report", {"page": page})


main = application("report", report)
