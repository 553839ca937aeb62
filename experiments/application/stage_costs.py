"""Records the cost of each stage of a run in `costs.json`, so that a resumed run counts all of its sessions.

The file is updated while a stage runs, so that a killed run loses only its last seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from data.files import write_json
from data.json_files import read_plain
from experiments.application.usage import cpu_seconds

#: Seconds between updates of the file while a stage runs; a kill loses at most this time.
UPDATE_S = 2.0
REMEDY = "Restore it from a copy, or remove it: what was spent before is then not counted"


@dataclass
class StageCost:
    """The cost of one stage.

    Attributes:
        stage: name of the stage.
        item: name of what the stage counts, in the singular.
        items: number of items that were processed.
        wall_seconds: wall time, s.
        core_seconds: processor time of this process and its children, or the time that the stage counted itself, s.
    """

    stage: str
    item: str = "molecule"
    items: int = 0
    wall_seconds: float = 0.0
    core_seconds: float = 0.0

    def __post_init__(self) -> None:
        if min(self.items, self.wall_seconds, self.core_seconds) < 0:
            raise ValueError("items and seconds must be 0 or more")


@dataclass
class Ledger:
    """Costs by stage, in order of first appearance, written after each stage.

    Args:
        path: JSON file; an existing one is continued.
    """

    path: Path
    costs: dict[str, StageCost] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.exists():
            self.costs |= {cost.stage: cost for cost in read_plain(self.path, list[StageCost], remedy=REMEDY)}

    @contextmanager
    def stage(self, name: str, *, item: str = "molecule") -> Iterator[StageCost]:
        """Measure the cost of a block, even if it fails or is killed, and add it to the cost of the stage so far.

        The block sets `items`. It may override `core_seconds`, as a campaign does, whose store records the cost of
        every simulation.
        """
        block = StageCost(name, item)
        before = replace(self.costs.get(name, block))
        wall, cpu = time.perf_counter(), cpu_seconds()
        over = threading.Event()

        def update() -> None:
            self.costs[name] = StageCost(
                name,
                item,
                max(before.items, block.items),
                before.wall_seconds + time.perf_counter() - wall,
                block.core_seconds or before.core_seconds + max(0.0, cpu_seconds() - cpu),
            )
            self.save()

        def keep_up() -> None:
            while not over.wait(UPDATE_S):
                # An error here, such as a full disk, occurs again where the block ends, and is reported there.
                with suppress(OSError):
                    update()

        keeper = threading.Thread(target=keep_up, daemon=True, name="ledger")
        keeper.start()
        try:
            yield block
        finally:
            over.set()
            keeper.join()
            update()

    def save(self) -> None:
        """Write the file."""
        write_json(self.path, [asdict(cost) for cost in self.costs.values()])

    def core_seconds(self, *stages: str) -> float:
        """Sum over `stages`, or over all of them if none is named."""
        return sum(c.core_seconds for name, c in self.costs.items() if not stages or name in stages)
