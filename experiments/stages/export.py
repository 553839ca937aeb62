"""`understudy export`: records of a store, or a trained surrogate, in a form that other programs read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING, DictConfig

from data.errors import InputError
from data.files import make_directory
from data.settings import build, existing_file
from data.terminal import show_pairs
from experiments.application.stage import StageSettings, application
from experiments.prediction.delivery import content_of, deliver, is_delivered, refuse_same
from experiments.prediction.rows import PARTS
from experiments.prediction.vtk_output import export_vtk, is_collection


@dataclass(frozen=True)
class ExportSettings(StageSettings):
    """The keys of `understudy export`."""

    store: str | None = None
    out: str = MISSING


def export(config: DictConfig, run_dir: Path) -> None:
    """Write the answers of a store to a file of frames, a table, or files of VTK."""
    from experiments.exporting.store_files import export_store

    settings = build(ExportSettings, config, where="")
    store, out = existing_file(settings.store, "store"), Path(settings.out)
    if not is_collection(out) and not (store / "store.json").is_file():
        raise InputError("no store here", where=str(store), remedy="Name a directory that understudy simulate made")
    refuse_same(store, out)
    made_from = {"store": content_of(store)}
    if is_delivered(out, run_dir, made_from):
        show_pairs("Export", {"file": f"{out}, which is complete"})
        return
    # A run that is killed behind the file and before its note leaves this folder, and begins again.
    make_directory(run_dir / PARTS)
    answer = export_vtk(store, out) if is_collection(out) else export_store(store, out, run_dir)
    deliver(answer, out, run_dir, made_from)
    show_pairs("Export", {**answer.said, "file": out})


main = application("export", export)
