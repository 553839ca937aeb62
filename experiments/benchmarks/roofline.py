"""What bounds each part of the networks: operations and bytes by XLA's count, against what this machine reaches.

A roofline (Williams et al. 2009, doi:10.1145/1498765.1498785) with a third line for transcendental functions. A
batch of aspirin in the shape that a prediction gives it; each part runs alone, forward and with its gradient,
on arrays of the shapes that it has inside the whole.

The models are those of `potential_learning` where it has run, else freshly made: speed does not depend on weights.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.errors import InputError
from data.files import write_text
from experiments.benchmarks.common import Result, arguments, data_file, pin, report
from experiments.benchmarks.machine import Peaks
from experiments.benchmarks.potential_learning import FILES, ISOLATED, ours, split, write

if TYPE_CHECKING:
    from experiments.benchmarks.parts import Call, Measured
    from surrogates.graph.potential import Potential


ALL = "all"
#: Where the parts of each architecture are (see `parts.find`), in the order in which they end. Each counts without
#: those that it calls, so that the last holds what no other does.
PARTS: Mapping[str, Mapping[str, str]] = {
    "ace": {
        "geometry": "surrogates.graph.energy:pairs",
        "harmonics": "surrogates.graph.ace:harmonics",
        "basis": "surrogates.graph.ace:expand",
        "radial": "surrogates.graph.ace:Radial.__call__",
        "pair functions": "surrogates.graph.ace:ACE.edges",
        "density": "surrogates.graph.ace:Layer.density",
        "products": "surrogates.graph.products:Products.__call__",
        "update": "surrogates.graph.ace:Layer.__call__",
        "embedding": "surrogates.graph.ace:ACE.__call__",
        "readout": "surrogates.graph.readout:Readout.last",
    },
    "painn": {
        "geometry": "surrogates.graph.energy:pairs",
        "basis": "surrogates.graph.painn:expand",
        "message": "surrogates.graph.painn:Message.__call__",
        "update": "surrogates.graph.painn:Update.__call__",
        "embedding": "surrogates.graph.painn:PaiNN.__call__",
        "readout": "surrogates.graph.readout:Readout.last",
    },
}
#: Energies and their derivatives.
WHOLE = "surrogates.graph.energy:EnergyModel.__call__"
#: Between these the docs hold the tables.
MARKS = ("<!-- roofline", "<!-- /roofline -->")
UNITS = {"time": ("us", 1e6), "operations": ("MFLOP", 1e-6), "traffic": ("MB", 1e-6), "transcendentals": ("k", 1e-3)}


@dataclass(frozen=True)
class Row:
    """A part of a network in one direction, for a batch of so many molecules."""

    network: str
    part: str
    direction: str
    measured: Measured
    molecules: int

    def results(self, peaks: Peaks) -> list[Result]:
        """Time, operations, traffic and transcendental functions of a molecule, and what bounds them."""
        found = self.measured
        values = (found.seconds, found.cost.flops, found.cost.bytes, found.cost.transcendentals)
        head = f"{self.network}, {self.part}, {self.direction}"
        made = [
            Result(f"{head}: {name}", factor * value / self.molecules, unit)
            for value, (name, (unit, factor)) in zip(values, UNITS.items(), strict=True)
        ]
        bound, share = found.cost.bound(peaks, found.seconds)
        return [*made, Result(f"{head}: share of {bound}", share, "1")]


def rows(network: str, calls: Mapping[str, Sequence[Call]], molecules: int) -> list[Row]:
    """Each part forward and backward, and all together."""
    from experiments.benchmarks.parts import measure

    made: list[Row] = []
    for part in PARTS[network]:
        forward = measure(calls[part], gradient=False)
        both = measure(calls[part], gradient=True)
        made.append(Row(network, part, "forward", forward, molecules))
        made.append(Row(network, part, "gradient", both - forward, molecules))
    whole = measure(calls[ALL], gradient=False)
    return [*made, Row(network, ALL, "energies and forces", whole, molecules)]


def trace(potential: Potential, frames: Path, count: int) -> tuple[dict[str, list[Call]], int, str]:
    """The calls of all parts in the first batch of a file of frames, its molecules, and the network's name."""
    from experiments.benchmarks.parts import recorded
    from experiments.frames import read_structures
    from surrogates.graph.networks import architecture

    if potential.facts.config.ensemble != 1:
        raise InputError(
            "is an ensemble", where="--surrogates", remedy="Name a single network, whose parts can be seen"
        )
    name = architecture(potential.facts.config.network)
    batches = potential.batches(read_structures(frames, None).take(np.arange(count)))
    batch = next(iter(batches.epoch(0)))
    with recorded({ALL: WHOLE}) as whole, recorded(PARTS[name]) as calls:
        potential.predict(batch, error_bars=False)
    return calls | whole, batches.shapes[batches.plan(0)[0][0]].molecules, name


def markdown(results: Sequence[Result]) -> str:
    """The tables of docs/performance.md: the machine, and each part with what bounds it."""
    machine = [r for r in results if r.name.startswith("machine: ")]
    lines = ["| this machine reaches | |", "|---|---|"]
    lines += [f"| {r.name.removeprefix('machine: ')} | {r.value:,.3g} {r.unit} |" for r in machine]
    heads = ("network", "part", "direction", "us", "MFLOP", "MB", "k transcendental", "bound by", "share reached")
    lines += ["", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    table: dict[tuple[str, ...], dict[str, float]] = {}
    for r in results:
        found = re.fullmatch(r"(\w+), ([\w ]+), ([\w ]+): (.+)", r.name)
        if found:
            table.setdefault(found.groups()[:3], {})[found[4]] = r.value
    for key, values in table.items():
        bound = next(name for name in values if name.startswith("share of "))
        cells = [f"{values[name]:,.3g}" for name in UNITS]
        lines.append(f"| {' | '.join([*key, *cells, bound.removeprefix('share of '), f'{values[bound]:.0%}'])} |")
    return "\n".join(lines)


def fill(path: Path, text: str) -> None:
    """Put tables between the marks of a file.

    Raises:
        InputError: it has no such marks.
    """
    before, opening, rest = path.read_text().partition(MARKS[0])
    head, end_of_head, _ = rest.partition("-->\n")
    _, closing, after = rest.partition(MARKS[1])
    if not (opening and end_of_head and closing):
        raise InputError(f"no {MARKS[0]} ... {MARKS[1]} in it", where=str(path), remedy="Name docs/performance.md")
    write_text(path, f"{before}{opening}{head}{end_of_head}{text}\n{closing}{after}")


def trained(given_out: Path, data: Path, surrogate: str) -> Path:
    """A surrogate of that configuration: one that `potential_learning` made, or else one that learns for a second."""
    from experiments.frames import read_structures

    learned = sorted(
        (given_out / "potential_learning").glob(f"*/*/{surrogate}/surrogate"), key=lambda p: float(p.parts[-3])
    )
    if learned:
        return learned[-1]
    folder = (given_out / "roofline").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    train, valid = split(read_structures(data_file(data, FILES["aspirin"][0]), None))
    parts = {"train": write(train, folder / "train.xyz"), "valid": write(valid, folder / "valid.xyz")}
    parts["isolated"] = data_file(data, ISOLATED).resolve()
    ours(folder / surrogate, parts, surrogate, 1.0, ())
    return folder / surrogate / "surrogate"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--surrogates", nargs="+", default=["ace", "painn"], help="ours (%(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print the last run as the tables of the docs, no more")
    parser.add_argument(
        "--fill", type=Path, default=None, help="also put the tables into this file, where its marks are"
    )
    given = parser.parse_args(argv)
    if given.markdown:
        from experiments.benchmarks.__main__ import results as held

        print(markdown(held(given.out / "roofline.json")))
        return
    pin(given.cores)
    from experiments.benchmarks.machine import measure as measure_machine
    from surrogates.graph.potential import Potential

    peaks = measure_machine()
    results = [
        Result("machine: products of matrices, float32", peaks.flops / 1e9, "GFLOP/s"),
        Result("machine: bandwidth of caches", peaks.cache / 1e9, "GB/s"),
        Result("machine: bandwidth of memory", peaks.memory / 1e9, "GB/s"),
        Result("machine: exponentials", peaks.transcendentals / 1e9, "G/s"),
    ]
    frames = data_file(given.data, FILES["aspirin"][1])
    for surrogate in given.surrogates:
        potential = Potential.load(trained(given.out, given.data, surrogate))
        calls, molecules, network = trace(potential, frames, 256)
        made = rows(network, calls, molecules)
        results.append(Result(f"{surrogate}: aspirins in a batch", float(molecules), "1"))
        results += [result for row in made for result in row.results(peaks)]
        parts = sum(row.measured.seconds for row in made[:-1])
        results.append(Result(f"{surrogate}: parts alone, over all together", parts / made[-1].measured.seconds, "1"))
        report("roofline", results, given.out, argv)
    if given.fill is not None:
        fill(given.fill, markdown(results))


if __name__ == "__main__":
    from experiments.benchmarks.common import run

    sys.exit(run(main))
