"""`understudy distil`: train a light surrogate on the answers of an expensive one, and say what that cost and saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig
from omegaconf.errors import MissingMandatoryValue

from data.errors import InputError
from data.files import write_json
from data.settings import build
from data.structures.frame_settings import KeySettings
from data.terminal import show_pairs
from experiments.active.exploration import ExploreConfig
from experiments.application.stage import StageSettings, application
from experiments.distillation.comparison import closing_rows
from experiments.distillation.settings import DistilRequest, LabelledData, LessonConfig, LessonWeights
from experiments.experts.growing import plain, training_recipe
from surrogates.learning.devices import enable_compilation_cache
from surrogates.saved import load_surrogate, read_card, surrogate_directory

#: Kind of teacher -> the function that distils it.
DISTILLERS: Mapping[str, str] = {
    "properties": "experiments.distillation.molecules.distil_properties",
    "potentials": "experiments.distillation.frames.distil_potentials",
}


@dataclass(frozen=True)
class DistilSettings(StageSettings):
    """The keys of `understudy distil`; groups are checked where they are used."""

    teacher: str | None = MISSING
    inputs: str | None = MISSING
    out: str = MISSING
    smiles: str = "smiles"
    alone: bool = True
    lessons: LessonConfig = field(default_factory=LessonConfig)
    weights: LessonWeights = field(default_factory=LessonWeights)
    data: LabelledData = field(default_factory=LabelledData)
    dynamics: ExploreConfig = field(default_factory=ExploreConfig)
    train: Any = MISSING
    model: Any = MISSING


def distil(config: DictConfig, run_dir: Path) -> None:
    """Ask the teacher, train the student, compare both with labels, and write the page."""
    settings = build(DistilSettings, config, where="")
    directory = surrogate_directory(settings.teacher, "teacher")
    kind, model = str(read_card(directory)["kind"]), plain(config.model)
    if kind not in DISTILLERS:
        raise InputError(
            f"no surrogate of {kind} is distilled",
            where="teacher",
            remedy=f"Name one of {', '.join(DISTILLERS)}",
        )
    if model.get("kind") != kind:
        raise InputError(
            f"a teacher of {kind} has no student of {model.get('kind')}",
            where="model",
            remedy="Choose model=NAME of the same kind; understudy describe model lists them",
        )
    training = training_recipe(plain(config.train))
    enable_compilation_cache()
    module, _, function = DISTILLERS[kind].rpartition(".")
    request = DistilRequest(
        settings.inputs,
        settings.smiles,
        settings.alone,
        settings.lessons,
        settings.weights,
        settings.data,
        settings.dynamics,
        model,
        training,
    )
    metrics = getattr(import_module(module), function)(load_surrogate(directory), directory, request, run_dir)
    write_json(run_dir / "metrics.json", dict(sorted(metrics.items())))
    # Only what draws imports matplotlib.
    from experiments.pages.page import write_report

    page = write_report(run_dir)
    show_pairs("Distilled", {**closing_rows(metrics), "page": page, "surrogate": run_dir / "surrogate"})


#: Kind of teacher -> the keys that only others use, with the reason.
OF_OTHERS: Mapping[str, Mapping[str, str]] = {
    "properties": {
        **dict.fromkeys(
            ("dynamics", *(f"data.{name}" for name in KeySettings.__dataclass_fields__)), "no frame is read"
        ),
        **{f"weights.{name}": "no frame is answered" for name in ("energy", "forces", "atom_energies", "hessian")},
    },
    "potentials": {
        **dict.fromkeys(("smiles", "data.target"), "no table is read"),
        "data.split": "frames are split at random",
        "weights.answers": "answers for frames have weights.energy and weights.forces",
    },
}


def unused_in_distillation(config: DictConfig) -> dict[str, str]:
    """Keys that this distillation does not use, with the reason; see `experiments.application.strict`."""
    unused: dict[str, str] = {}
    if config.data.train is None:
        none = "there are no labels without data.train"
        unused |= {**{f"data.{key}": none for key in ("target", "split", "parts", "test")}, "alone": none}
    try:
        kind = str(read_card(surrogate_directory(config.teacher, "teacher"))["kind"])
    except (InputError, MissingMandatoryValue):
        # The stage itself reports this error.
        return unused
    if kind == "potentials" and config.inputs != "dynamics":
        unused["dynamics"] = "the inputs are those of a file"
    return {**unused, **OF_OTHERS.get(kind, {})}


main = application("distil", distil, unused=unused_in_distillation)
