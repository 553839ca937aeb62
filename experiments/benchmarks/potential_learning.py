"""Errors on rMD17 after equal training time on the CPU, beside MACE at its recommended small settings.

A budget of B CPU minutes is B / cores minutes of wall time with every core at work, compilation and validation
counted, start-up not. Each budget is a training of its own, whose learning rate falls to its end within the budget.
What follows ours' last step (error bars, writing) is counted too, and MACE gets all the time that ours really took:
its number of epochs is what fills it, from the time of a few, and what it took is printed. All learn from the same
950 of 1000 frames, with the other 50 for validation, and the same energies of isolated atoms.

With --together both learn at the same time, each on half of the cores and each for the budget over that half: the wall
time is half, and what disturbs one disturbs the other.
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

from data.errors import InputError
from data.files import write_json
from experiments.benchmarks.common import Result, arguments, data_file, pin, report
from experiments.benchmarks.mace import Mace

if TYPE_CHECKING:
    from data.structures import Structures

FILES = {
    "ethanol": ("rmd17_ethanol_train.xyz", "rmd17_ethanol_test_MD.xyz"),
    "aspirin": ("rmd17_aspirin_train.xyz", "rmd17_aspirin_test.xyz"),
}
TRAIN, VALID = 950, 50
#: PBE/def2-SVP, as rMD17's own file of isolated atoms gives them; eV.
ISOLATED = "rmd17_ethanol_isolated_atoms.xyz"
METRICS = {"energy_mae_mev": "meV", "forces_mae_mev_per_angstrom": "meV/A"}
#: MACE's share of the budget over 1 where it cannot know what ours took: that of ours' error bars and writing.
AFTER_TRAINING = 1.03
#: What the training loop tells of itself, as `train/<key>` in its metrics.
LOOP = {
    "data_wait_share": "share of the time spent waiting for batches",
    "compilations": "compilations of the training step",
}
Measured = dict[str, float]


def split(frames: Structures, seed: int = 0) -> tuple[Structures, Structures]:
    """950 training and 50 validation frames of the first 1000, at random."""
    order = np.random.default_rng(seed).permutation(TRAIN + VALID)
    return frames.take(np.sort(order[:TRAIN])), frames.take(np.sort(order[TRAIN:]))


def write(structures: Structures, path: Path) -> Path:
    """The frames as extxyz, with what is known of energies and forces; the path."""
    from data.molecule_writing import write_extxyz
    from data.rows import Row

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
    """Train as `understudy train experiment=molecules/forces` does; seconds with compilation, and the loop's facts."""
    from hydra import compose, initialize_config_dir

    from experiments.forces import train_forces
    from experiments.stage import CONF

    shutil.rmtree(folder, ignore_errors=True)
    given = ["experiment=molecules/forces", f"surrogate={surrogate}", f"data.train={parts['train']}"]
    given += [f"data.valid={parts['valid']}", f"data.isolated_atoms={parts['isolated']}", "train.epochs=100000"]
    given += [f"train.max_seconds={seconds}", "train.mlflow=false", f"run.dir={folder}", *overrides]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", given)
    start = time.perf_counter()
    metrics = train_forces(config, folder)
    spent = time.perf_counter() - start
    return {"seconds": spent, **{name: metrics[f"train/{name}"] for name in LOOP}}


def peer(mace: Mace, folder: Path, parts: dict[str, Path], isolated: str, seconds: float) -> Measured:
    """MACE trained for at least that long, as far as its first epochs tell."""
    shutil.rmtree(folder, ignore_errors=True)
    probe = mace.train(parts["train"], parts["valid"], isolated, folder / "probe", epochs=4)
    epochs = max(4, math.ceil(1.02 * seconds / probe.epoch_seconds))
    return {"seconds": mace.train(parts["train"], parts["valid"], isolated, folder / "run", epochs=epochs).seconds}


def once(file: Path, settings: Sequence[str], make: Callable[[], Measured], *, resume: bool) -> Measured:
    """What `make` measures; with `resume` what it measured before, if the settings were these."""
    if resume and file.is_file():
        held = json.loads(file.read_text())
        if held["settings"] == list(settings):
            return dict(held["measured"])
    measured = make()
    write_json(file, {"settings": list(settings), "measured": measured})
    return measured


def beside(cores: Sequence[int], make: Callable[[], Measured]) -> Future[Measured]:
    """Run `make` in a thread whose child processes keep to `cores`, while this one goes on."""
    pool = ThreadPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, list(cores)))
    future = pool.submit(make)
    pool.shutdown(wait=False)
    return future


def wanted(given: argparse.Namespace, molecule: str, minutes: float) -> list[str]:
    """Our configurations to train: the first always, the others for the frontier alone."""
    frontier = molecule == given.molecules[0] and minutes == max(given.minutes)
    return list(given.surrogates) if frontier else list(given.surrogates[:1])


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--molecules", nargs="+", choices=FILES, default=list(FILES), help="which (all)")
    parser.add_argument(
        "--minutes", type=float, nargs="+", default=[10.0, 30.0, 90.0], help="CPU minutes (%(default)s)"
    )
    parser.add_argument(
        "--surrogates",
        nargs="+",
        default=["ace", "painn"],
        help="our configurations: the first learns everything, the others only the first molecule for the longest "
        "time (%(default)s)",
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of our configurations")
    parser.add_argument("--resume", action="store_true", help="keep the trainings that an earlier run has finished")
    parser.add_argument("--together", action="store_true", help="both at the same time, each on half of the cores")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    given = parser.parse_args(argv)
    share = max(1, given.cores // 2) if given.together else given.cores
    all_cores = sorted(os.sched_getaffinity(0))
    cores = pin(share)
    others = all_cores[share : 2 * share]
    if given.together and (given.no_peers or len(others) < share):
        raise InputError("nothing to share the cores with", where="--together", remedy="Leave it out, or --cores 2")
    from experiments.force_scores import evaluate_forces
    from experiments.frames import read_structures
    from surrogates.graph.references import isolated_energies

    mace = None if given.no_peers else Mace(given.peers.resolve(), len(cores))
    name = None if mace is None else mace.version()
    isolated_file = data_file(given.data, ISOLATED)
    atoms = isolated_energies(read_structures(isolated_file, None))
    results: list[Result] = []
    for molecule in given.molecules:
        train_file, test_file = (data_file(given.data, file) for file in FILES[molecule])
        base = (given.out / "potential_learning" / molecule).resolve()
        base.mkdir(parents=True, exist_ok=True)
        train, valid = split(read_structures(train_file, None))
        parts = {"train": write(train, base / "train.xyz"), "valid": write(valid, base / "valid.xyz")}
        parts["isolated"] = isolated_file.resolve()
        # MACE takes no energy of an element that is in none of its frames.
        isolated = str({z: atoms[z] for z in train.elements})
        for minutes in given.minutes:
            seconds = 60.0 * minutes / len(cores)
            folder = base / f"{minutes:g}"
            theirs: Measured = {}
            for surrogate in wanted(given, molecule, minutes):
                train_ours = partial(ours, folder / surrogate, parts, surrogate, seconds, given.set)
                settings = [surrogate, *given.set, f"{seconds:g} s", f"{len(cores)} cores"]
                meanwhile: Future[Measured] | None = None
                if mace is not None and not theirs and given.together:
                    budget = AFTER_TRAINING * seconds
                    train_mace = partial(peer, mace, folder / "mace", parts, isolated, budget)
                    asked = [str(name), f"{budget:g} s", f"{len(cores)} cores", "together"]
                    meanwhile = beside(
                        others, partial(once, folder / "mace.json", asked, train_mace, resume=given.resume)
                    )
                own = once(folder / f"{surrogate}.json", settings, train_ours, resume=given.resume)
                if mace is not None and not theirs:
                    if meanwhile is not None:
                        theirs = meanwhile.result()
                    else:
                        train_mace = partial(peer, mace, folder / "mace", parts, isolated, own["seconds"])
                        asked = [str(name), f"{own['seconds']:g} s", f"{len(cores)} cores"]
                        theirs = once(folder / "mace.json", asked, train_mace, resume=given.resume)
                    theirs |= mace.score(mace.model(folder / "mace" / "run"), {"test": test_file}, None)["test"]
                found = evaluate_forces(folder / surrogate / "surrogate", [test_file])
                head = f"{molecule}, {minutes:g} CPU minutes, {surrogate}"
                for key, unit in METRICS.items():
                    value = found[f"test/{test_file.stem}/{key}"]
                    label = f"{head}: {key.split('_')[0]} MAE"
                    results.append(Result.against(label, value, unit, name, theirs.get(key)))
                results.append(Result.against(f"{head}: training", own["seconds"], "s", name, theirs.get("seconds")))
                for key, label in LOOP.items():
                    results.append(Result(f"{head}: {label}", own[key], "1"))
                report("potential_learning", results, given.out, argv)


if __name__ == "__main__":
    from experiments.benchmarks.common import run

    sys.exit(run(main))
