"""Measures the overhead of the training loop: compilations beyond one per bucket, and waiting for batches."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence

from benchmarks.common import Result, arguments, data_file, pin, report, run


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--train", type=int, default=10_000, help="number of training molecules (%(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="number of epochs (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    from benchmarks.models import fit, read_gaps
    from benchmarks.qm9_gap import split

    gaps = read_gaps(data_file(options.data, "qm9_homo_lumo_gap_hartree.csv"))
    parts = split(len(gaps.smiles))
    folder = options.out / "training_loop"
    shutil.rmtree(folder, ignore_errors=True)
    here = parts | {"train": parts["train"][: options.train], "valid": parts["valid"][:1000]}
    surrogate = fit(gaps, here, folder, max_seconds=None, overrides=[f"train.epochs={options.epochs}"])
    record = json.loads((folder / "fit.json").read_text())
    history = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    # The first epoch includes the compilation.
    rate = options.train * (len(history) - 1) / (history[-1]["seconds"] - history[0]["seconds"])
    report(
        "training_loop",
        [
            Result("buckets", float(len(surrogate.facts.buckets)), "1"),
            Result("compilations of the training step", float(record["compilations"]["train"]), "1"),
            Result("share of the time spent waiting for batches", record["data_wait_share"], "1"),
            Result("training rate, validation included", rate, "molecules/s"),
        ],
        options.out,
        argv,
    )


if __name__ == "__main__":
    sys.exit(run(main))
