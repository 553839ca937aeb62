"""What each stage of a run cost, kept in `costs.json` so that a resumed run still counts everything."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from experiments.stage import write_json


@dataclass
class Cost:
    """The cost of one stage.

    Attributes:
        stage: what was done.
        items: how many were done, each one an `item`.
        wall_seconds: time that passed.
        core_seconds: processor time of this process and of the children that it waited for, or what
            the stage itself counted.
    """

    stage: str
    item: str = "molecule"
    items: int = 0
    wall_seconds: float = 0.0
    core_seconds: float = 0.0


def cpu_seconds() -> float:
    """Processor time so far of this process and of its ended children, user and system, in seconds."""
    usage = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in usage)


@dataclass
class Ledger:
    """Costs by stage, in order of first appearance, written after each stage.

    Args:
        path: the JSON file; one that is there is continued.
    """

    path: Path
    costs: dict[str, Cost] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.exists():
            for entry in json.loads(self.path.read_text()):
                self.costs[entry["stage"]] = Cost(**entry)

    @contextmanager
    def stage(self, name: str, *, item: str = "molecule") -> Iterator[Cost]:
        """Measure a block, also when it fails, and add it to what the stage cost before.

        The block sets `items`, and overrides `core_seconds` where it knows better (as a campaign does,
        whose store remembers what every simulation cost).
        """
        block = Cost(name, item)
        wall, cpu = time.perf_counter(), cpu_seconds()
        try:
            yield block
        finally:
            total = self.costs.setdefault(name, Cost(name, item))
            total.items = max(total.items, block.items)
            total.wall_seconds += time.perf_counter() - wall
            total.core_seconds = block.core_seconds or total.core_seconds + cpu_seconds() - cpu
            self.save()

    def save(self) -> None:
        """Write the file."""
        write_json(self.path, [asdict(cost) for cost in self.costs.values()])

    def core_seconds(self, *stages: str) -> float:
        """Sum over `stages`, or over all of them if none is named."""
        return sum(c.core_seconds for name, c in self.costs.items() if not stages or name in stages)
