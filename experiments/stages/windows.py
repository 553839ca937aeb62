"""`understudy windows`: write states of the atmosphere for training, in a resumable way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.errors import InputError
from data.files import write_json
from data.sphere.windows import WindowStore
from data.sphere.writing import write_windows
from data.store.records import RecordStore
from experiments.application.stage import (
    StageSettings,
    application,
    build,
    existing_file,
    instantiate,
    show_readings,
    summary,
)
from experiments.forecasting.drift import Drift
from simulators.atmosphere.core.dycore import DynamicalCore
from simulators.atmosphere.core.windows import core_windows
from simulators.atmosphere.reanalysis.reanalysis import Reanalysis
from simulators.atmosphere.shallow_water.simulator import ShallowWater


@dataclass(frozen=True)
class Campaign:
    """Records of a dynamical core, from `understudy simulate`.

    Attributes:
        path: store of the records.
    """

    path: str

    def core(self) -> DynamicalCore | ShallowWater:
        """The core that computed the records, rebuilt from the attributes of the store.

        Raises:
            InputError: the store is of another simulator, or of another version of a core.
        """
        with RecordStore.open(existing_file(self.path, "source.path")) as store:
            settings, fingerprint = dict(store.attrs.get("settings") or {}), store.attrs.get("fingerprint")
        for kind in (DynamicalCore, ShallowWater):
            try:
                core = kind(**settings)
            except TypeError:
                continue
            if core.fingerprint == fingerprint:
                return core
        raise InputError(
            "holds no records of a dynamical core as it is installed", where=self.path,
            remedy="Give a store of simulator=held_suarez or shallow_water, and the version of dinosaur that made it",
        )  # fmt: skip


@dataclass(frozen=True)
class WindowsSettings(StageSettings):
    """The keys of `understudy windows`."""

    source: Any = MISSING
    out: str = MISSING


def windows(config: DictConfig, run_dir: Path) -> None:
    """Write the states of `config.source` to `config.out`."""
    settings = build(WindowsSettings, config, where="")
    try:
        source = instantiate(config.source)
    except ValueError as error:
        raise InputError(str(error), where="source") from error
    out, began = Path(settings.out), time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("states", total=source.states if isinstance(source, Reanalysis) else None)

        def advance(count: int) -> None:
            bar.advance(task, count)

        store = _written(source, out, advance)
    if isinstance(source, Reanalysis):
        show_readings([source.reading()], run_dir)
    seconds = time.perf_counter() - began
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    write_json(
        run_dir / "metrics.json",
        {
            "windows/states": float(len(store)),
            "windows/segments": float(len(store.segments)),
            "windows/seconds": seconds,
        },
    )
    layout, times = store.layout, store.times.astype("datetime64[m]")
    rows: dict[str, object] = {
        "states": f"{len(store):,}, {layout.grid.shape[0]} x {layout.grid.shape[1]} points",
        "channels": len(layout.channels),
        "variables": ", ".join(layout.variables),
        "step": f"{layout.step_hours:g} h",
        "time": f"{times[0]} to {times[-1]}" if layout.calendar else "no dates",
        "runs without a gap": len(store.segments),
    }
    if layout.calendar and len(store.segments) > 1:
        gaps = [f"{times[b - 1]} to {times[b]}" for _, b in store.segments[:-1]]
        rows["gaps"] = ", ".join(gaps[:5]) + (f" and {len(gaps) - 5} more" if len(gaps) > 5 else "")
    summary("Written", {**rows, "size": f"{size / 1e6:,.1f} MB in {seconds:.1f} s", "windows": out})


def _written(source: Any, out: Path, advance: Callable[[int], None]) -> WindowStore:
    if isinstance(source, Campaign):
        return core_windows(Path(source.path), source.core(), out, advance)
    if isinstance(source, Drift):
        return source.write(out, advance)
    if not isinstance(source, Reanalysis):
        raise InputError(f"a {type(source).__name__} is no source of states", where="source")
    return write_windows(
        out, source.segments(), source.layout, static=source.static_fields(), fingerprint=source.fingerprint,
        advance=advance,
    )  # fmt: skip


main = application("windows", windows, root="apply")
