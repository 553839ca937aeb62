"""`understudy export`: records of a store, or a trained surrogate, in a form that other programs read."""

from __future__ import annotations

from dataclasses import dataclass, field
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

#: Forms of the programs of a surrogate.
FORMATS = ("stablehlo", "onnx")


@dataclass(frozen=True)
class ExportSettings(StageSettings):
    """The keys of `understudy export`.

    Attributes:
        store: store whose answers are written to files.
        surrogate: surrogate that is written as programs, in place of a store.
        out: the file, or the directory of the programs.
        sizes: numbers of atoms of a molecule or of nodes of a mesh, padding included, each of a program.
        format: stablehlo, or onnx for surrogates of properties.
        calibration: table of molecules from which the scales of 8 bits are taken, for onnx; None for float32 alone.
        batch: molecules, meshes, rows or samples of a batch of a program; 0 for any number, chosen when it is called.

    Raises:
        ValueError: the batch is below 0, or the format unknown.
    """

    store: str | None = None
    surrogate: str | None = None
    out: str = MISSING
    sizes: list[int] = field(default_factory=list)
    batch: int = 1
    format: str = "stablehlo"
    calibration: str | None = None

    def __post_init__(self) -> None:
        if self.batch < 0:
            raise ValueError(f"batch must be 0 or more, got {self.batch}")
        if self.format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}")


def export(config: DictConfig, run_dir: Path) -> None:
    """Write the answers of a store to a file of frames, a table, or files of VTK; or a surrogate as programs."""
    from experiments.exporting.store_files import export_store

    settings = build(ExportSettings, config, where="")
    if (settings.store is None) == (settings.surrogate is None):
        raise InputError(
            "one of store and surrogate is exported", where="store", remedy="Give store=DIR or surrogate=DIR"
        )
    if settings.surrogate is not None and settings.format == "onnx":
        from experiments.exporting.onnx_files import export_onnx

        molecules = None if settings.calibration is None else existing_file(settings.calibration, "calibration")
        export_onnx(settings.surrogate, Path(settings.out), molecules)
        return
    if settings.surrogate is not None:
        from experiments.exporting.surrogate_programs import export_surrogate

        export_surrogate(settings.surrogate, Path(settings.out), settings.sizes, settings.batch)
        return
    store, out = existing_file(settings.store, "store"), Path(settings.out)
    if not is_collection(out) and not (store / "store.json").is_file():
        raise InputError("no store here", where=str(store), remedy="Name a directory that understudy simulate made")
    refuse_same(store, out)
    made_from = {"store": content_of(store)}
    if is_delivered(out, run_dir, made_from):
        show_pairs("Export", {"file": f"{out}, which is complete"}, files={"file": out})
        return
    # A run that is killed behind the file and before its note leaves this folder, and begins again.
    make_directory(run_dir / PARTS)
    answer = export_vtk(store, out) if is_collection(out) else export_store(store, out, run_dir)
    deliver(answer, out, run_dir, made_from)
    show_pairs("Export", {**answer.said, "file": out})


def unused_in_export(config: DictConfig) -> dict[str, str]:
    """Keys that this export does not use, with the reason; see `experiments.application.strict`."""
    if config.surrogate is None:
        return dict.fromkeys(("sizes", "batch", "format", "calibration"), "a store has no programs")
    if config.get("format") == "onnx":
        return dict.fromkeys(("sizes", "batch"), "graphs of ONNX take any sizes")
    return {"calibration": "programs of StableHLO are in float32"}


main = application("export", export, unused=unused_in_export)
