"""States of the atmosphere from the records of a campaign with a dynamical core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError
from data.reading_summary import Reading
from data.settings import existing_file
from data.sphere.window_store import WindowStore
from data.store.records import RecordStore
from simulators.atmosphere.core_windows import Core, core_windows
from simulators.rebuild import rebuild

REMEDY = "Give a store of simulator=held_suarez or shallow_water, and the version of dinosaur that made it"


@dataclass(frozen=True)
class CampaignStates:
    """A source of states: the records of a dynamical core, from `understudy simulate`.

    Attributes:
        path: store of the records.
    """

    path: str

    @property
    def states(self) -> int | None:
        """Not known before the records are read."""
        return None

    def reading(self) -> Reading | None:
        """Nothing is read but records of this package."""
        return None

    def core(self) -> Core:
        """The core that computed the records, rebuilt from the attributes of the store.

        Raises:
            InputError: the store is of another simulator, or of another version of a core.
        """
        with RecordStore.open(existing_file(self.path, "source.path")) as store:
            attrs = dict(store.attrs)
        core = rebuild(attrs, where=self.path, remedy=REMEDY)
        if not isinstance(core, Core):
            raise InputError("holds no records of a dynamical core", where=self.path, remedy=REMEDY)
        return core

    def write(self, path: Path, advance: Callable[[int], None] | None = None) -> WindowStore:
        """Write the states of all answered records to a store of windows; see `core_windows`."""
        return core_windows(Path(self.path), self.core(), path, advance)
