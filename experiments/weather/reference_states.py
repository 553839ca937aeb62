"""Where references come from: the states that a forecaster was trained on, whatever file it is scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.plain import entry, read_plain, reading
from data.weather import WeatherLayout
from data.window_statistics import Climatology, hour_of_day
from data.windows import WindowStore
from experiments.stage import existing_file
from experiments.weather.words import REFERENCES
from surrogates.weather.climate_ensemble import ClimatologicalEnsemble
from surrogates.weather.forecaster import Forecaster
from surrogates.weather.references import (
    ClimatologyForecast,
    Forecasts,
    LinearAutoregression,
    LinearInverseModel,
    Persistence,
)
from surrogates.weather.seeps import PrecipitationClimate, climates
from surrogates.weather.training_references import TrainingReferences

Part = tuple[int, int]
Range = list[int] | None


@dataclass(frozen=True)
class AskedStates:
    """Which states the configuration names.

    Attributes:
        training: windows that references are made of; None: those of the surrogate's training.
        train, valid: [start, stop) of their states; None: the parts of the surrogate's training.
        test: [start, stop) of the states with the truth; None: the test part where these are the windows of the
            training, else all of them.
    """

    training: str | None = None
    train: Range = None
    valid: Range = None
    test: Range = None


@dataclass
class ReferenceStates:
    """What references are made of.

    Attributes:
        climatology: of the training part.
        times: datetime64 of the states of the training part.
        windows: of the training; None where they are not at hand.
        train, valid: [start, stop) of the parts of `windows`; `valid` is empty where none was set aside.
        test: [start, stop) of the states with the truth, in their own store.
        kept: what the training left beside its weights, or None.
        notes: what was taken where there was a choice, and what to mind, in sentences.
        free: [start, stop) of the longest run of `test` that was not learned from, where some of it was.
    """

    climatology: Climatology
    times: np.ndarray
    windows: WindowStore | None
    train: Part
    valid: Part
    test: Part
    kept: TrainingReferences | None = None
    notes: list[str] = field(default_factory=list)
    free: Part | None = None

    @property
    def precipitation(self) -> Sequence[PrecipitationClimate]:
        """Climates of precipitation in the training part; none where there is none, or where they were not kept."""
        if self.windows is not None:
            windows = self.windows
            return climates(windows.layout, (states for _, states in windows.blocks(self.train)))
        return () if self.kept is None else self.kept.precipitation or ()

    def references(
        self, names: Sequence[str], layout: WeatherLayout, steps: int, history: int, members: int, times: np.ndarray
    ) -> dict[str, Forecasts]:
        """What forecasts are held against; those that cannot be made are left out, with a note.

        Args:
            names: of `experiments.weather.words.REFERENCES`.
            layout: of the states.
            steps: leads.
            history: past states that the forecaster sees.
            members: of the forecaster; an ensemble is held against that of the climate too.
            times: datetime64 of the valid times.

        Raises:
            InputError: a name is unknown.
        """
        strange = [n for n in names if n not in REFERENCES]
        if strange:
            raise InputError(
                f"no reference {strange[0]!r}",
                where="forecasts.references",
                remedy=f"There are {', '.join(REFERENCES)}",
            )
        chosen = list(dict.fromkeys(names))
        if members > 1 and "climatological_ensemble" not in chosen:
            chosen.append("climatological_ensemble")
        systems: dict[str, Forecasts] = {}
        for name in chosen:
            system = self._reference(name, layout, steps, history, members, times)
            if isinstance(system, str):
                self.notes.append(f"The {REFERENCES[name]} is left out: {system}.")
            else:
                systems[name] = system
        return systems

    def _reference(
        self, name: str, layout: WeatherLayout, steps: int, history: int, members: int, times: np.ndarray
    ) -> Forecasts | str:
        """The reference, or why there is none."""
        if name == "persistence":
            return Persistence()
        if name == "climatology":
            return ClimatologyForecast(layout, self.climatology)
        away = "the windows of the training are not at hand; name them by forecasts.training"
        windows = self.windows
        if name == "climatological_ensemble":
            if windows is None:
                return away
            ensemble = ClimatologicalEnsemble(windows, self.train, self.climatology.kind)
            return ensemble if ensemble.most_members(times) > 1 else "the training has fewer than two states of an hour"
        if windows is None:
            kept = None if self.kept is None or name != "linear_inverse_model" else self.kept
            return away if kept is None or kept.linear_inverse_model is None else kept.linear_inverse_model
        past = max(2, history) if name == "linear_autoregression" else 1
        if not len(windows.starts(past + steps, self.valid)):
            return f"the validation part has no {past + steps} states that follow one another, to choose its size by"
        if not len(windows.starts(past + steps, self.train)):
            return f"the training part has no {past + steps} states that follow one another"
        if name == "linear_inverse_model":
            return LinearInverseModel.fit(windows, self.train, self.valid, self.climatology, steps)
        return LinearAutoregression.fit(windows, self.train, self.valid, self.climatology, steps, past)


def part_of_training(directory: Path, name: str, key: str) -> Part:
    """[start, stop) of a part of the states that a forecaster was trained on.

    Args:
        directory: where it was saved, in or beside the `split.json` of its training.
        name: of the part.
        key: of the configuration that would say it too.

    Raises:
        InputError: there is no `split.json`.
    """
    for folder in (directory, directory.parent):
        file = folder / "split.json"
        if file.is_file():
            parts = read_plain(file, dict[str, Any], remedy="Restore it from a copy")
            with reading(file, remedy=f"Restore it from a copy, or give {key}=[start,stop]"):
                return entry(parts, name, tuple[int, int])
    raise InputError("which states it was trained on is not known", where=key, remedy="Give [start,stop]")


def reference_states(
    asked: AskedStates, truth: WindowStore, forecaster: Forecaster | None, directory: Path | None
) -> ReferenceStates:
    """The states that references are made of, and those that are forecast.

    Args:
        asked: by the configuration.
        truth: windows with the truth.
        forecaster: what is scored; None where forecasts were made elsewhere.
        directory: where it was saved.

    Raises:
        InputError: the windows of the training are needed and not at hand, a part lies outside its windows, the truth
            has hours of the day that the training had no states of, or was learned from.
    """
    kept = None if forecaster is None or directory is None else TrainingReferences.load(directory, forecaster.layout)
    windows = _windows(asked, truth, forecaster, kept)
    same = windows is truth
    if windows is None and (kept is None or kept.climatology is None):
        raise InputError(
            _why_not_at_hand(kept),
            where="forecasts.file",
            remedy="Give forecasts.training=WINDOWS, those of its training",
        )
    train, valid = (_part_of(name, asked, kept, directory, windows) for name in ("train", "valid"))
    test = _test_part(asked, truth, directory, kept, same)
    if windows is not None:
        climatology, times = windows.climatology(train), windows.times[train[0] : train[1]]
    else:
        assert kept is not None
        assert kept.climatology is not None
        climatology, times = kept.climatology, kept.times
    states = ReferenceStates(climatology, times, windows, train, valid, test, kept)
    where = "the surrogate's directory" if windows is None else str(windows.path)
    states.notes.append(f"Climatology and linear models are made of {_extent(times, truth.layout)} of {where}.")
    calibration = (0, 0) if kept is None or asked.train is not None else kept.parts.get("calibration", (0, 0))
    _refuse_learned(states, asked, truth, (train, valid, calibration) if same else None)
    _refuse_other_hours(states, truth)
    return states


def _windows(
    asked: AskedStates, truth: WindowStore, forecaster: Forecaster | None, kept: TrainingReferences | None
) -> WindowStore | None:
    """The windows of the training: those that are named, those of the truth, or those at the noted address."""

    def is_training(store: WindowStore) -> bool:
        if kept is not None:
            return kept.are_of(store)
        return forecaster is None or store.fingerprint == forecaster.labels_fingerprint

    if asked.training is not None:
        if Path(asked.training).resolve() == truth.path.resolve():
            store = truth
        else:
            store = WindowStore.open(existing_file(asked.training, "forecasts.training"))
        truth.layout.refuse_other_states(store.layout, "forecasts.training", "those of forecasts.file")
        if not is_training(store):
            raise InputError(
                "the surrogate was trained on other windows", where="forecasts.training",
                remedy="Name those, or leave it out" if kept is None else f"Those were {kept.windows}",
            )  # fmt: skip
        return store
    if forecaster is None:
        raise InputError(
            "which states the climatology is made of is not said", where="forecasts.training",
            remedy="Give windows of earlier years, or forecasts.file's own with forecasts.train=[start,stop] and "
            "forecasts.test=[start,stop]",
        )  # fmt: skip
    if is_training(truth):
        return truth
    if kept is not None and kept.windows.is_dir():
        try:
            store = WindowStore.open(kept.windows)
        except InputError:
            return None
        return store if kept.are_of(store) else None
    return None


def _why_not_at_hand(kept: TrainingReferences | None) -> str:
    if kept is None:
        return (
            "these are not the windows of the surrogate's training, from which the climatology and the linear models "
            "come, and an older version trained it, which did not note where they lie"
        )
    why = kept.lacking.get("climatology", "it is not known why")
    return f"the windows of the training are not at {kept.windows}, and its climatology was not kept: {why}"


def _part_of(
    name: str, asked: AskedStates, kept: TrainingReferences | None, directory: Path | None, windows: WindowStore | None
) -> Part:
    """Rows of the training's windows."""
    bounds: Range = getattr(asked, name)
    if bounds is not None:
        if windows is None:
            raise InputError("the windows of the training are not at hand", where=f"forecasts.{name}")
        return _within(bounds, windows, f"forecasts.{name}")
    if kept is not None:
        return kept.parts.get(name, (0, 0))
    if directory is not None:
        return part_of_training(directory, name, f"forecasts.{name}")
    assert windows is not None
    return (0, len(windows)) if name == "train" else (0, 0)


def _test_part(
    asked: AskedStates, truth: WindowStore, directory: Path | None, kept: TrainingReferences | None, same: bool
) -> Part:
    """Rows of the windows with the truth."""
    if asked.test is not None:
        return _within(asked.test, truth, "forecasts.test")
    if not same:
        return 0, len(truth)
    if kept is not None and "test" in kept.parts:
        return kept.parts["test"]
    if directory is not None:
        return part_of_training(directory, "test", "forecasts.test")
    raise InputError(
        "the states of the climatology and those that are forecast lie in the same windows", where="forecasts.test",
        remedy="Give forecasts.train=[start,stop] and forecasts.test=[start,stop]",
    )  # fmt: skip


def _within(bounds: Sequence[int], store: WindowStore, key: str) -> Part:
    if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1] <= len(store):
        raise InputError(
            f"must be [start,stop] of the {len(store):,} states of {store.path}, got {list(bounds)}", where=key
        )
    return int(bounds[0]), int(bounds[1])


def _extent(times: np.ndarray, layout: WeatherLayout) -> str:
    """Such as "1,234 states from 2001-01-01 to 2008-12-31"."""
    if not layout.calendar or not len(times):
        return f"{len(times):,} states"
    first, last = (str(t.astype("datetime64[D]")) for t in (times.min(), times.max()))
    return f"{len(times):,} states from {first} to {last}"


def _refuse_learned(
    states: ReferenceStates, asked: AskedStates, truth: WindowStore, learned_parts: Sequence[Part] | None
) -> None:
    """Refuse to score states that were learned from; where they are asked for by their rows, note it.

    Args:
        states: with the states that are to be forecast, and those of the training.
        asked: by the configuration.
        truth: windows with the truth.
        learned_parts: [start, stop) of these that were learned from; None where they are other windows.

    Raises:
        InputError: says how many, and which rows are free of them.
    """
    rows = np.arange(*states.test)
    if learned_parts is not None:
        learned = np.any([(rows >= low) & (rows < high) for low, high in learned_parts], axis=0)
    elif truth.layout.calendar:
        learned = np.isin(truth.times[rows].astype("datetime64[s]"), states.times.astype("datetime64[s]"))
    else:
        return
    if not learned.any():
        return
    said = f"{learned.sum():,} of the {len(rows):,} states are of times that the training learned from"
    edges = np.flatnonzero(np.diff(np.concatenate([[1], learned.astype(int), [1]])))
    runs = [(int(rows[0] + a), int(rows[0] + b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    free = max(runs, key=lambda run: run[1] - run[0], default=None)
    if asked.test is not None:
        states.free = free
        apart = "" if free is None else f" The scores under unseen/ are of states {free[0]} to {free[1]} alone."
        states.notes.append(f"{said[0].upper()}{said[1:]}: scores on them are better than on others.{apart}")
        return
    remedy = "Give later states" if free is None else f"Give forecasts.test=[{free[0]},{free[1]}], which are not"
    raise InputError(said, where="forecasts.file", remedy=remedy)


def _refuse_other_hours(states: ReferenceStates, truth: WindowStore) -> None:
    """Refuse truth of hours of the day that have no climatology, and note months that have none.

    Raises:
        InputError: says which hours there are.
    """
    times = truth.times[states.test[0] : states.test[1]]
    if states.climatology.kind == "mean":
        return
    strange = sorted(set(hour_of_day(times).tolist()) - set(states.climatology.hours))
    if strange:
        learned = ", ".join(f"{h:02d}" for h in states.climatology.hours)
        raise InputError(
            f"it has states of {strange[0]:02d} UTC, the training had those of {learned} UTC, so that none is usual",
            where="forecasts.file",
            remedy=f"Write windows of the hours {learned}, by source.start and source.step_hours",
        )  # fmt: skip
    months = [t.astype("datetime64[M]").astype(np.int64) % 12 + 1 for t in (times, states.times)]
    without = ~np.isin(months[0], months[1])
    if without.any():
        states.notes.append(
            f"{without.sum():,} of the {len(times):,} states are of months that the training had no states of: their "
            "climatology is that of the nearest days that it had, or of all of them."
        )
