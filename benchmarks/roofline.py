"""Determines what bounds the speed of each part of the networks, by a roofline analysis.

Operations and bytes are counted by XLA and compared with the peaks of this machine, as in a roofline (Williams et al.
2009, doi:10.1145/1498765.1498785) with a third limit for transcendental functions. The input is a batch of aspirin in
the shape that a prediction uses. Each part runs alone, forward and with its gradient, on arrays of the shapes that it
has inside the network.

The models are those of `potential_learning` if it has run, else new ones, because the speed does not depend on
weights.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report
from benchmarks.potential_learning import FILES, ISOLATED, ours, split, write
from data.errors import InputError
from data.files import write_text
from surrogates.learning.machine import Peaks

if TYPE_CHECKING:
    from benchmarks.network_parts import Call, Measured
    from surrogates.potentials.surrogate import PotentialSurrogate


ALL = "all"
#: Targets of the parts of each architecture (see `parts.find`), in the order in which they finish. Each part is counted
#: without the parts that it calls, so the outermost part holds all remaining work.
PARTS: Mapping[str, Mapping[str, str]] = {
    "ace": {
        "geometry": "surrogates.potentials.energy:pairs",
        "harmonics": "surrogates.potentials.networks.ace:harmonics",
        "basis": "surrogates.potentials.networks.ace:expand",
        "radial": "surrogates.potentials.networks.ace:Radial.__call__",
        "pair functions": "surrogates.potentials.networks.ace:ACE.edges",
        "density": "surrogates.potentials.networks.ace:Layer.density",
        "products": "surrogates.potentials.networks.products:Products.__call__",
        "update": "surrogates.potentials.networks.ace:Layer.__call__",
        "embedding": "surrogates.potentials.networks.ace:ACE.__call__",
        "readout": "surrogates.potentials.networks.readout:Readout.last",
    },
    "painn": {
        "geometry": "surrogates.potentials.energy:pairs",
        "basis": "surrogates.potentials.networks.painn:expand",
        "message": "surrogates.potentials.networks.painn:Message.__call__",
        "update": "surrogates.potentials.networks.painn:Update.__call__",
        "embedding": "surrogates.potentials.networks.painn:PaiNN.__call__",
        "readout": "surrogates.potentials.networks.readout:Readout.last",
    },
}
#: Target of the whole network: energies and their derivatives.
WHOLE = "surrogates.potentials.energy:EnergyModel.__call__"
#: Marks in the docs between which the tables stand.
MARKS = ("<!-- roofline", "<!-- /roofline -->")
UNITS = {"time": ("us", 1e6), "operations": ("MFLOP", 1e-6), "traffic": ("MB", 1e-6), "transcendentals": ("k", 1e-3)}


@dataclass(frozen=True)
class RooflineRow:
    """Measurement of one part of a network in one direction, for a batch of `molecules` molecules."""

    network: str
    part: str
    direction: str
    measured: Measured
    molecules: int

    def results(self, peaks: Peaks) -> list[Result]:
        """Time, operations, bytes and transcendental functions per molecule, and the bound with its share."""
        measured = self.measured
        values = (measured.seconds, measured.cost.flops, measured.cost.bytes, measured.cost.transcendentals)
        head = f"{self.network}, {self.part}, {self.direction}"
        results = [
            Result(f"{head}: {name}", factor * value / self.molecules, unit)
            for value, (name, (unit, factor)) in zip(values, UNITS.items(), strict=True)
        ]
        bound, share = measured.cost.bound(peaks, measured.seconds)
        return [*results, Result(f"{head}: share of {bound}", share, "1")]


def rows(network: str, calls: Mapping[str, Sequence[Call]], molecules: int) -> list[RooflineRow]:
    """Measure each part, forward and gradient, and the whole network."""
    from benchmarks.network_parts import measure

    measured_rows: list[RooflineRow] = []
    for part in PARTS[network]:
        forward = measure(calls[part], gradient=False)
        both = measure(calls[part], gradient=True)
        measured_rows.append(RooflineRow(network, part, "forward", forward, molecules))
        measured_rows.append(RooflineRow(network, part, "gradient", both - forward, molecules))
    whole = measure(calls[ALL], gradient=False)
    return [*measured_rows, RooflineRow(network, ALL, "energies and forces", whole, molecules)]


def trace(potential: PotentialSurrogate, frames: Path, count: int) -> tuple[dict[str, list[Call]], int, str]:
    """Record the calls of all parts in the first batch of a file; return them, its molecules, and the architecture."""
    from benchmarks.network_parts import record_calls
    from surrogates.potentials.networks.architectures import ARCHITECTURES
    from surrogates.potentials.structure_reading import read_structures

    if potential.facts.config.ensemble != 1:
        raise InputError(
            "is an ensemble", where="--surrogates", remedy="Name a single network, whose parts can be traced"
        )
    name = ARCHITECTURES.name_of(potential.facts.config.network)
    batches = potential.batches(read_structures(frames, None).take(np.arange(count)))
    batch = next(iter(batches.epoch(0)))
    with record_calls({ALL: WHOLE}) as whole, record_calls(PARTS[name]) as calls:
        potential.predict(batch, error_bars=False)
    return calls | whole, batches.shapes[batches.plan(0)[0][0]].molecules, name


def markdown(results: Sequence[Result]) -> str:
    """The tables of docs/performance.md: peaks of the machine, and each part with its bound."""
    machine = [r for r in results if r.name.startswith("machine: ")]
    lines = ["| this machine reaches | |", "|---|---|"]
    lines += [f"| {r.name.removeprefix('machine: ')} | {r.value:,.3g} {r.unit} |" for r in machine]
    heads = ("network", "part", "direction", "us", "MFLOP", "MB", "k transcendental", "bound by", "share reached")
    lines += ["", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    table: dict[tuple[str, ...], dict[str, float]] = {}
    for r in results:
        match = re.fullmatch(r"(\w+), ([\w ]+), ([\w ]+): (.+)", r.name)
        if match:
            table.setdefault(match.groups()[:3], {})[match[4]] = r.value
    for key, values in table.items():
        bound = next(name for name in values if name.startswith("share of "))
        cells = [f"{values[name]:,.3g}" for name in UNITS]
        lines.append(f"| {' | '.join([*key, *cells, bound.removeprefix('share of '), f'{values[bound]:.0%}'])} |")
    return "\n".join(lines)


def fill(path: Path, text: str) -> None:
    """Replace the text between the marks of a file.

    Raises:
        InputError: the file has no such marks.
    """
    before, opening, rest = path.read_text().partition(MARKS[0])
    head, end_of_head, _ = rest.partition("-->\n")
    _, closing, after = rest.partition(MARKS[1])
    if not (opening and end_of_head and closing):
        raise InputError(f"no {MARKS[0]} ... {MARKS[1]} in it", where=str(path), remedy="Name docs/performance.md")
    write_text(path, f"{before}{opening}{head}{end_of_head}{text}\n{closing}{after}")


def find_surrogate(out: Path, data: Path, surrogate: str) -> Path:
    """Path of a surrogate of that configuration: from `potential_learning`, else a new one trained for a second."""
    from surrogates.potentials.structure_reading import read_structures

    learned = sorted((out / "potential_learning").glob(f"*/*/{surrogate}/surrogate"), key=lambda p: float(p.parts[-3]))
    if learned:
        return learned[-1]
    folder = (out / "roofline").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    train, valid = split(read_structures(data_file(data, FILES["aspirin"][0]), None))
    parts = {"train": write(train, folder / "train.xyz"), "valid": write(valid, folder / "valid.xyz")}
    parts["isolated"] = data_file(data, ISOLATED).resolve()
    ours(folder / surrogate, parts, surrogate, 1.0, ())
    return folder / surrogate / "surrogate"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--surrogates", nargs="+", default=["ace", "painn"], help="our configurations (%(default)s)")
    parser.add_argument("--markdown", action="store_true", help="only print the tables of the docs from the last run")
    parser.add_argument("--fill", type=Path, default=None, help="also write the tables between the marks of this file")
    options = parser.parse_args(argv)
    if options.markdown:
        from benchmarks.__main__ import results as stored_results

        print(markdown(stored_results(options.out / "roofline.json")))
        return
    pin(options.cores)
    from surrogates.learning.machine import measure as measure_machine
    from surrogates.potentials.surrogate import PotentialSurrogate

    peaks = measure_machine()
    results = [
        Result("machine: products of matrices, float32", peaks.flops / 1e9, "GFLOP/s"),
        Result("machine: bandwidth of caches", peaks.cache / 1e9, "GB/s"),
        Result("machine: bandwidth of memory", peaks.memory / 1e9, "GB/s"),
        Result("machine: exponentials", peaks.transcendentals / 1e9, "G/s"),
    ]
    frames = data_file(options.data, FILES["aspirin"][1])
    for surrogate in options.surrogates:
        potential = PotentialSurrogate.load(find_surrogate(options.out, options.data, surrogate))
        calls, molecules, network = trace(potential, frames, 256)
        part_rows = rows(network, calls, molecules)
        results.append(Result(f"{surrogate}: aspirins in a batch", float(molecules), "1"))
        results += [result for row in part_rows for result in row.results(peaks)]
        parts = sum(row.measured.seconds for row in part_rows[:-1])
        results.append(
            Result(f"{surrogate}: parts alone, over all together", parts / part_rows[-1].measured.seconds, "1")
        )
        report("roofline", results, options.out, argv)
    if options.fill is not None:
        fill(options.fill, markdown(results))


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
