"""Mixtures of trained forecasters: nothing is trained but the weights, at each lead, point and channel.

The members are the forecasts of the networks alone, damped persistence, a linear autoregression, and climatology, which
has what is left (see `lead_blend`). The weights are fitted to forecasts of the validation part. That part also chose
the weights of the networks, so what a mixture gains is said by the test part alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from data.costs import training_core_seconds
from data.errors import InputError
from data.json_files import read_plain
from data.plain import entry
from data.processes.processor import tree_seconds
from data.settings import build
from data.sphere.window_store import WindowStore
from surrogates.forecasts.blend_fit import fit_blend
from surrogates.forecasts.facts import ForecastConfig, ForecastFacts
from surrogates.forecasts.lead_blend import refuse_names
from surrogates.forecasts.model import ForecastModel
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.forecasts.training_references import NOTE, RESTORE
from surrogates.learning.loop import FitResult
from surrogates.saved import surrogate_directory

Part = tuple[int, int]
WHERE = "model.members"
#: Largest relative difference of the spread of a channel between members that learned from the same states: mirrored
#: states, and usual states by the hour, change it a little.
ALIKE = 0.05
#: Forecasts that are timed at once, and rounds of which the cheapest counts.
TIMED, ROUNDS = 8, 3


@dataclass(frozen=True)
class MixtureSettings:
    """The keys of `model=forecast_mixture`.

    Attributes:
        members: directories of trained forecasters, or of the runs that made them; two or more.
        steps: leads of the mixture; None for those of the first member.
    """

    members: tuple[str, ...] = ()
    steps: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(str(member) for member in self.members))
        if self.steps is not None and self.steps < 1:
            raise ValueError("steps must be 1 or more")

    @property
    def ensemble(self) -> int:
        """Number of networks that are trained: none but those of the members, which are."""
        return max(1, len(self.members))


@dataclass(frozen=True)
class MixtureMember:
    """A trained forecaster that is to be mixed.

    Attributes:
        name: name of its folder, or of that of its run.
        directory: directory of the saved surrogate.
        forecaster: the forecaster.
    """

    name: str
    directory: Path
    forecaster: ForecastSurrogate


def is_mixture(node: Mapping[str, Any]) -> bool:
    """Whether the settings of a surrogate are those of a mixture."""
    return "members" in node


def read_settings(node: Mapping[str, Any]) -> MixtureSettings:
    """The settings of a mixture; those of networks, which a task or a study may set, do not concern it.

    Raises:
        InputError: a value has a wrong type or is out of range.
    """
    return build(MixtureSettings, {key: node[key] for key in ("members", "steps") if key in node}, where="model")


def load_members(settings: MixtureSettings) -> tuple[MixtureMember, ...]:
    """The forecasters that are to be mixed.

    Raises:
        InputError: there are fewer than two, one is missing or cannot be mixed, or two have the same name.
    """
    if len(settings.members) < 2:
        raise InputError(
            "a mixture has two trained forecasters or more", where=WHERE, remedy="Give model.members=[runs/a,runs/b]"
        )
    members = []
    for path in settings.members:
        directory = surrogate_directory(path, WHERE)
        name = directory.resolve().parent.name if directory.name == "surrogate" else directory.resolve().name
        members.append(MixtureMember(name, directory, ForecastSurrogate.load(directory)))
    try:
        refuse_names([member.name for member in members])
    except ValueError as error:
        raise InputError(str(error), where=WHERE, remedy="Rename the directory of one of the runs") from error
    for member in members:
        _refuse_unlike(members[0], member)
    return tuple(members)


def mixture_config(members: Sequence[MixtureMember], settings: MixtureSettings) -> ForecastConfig:
    """The settings of a mixture: those of its first forecaster, and its own number of leads."""
    first = members[0].forecaster.facts.config
    return replace(first, steps=settings.steps or first.steps, blend=True)


def _refuse_unlike(first: MixtureMember, member: MixtureMember) -> None:
    """Refuse a forecaster whose forecasts are not of the same states as those of the first, or are no single ones."""
    ours, theirs = first.forecaster.facts, member.forecaster.facts
    name = member.name
    if member.forecaster.others:
        raise InputError(f"{name} is a mixture", where=WHERE, remedy="Name its forecasters")
    if theirs.config.noise_dims:
        raise InputError(
            f"{name} is an ensemble by noise, and the weights are those of single forecasts", where=WHERE,
            remedy="Leave it out, or train it with model.noise_dims=0",
        )  # fmt: skip
    ours.layout.refuse_other_states(theirs.layout, str(member.directory), f"those of {first.name}")
    for key in ("forcing", "diagnostic"):
        if set(getattr(ours.config, key)) != set(getattr(theirs.config, key)):
            raise InputError(
                f"{name} and {first.name} differ in model.{key}", where=WHERE, remedy="Train both with the same"
            )
    if theirs.labels_fingerprint != ours.labels_fingerprint:
        raise InputError(f"{name} and {first.name} learned from other windows", where=WHERE, remedy="Leave one out")
    _refuse_other_spread(first.name, ours, name, theirs)


def _refuse_other_spread(first: str, ours: ForecastFacts, name: str, theirs: ForecastFacts) -> None:
    """Refuse forecasters with the same kind of usual states whose anomalies were normalised otherwise."""
    if theirs.config.usual != ours.config.usual:
        return
    apart = np.abs(np.log(np.array(theirs.scale.std) / np.array(ours.scale.std)))
    if apart.max() > ALIKE:
        channel = ours.layout.channels[int(apart.argmax())].label
        raise InputError(
            f"{name} was normalised by another spread of {channel} than {first}: it learned from other states",
            where=WHERE, remedy="Train both with the same data.parts",
        )  # fmt: skip


def refuse_learned(members: Sequence[MixtureMember], store: WindowStore, spans: Mapping[str, Part]) -> None:
    """Refuse forecasters that learned from other windows, or from states of a part that is not for learning.

    Raises:
        InputError: names the forecaster.
        CorruptStoreError: the note of a training cannot be read.
    """
    for member in members:
        if member.forecaster.labels_fingerprint != store.fingerprint:
            raise InputError(
                f"{member.name} learned from other windows than those of data.file", where=WHERE,
                remedy="Give data.file=WINDOWS of its training",
            )  # fmt: skip
        if not (member.directory / NOTE).is_file():
            continue
        note = read_plain(member.directory / NOTE, dict[str, Any], remedy=RESTORE)
        low, high = entry(note, "parts", dict[str, tuple[int, int]])["train"]
        for name in ("valid", "calibration", "test"):
            start, stop = spans[name]
            if max(low, start) < min(high, stop):
                raise InputError(
                    f"{member.name} learned from states {low} to {high}, some of which are in the {name} part",
                    where="data.parts", remedy="Give the parts of its training",
                )  # fmt: skip


def mixed(
    members: Sequence[MixtureMember], store: WindowStore, train: Part, valid: Part | None, config: ForecastConfig
) -> tuple[ForecastSurrogate, FitResult]:
    """The mixture of forecasters, and what its weights cost.

    Args:
        members: the forecasters.
        store: the states.
        train: [start, stop) of the states that the simpler members are fitted to.
        valid: [start, stop) of the states that the weights are fitted to.
        config: see `mixture_config`.

    Raises:
        InputError: the weights cannot be fitted to the validation part.
    """
    began, processor = time.perf_counter(), tree_seconds()
    alone = [without_blend(member.forecaster) for member in members]
    alone[0] = alone[0].with_facts(config=config, bands=None, scores={})
    names = [member.name for member in members]
    blend = fit_blend(alone[0], store, train, valid or (0, 0), dict(zip(names[1:], alone[1:], strict=True)), names[0])
    if isinstance(blend, str):
        raise InputError(f"the forecasters cannot be mixed: {blend}", where="data.parts", remedy="Enlarge that part")
    mixture = alone[0].with_blend(blend, alone[1:])
    spent = time.perf_counter() - began, tree_seconds() - processor
    return mixture, FitResult(mixture.model, [], *spent, 0.0, {"train": 0, "valid": 0}, "epochs", float("nan"))


def without_blend(forecaster: ForecastSurrogate) -> ForecastSurrogate:
    """The networks without the simpler forecasts of their own, which the mixture has as members."""
    if forecaster.facts.blend is None:
        return forecaster
    model: ForecastModel = nnx.merge(*nnx.split(forecaster.model))
    model.blend = None
    return ForecastSurrogate(model, replace(forecaster.facts, blend=None, bands=None))


def costs_before(members: Sequence[MixtureMember], result: FitResult) -> dict[str, float]:
    """Wall and processor seconds of the trainings of all forecasters and of the weights, as metrics."""
    every = [member.forecaster.scores for member in members]
    return {
        "train/seconds": sum(scores.get("train/seconds", 0.0) for scores in every) + result.seconds,
        "train/core_seconds": sum(training_core_seconds(scores) for scores in every) + result.core_seconds,
    }


def mixture_metrics(mixture: ForecastSurrogate, store: WindowStore, part: Part) -> dict[str, float]:
    """What each member adds and costs.

    Returns:
        `mixture/weight/<member>`, its mean weight over leads, points and channels;
        `mixture/core_seconds_each/<member>`, the processor time of a forecast of all leads by a forecaster alone; and
        `mixture/gate_core_seconds_each`, that of the simpler members and the weighting, with `mixture/gate_share`, its
        share of the whole.
    """
    blend = mixture.blend
    if blend is None or not mixture.others:
        return {}
    steps, history = blend.steps, mixture.history
    rows = np.resize(store.starts(history + steps, part), TIMED)
    past, times = store.read(rows, history), store.times[rows + history - 1]
    alone = ForecastSurrogate(mixture.model, mixture.facts)
    said: list[np.ndarray] = []
    costs: dict[str, float] = {}
    for name, one in zip(blend.forecasters, (alone, *mixture.others), strict=True):

        def answer(one: ForecastSurrogate = one) -> np.ndarray:
            parts = one.chunks(past[:, -one.model.frames :], times, steps, blended=False)
            return np.concatenate(list(parts), axis=2)

        said.append(answer())
        costs[name] = _least(answer) / TIMED
    gate = _least(lambda: blend.apply(past, times, said[0], 0, [other[:, 0] for other in said[1:]])) / TIMED
    weights = {name: float(values.mean()) for name, values in blend.member_weights().items()}
    return {
        **{f"mixture/weight/{name}": weight for name, weight in weights.items()},
        **{f"mixture/core_seconds_each/{name}": cost for name, cost in costs.items()},
        "mixture/gate_core_seconds_each": gate,
        "mixture/gate_share": gate / (gate + sum(costs.values())),
    }


def _least(work: Callable[[], Any]) -> float:
    """Processor seconds of a piece of work, the least of some rounds."""
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)
