"""What a billion candidates and a million labels take on many nodes, on paper: `python -m benchmarks.scaling_model`.

The arithmetic is that of asymptotic bounds of closed queueing networks (Denning and Buzen, ACM Computing Surveys 10,
225, 1978): W workers that need Z seconds for an item and stations that all items pass, each D_k seconds long, answer at
most min(W / Z, 1 / max D_k) items a second. Station k saturates where W / Z = 1 / D_k, so at Z / D_k workers. What one
process does before or after all others, such as a merge, is added. A simulation of discrete events checks these bounds.

Rates are measured by other benchmarks, or are inputs with their source, and can be replaced: `--rates FILE` reads the
JSON that `python -m benchmarks.scaling --out FILE` writes, or one with the names below.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.errors import InputError
from data.terminal import columns_table, print_table

NODES = (10, 100, 1000)


class MeasuredRate(NamedTuple):
    """A number that the arithmetic needs, with its unit and where it is from."""

    value: float
    unit: str
    source: str


RATES: Mapping[str, MeasuredRate] = {
    "cores": MeasuredRate(64, "cores a node", "input"),
    "label": MeasuredRate(3.93, "core-s a label", "README: B3LYP/def2-SVP of molecules of the quickstart"),
    "large_label": MeasuredRate(600, "core-s a label", "input: DFT of a drug-sized molecule"),
    "scheduler": MeasuredRate(
        1000, "tasks/s", "input: documentation of Dask, about a millisecond a task in the scheduler"
    ),
    "writer": MeasuredRate(1760, "records/s", "docs/scaling.md: a campaign whose answers cost nothing, on one core"),
    "file_operations": MeasuredRate(5000, "1/s", "input: files begun and removed, of all nodes together"),
    "operations_a_record": MeasuredRate(2, "1", "the file of a task of one record is begun and removed"),
    "bandwidth": MeasuredRate(10e9, "bytes/s", "input: file system of all nodes together"),
    "screened": MeasuredRate(9_670, "candidates/core-s", "docs/benchmarks.md: QM9 from SMILES, on two cores"),
    "screened_prepared": MeasuredRate(
        34_360, "candidates/core-s", "docs/benchmarks.md: QM9 from a prepared library, on two"
    ),
    "one_stream": MeasuredRate(5e8, "bytes/s", "input: one process reads a text through, to cut it into shards"),
    "bytes_read": MeasuredRate(60, "bytes a candidate", "input: a line of SMILES with an identifier"),
    "bytes_smiles": MeasuredRate(100, "bytes a candidate", "input: a line read and a row of results written"),
    "bytes_prepared": MeasuredRate(250, "bytes a candidate", "input: a graph read and a row of results written"),
    "merged_rows": MeasuredRate(77_700, "rows/s", "docs/scaling.md: merge of a screen of 200,000 in 2.58 core-s"),
    "merged_records": MeasuredRate(
        4500, "records/s", "docs/scaling.md: the writer alone, since a merge writes each record again"
    ),
}


@dataclass(frozen=True)
class Plan:
    """How some work is spread.

    Attributes:
        name: words for it.
        items: number of items.
        each_s: time of a worker for an item, s.
        stations: what all items pass, one after the other -> its time for an item, s.
        alone: what one process does for all items before or after the workers -> its time for an item, s.
    """

    name: str
    items: float
    each_s: float
    stations: Mapping[str, float]
    alone: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Duration:
    """What a plan takes.

    Attributes:
        parallel_s: time of workers and stations, s.
        alone_s: time of one process before and after them, s.
        limit: "workers", or the station that is saturated.
    """

    parallel_s: float
    alone_s: float
    limit: str

    @property
    def total_s(self) -> float:
        """The whole time, s."""
        return self.parallel_s + self.alone_s


def duration(plan: Plan, workers: int) -> Duration:
    """The least time of a plan on some workers."""
    demands = {"workers": plan.each_s / workers, **plan.stations}
    limit = max(demands, key=lambda name: demands[name])
    return Duration(plan.items * demands[limit], plan.items * sum(plan.alone.values()), limit)


def saturation(plan: Plan) -> dict[str, float]:
    """The number of workers at which each station is saturated, or at which what one process does takes as long."""
    return {name: plan.each_s / demand for name, demand in {**plan.stations, **plan.alone}.items() if demand > 0}


def simulate(
    plan: Plan, workers: int, items: int, seed: int = 0, window: int = 3, spread: Callable[..., float] | None = None
) -> float:
    """The time of a plan by a simulation of discrete events, without what one process does, s.

    Each worker has `window` items under way. It, and each station, takes items in the order in which they arrive.

    Args:
        plan: the plan; its first station is passed before the worker, where it is named "scheduler".
        workers: number of workers.
        items: number of items, in place of that of the plan.
        seed: seed of the times.
        window: items that are under way for each worker.
        spread: (generator, mean) -> a time; None for exponential times of workers. Times of stations are all equal.
    """
    random = np.random.default_rng(seed)
    draw = spread or (lambda generator, mean: generator.exponential(mean))
    before = {name: demand for name, demand in plan.stations.items() if name == "scheduler"}
    behind = {name: demand for name, demand in plan.stations.items() if name not in before}
    path = [*before, None, *behind]
    free = dict.fromkeys([*before, *behind], 0.0)
    busy_until = np.zeros(workers)
    # (time of arrival, order, worker, place on the path)
    begun = min(items, workers * window)
    events = [(0.0, number, number % workers, 0) for number in range(begun)]
    heapq.heapify(events)
    end = 0.0
    while events:
        now, number, worker, place = heapq.heappop(events)
        if place == len(path):
            end = max(end, now)
            if begun < items:
                heapq.heappush(events, (now, begun, worker, 0))
                begun += 1
            continue
        station = path[place]
        if station is None:
            departure = max(now, busy_until[worker]) + draw(random, plan.each_s)
            busy_until[worker] = departure
        else:
            departure = free[station] = max(now, free[station]) + plan.stations[station]
        heapq.heappush(events, (departure, number, worker, place + 1))
    return end


def plans(rates: Mapping[str, float]) -> list[Plan]:
    """The plans of docs/scaling.md.

    Args:
        rates: value of each of `RATES`.
    """
    operations = rates["operations_a_record"] / rates["file_operations"]
    engine = {"scheduler": 1 / rates["scheduler"], "file system": operations, "writer": 1 / rates["writer"]}
    merge = {"merge": 1 / rates["merged_records"]}
    ranking = {"merge": 1 / rates["merged_rows"]}
    cutting = {"cutting into shards": rates["bytes_read"] / rates["one_stream"]}
    million, billion = 1e6, 1e9
    return [
        Plan("million labels, Dask", million, rates["label"], engine),
        Plan("million labels, shards", million, rates["label"], {}, merge),
        Plan("million large labels, Dask", million, rates["large_label"], engine),
        Plan("million large labels, shards", million, rates["large_label"], {}, merge),
        Plan(
            "billion SMILES, shards", billion, 1 / rates["screened"],
            {"file system": rates["bytes_smiles"] / rates["bandwidth"]}, ranking | cutting,
        ),
        Plan(
            "billion prepared, shards", billion, 1 / rates["screened_prepared"],
            {"file system": rates["bytes_prepared"] / rates["bandwidth"]}, ranking,
        ),
    ]  # fmt: skip


#: Names in the JSON of `benchmarks.scaling` -> the rate that they are.
MEASURED = {
    ("writer", "records a core-second"): "writer",
    ("writer", "the writer alone: records a core-second"): "merged_records",
}


def read_rates(path: Path | None) -> dict[str, float]:
    """The rates, those of a file in place of the ones above.

    Raises:
        InputError: the file names something else, or a rate is not positive.
    """
    rates = {name: rate.value for name, rate in RATES.items()}
    if path is None:
        return rates
    content = json.loads(path.read_text(encoding="utf-8"))
    for group, value in content.items():
        if isinstance(value, dict):
            replaced = {MEASURED[group, key]: x for key, x in value.items() if (group, key) in MEASURED}
        elif group in RATES:
            replaced = {group: value}
        else:
            raise InputError(f"no rate {group!r}", where=str(path), remedy=f"Rates are {', '.join(RATES)}")
        for name, number in replaced.items():
            if not (isinstance(number, int | float) and 0 < number < float("inf")):
                raise InputError(f"{name} is {number!r}, not a positive number", where=str(path))
            rates[name] = float(number)
    return rates


def readable(seconds: float) -> str:
    """A time with its largest fitting unit."""
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def tables(rates: Mapping[str, float], nodes: Sequence[int] = NODES) -> tuple[list[list[str]], list[list[str]]]:
    """The rows of the two tables: what each plan takes, and the size at which each of its stations is saturated."""
    cores = int(rates["cores"])
    times, sizes = [], []
    for plan in plans(rates):
        row = [plan.name]
        for count in nodes:
            one = duration(plan, count * cores)
            alone = f" + {readable(one.alone_s)}" if one.alone_s else ""
            row.append(f"{readable(one.parallel_s)}{alone} ({one.limit})")
        times.append(row)
        places = sorted(saturation(plan).items(), key=lambda item: item[1])
        sizes.append([plan.name, *(f"{name}: {workers / cores:,.3g}" for name, workers in places)])
    return times, sizes


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=Path, help="JSON file with rates")
    parser.add_argument("--check", type=int, default=30, help="items of the simulation for each worker")
    options = parser.parse_args()
    rates = read_rates(options.rates)
    rows = [[name, f"{rates[name]:,.6g}", rate.unit, rate.source] for name, rate in RATES.items()]
    print_table(columns_table("Rates", ("name", "value", "unit", "source"), rows))
    times, sizes = tables(rates)
    heads = ("work", *(f"{count:,} nodes" for count in NODES))
    print_table(columns_table("Time of workers + of one process alone (what limits the workers)", heads, times))
    width = max(map(len, sizes))
    padded = [row + [""] * (width - len(row)) for row in sizes]
    heads = ("work", *(f"{k + 1}." for k in range(width - 1)))
    print_table(columns_table("Nodes at which each is saturated, or one process alone takes as long", heads, padded))
    comparison = []
    for plan in plans(rates)[:1]:
        for workers in (64, 640, 6400):
            items = options.check * workers
            model = duration(plan, workers)
            events = simulate(plan, workers, items)
            comparison.append([plan.name, f"{workers:,}", f"{items * model.parallel_s / plan.items:,.4g} s",
                             f"{events:,.4g} s"])  # fmt: skip
    heads = ("work", "workers", "arithmetic", "discrete events")
    print_table(columns_table(f"{options.check:,} items a worker", heads, comparison))


if __name__ == "__main__":
    main()
