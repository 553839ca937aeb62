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
from data.formats.kinds import FRAME_KINDS, SDF_SUFFIXES, STORE, kind_of
from data.settings import build
from data.structures.frame_settings import KeySettings
from data.terminal import show_pairs
from experiments.active.exploration import ExploreConfig
from experiments.application.stage import StageSettings, application, instantiate
from experiments.campaigns.sampled import draw_requests
from experiments.distillation.comparison import closing_rows
from experiments.distillation.settings import DistilRequest, LabelledData, LessonConfig, LessonWeights
from experiments.experts.growing import plain, training_recipe
from simulators.campaigns.config import CampaignConfig
from simulators.chemistry.conformers import ConformerConfig
from simulators.chemistry.rattle_and_relax import TreeConfig
from surrogates.learning.devices import enable_compilation_cache
from surrogates.saved import load_surrogate, read_card, surrogate_directory

#: Kind of student -> the function that distils its teacher: a surrogate of the same kind with the directory in which it
#: lies, or a simulator and None.
DISTILLERS: Mapping[str, str] = {
    "properties": "experiments.distillation.molecules.distil_properties",
    "potentials": "experiments.distillation.frames.distil_potentials",
    "fields": "experiments.distillation.samples.distil_fields",
    "parameters": "experiments.distillation.samples.distil_parameters",
    "forecasts": "experiments.distillation.forecasts.distil_forecasts",
}

#: Kinds whose teachers answer samples, which a simulator draws or a file holds.
SAMPLES = ("fields", "parameters")


@dataclass(frozen=True)
class DistilSettings(StageSettings):
    """The keys of `understudy distil`; groups are checked where they are used."""

    teacher: str | None = None
    simulator: Any = None
    sampling: Any = None
    inputs: str | None = None
    out: str = MISSING
    smiles: str = "smiles"
    start: str | None = None
    alone: bool = True
    lessons: LessonConfig = field(default_factory=LessonConfig)
    weights: LessonWeights = field(default_factory=LessonWeights)
    data: LabelledData = field(default_factory=LabelledData)
    dynamics: ExploreConfig = field(default_factory=ExploreConfig)
    tree: TreeConfig = field(default_factory=TreeConfig)
    conformers: ConformerConfig = field(default_factory=ConformerConfig)
    campaign: Any = MISSING
    train: Any = MISSING
    model: Any = MISSING


def distil(config: DictConfig, run_dir: Path) -> None:
    """Ask the teacher, train the student, compare both with labels, and write the page."""
    settings = build(DistilSettings, config, where="")
    draws = settings.sampling is not None
    if draws and (settings.simulator is None or settings.teacher is None):
        raise InputError(
            "requests are drawn by a simulator for a surrogate that stands in for it",
            where="sampling",
            remedy="Give teacher=DIR and simulator=NAME beside it",
        )
    if not draws and (settings.teacher is None) == (settings.simulator is None):
        raise InputError("one teacher is needed", where="teacher", remedy="Give teacher=DIR or simulator=NAME")
    if not draws and settings.inputs is None:
        raise InputError("no input is named", where="inputs", remedy="Give inputs=FILE, or sampling=NAME for fields")
    model = plain(config.model)
    directory = None if settings.teacher is None else surrogate_directory(settings.teacher, "teacher")
    kind = str(model.get("kind") if directory is None else read_card(directory)["kind"])
    if kind not in DISTILLERS:
        raise InputError(
            f"no surrogate of {kind} is distilled",
            where="model" if directory is None else "teacher",
            remedy=f"Name one of {', '.join(DISTILLERS)}",
        )
    if draws and kind not in SAMPLES:
        raise InputError(f"no request to a surrogate of {kind} is drawn", where="sampling", remedy="Give inputs=FILE")
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
        settings.tree,
        model,
        training,
        build(CampaignConfig, config.campaign, where="campaign"),
        settings.conformers,
        draw_requests(config.sampling, instantiate(config.simulator))[0] if draws else None,
        settings.start,
    )
    teacher = instantiate(config.simulator) if directory is None else load_surrogate(directory)
    metrics = getattr(import_module(module), function)(teacher, directory, request, run_dir)
    write_json(run_dir / "metrics.json", dict(sorted(metrics.items())))
    # Only what draws imports matplotlib.
    from experiments.pages.page import write_report

    page = write_report(run_dir)
    show_pairs("Distilled", {**closing_rows(metrics), "page": page, "surrogate": run_dir / "surrogate"})


#: Keys of molecules, which samples do not use.
_OF_MOLECULES = dict.fromkeys(
    ("smiles", "conformers", "dynamics", "tree", "start", "data.target", "data.split"), "no molecule is answered"
)
_OF_FRAMES = dict.fromkeys((f"data.{name}" for name in KeySettings.__dataclass_fields__), "no frame is read")
_WEIGHTS = {f"weights.{name}": "answers are learned as labels" for name in LessonWeights.__dataclass_fields__}
_OF_SAMPLES = {**_OF_MOLECULES, **_OF_FRAMES, **{k: v for k, v in _WEIGHTS.items() if k != "weights.labels"}}


#: Kind of teacher -> the keys that only others use, with the reason.
OF_OTHERS: Mapping[str, Mapping[str, str]] = {
    "properties": {
        "lessons.every": "molecules have no steps",
        "start": "students of properties begin with fresh weights",
        **dict.fromkeys(
            ("dynamics", "tree", *(f"data.{name}" for name in KeySettings.__dataclass_fields__)), "no frame is read"
        ),
        **{f"weights.{name}": "no frame is answered" for name in ("energy", "forces", "atom_energies", "hessian")},
    },
    "potentials": {
        "lessons.every": "frames have no steps",
        "data.target": "no table of labels is read",
        "data.split": "frames are split at random",
        "weights.answers": "answers for frames have weights.energy and weights.forces",
    },
    "fields": _OF_SAMPLES,
    "parameters": {**_OF_SAMPLES, "lessons.every": "numbers have no steps"},
    "forecasts": {
        **_OF_MOLECULES,
        **_OF_FRAMES,
        **{f"weights.{name}": "no frame is answered" for name in ("energy", "forces", "atom_energies", "hessian")},
        "data.seed": "states are split in the order of time",
        "data.test": "the test part of the windows is scored",
        "lessons.valid": "true states choose the best weights",
    },
}


def unused_in_distillation(config: DictConfig) -> dict[str, str]:
    """Keys that this distillation does not use, with the reason; see `experiments.application.strict`."""
    unused: dict[str, str] = {}
    if config.data.train is None:
        none = "there are no labels without data.train"
        unused |= {**{f"data.{key}": none for key in ("target", "split", "parts", "test")}, "alone": none}
    else:
        unused |= dict.fromkeys(("lessons.calibration", "lessons.test"), "the labels calibrate and are scored")
    if config.get("sampling") is not None:
        unused |= dict.fromkeys(("inputs", "lessons.count"), "the requests are drawn, as sampling says")
    if config.get("simulator") is not None and config.get("teacher") is None:
        kind = str(config.model.get("kind"))
        if kind == "potentials":
            no_parts = "a simulator says neither energies of atoms nor derivatives of forces"
            unused |= dict.fromkeys(("weights.atom_energies", "weights.hessian"), no_parts)
            unused |= _unused_of_inputs(config)
        return {**unused, "dynamics": "they are those of a trained potential", **OF_OTHERS.get(kind, {})}
    unused["campaign"] = "a surrogate answers in this process"
    try:
        kind = str(read_card(surrogate_directory(config.teacher, "teacher"))["kind"])
    except (InputError, MissingMandatoryValue):
        # The stage itself reports this error.
        return unused
    if kind == "potentials":
        unused |= _unused_of_inputs(config)
    elif kind not in SAMPLES:
        unused["conformers"] = "a surrogate of properties asks for no geometry"
    return {**unused, **OF_OTHERS.get(kind, {})}


def _unused_of_inputs(config: DictConfig) -> dict[str, str]:
    """Keys that inputs of potentials do not use, of which only SMILES have columns and no geometry."""
    try:
        from_file = config.inputs is not None and config.inputs != "dynamics"
        of_smiles = from_file and kind_of(Path(str(config.inputs))) not in (*FRAME_KINDS, *SDF_SUFFIXES, STORE)
    except (InputError, MissingMandatoryValue):
        # The stage itself reports this error.
        return {}
    unused = {"dynamics": "the inputs are those of a file"} if from_file else {}
    if not of_smiles:
        unused |= dict.fromkeys(("smiles", "conformers"), "the inputs are frames, and no SMILES")
    return unused


main = application("distil", distil, unused=unused_in_distillation)
