"""Where a run and its results lie, by the identity of the run or by its directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import InputError
from experiments.agents.confinement import Root, capped
from experiments.agents.jobs import Jobs, StartedRun
from experiments.application.renamed import present_config
from experiments.application.run_directory import CONFIG
from experiments.application.yaml_files import read_yaml


@dataclass(frozen=True)
class Place:
    """A run.

    Attributes:
        directory: its directory.
        job: the job, if it was started through this interface.
    """

    directory: Path
    job: StartedRun | None

    def config(self) -> dict[str, Any]:
        """Its configuration; empty before it has any."""
        try:
            return present_config(read_yaml(self.directory / CONFIG, remedy=""))
        except OSError:
            return {}

    def stores(self, root: Root) -> list[Path]:
        """Stores of records that belong to it, also those that settings place elsewhere."""
        stores = {path.parent for path in self.directory.glob("**/store.json")}
        out = self.config().get("out")
        if out is None and self.job is not None:
            out = next((a.partition("=")[2] for a in self.job.arguments if a.startswith("out=")), None)
        if isinstance(out, str) and out != "???" and "${" not in out:
            place = root.inside(out.strip("'\""), "out")
            stores |= {place} if (place / "store.json").is_file() else set()
        # All that is in a store is read.
        return sorted({root.inside(root.relative(path), "run") for path in stores})


def place_of(run: str, root: Root, jobs: Jobs) -> Place:
    """The run of an identity or a directory.

    Raises:
        InputError: there is no such run, or the directory lies outside of the root.
    """
    job = jobs.find(run)
    if job is not None:
        return Place(root.inside(job.directory, "run", searched=False), job)
    # Files of it are looked at one by one.
    directory = root.inside(run, "run", searched=False)
    if not directory.is_dir():
        raise InputError(
            f"no run {capped(run)!r}",
            where="run",
            remedy="Give an id that start returned, or a directory that runs lists",
        )
    return Place(directory, None)
