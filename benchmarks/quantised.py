"""Compares products of 8 bits with float32 for the 2D network: errors, coverage of intervals, and rates on one core.

One network learns gaps of QM9. Its graph of ONNX is computed by ONNX Runtime in float32, and quantised with molecules
of its training; XLA computes the original. All three answer the same held-out molecules, and the same in turn
on the same core, each with one thread: the packed batches alone, and a screen of a prepared library, which reads,
packs, predicts, looks up the domain and ranks. Rates are molecules over processor time, the best of several rounds.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report
from data.processes.processor import tree_seconds

#: Molecules of the training, validation, calibration and test.
PARTS = (6_000, 500, 2_500, 4_000)
#: Molecules from which the scales of 8 bits are taken.
SCALES = 2_000


def trained(data: Path, folder: Path, epochs: int) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """A surrogate of one network, the gaps in meV, and the rows of each part; an earlier training is resumed."""
    from benchmarks.models import fit, read_gaps

    gaps = read_gaps(data_file(data, "qm9_homo_lumo_gap_hartree.csv"))
    rows = np.random.default_rng(1).permutation(len(gaps.smiles))[: sum(PARTS)]
    names = ("train", "valid", "calibration", "test")
    parts = dict(zip(names, np.split(rows, np.cumsum(PARTS)[:-1]), strict=True))
    overrides = ["model.ensemble=1", f"train.epochs={epochs}", "train.mlflow=false"]
    learned = {name: part for name, part in parts.items() if name != "test"}
    return fit(gaps, learned, folder, max_seconds=None, overrides=overrides), gaps, parts


def answering(surrogate: Any, networks: Any | None) -> Any:
    """The surrogate, or a copy whose networks ONNX Runtime computes."""
    if networks is None:
        return surrogate
    copy = surrogate.with_facts()
    copy.raw = partial(_raw, networks, copy)
    return copy


def _raw(networks: Any, surrogate: Any, table: Any, on: Any = None) -> tuple[np.ndarray, np.ndarray]:
    answer: tuple[np.ndarray, np.ndarray] = networks.raw(surrogate, table)
    return answer


def best_rates(calls: dict[str, Callable[[], Any]], count: int, rounds: int) -> dict[str, float]:
    """Molecules a core-second of each, in turn; the first round is not counted."""
    least = dict.fromkeys(calls, float("inf"))
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = tree_seconds()
            call()
            spent = tree_seconds() - start
            if turn:
                least[name] = min(least[name], spent)
    return {name: count / seconds for name, seconds in least.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.set_defaults(cores=1)
    parser.add_argument("--epochs", type=int, default=30, help="epochs of the training (%(default)s)")
    parser.add_argument("--molecules", type=int, default=40_000, help="molecules of the library (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    folder = (options.out / "quantised").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    from data.molecules.foreign import graphs
    from experiments.screening.library_screen import ScreenConfig, screen
    from experiments.screening.library_writing import prepare
    from surrogates.learning.conformal import coverage
    from surrogates.learning.devices import enable_compilation_cache
    from surrogates.properties.onnx_graph import onnx_model
    from surrogates.properties.quantised import OnnxNetworks, batches_of, quantised

    enable_compilation_cache()
    surrogate, gaps, parts = trained(options.data, folder / "run", options.epochs)
    model = onnx_model(surrogate)
    learned = graphs([gaps.smiles[i] for i in parts["train"][:SCALES]], "training")
    small = quantised(model, [batch for _, batch in batches_of(surrogate, learned)])
    networks = {
        "XLA, float32": None,
        "ONNX Runtime, float32": OnnxNetworks(model),
        "ONNX Runtime, int8": OnnxNetworks(small),
    }
    kinds = {name: answering(surrogate, one) for name, one in networks.items()}
    first = next(iter(kinds))

    test = graphs([gaps.smiles[i] for i in parts["test"]], "test")
    truth, results = gaps.gap[parts["test"]], []
    error: dict[str, float] = {}
    for name, one in kinds.items():
        answer = one.predict_table(test)
        error[name] = float(np.abs(answer["gap"] - truth).mean())
        share = coverage(truth, answer["gap_low"], answer["gap_high"])
        what = f"{name}: mean absolute error of {len(truth):,} gaps"
        results.append(Result.against(what, error[name], "meV", first, error[first]))
        results.append(Result(f"{name}: share of 90% intervals that hold", float(share), "1"))

    smiles = [gaps.smiles[i] for i in range(min(options.molecules, len(gaps.smiles)))]
    table = graphs(smiles, "library")
    batches = [batch for rows, batch in batches_of(surrogate, table) if len(rows) == surrogate.batch_size][:40]

    def packed(networks: Any) -> None:
        for batch in batches:
            if networks is None:
                np.asarray(surrogate._ask(batch)[0])
            else:
                networks.members(batch)

    alone = best_rates({n: partial(packed, one) for n, one in networks.items()}, 256 * len(batches), options.rounds)
    results += [
        Result.against(f"{name}: packed batches", rate, "molecules/core-s", first, alone[first])
        for name, rate in alone.items()
    ]
    (folder / "library.smi").write_text("\n".join(smiles), encoding="utf-8")
    shutil.rmtree(folder / "library", ignore_errors=True)
    prepare(folder / "library.smi", folder / "library", workers=1, progress=False)

    def screened(one: Any) -> None:
        shutil.rmtree(folder / "screen", ignore_errors=True)
        screen(one, folder / "library", folder / "screen", ScreenConfig(top_k=100, workers=1), progress=False)

    whole = best_rates({n: partial(screened, one) for n, one in kinds.items()}, len(smiles), options.rounds)
    results += [
        Result.against(f"{name}: screen of a prepared library", rate, "molecules/core-s", first, whole[first])
        for name, rate in whole.items()
    ]
    report("quantised", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
