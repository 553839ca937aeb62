"""References saved with a forecaster, so that forecasts from other windows are compared with those of the training.

`training.json` records the windows and the states that it learned from; `references.npz` holds the climatology, damped
persistence, the linear models and the climate of precipitation, for use where these windows are no longer available.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from data.checksums import verify
from data.errors import CorruptStoreError
from data.files import listed_path, write_json
from data.json_files import read_plain
from data.plain import entry
from data.sphere.statistics import YEAR_DAYS, Climatology, hour_of_day
from data.sphere.weather_layout import WeatherLayout
from data.sphere.window_store import WindowStore
from surrogates.forecasts.autoregression import LinearAutoregression
from surrogates.forecasts.references import DampedPersistence, Forecasts, LinearInverseModel, Patterns
from surrogates.forecasts.seeps import PrecipitationClimate, climates

Part = tuple[int, int]
#: Errors that reading raises where a file is not what was written.
UNREADABLE = (OSError, EOFError, BadZipFile, LookupError, ArithmeticError, TypeError, ValueError, AttributeError)
RESTORE = "Restore it from a copy, or train again"
NOTE, ARRAYS = "training.json", "references.npz"
#: Largest climatology that is saved, in bytes; and largest number and bytes of states to fit a linear inverse model.
CLIMATOLOGY_BYTES, MODEL_STATES, MODEL_BYTES = 256 << 20, 4000, 1 << 30


@dataclass(frozen=True)
class TrainingReferences:
    """The states that a forecaster learned from, and reference forecasts made of them.

    Attributes:
        windows: path of the store.
        fingerprint: fingerprint of the store.
        states: number of its states.
        parts: [start, stop) of each part, by name.
        times: datetime64[s] of the states of the training part.
        climatology, linear_inverse_model, damped_persistence, linear_autoregression, precipitation: references made of
            the training part; None if not saved.
        lacking: for each reference that is not saved, the reason.
    """

    windows: Path
    fingerprint: str
    states: int
    parts: Mapping[str, Part]
    times: np.ndarray
    climatology: Climatology | None = None
    linear_inverse_model: LinearInverseModel | None = None
    precipitation: tuple[PrecipitationClimate, ...] | None = None
    lacking: Mapping[str, str] = field(default_factory=dict)
    damped_persistence: DampedPersistence | None = None
    linear_autoregression: LinearAutoregression | None = None

    def saved(self, name: str, steps: int) -> Forecasts | None:
        """The reference of a name, if it was saved for as many leads."""
        damped, regression = self.damped_persistence, self.linear_autoregression
        if name == "damped_persistence":
            return damped if damped is not None and steps <= len(damped.shares) else None
        if name == "linear_autoregression":
            return regression if regression is not None and steps <= len(regression.maps) else None
        return self.linear_inverse_model if name == "linear_inverse_model" else None

    @staticmethod
    def of(store: WindowStore, parts: Mapping[str, Part], steps: int, history: int = 1) -> TrainingReferences:
        """Make the references of a training; large ones are left out.

        Args:
            store: windows of the training.
            parts: parts of the states, among them "train" and "valid"; the latter chooses the size of linear models.
            steps: number of leads for that choice.
            history: past states that the forecaster sees; the linear autoregression sees as many, and at least two.
        """
        train, valid = parts["train"], parts["valid"]
        layout, count, lacking = store.layout, train[1] - train[0], {}
        size = 4 * int(np.prod(layout.grid.shape)) * len(layout.channels)
        times = store.times[train[0] : train[1]].astype("datetime64[s]")
        hours = len(np.unique(hour_of_day(times))) if layout.calendar else 1
        climatology = None
        # This is an upper bound: a climatology of less than a year has no days of the year.
        if hours * YEAR_DAYS * size <= CLIMATOLOGY_BYTES or (np.ptp(times.astype(np.int64)) < 364 * 86_400):
            climatology = store.climatology(train)
        else:
            lacking["climatology"] = f"it takes more than {CLIMATOLOGY_BYTES >> 20} MiB"
        model = None
        if climatology is None or count > MODEL_STATES or count * size > MODEL_BYTES:
            lacking["linear_inverse_model"] = "the training has too many states"
        elif not len(store.starts(1 + steps, valid)):
            lacking["linear_inverse_model"] = f"the validation part has no {1 + steps} states that follow one another"
        elif not len(store.starts(2, train)):
            lacking["linear_inverse_model"] = "no two states of the training follow one another"
        else:
            model = LinearInverseModel.fit(store, train, valid, climatology, steps)
        damped = regression = None
        if climatology is not None and len(store.starts(1 + steps, train)):
            damped = DampedPersistence.fit(store, train, climatology, steps)
        past = max(2, history)
        if model is not None and climatology is not None:
            if all(len(store.starts(past + steps, part)) for part in (train, valid)):
                regression = LinearAutoregression.fit(store, train, valid, climatology, steps, past)
            else:
                lacking["linear_autoregression"] = f"a part has no {past + steps} states that follow one another"
        wet = tuple(climates(layout, (states for _, states in store.blocks(train))))
        return TrainingReferences(
            store.path.resolve(), store.fingerprint, len(store), dict(parts), times, climatology, model, wet, lacking,
            damped, regression,
        )  # fmt: skip

    def save(self, directory: Path) -> None:
        """Write both files into the directory of a surrogate; the note comes last, once the arrays are complete."""
        arrays: dict[str, np.ndarray] = {"times": self.times.astype(np.int64)}
        if self.climatology is not None:
            arrays |= {"hours": np.array(self.climatology.hours), "usual": np.asarray(self.climatology.values)}
        if self.linear_inverse_model is not None:
            model = self.linear_inverse_model
            arrays |= {"weight": model.patterns.weight, "vectors": model.patterns.vectors, "step": model.step}
        if self.damped_persistence is not None:
            arrays["shares"] = self.damped_persistence.shares
        if self.linear_autoregression is not None:
            auto = self.linear_autoregression
            arrays |= {"auto_weight": auto.patterns.weight, "auto_vectors": auto.patterns.vectors}
            arrays |= {"auto_maps": auto.maps.astype(np.float32), "auto_beyond": auto.beyond}
        for k, wet in enumerate(self.precipitation or ()):
            arrays |= {f"dry_share_{k}": wet.dry_share, f"heavy_{k}": wet.heavy}
        with listed_path(directory / ARRAYS) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        note = {
            "windows": str(self.windows), "fingerprint": self.fingerprint, "states": self.states,
            "parts": {k: list(v) for k, v in self.parts.items()}, "lacking": dict(self.lacking),
            "climatology": None if self.climatology is None else self.climatology.kind,
            "precipitation": None if self.precipitation is None
            else [{"channel": wet.channel, "dry": wet.dry} for wet in self.precipitation],
        }  # fmt: skip
        write_json(directory / NOTE, note)

    @staticmethod
    def load(directory: Path, layout: WeatherLayout) -> TrainingReferences | None:
        """Read what `save` wrote; None where an older version trained the surrogate.

        Raises:
            CorruptStoreError: a file cannot be read.
        """
        if not (directory / NOTE).is_file():
            return None
        try:
            note = read_plain(directory / NOTE, dict[str, Any], remedy=RESTORE)
            verify(directory / ARRAYS, remedy=RESTORE)
            with np.load(directory / ARRAYS, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            usual = model = wet = damped = auto = None
            if note["climatology"] is not None:
                usual = Climatology(str(note["climatology"]), tuple(int(h) for h in arrays["hours"]), arrays["usual"])
            if "step" in arrays and usual is not None:
                patterns = Patterns(usual, arrays["weight"], arrays["vectors"])
                model = LinearInverseModel(layout, patterns, arrays["step"])
            # Directories of earlier versions lack the two that follow.
            if "shares" in arrays and usual is not None:
                damped = DampedPersistence(layout, usual, arrays["shares"])
            if "auto_maps" in arrays and usual is not None:
                patterns = Patterns(usual, arrays["auto_weight"], arrays["auto_vectors"])
                maps = arrays["auto_maps"]
                past = maps.shape[1] // maps.shape[2]
                auto = LinearAutoregression(layout, patterns, maps, arrays["auto_beyond"], past)
            if note["precipitation"] is not None:
                wet = tuple(
                    PrecipitationClimate(
                        int(p["channel"]), float(p["dry"]), arrays[f"dry_share_{k}"], arrays[f"heavy_{k}"]
                    )
                    for k, p in enumerate(note["precipitation"])
                )
            return TrainingReferences(
                Path(note["windows"]), str(note["fingerprint"]), entry(note, "states", int),
                entry(note, "parts", dict[str, tuple[int, int]]),
                arrays["times"].astype("datetime64[s]"), usual, model, wet, entry(note, "lacking", dict[str, str]),
                damped, auto,
            )  # fmt: skip
        except UNREADABLE as error:
            raise CorruptStoreError(f"cannot be read: {error}", where=str(directory / NOTE), remedy=RESTORE) from error

    def are_of(self, store: WindowStore) -> bool:
        """Whether a store holds the windows of the training."""
        low, high = self.parts["train"]
        return (
            store.fingerprint == self.fingerprint
            and len(store) == self.states
            and np.array_equal(store.times[low:high].astype("datetime64[s]"), self.times)
        )
