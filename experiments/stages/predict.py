"""`understudy predict`: the answers of a trained surrogate for every row, frame or sample of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig
from omegaconf.errors import MissingMandatoryValue

from data.errors import InputError
from data.settings import build, existing_file, names
from data.structures.frame_settings import KeySettings
from data.terminal import show_pairs
from experiments.application.stage import StageSettings, application
from experiments.screening.candidate_sources import unused_of_candidates
from experiments.screening.carried import chosen_columns
from surrogates.learning.devices import enable_compilation_cache
from surrogates.saved import load_surrogate, read_card, surrogate_directory

#: Kind of surrogate -> the function that answers the files that this kind reads.
PREDICTORS: Mapping[str, str] = {
    "properties": "experiments.prediction.kinds.predict_molecules",
    "parameters": "experiments.prediction.kinds.predict_numbers",
    "fields": "experiments.prediction.samples.predict_fields",
    "potentials": "experiments.prediction.frames.predict_frames",
    "mixture": "experiments.prediction.frames.predict_frames",
    "meshes": "experiments.prediction.mesh_records.predict_meshes",
}
#: Kind of surrogate that this command does not ask -> what to do.
OTHERWISE = {"forecasts": "Write understudy forecast surrogate=DIR source.path=FILE out=FILE"}
#: Keys that only some kinds of surrogates use.
USED_BY: Mapping[str, tuple[str, ...]] = {
    "columns": ("properties", "parameters"),
    "target": ("properties", "parameters"),
    "smiles": ("properties",),
    "standardise": ("properties",),
    "workers": ("properties",),
    "dims": ("fields",),
    "head": ("potentials",),
    **dict.fromkeys(KeySettings.__dataclass_fields__, ("potentials", "mixture")),
}
#: Why the other kinds do not use them.
WHY = {
    "columns": "answers in a form that has no columns",
    "target": "finds true values under the names of what it learned",
    "smiles": "reads no SMILES",
    "standardise": "reads no SMILES",
    "workers": "reads its inputs where it answers them",
    "dims": "reads no arrays without named dims",
    "head": "has no heads to choose from",
    **dict.fromkeys(KeySettings.__dataclass_fields__, "reads no frames"),
}


@dataclass(frozen=True)
class PredictSettings(StageSettings, KeySettings):
    """The keys of `understudy predict`."""

    surrogate: str | None = MISSING
    inputs: str = MISSING
    out: str = MISSING
    columns: Any = "all"
    target: Any = None
    smiles: str = "smiles"
    standardise: tuple[str, ...] = ()
    workers: int | None = None
    dims: Any = None
    head: str | None = None


def predict(config: DictConfig, run_dir: Path) -> None:
    """Answer every row, frame or sample of a file, and write the answers to another one."""
    from experiments.prediction.delivery import content_of, deliver, is_delivered, refuse_same

    settings = build(PredictSettings, config, where="")
    inputs, out = existing_file(settings.inputs, "inputs"), Path(settings.out)
    directory = surrogate_directory(settings.surrogate, "surrogate")
    kind = str(read_card(directory)["kind"])
    if kind not in PREDICTORS:
        raise InputError(
            f"a surrogate of {kind} is not asked row by row",
            where="surrogate",
            remedy=OTHERWISE.get(kind, "Ask it in Python: understudy.load(DIR).simulate(request)"),
        )
    refuse_same(inputs, out)
    enable_compilation_cache()
    surrogate = load_surrogate(directory)
    made_from = {"surrogate": surrogate.fingerprint, "inputs": content_of(inputs)}
    if is_delivered(out, run_dir, made_from):
        show_pairs("Predictions", {"file": f"{out}, which is complete"}, files={"file": out})
        return
    module, _, function = PREDICTORS[kind].rpartition(".")
    choices = {
        **asdict(settings),
        "columns": chosen_columns(settings.columns),
        "target": names(settings.target, "target"),
    }
    answer = getattr(import_module(module), function)(surrogate, inputs, out, run_dir, choices)
    deliver(answer, out, run_dir, made_from)
    page = {"page": run_dir / "report.html"} if (run_dir / "report.html").is_file() else {}
    show_pairs("Predictions", {**answer.said, **page, "file": out})


def unused_in_prediction(config: DictConfig) -> dict[str, str]:
    """Keys that this kind of surrogate does not use, with the reason; see `experiments.application.strict`."""
    try:
        kind = str(read_card(surrogate_directory(config.surrogate, "surrogate"))["kind"])
    except (InputError, MissingMandatoryValue):
        # The stage itself reports this error.
        return {}
    unused = {key: f"a surrogate of {kind} {WHY[key]}" for key, kinds in USED_BY.items() if kind not in kinds}
    if kind == "properties":
        unused |= unused_of_candidates(Path(str(config.inputs)))
    return unused


main = application("predict", predict, unused=unused_in_prediction)
