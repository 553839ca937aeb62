"""The time that a training has taken, in wall and processor time, and the limits that end it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from data.processes.processor import tree_seconds
from surrogates.learning.devices import agree, total
from surrogates.learning.recipe import TrainConfig

#: Why a training ended.
StoppedBy = Literal["epochs", "patience", "max_seconds", "max_core_seconds"]
#: Wall time between two looks at the processor time, s, which takes a third of a millisecond.
LOOK_S = 0.05


@dataclass(frozen=True)
class TrainingTime:
    """What a training has taken, earlier sessions included; 0 where there is no limit to compare it with.

    Attributes:
        wall: wall time, s.
        core: processor time of all processes and their children, s.
    """

    wall: float
    core: float

    def over(self, config: TrainConfig) -> StoppedBy | None:
        """The limit of a recipe that is exceeded; None for none."""
        if config.max_core_seconds is not None and self.core >= config.max_core_seconds:
            return "max_core_seconds"
        return "max_seconds" if config.max_seconds is not None and self.wall >= config.max_seconds else None

    def share(self, config: TrainConfig) -> float:
        """Share of the time that the limits allow, by that which is nearest; 0 without limits."""
        wall = self.wall / config.max_seconds if config.max_seconds else 0.0
        return max(wall, self.core / config.max_core_seconds if config.max_core_seconds else 0.0)


@dataclass
class TrainingClock:
    """Reads the time of a training; all processes of it read alike, and have to read equally often.

    Attributes:
        config: the recipe, whose limits say what has to be read.
        wall: wall time of earlier sessions, s.
        core: processor time of earlier sessions, s.
    """

    config: TrainConfig
    wall: float
    core: float
    _began: float = field(init=False)
    _core_began: float = field(init=False)
    _core: float = 0.0
    _looked: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._looked = time.perf_counter()
        self._core_began = tree_seconds()

    def read(self, *, always: bool = False) -> TrainingTime:
        """The time so far; without limits it is read only `always`."""
        wall = core = 0.0
        if always or self.config.max_seconds is not None:
            wall = agree(self.wall + time.perf_counter() - self._began)
        if self.config.max_core_seconds is not None:
            if always or time.perf_counter() - self._looked >= LOOK_S:
                self._core, self._looked = tree_seconds() - self._core_began, time.perf_counter()
            core = self.core + total(self._core)
        return TrainingTime(wall, core)
