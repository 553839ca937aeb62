"""Compares the error on QM9's HOMO-LUMO gap with Chemprop v2 at its default settings, at equal training time.

The split is random with seed 0: 110,000 training molecules, 10,000 validation molecules, and all others as the test
set. A smaller training part consists of the first molecules of the full one. Chemprop trains first, and our training
may take as many seconds as it took. We use 2,000 of the validation molecules to calibrate intervals.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int

from benchmarks.chemprop import Chemprop
from benchmarks.common import Result, arguments, data_file, pin, report
from benchmarks.models import Gaps, fit, read_gaps

TRAIN, VALID, CALIBRATION = 110_000, 10_000, 2_000


def split(count: int, seed: int = 0) -> dict[str, Int[np.ndarray, " row"]]:
    """Random rows of the parts train, valid (without calibration), calibration and test."""
    order = np.random.default_rng(seed).permutation(count)
    validation = order[TRAIN : TRAIN + VALID]
    return {
        "train": order[:TRAIN],
        "valid": validation[CALIBRATION:],
        "calibration": validation[:CALIBRATION],
        "test": order[TRAIN + VALID :],
    }


def peer(
    chemprop: Chemprop, gaps: Gaps, parts: dict[str, Int[np.ndarray, " row"]], folder: Path, epochs: int | None
) -> tuple[float, float]:
    """Train Chemprop on the parts; return its mean absolute error (meV) and training seconds without start-up."""
    folder.mkdir(parents=True, exist_ok=True)
    valid_rows = np.concatenate([parts["valid"], parts["calibration"]])
    train = gaps.write(folder / "train.csv", parts["train"])
    valid = gaps.write(folder / "valid.csv", valid_rows)
    test = gaps.write(folder / "test.csv", parts["test"])
    startup = chemprop.startup_seconds()
    shutil.rmtree(folder / "model", ignore_errors=True)
    seconds = chemprop.train(train, valid, test, folder / "model", epochs=epochs) - startup
    chemprop.predict(folder / "model" / "model_0" / "best.pt", test, folder / "predicted.csv")
    predicted = pd.read_csv(folder / "predicted.csv")["gap"].to_numpy()
    return float(np.abs(predicted - gaps.gap[parts["test"]]).mean()), seconds


def ours(
    gaps: Gaps,
    parts: dict[str, Int[np.ndarray, " row"]],
    folder: Path,
    max_seconds: float | None,
    overrides: Sequence[str],
) -> tuple[float, float, float]:
    """Train ours; return its mean absolute error (meV), seconds with compilation, and coverage of 90% intervals."""
    from data.molecules.featurise import encode

    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    surrogate = fit(gaps, parts, folder, max_seconds=max_seconds, overrides=overrides)
    seconds = time.perf_counter() - start
    table, _ = encode([gaps.smiles[i] for i in parts["test"]])
    answer, truth = surrogate.predict_table(table), gaps.gap[parts["test"]]
    inside = (answer["gap_low"] <= truth) & (truth <= answer["gap_high"])
    return float(np.abs(answer["gap"] - truth).mean()), seconds, float(inside.mean())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--train", type=int, nargs="+", default=[10_000], help="numbers of training molecules (%(default)s)"
    )
    parser.add_argument("--test", type=int, default=None, help="number of test molecules to use (all)")
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=None,
        help="time limit of our training, instead of the time that the peer took",
    )
    parser.add_argument("--peer-epochs", type=int, default=None, help="epochs of Chemprop, instead of its default")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of our configuration")
    parser.add_argument("--no-peers", action="store_true", help="run Understudy alone")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    gaps = read_gaps(data_file(options.data, "qm9_homo_lumo_gap_hartree.csv"))
    parts = split(len(gaps.smiles))
    parts["test"] = parts["test"][: options.test]
    results: list[Result] = []
    for count in options.train:
        folder = options.out / "qm9_gap" / str(count)
        here = parts | {"train": parts["train"][:count]}
        name, error, limit = None, None, options.max_seconds
        seconds: float | None = None
        if not options.no_peers:
            chemprop = Chemprop(options.peers.resolve(), len(cores), (folder / "chemprop.log").resolve())
            name = chemprop.version()
            error, seconds = peer(chemprop, gaps, here, folder / "chemprop", options.peer_epochs)
            limit = seconds if limit is None else limit
        mae, spent, coverage = ours(gaps, here, folder / "understudy", limit, options.set)
        head = f"QM9 gap, {count:,} training molecules"
        results += [
            Result.against(f"{head}: test MAE", mae, "meV", name, error),
            Result.against(f"{head}: training time on {len(cores)} cores", spent, "s", name, seconds),
            Result(f"{head}: coverage of 90% intervals", coverage, "1"),
        ]
        report("qm9_gap", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
