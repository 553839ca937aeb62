"""Peak memory of a screen against the number of candidates: it must not grow with the file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.benchmarks.chemprop import read_smiles, write_smiles
from experiments.benchmarks.common import Result, arguments, data_file, pin, report, run
from experiments.benchmarks.screening import default_surrogate, screened


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--surrogate", type=Path, default=None, help="a trained surrogate, instead of a fresh one")
    parser.add_argument("--counts", type=int, nargs=2, default=[100_000, 1_000_000], help="candidates (%(default)s)")
    given = parser.parse_args(argv)
    pin(given.cores)
    folder = (given.out / "screening").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    surrogate = given.surrogate or default_surrogate(given.data, folder)
    smiles = read_smiles(data_file(given.data, "qm9_smiles.csv"))
    results: list[Result] = []
    peaks = []
    for count in given.counts:
        candidates = folder / f"memory-{count}.csv"
        write_smiles(candidates, smiles, count)
        found = screened(surrogate, candidates, folder / f"memory-{count}")
        peaks.append(found["screen/peak_memory_mb"])
        results += [
            Result(f"{count:,} candidates: peak memory of all processes", peaks[-1], "MB"),
            Result(f"{count:,} candidates: screening rate", found["screen/molecules_per_second"], "molecules/s"),
        ]
        candidates.unlink()
    results.append(Result("peak memory, large over small", peaks[1] / peaks[0], "1"))
    report("memory", results, given.out, argv)


if __name__ == "__main__":
    sys.exit(run(main))
