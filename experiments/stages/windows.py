"""`understudy windows`: write states of the atmosphere for training, in a resumable way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from omegaconf import MISSING, DictConfig

from data.errors import InputError
from data.files import write_json
from data.reading_summary import Reading
from data.settings import build
from data.sphere.window_store import WindowStore
from data.terminal import progress_bar, show_pairs
from experiments.application.stage import StageSettings, application, instantiate, show_readings


@runtime_checkable
class StateSource(Protocol):
    """A source of states of the atmosphere."""

    @property
    def states(self) -> int | None:
        """Number of states; None if it is not known before they are written."""
        ...

    def reading(self) -> Reading | None:
        """A report of what is read; None if no files of the user are read."""
        ...

    def write(self, path: Path, advance: Callable[[int], None] | None = None) -> WindowStore:
        """Write the states to a store of windows; `advance` is called with the number that have been written."""
        ...


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
    if not isinstance(source, StateSource):
        raise InputError(f"a {type(source).__name__} is no source of states", where="source")
    out, began = Path(settings.out), time.perf_counter()
    with progress_bar("states", source.states) as bar:
        store = source.write(out, bar.advance)
    if (reading := source.reading()) is not None:
        show_readings([reading], run_dir)
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
    show_pairs("Written", {**rows, "size": f"{size / 1e6:,.1f} MB in {seconds:.1f} s", "windows": out})


main = application("windows", windows)
