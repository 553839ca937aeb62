"""`understudy report`: write the HTML page of a run that is already there."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from experiments.stage import application, existing_file, summary


def report(config: DictConfig, run_dir: Path) -> None:
    """Write the page of the run `config.of`."""
    from experiments.reporting.page import write_report

    page = write_report(existing_file(config.of, "of"), Path(config.out) if config.out else None)
    summary("Report", {"page": page})


main = application("report", report, root="apply")
