"""Compares errors on rMD17 with MACE at its recommended small settings, after equal training time on the CPU.

A budget of B CPU minutes is B / cores minutes of wall time on all cores. It includes compilation and validation, but
not the start-up. Each budget is a separate training, whose learning rate decays to its end within the budget. The
work after our last step (error bars, writing) counts too, and MACE gets the whole time that our training took: its
number of epochs follows from the time of a few epochs, and the time that it really took is printed. All models learn
from the same 950 of 1000 frames, use the other 50 for validation, and use the same energies of isolated atoms.

With --together both programs train at the same time, each on half of the cores with the same budget. That halves the
wall time, and other work on the machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report
from benchmarks.mace import Mace
from data.errors import InputError
from data.files import write_json

if TYPE_CHECKING:
    from data.structures.structures import Structures

FILES = {
    "ethanol": ("rmd17_ethanol_train.xyz", "rmd17_ethanol_test_MD.xyz"),
    "aspirin": ("rmd17_aspirin_train.xyz", "rmd17_aspirin_test.xyz"),
}
TRAIN, VALID = 950, 50
#: Energies of isolated atoms (PBE/def2-SVP, eV) from the file that belongs to rMD17.
ISOLATED = "rmd17_ethanol_isolated_atoms.xyz"
METRICS = {"energy_mae_mev": "meV", "forces_mae_mev_per_angstrom": "meV/A"}
#: Factor on the budget of MACE where our time is not known yet; it covers our error bars and writing.
AFTER_TRAINING = 1.03
#: Metrics of the training loop, stored as `train/<key>`, and their descriptions.
LOOP = {
    "data_wait_share": "share of the time spent waiting for batches",
    "compilations": "compilations of the training step",
}
Measured = dict[str, float]


def split(frames: Structures, seed: int = 0) -> tuple[Structures, Structures]:
    """Split the first 1000 frames at random into 950 training and 50 validation frames."""
    order = np.random.default_rng(seed).permutation(TRAIN + VALID)
    return frames.take(np.sort(order[:TRAIN])), frames.take(np.sort(order[TRAIN:]))


def write(structures: Structures, path: Path) -> Path:
    """Write the frames as extxyz with those energies and forces that are finite, and return the path."""
    from data.formats.rows import Row
    from data.molecules.writing import write_extxyz

    rows = []
    for m in range(len(structures)):
        atoms = slice(structures.atom_start[m], structures.atom_start[m + 1])
        properties: dict[str, float | np.ndarray] = {}
        if np.isfinite(structures.energy[m]):
            properties["energy"] = float(structures.energy[m])
        if np.isfinite(structures.forces[atoms]).all():
            properties["forces"] = structures.forces[atoms]
        rows.append(Row(m + 1, None, structures.numbers[atoms], structures.positions[atoms], properties))
    write_extxyz(path, rows)
    return path


def ours(folder: Path, parts: dict[str, Path], surrogate: str, seconds: float, overrides: Sequence[str]) -> Measured:
    """Train like `understudy train task=molecules/potentials`; return seconds with compilation and loop metrics."""
    from hydra import compose, initialize_config_dir

    from experiments.application.choices import CONF
    from experiments.stages.train import task_of, train_task

    shutil.rmtree(folder, ignore_errors=True)
    settings = ["task=molecules/potentials", f"model={surrogate}", f"data.train={parts['train']}"]
    settings += [f"data.valid={parts['valid']}", f"data.isolated_atoms={parts['isolated']}", "train.epochs=100000"]
    settings += [f"train.max_seconds={seconds}", "train.mlflow=false", f"run.dir={folder}", *overrides]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", settings)
    start = time.perf_counter()
    metrics = train_task(task_of(config), folder)
    spent = time.perf_counter() - start
    return {"seconds": spent, **{name: metrics[f"train/{name}"] for name in LOOP}}


def peer(mace: Mace, folder: Path, parts: dict[str, Path], isolated: str, seconds: float) -> Measured:
    """Train MACE for about `seconds` or a little longer, estimated from the time of its first epochs."""
    shutil.rmtree(folder, ignore_errors=True)
    probe = mace.train(parts["train"], parts["valid"], isolated, folder / "probe", epochs=4)
    epochs = max(4, math.ceil(1.02 * seconds / probe.epoch_seconds))
    return {"seconds": mace.train(parts["train"], parts["valid"], isolated, folder / "run", epochs=epochs).seconds}


def measure_once(file: Path, settings: Sequence[str], make: Callable[[], Measured], *, resume: bool) -> Measured:
    """Call `make` and store its measurements; with `resume`, reuse stored ones if their settings are equal."""
    if resume and file.is_file():
        record = json.loads(file.read_text())
        if record["settings"] == list(settings):
            return dict(record["measured"])
    measured = make()
    write_json(file, {"settings": list(settings), "measured": measured})
    return measured


def run_beside(cores: Sequence[int], make: Callable[[], Measured]) -> Future[Measured]:
    """Run `make` in a thread whose child processes are pinned to `cores`, and return at once with its future."""
    pool = ThreadPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, list(cores)))
    future = pool.submit(make)
    pool.shutdown(wait=False)
    return future


def surrogates_to_train(options: argparse.Namespace, molecule: str, minutes: float) -> list[str]:
    """Our configurations to train: always the first; the others only for the frontier."""
    frontier = molecule == options.molecules[0] and minutes == max(options.minutes)
    return list(options.surrogates) if frontier else list(options.surrogates[:1])


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--molecules", nargs="+", choices=FILES, default=list(FILES), help="molecules to run (all)")
    parser.add_argument(
        "--minutes",
        type=float,
        nargs="+",
        default=[10.0, 30.0, 90.0],
        help="training budgets in CPU minutes (%(default)s)",
    )
    parser.add_argument(
        "--surrogates",
        nargs="+",
        default=["ace", "painn"],
        help="our configurations: the first is trained on every molecule and budget, the others only on the first "
        "molecule with the largest budget (%(default)s)",
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of our configurations")
    parser.add_argument("--resume", action="store_true", help="reuse the trainings that an earlier run has finished")
    parser.add_argument(
        "--together", action="store_true", help="train both programs at the same time, each on half of the cores"
    )
    parser.add_argument("--no-peers", action="store_true", help="run Understudy alone")
    options = parser.parse_args(argv)
    share = max(1, options.cores // 2) if options.together else options.cores
    all_cores = sorted(os.sched_getaffinity(0))
    cores = pin(share)
    others = all_cores[share : 2 * share]
    if options.together and (options.no_peers or len(others) < share):
        raise InputError(
            "there are no peers or not enough cores to share", where="--together", remedy="Leave it out, or --cores 2"
        )
    from surrogates.potentials.atom_energies import isolated_energies
    from surrogates.potentials.scores import evaluate_frames
    from surrogates.potentials.structure_reading import read_structures
    from surrogates.potentials.surrogate import PotentialSurrogate

    mace = None if options.no_peers else Mace(options.peers.resolve(), len(cores))
    name = None if mace is None else mace.version()
    isolated_file = data_file(options.data, ISOLATED)
    atoms = isolated_energies(read_structures(isolated_file, None))
    results: list[Result] = []
    for molecule in options.molecules:
        train_file, test_file = (data_file(options.data, file) for file in FILES[molecule])
        base = (options.out / "potential_learning" / molecule).resolve()
        base.mkdir(parents=True, exist_ok=True)
        train, valid = split(read_structures(train_file, None))
        parts = {"train": write(train, base / "train.xyz"), "valid": write(valid, base / "valid.xyz")}
        parts["isolated"] = isolated_file.resolve()
        # MACE refuses the energy of an element that is in none of its frames.
        isolated = str({z: atoms[z] for z in train.elements})
        for minutes in options.minutes:
            seconds = 60.0 * minutes / len(cores)
            folder = base / f"{minutes:g}"
            theirs: Measured = {}
            for surrogate in surrogates_to_train(options, molecule, minutes):
                train_ours = partial(ours, folder / surrogate, parts, surrogate, seconds, options.set)
                settings = [surrogate, *options.set, f"{seconds:g} s", f"{len(cores)} cores"]
                meanwhile: Future[Measured] | None = None
                if mace is not None and not theirs and options.together:
                    budget = AFTER_TRAINING * seconds
                    train_mace = partial(peer, mace, folder / "mace", parts, isolated, budget)
                    asked = [str(name), f"{budget:g} s", f"{len(cores)} cores", "together"]
                    meanwhile = run_beside(
                        others, partial(measure_once, folder / "mace.json", asked, train_mace, resume=options.resume)
                    )
                training = measure_once(folder / f"{surrogate}.json", settings, train_ours, resume=options.resume)
                if mace is not None and not theirs:
                    if meanwhile is not None:
                        theirs = meanwhile.result()
                    else:
                        train_mace = partial(peer, mace, folder / "mace", parts, isolated, training["seconds"])
                        asked = [str(name), f"{training['seconds']:g} s", f"{len(cores)} cores"]
                        theirs = measure_once(folder / "mace.json", asked, train_mace, resume=options.resume)
                    theirs |= mace.score(mace.model(folder / "mace" / "run"), {"test": test_file}, None)["test"]
                scores = evaluate_frames(PotentialSurrogate.load(folder / surrogate / "surrogate"), [test_file])
                head = f"{molecule}, {minutes:g} CPU minutes, {surrogate}"
                for key, unit in METRICS.items():
                    value = scores[f"test/{test_file.stem}/{key}"]
                    label = f"{head}: {key.split('_')[0]} MAE"
                    results.append(Result.against(label, value, unit, name, theirs.get(key)))
                results.append(
                    Result.against(f"{head}: training", training["seconds"], "s", name, theirs.get("seconds"))
                )
                for key, label in LOOP.items():
                    results.append(Result(f"{head}: {label}", training[key], "1"))
                report("potential_learning", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
