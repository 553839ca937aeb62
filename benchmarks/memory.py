"""Measures the peak memory of a screen for two numbers of candidates, because it must not grow with the file."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.chemprop import read_smiles, write_smiles
from benchmarks.common import Result, arguments, data_file, pin, report, run
from benchmarks.screening import add_surrogate, add_two_counts, prepare, run_screen


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__ or "")
    add_surrogate(parser)
    add_two_counts(parser)
    options = parser.parse_args(argv)
    pin(options.cores)
    folder, surrogate = prepare(options, "screening")
    smiles = read_smiles(data_file(options.data, "qm9_smiles.csv"))
    results: list[Result] = []
    peaks = []
    for count in options.counts:
        candidates = folder / f"memory-{count}.csv"
        write_smiles(candidates, smiles, count)
        metrics = run_screen(surrogate, candidates, folder / f"memory-{count}")
        peaks.append(metrics["screen/peak_memory_mb"])
        results += [
            Result(f"{count:,} candidates: peak memory of all processes", peaks[-1], "MB"),
            Result(f"{count:,} candidates: screening rate", metrics["screen/molecules_per_second"], "molecules/s"),
        ]
        candidates.unlink()
    results.append(Result("peak memory, large over small", peaks[1] / peaks[0], "1"))
    report("memory", results, options.out, argv)


if __name__ == "__main__":
    sys.exit(run(main))
