"""The states that references are made of: those of the training, whichever file a forecaster is scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.json_files import read_plain, reading
from data.plain import entry
from data.settings import existing_file
from data.sphere.statistics import Climatology, hour_of_day
from data.sphere.weather_layout import WeatherLayout
from data.sphere.window_store import WindowStore
from experiments.forecasting.system_names import REFERENCES
from surrogates.forecasts.autoregression import LinearAutoregression
from surrogates.forecasts.climate_ensemble import ClimatologicalEnsemble
from surrogates.forecasts.references import (
    ClimatologyForecast,
    DampedPersistence,
    Forecasts,
    LinearInverseModel,
    Persistence,
)
from surrogates.forecasts.seeps import PrecipitationClimate, climates
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.forecasts.training_references import TrainingReferences

Part = tuple[int, int]
Range = list[int] | None


@dataclass(frozen=True)
class AskedStates:
    """The states that the configuration names.

    Attributes:
        training: windows that references are made of; None for those of the training of the surrogate.
        train, valid: [start, stop) of their states; None for the parts of the training of the surrogate.
        test: [start, stop) of the states with the truth; None for the test part if these are the windows of the
            training, else for all.
    """

    training: str | None = None
    train: Range = None
    valid: Range = None
    test: Range = None


@dataclass
class ReferenceStates:
    """The states and the climatology that references are made of.

    Attributes:
        climatology: climatology of the training part.
        times: datetime64 of the states of the training part.
        windows: windows of the training; None if they are not available.
        train, valid: [start, stop) of the parts of `windows`; `valid` is empty if no states were set aside.
        test: [start, stop) of the states with the truth, in their own store.
        kept: references that were saved with the surrogate, or None.
        notes: choices that were made, and warnings, in sentences.
        free: [start, stop) of the longest run of `test` that was not learned from, if some of `test` was.
        from_scored_states: whether the climatology is that of the scored states, because no others were named.
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
    from_scored_states: bool = False

    @property
    def precipitation(self) -> Sequence[PrecipitationClimate]:
        """Climates of precipitation in the training part; empty without precipitation, or if they were not saved."""
        if self.windows is not None:
            windows = self.windows
            return climates(windows.layout, (states for _, states in windows.blocks(self.train)))
        return () if self.kept is None else self.kept.precipitation or ()

    def references(
        self, names: Sequence[str], layout: WeatherLayout, steps: int, history: int, members: int, times: np.ndarray
    ) -> dict[str, Forecasts]:
        """Make the reference forecasts; those that cannot be made are left out, with a note.

        Args:
            names: names of `experiments.forecasting.system_names.REFERENCES`.
            layout: layout of the states.
            steps: number of leads.
            history: number of past states that the forecaster sees.
            members: members of the forecaster; an ensemble is compared with the climatological ensemble too.
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
        """The reference, or the reason why it cannot be made."""
        if name == "persistence":
            return Persistence()
        if name == "climatology":
            return ClimatologyForecast(layout, self.climatology)
        if self.from_scored_states:
            return "no states but the scored ones are named, and it would be fitted to them; give forecasts.training"
        away = "the windows of the training are not available; name them by forecasts.training"
        windows = self.windows
        if name == "climatological_ensemble":
            if windows is None:
                return away
            ensemble = ClimatologicalEnsemble(windows, self.train, self.climatology.kind)
            return ensemble if ensemble.most_members(times) > 1 else "the training has fewer than two states of an hour"
        if windows is None:
            kept = None if self.kept is None else self.kept.saved(name, steps)
            return away if kept is None else kept
        past = max(2, history) if name == "linear_autoregression" else 1
        if name != "damped_persistence" and not len(windows.starts(past + steps, self.valid)):
            return f"the validation part has no {past + steps} states that follow one another to choose its size with"
        if not len(windows.starts(past + steps, self.train)):
            return f"the training part has no {past + steps} states that follow one another"
        if name == "damped_persistence":
            return DampedPersistence.fit(windows, self.train, self.climatology, steps)
        if name == "linear_inverse_model":
            return LinearInverseModel.fit(windows, self.train, self.valid, self.climatology, steps)
        return LinearAutoregression.fit(windows, self.train, self.valid, self.climatology, steps, past)


def part_of_training(directory: Path, name: str, key: str) -> Part:
    """[start, stop) of a part of the states that a forecaster was trained on.

    Args:
        directory: directory of the saved forecaster; `split.json` is in it or beside it.
        name: name of the part.
        key: configuration key that could give the part instead.

    Raises:
        InputError: there is no `split.json`.
    """
    for folder in (directory, directory.parent):
        file = folder / "split.json"
        if file.is_file():
            parts = read_plain(file, dict[str, Any], remedy="Restore it from a copy")
            with reading(file, remedy=f"Restore it from a copy, or give {key}=[start,stop]"):
                return entry(parts, name, tuple[int, int])
    raise InputError("the states that it was trained on are not known", where=key, remedy="Give [start,stop]")


def reference_states(
    asked: AskedStates, truth: WindowStore, forecaster: ForecastSurrogate | None, directory: Path | None
) -> ReferenceStates:
    """The states that references are made of, and those that are forecast.

    Args:
        asked: states that the configuration names.
        truth: windows with the truth.
        forecaster: forecaster that is scored; None for forecasts from elsewhere.
        directory: directory of the saved forecaster.

    Raises:
        InputError: the windows of the training are needed and not available, a part lies outside its windows, the
            truth has hours of the day of which the training had no states, or the training learned from it.
    """
    if forecaster is None and asked == AskedStates():
        whole = (0, len(truth))
        note = (
            "No states of a climatology are named (forecasts.training=WINDOWS): climatology and anomaly correlation "
            "are from the scored states themselves, so that climatology errs less than one of earlier years would."
        )
        return ReferenceStates(
            truth.climatology(whole), truth.times, truth, whole, (0, 0), whole, notes=[note], from_scored_states=True
        )
    kept = None if forecaster is None or directory is None else TrainingReferences.load(directory, forecaster.layout)
    windows = _windows(asked, truth, forecaster, kept)
    same = windows is truth
    if windows is None and (kept is None or kept.climatology is None):
        raise InputError(
            _why_not_at_hand(kept),
            where="forecasts.file",
            remedy="Give the windows of its training as forecasts.training=WINDOWS",
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
    asked: AskedStates, truth: WindowStore, forecaster: ForecastSurrogate | None, kept: TrainingReferences | None
) -> WindowStore | None:
    """The windows of the training: those that are named, those of the truth, or those at the recorded path."""

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
            "the states of the climatology are not given", where="forecasts.training",
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
            "come, and the older version that trained it did not record where they are"
        )
    why = kept.lacking.get("climatology", "the reason is not known")
    return f"the windows of the training are not at {kept.windows}, and its climatology was not saved: {why}"


def _part_of(
    name: str, asked: AskedStates, kept: TrainingReferences | None, directory: Path | None, windows: WindowStore | None
) -> Part:
    """[start, stop) of a part in the windows of the training."""
    bounds: Range = getattr(asked, name)
    if bounds is not None:
        if windows is None:
            raise InputError("the windows of the training are not available", where=f"forecasts.{name}")
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
    """[start, stop) of the states to forecast in the windows with the truth."""
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
    """Number and times of states as text, such as "1,234 states from 2001-01-01 to 2008-12-31"."""
    if not layout.calendar or not len(times):
        return f"{len(times):,} states"
    first, last = (str(t.astype("datetime64[D]")) for t in (times.min(), times.max()))
    return f"{len(times):,} states from {first} to {last}"


def _refuse_learned(
    states: ReferenceStates, asked: AskedStates, truth: WindowStore, learned_parts: Sequence[Part] | None
) -> None:
    """Refuse to score states that were learned from; if the configuration names their rows, add a note instead.

    Args:
        states: the states to forecast and those of the training; gets the note.
        asked: states that the configuration names.
        truth: windows with the truth.
        learned_parts: [start, stop) of the states of `truth` that were learned from; None if the windows differ.

    Raises:
        InputError: some states were learned from; says how many, and which rows were not.
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
    """Refuse truth at hours of the day without climatology, and add a note on months without one.

    Raises:
        InputError: an hour has no climatology; says which hours have one.
    """
    times = truth.times[states.test[0] : states.test[1]]
    if states.climatology.kind == "mean":
        return
    strange = sorted(set(hour_of_day(times).tolist()) - set(states.climatology.hours))
    if strange:
        learned = ", ".join(f"{h:02d}" for h in states.climatology.hours)
        raise InputError(
            f"it has states of {strange[0]:02d} UTC, the training had those of {learned} UTC, and no climatology of it",
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
