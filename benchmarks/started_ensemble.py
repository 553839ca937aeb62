"""Distils an ensemble whose members began from a trained potential into one network that begins from it too.

Every member learns aspirin of rMD17 for the same processor time, from all labels but a share of its own, in an order of
its own; the members are then one ensemble. The student learns the answers of the ensemble, for frames of the dynamics
of one member that nobody labelled, beside the same labels. The same network on the labels alone begins from the same
potential, and is given as much processor time as the distillation took. All are scored on frames that nobody learned
from. What is finished in the folder is not run again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report
from benchmarks.distillation import results, stage
from benchmarks.potential_learning import FILES, TRAIN, VALID, write

if TYPE_CHECKING:
    from data.structures.structures import Structures
    from surrogates.potentials.surrogate import PotentialSurrogate

#: The share of the labels that are for validation; the split is that of `understudy distil` with these parts.
VALIDATION = VALID / (TRAIN + VALID)


def labels(options: argparse.Namespace, folder: Path) -> tuple[Path, Structures, Structures]:
    """The file of all labels, and its training and validation parts."""
    from surrogates.potentials.structure_reading import read_structures
    from surrogates.potentials.training_frames import PotentialData, split_frames

    frames = read_structures(data_file(options.data, FILES["aspirin"][0]), None).take(np.arange(TRAIN + VALID))
    path = write(frames, folder / "labels.xyz")
    train, valid, _, _ = split_frames(frames, None, PotentialData(train=str(path), valid=VALIDATION).files())
    return path, train, valid


def member(options: argparse.Namespace, folder: Path, train: Structures, valid: Path, index: int) -> Path:
    """The run of one member, which leaves out a share of the labels that is its own."""
    order = np.random.default_rng(0).permutation(len(train))
    learned = np.setdiff1d(order, order[index :: options.members])
    file = folder / f"labels_{index}.xyz"
    if not file.exists():
        write(train.take(learned), file)
    run = folder / f"member_{index}"
    keys = ["task=molecules/few_labels", f"tune.surrogate={options.start}", "model.committee=0", f"data.train={file}"]
    keys += [f"data.valid={valid}", f"train.seed={index}", *budget(options.member_core_seconds)]
    stage("train", [*keys, f"run.dir={run}"])
    return run


def budget(core_seconds: float) -> list[str]:
    """Settings of a training that ends after a processor time."""
    return [f"train.max_core_seconds={core_seconds}", "train.max_seconds=null", "train.epochs=100000"]


def rows_of_members(members: Sequence[PotentialSurrogate], test: Structures) -> list[Result]:
    """Errors of single members, of ensembles of some of them, and of the network with their mean weights."""

    def error(forces: np.ndarray) -> float:
        return 1e3 * float(np.abs(forces - test.forces).mean())

    forces = np.array([one.predict_structures(test, error_bars=False).forces for one in members])
    rows = [Result("aspirin: test MAE of forces of the best member", min(map(error, forces)), "meV/A")]
    for count in (1, 2, 4, len(members)):
        some = [error(forces[list(each)].mean(axis=0)) for each in combinations(range(len(members)), count)]
        rows.append(Result(f"aspirin: test MAE of forces of ensembles of {count}, mean", float(np.mean(some)), "meV/A"))
    spread = 1e3 * float(forces.std(axis=0, ddof=1).mean())
    blend = mean_of_weights(members).predict_structures(test, error_bars=False).forces
    return [
        *rows,
        Result("aspirin: test MAE of forces of the mean of the weights", error(blend), "meV/A"),
        Result("aspirin: mean deviation of the forces of the members", spread, "meV/A"),
    ]


def mean_of_weights(members: Sequence[PotentialSurrogate]) -> PotentialSurrogate:
    """One network whose weights are the means of those of networks that began from one potential."""
    import jax
    from flax import nnx

    from surrogates.potentials.surrogate import PotentialSurrogate

    graph = nnx.split(members[0].model)[0]
    states = [nnx.state(one.model) for one in members]
    mean = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *states)
    return PotentialSurrogate(nnx.merge(graph, mean), members[0].facts)


def ensemble(runs: Sequence[Path], file: Path, train: Structures, folder: Path) -> PotentialSurrogate:
    """The members as one ensemble, saved as a run whose training took as long as all of theirs."""
    from data.files import write_json
    from data.identity import frame_keys
    from data.json_files import read_plain
    from surrogates.learning.learned_from import hash_keys, save_hashes
    from surrogates.potentials.joined import joined_members
    from surrogates.potentials.structure_reading import read_structures
    from surrogates.potentials.surrogate import PotentialSurrogate
    from surrogates.potentials.training_frames import fingerprint

    members = [PotentialSurrogate.load(run / "surrogate") for run in runs]
    labels_fingerprint = fingerprint(read_structures(file, None))
    whole = joined_members(members, train, label_fingerprint=labels_fingerprint)
    whole.save(folder / "surrogate")
    save_hashes(folder / "surrogate", hash_keys(frame_keys(train)))
    spent = [read_plain(run / "metrics.json", dict[str, Any], remedy="Remove it")["train/core_seconds"] for run in runs]
    write_json(folder / "metrics.json", {"train/core_seconds": float(sum(spent))})
    return whole


def distilled(options: argparse.Namespace, file: Path, test: Path, folder: Path, start: str) -> dict[str, float]:
    """The metrics of the distillation into one network that begins from a potential."""
    dynamics = {"walkers": options.walkers, "steps": options.steps, "record_every": options.every}
    asked = [f"teacher={folder / 'teacher'}", "inputs=dynamics", f"start={start}", "train=potentials", "model=ace"]
    asked += [f"dynamics.{name}={value}" for name, value in dynamics.items()]
    asked += [f"data.train={file}", f"data.parts=[{1 - VALIDATION},{VALIDATION},0,0]", f"data.test=[{test}]"]
    asked += ["train.learning_rate=3e-3", "train.batch_size=8", *budget(options.core_seconds), *options.weights]
    return stage("distil", [*asked, f"out={folder / 'student'}"])


def stability(name: str, potential: PotentialSurrogate, start: Structures, options: argparse.Namespace) -> list[Result]:
    """Trajectories at constant energy, from velocities at the temperature of the labels."""
    from benchmarks.whole_molecules import free_run

    free = free_run(potential, start, options.picoseconds, kelvin=options.kelvin)
    drifts, whole = np.abs(free.drifts()), free.whole[-1]
    what = f"{name}, {len(start)} trajectories of {options.picoseconds:g} ps at constant energy"
    later = free.kelvin[len(free.kelvin) // 2 :, whole]
    lasted = free.picoseconds[free.whole.sum(axis=0) - 1]
    return [
        Result(f"{what}: whole at their end", float(whole.sum()), ""),
        Result(f"{what}: shortest time until one broke", float(lasted.min()), "ps"),
        Result(f"{what}: largest drift", float(np.nanmax(drifts)), "meV/atom/ps"),
        Result(f"{what}: median drift", float(np.nanmedian(drifts)), "meV/atom/ps"),
        Result(f"{what}: largest standard deviation of the total energy", float(np.nanmax(free.scatter())), "meV/atom"),
        Result(f"{what}: temperature of the second half", float(later.mean()) if later.size else np.nan, "K"),
        Result(f"{what}: processor time", free.core_seconds, "core-s"),
        Result(
            f"{what}: frames a core-second", len(free.kelvin[1:]) * 100 * len(start) / free.core_seconds, "1/core-s"
        ),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--start", default="shipped:organic", help="potential from which all begin (%(default)s)")
    parser.add_argument("--members", type=int, default=8, help="members of the ensemble (%(default)s)")
    parser.add_argument(
        "--member-core-seconds", type=float, default=240.0, help="training of each member, core-s (%(default)s)"
    )
    parser.add_argument(
        "--core-seconds", type=float, default=300.0, help="training of the student, core-s (%(default)s)"
    )
    parser.add_argument("--walkers", type=int, default=75, help="trajectories that make frames (%(default)s)")
    parser.add_argument("--steps", type=int, default=400, help="time steps of each (%(default)s)")
    parser.add_argument("--every", type=int, default=10, help="time steps between frames (%(default)s)")
    parser.add_argument("--weights", nargs="*", default=[], help="weights of the student's loss, weights.NAME=X")
    parser.add_argument("--trajectories", type=int, default=8, help="trajectories at constant energy (%(default)s)")
    parser.add_argument("--picoseconds", type=float, default=0.0, help="length of each; 0 for none (%(default)s)")
    parser.add_argument("--kelvin", type=float, default=500.0, help="temperature of their begin, K (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    from surrogates.potentials.structure_reading import read_structures
    from surrogates.potentials.surrogate import PotentialSurrogate

    folder = (options.out / "started_ensemble").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    file, train, valid_frames = labels(options, folder)
    valid, test_file = write(valid_frames, folder / "valid.xyz"), data_file(options.data, FILES["aspirin"][1])
    runs = [member(options, folder, train, valid, index) for index in range(options.members)]
    test = read_structures(test_file, None)
    if not (folder / "teacher" / "metrics.json").is_file():
        ensemble(runs, file, train, folder / "teacher")
    lines = rows_of_members([PotentialSurrogate.load(run / "surrogate") for run in runs], test)
    metrics = distilled(options, file, test_file.resolve(), folder, options.start)
    name = f"test/{test_file.stem}"
    errors = {
        f"{name}/forces_mae_mev_per_angstrom": ("test MAE of forces", "meV/A"),
        f"{name}/energy_mae_mev": ("test MAE of energies", "meV"),
    }
    what = f"aspirin, {options.members} into 1"
    agreement = metrics["agreement/forces_mae_ev_per_angstrom"]
    lines += [
        *results(what, metrics, errors),
        Result(f"{what}: forces of the student against those of the teacher", 1e3 * agreement, "meV/A"),
        Result(f"{what}: of the distillation, frames", metrics["distil/frames_core_seconds"], "core-s"),
    ]
    report("started_ensemble", lines, options.out, argv)
    if options.picoseconds > 0:
        begin = test.take(np.random.default_rng(0).permutation(len(test))[: options.trajectories])
        student = PotentialSurrogate.load(folder / "student" / "surrogate")
        lines += stability("student", student, begin, options)
        report("started_ensemble", lines, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run as run_benchmark

    sys.exit(run_benchmark(main))
