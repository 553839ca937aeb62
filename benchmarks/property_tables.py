"""Compares the 2D network with Chemprop v2 on tables of measured properties, with the processor time of each training.

The user brings the tables, which are published elsewhere (see docs/benchmarks.md): `--table FILE:COLUMN:KIND`, where
KIND is regression or classification. Each is split at random and by scaffold, 80% for training and 10% for the test,
with the same parts for both sides. Both train with their defaults, in one thread; start-up counts for neither. The
validation part of Chemprop is the other 10%, of which our side gives half to the calibration of intervals and
probabilities. `--core-seconds` gives Chemprop as many epochs, at most its default number, as fit into that time. A side
that took longer than the other one is called slower in the verdict.

Sides that have finished are kept below `--out` and are not repeated, so that a stopped run resumes and another recipe
(`--set`) is compared with the same runs of Chemprop.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.chemprop import Chemprop
from benchmarks.common import Result, arguments, pin, report, run
from benchmarks.property_parts import DECIDES, TableChoice, read_labels, verdict
from benchmarks.property_sides import Peer, PropertyCase, our_numbers
from data.rejects import RejectLog
from data.terminal import columns_table, print_table

Numbers = dict[str, float]


def results_of(
    head: str, kind: str, pairs: Sequence[tuple[Numbers, Numbers | None]], version: str | None
) -> list[Result]:
    """Means over the seeds of all that was measured, beside those of the peer where it has them."""
    units = {"core_seconds": "core-s"}
    # A rank correlation is left out of constant predictions, which one seed may give.
    shared = [name for name in pairs[0][0] if all(name in mine for mine, _ in pairs)]
    results = []
    for name in sorted(shared, key=lambda name: name != DECIDES[kind][0]):
        ours = float(np.mean([mine[name] for mine, _ in pairs]))
        values = [theirs[name] for _, theirs in pairs if theirs is not None and name in theirs]
        peers = float(np.mean(values)) if len(values) == len(pairs) else None
        results.append(Result.against(f"{head}: {name}", ours, units.get(name, "1"), version, peers))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.set_defaults(cores=1)
    parser.add_argument(
        "--table", nargs="+", required=True, metavar="FILE:COLUMN:KIND", help="tables; :SMILES_COLUMN may follow"
    )
    parser.add_argument(
        "--splits", nargs="+", choices=("random", "scaffold"), default=["random", "scaffold"], help="(%(default)s)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of split and training (%(default)s)")
    parser.add_argument("--core-seconds", type=float, default=None, help="processor time of a training of Chemprop")
    parser.add_argument("--max-seconds", type=float, default=None, help="wall time of our training (no limit)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of our configuration")
    parser.add_argument("--no-peers", action="store_true", help="run Understudy alone")
    options = parser.parse_args(argv)
    tables = [TableChoice.parse(text) for text in options.table]
    pin(options.cores)
    folder = (options.out / "property_tables").resolve()
    peer = None
    if not options.no_peers:
        peer = Peer.of(Chemprop(options.peers.absolute(), options.cores, folder / "chemprop.log"))
    version = None if peer is None else peer.version
    shown = columns_table(
        "Understudy beside Chemprop on tables of properties",
        ("table", "split", "seed", "score", "ours", "peer's", "our core-s", "peer's core-s", "epochs", "verdict"),
        texts=4,
    )
    results: list[Result] = []
    for table in tables:
        place = folder / table.name.replace("/", "_")
        with RejectLog(place / "rejects.csv") as rejects:
            labels = read_labels(table, rejects)
        decides = DECIDES[table.kind][0]
        for split in options.splits:
            pairs: list[tuple[Numbers, Numbers | None]] = []
            for seed in options.seeds:
                case = PropertyCase(table, labels, split, seed, place / f"{split}-{seed}")
                theirs = None if peer is None else peer.numbers(case, options.core_seconds)
                mine = our_numbers(case, options.max_seconds, options.set)
                pairs.append((mine, theirs))
                line = [
                    table.name,
                    split,
                    str(seed),
                    decides,
                    f"{mine[decides]:.3f}",
                    "",
                    f"{mine['core_seconds']:.0f}",
                ]
                if theirs is None:
                    shown.add_row(*line, "", "", "")
                    continue
                line[5] = f"{theirs[decides]:.3f}"
                said = verdict(table.kind, [mine], [theirs])
                shown.add_row(*line, f"{theirs['core_seconds']:.0f}", f"{theirs['epochs']:.0f}", said)
            results += results_of(f"{table.name}, {split}", table.kind, pairs, version)
            report("property_tables", results, options.out, argv)
            both = [(mine, theirs) for mine, theirs in pairs if theirs is not None]
            if both:
                means = (f"{np.mean([side[k][decides] for side in both]):.3f}" for k in (0, 1))
                times = (f"{np.mean([side[k]['core_seconds'] for side in both]):.0f}" for k in (0, 1))
                said = verdict(table.kind, *zip(*both, strict=True))
                shown.add_row(table.name, split, "all", decides, *means, *times, "", said)
    print_table(shown)


if __name__ == "__main__":
    sys.exit(run(main))
