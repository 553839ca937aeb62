"""Windows of longer steps: the states of a record some steps apart, and the answers of a forecaster that steps between.

A student that goes several steps of its teacher at once learns from both. Every state of a record is kept: the states
that are one, two and more steps later than the first make records of their own. Parts follow one another as in the
record itself, each with the same states, so that what was held out stays held out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from data.costs import PROCESSOR_TIME
from data.errors import InputError
from data.spec import content_hash
from data.sphere.weather_layout import TIME, WeatherLayout
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows
from surrogates.forecasts.request_checks import refuse_beyond
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.learning.part_sizes import PARTS

Part = tuple[int, int]
#: Forecasts of a teacher at a time.
AT_A_TIME = 32


def layout_of_steps(layout: WeatherLayout, every: int) -> WeatherLayout:
    """The layout of states so many steps apart."""
    return replace(layout, step_hours=layout.step_hours * every)


def longer_steps(store: WindowStore, spans: Mapping[str, Part], every: int, path: Path) -> WindowStore:
    """The states of a record so many steps apart, in as many records; a part has the rows that it has in the record.

    Args:
        store: the record.
        spans: [start, stop) of each part, which follow one another from 0 to the end.
        every: steps from one state to the next.
        path: directory of the new store; one that was begun is continued.
    """

    def segments() -> Iterator[Segment]:
        for name in PARTS:
            low, high = spans[name]
            for start, stop in store.segments:
                for phase in range(every):
                    rows = np.arange(max(low, start) + phase, min(high, stop), every)
                    if len(rows):
                        yield _segment(store, rows)

    layout = layout_of_steps(store.layout, every)
    identity = ["steps of windows", store.fingerprint, every, {name: list(span) for name, span in spans.items()}]
    return write_windows(
        path, segments(), layout, static=_static(store), fingerprint=content_hash(identity),
        seconds_per_step=store.seconds_per_step * every, label_core_seconds=store.label_core_seconds,
        counted=store.counted or PROCESSOR_TIME,
    )  # fmt: skip


def _segment(store: WindowStore, rows: Int[np.ndarray, " state"]) -> Segment:
    def read(start: int, stop: int) -> xr.Dataset:
        some = rows[start:stop]
        return store.layout.unstack(store.read(some, 1)[:, 0], (TIME,), {TIME: store.times[some]})

    return Segment(store.times[rows], read)


def _static(store: WindowStore) -> xr.Dataset | None:
    if not store.layout.static:
        return None
    axes = store.layout.coordinates()
    fields = {name: (("latitude", "longitude"), store.static[..., k]) for k, name in enumerate(store.layout.static)}
    return xr.Dataset(fields, {name: axes[name] for name in ("latitude", "longitude")})


def known_starts(
    teacher: ForecastSurrogate, store: WindowStore, part: Part, reach: int
) -> tuple[Int[np.ndarray, " start"], int]:
    """Rows of present states that a teacher may be asked about, and how many lie outside of its domain.

    Args:
        teacher: the teacher.
        store: states of its step.
        part: [start, stop) of those that may be used.
        reach: number of states that are needed up to the present one, in one record.
    """
    rows = store.starts(reach, part) + reach - 1
    is_inside = np.zeros(len(store), bool)
    for block, states in store.blocks(part):
        for at, state in enumerate(states, block.start):
            try:
                is_inside[at] = not refuse_beyond(state[None], teacher.facts)
            except InputError:
                continue
    inside = np.array([is_inside[row - teacher.history + 1 : row + 1].all() for row in rows], bool)
    return rows[inside], int((~inside).sum())


def write_answers(
    teacher: ForecastSurrogate,
    store: WindowStore,
    present: Int[np.ndarray, " start"],
    every: int,
    frames: tuple[int, int],
    path: Path,
    seed: int,
    advance: Callable[[int], None] | None = None,
) -> WindowStore:
    """Windows of states so many steps apart that end with the forecasts of a teacher; those begun are continued.

    A teacher with noise gives one draw of its ensemble a window, and its networks alone: these draws are what a fair
    CRPS learns a distribution from. Others give their blended forecast.

    Args:
        teacher: the teacher.
        store: states of its step.
        present: rows of the present states.
        every: steps of the teacher in one of the windows.
        frames: number of states up to the present one, and of forecasts after it.
        path: directory of the new store.
        seed: seed of the noise.
        advance: called with the number of states written.
    """
    history, ahead = frames
    reach = max((history - 1) * every + 1, teacher.history)
    step = np.timedelta64(round(store.layout.step_hours * every * 3600), "s")

    @cache
    def block(number: int) -> Float[np.ndarray, "window frame latitude longitude channel"]:
        rows = present[number * AT_A_TIME : (number + 1) * AT_A_TIME]
        full = np.resize(rows, min(AT_A_TIME, len(present)))
        states = store.read(full - reach + 1, reach)
        parts = teacher.chunks(
            states[:, reach - teacher.history :], store.times[full], every * ahead, seed=seed + number,
            blended=not teacher.facts.config.noise_dims,
        )  # fmt: skip
        said = np.concatenate([chunk[:, 0] for chunk in parts], axis=1)[:, every - 1 :: every]
        past = states[:, (reach - 1) % every :: every][:, -history:]
        return np.concatenate([past, said], axis=1)[: len(rows)]

    def segments() -> Iterator[Segment]:
        for at, row in enumerate(present):
            times = store.times[row] + np.arange(1 - history, ahead + 1) * step

            def read(start: int, stop: int, at: int = at, times: Any = times) -> xr.Dataset:
                number, place = divmod(at, AT_A_TIME)
                states = block(number)[place, start:stop]
                if place == AT_A_TIME - 1 and stop == history + ahead:
                    block.cache_clear()
                return store.layout.unstack(states, (TIME,), {TIME: times[start:stop]})

            yield Segment(times, read)

    identity = ["answers", teacher.fingerprint, store.fingerprint, present.tolist(), every, frames, seed]
    return write_windows(
        path, segments(), layout_of_steps(store.layout, every), static=_static(store),
        fingerprint=content_hash(identity), advance=advance,
    )  # fmt: skip


class LongSteps:
    """A forecaster of longer steps as one of the steps of a record, at whose other leads it says NaN.

    Args:
        forecaster: the forecaster.
        every: steps of the record in one of its own.
    """

    def __init__(self, forecaster: ForecastSurrogate, every: int) -> None:
        self.forecaster, self.every = forecaster, every
        self.history = (forecaster.history - 1) * every + 1

    def forecast_arrays(
        self,
        history: Float[np.ndarray, "batch history latitude longitude channel"],
        times: np.ndarray,
        steps: int,
        *,
        members: int = 1,
        seed: int = 0,
    ) -> Float[np.ndarray, "batch member lead latitude longitude channel"]:
        """See `surrogates.forecasts.references.Forecasts`."""
        said = self.forecaster.forecast_arrays(
            history[:, :: self.every], times, steps // self.every, members=members, seed=seed
        )
        every = np.full((*said.shape[:2], steps, *said.shape[3:]), np.nan, np.float32)
        every[:, :, self.every - 1 :: self.every] = said
        return every
