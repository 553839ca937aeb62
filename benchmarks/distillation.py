"""Distils ensembles and simulators into single networks: errors and costs of teacher, student, and labels alone.

Properties: the ensemble of two that `understudy train` makes by default learns QM9 gaps, and one network learns its
answers for other molecules of QM9 beside the same labels. Potentials: an ensemble learns aspirin of rMD17, and one
network learns its answers for frames whose labels nobody uses. Simulator: one network learns the energies and forces of
xTB, or of another simulator, on trees around molecules of QM9. Trajectories: a network of Burgers' equation teaches one
that takes five of its steps in one, on drawn initial states. All scores are of inputs that nobody learned from, and
the same network without a teacher is given as much processor time as the distillation took.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report
from benchmarks.models import read_gaps
from benchmarks.potential_learning import write


def stage(name: str, overrides: Sequence[str]) -> dict[str, float]:
    """Run a stage in this process, unless it has ended in an earlier run, and return its metrics."""
    from data.json_files import read_plain

    directory = next(text.partition("=")[2] for text in overrides if text.startswith(("run.dir=", "out=")))
    done = Path(directory) / "metrics.json"
    if not done.is_file():
        from hydra import compose, initialize_config_dir

        from experiments.application.choices import CONF
        from experiments.stages.distil import distil
        from experiments.stages.simulate import simulate
        from experiments.stages.train import train

        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(name, [*overrides, *([] if name == "simulate" else ["train.mlflow=false"])])
        Path(directory).mkdir(parents=True, exist_ok=True)
        {"train": train, "distil": distil, "simulate": simulate}[name](config, Path(directory))
    return dict(read_plain(done, dict[str, Any], remedy="Remove it"))


def properties(options: argparse.Namespace, folder: Path) -> list[Result]:
    """QM9 gaps: two members into one."""
    gaps = read_gaps(data_file(options.data, "qm9_homo_lumo_gap_hartree.csv"))
    order = np.random.default_rng(0).permutation(len(gaps.smiles))
    parts = [options.labels, options.labels // 10, 2000, options.tests]
    count = sum(parts)
    labels = gaps.write(folder / "labels.csv", order[:count])
    inputs = gaps.write(folder / "inputs.csv", order[count : count + options.inputs])
    data = [f"data.parts={parts}".replace(" ", ""), "data.target=gap"]
    teacher = ["task=molecules/properties", f"data.file={labels}", *data, f"train.epochs={options.epochs}"]
    stage("train", [*teacher, f"run.dir={folder / 'teacher'}"])
    asked = [f"teacher={folder / 'teacher'}", f"inputs={inputs}", f"data.train={labels}", *data]
    metrics = stage("distil", [*asked, f"train.epochs={options.student_epochs}", f"out={folder / 'student'}"])
    return [
        *results("QM9 gap", metrics, {"test/mae": ("test MAE", "meV"), "test/rmse": ("test RMSE", "meV")}),
        Result("QM9 gap: coverage of the student's 90% intervals", metrics["student/test/coverage_90"], "1"),
        Result.against(
            "QM9 gap: mean width of these intervals",
            metrics["student/test/interval_width"],
            "meV",
            "teacher",
            metrics["teacher/test/interval_width"],
        ),
    ]


def potentials(options: argparse.Namespace, folder: Path) -> list[Result]:
    """Aspirin of rMD17: an ensemble that learned few labels into one network, on frames whose labels are not used."""
    from surrogates.potentials.structure_reading import read_structures

    train = read_structures(data_file(options.data, "rmd17_aspirin_train.xyz"), None)
    test = read_structures(data_file(options.data, "rmd17_aspirin_test.xyz"), None)
    last = min(len(train), options.frames + options.frame_inputs)
    labels = write(train.take(np.arange(options.frames)), folder / "labels.xyz")
    inputs = write(train.take(np.arange(options.frames, last)), folder / "inputs.xyz")
    tests = write(test.take(np.arange(min(len(test), options.frame_tests))), folder / "test.xyz")
    network = ["train.learning_rate=5e-3", *options.model]
    data = [f"data.train={labels}", "data.valid=0.1", "data.calibration=0.1", f"data.test=[{tests}]"]
    teacher = ["task=molecules/potentials", *data, *network, f"model.ensemble={options.members}"]
    stage("train", [*teacher, f"train.epochs={options.frame_epochs}", f"run.dir={folder / 'teacher'}"])
    asked = [f"teacher={folder / 'teacher'}", f"inputs={inputs}", "train=potentials", *network]
    asked += [f"data.train={labels}", "data.parts=[0.8,0.1,0.1,0]", f"data.test=[{tests}]", *options.weights]
    epochs = f"train.epochs={options.frame_student_epochs}"
    metrics = stage("distil", [*asked, epochs, f"out={folder / 'student'}"])
    errors = {
        "test/test/forces_mae_mev_per_angstrom": ("test MAE of forces", "meV/A"),
        "test/test/energy_mae_mev": ("test MAE of energies", "meV"),
    }
    coverage = metrics["student/test/test/forces_coverage_90"]
    return [
        *results(f"aspirin, {options.members} into 1", metrics, errors),
        Result("aspirin: coverage of the student's 90% intervals of forces", coverage, "1"),
    ]


def simulator(options: argparse.Namespace, folder: Path) -> list[Result]:
    """A simulator into one network, without a label: its answers on trees around geometries of SMILES."""
    gaps = read_gaps(data_file(options.data, "qm9_homo_lumo_gap_hartree.csv"))
    order = np.random.default_rng(1).permutation(len(gaps.smiles))[: options.molecules]
    inputs = gaps.write(folder / "molecules.csv", order)
    asked = [f"simulator={options.simulator}", "simulator.outputs=[energy,forces]", f"inputs={inputs}"]
    asked += [f"tree.frames={options.tree}", "campaign.workers=1", "train=potentials", *options.model]
    epochs = [f"train.epochs={options.frame_student_epochs}", "train.learning_rate=5e-3"]
    metrics = stage("distil", [*asked, *epochs, f"out={folder / 'student'}"])
    what = f"{options.simulator} into 1, without labels"
    errors = {"agreement/forces_mae_mev_per_angstrom": "meV/A", "agreement/energy_mae_mev": "meV"}
    return [
        *(
            Result(f"{what}: error against the teacher, {key.partition('/')[2]}", metrics[key], u)
            for key, u in errors.items()
        ),
        Result(f"{what}: coverage of 90% intervals of forces", metrics["agreement/forces_coverage_90"], "1"),
        *costs(what, metrics),
        Result(f"{what}: frames without an answer", metrics["distil/failed"], ""),
    ]


def trajectories(options: argparse.Namespace, folder: Path) -> list[Result]:
    """Burgers' equation: five steps of a network into one, on initial states that nobody computed."""
    solver = ["simulator=burgers", "sampling=burgers"]
    stage(
        "simulate",
        [*solver, f"sampling.count={options.trajectories}", "campaign.workers=1", f"run.dir={folder / 'labels'}"],
    )
    labels = folder / "labels" / "labels.zarr"
    data = ["data.parts=[0.6,0.1,0.15,0.15]"]
    network = ["model=fno", f"train.epochs={options.trajectory_epochs}"]
    teacher = ["task=fluids/trajectories", f"data.file={labels}", *data, *network, f"run.dir={folder / 'teacher'}"]
    stage("train", teacher)
    asked = [f"teacher={folder / 'teacher'}", *solver, f"sampling.count={options.draws}", "lessons.every=5"]
    asked += [f"data.train={labels}", *data, "train=fields", *network, f"out={folder / 'student'}"]
    metrics = stage("distil", asked)
    return results("Burgers, 5 steps in 1", metrics, {"test/relative_l2": ("relative L2 error", "1")})


def results(what: str, metrics: Mapping[str, float], errors: Mapping[str, tuple[str, str]]) -> list[Result]:
    """Errors of the student beside those of the teacher and of labels alone, and what everything costs."""
    lines = []
    for key, (words, unit) in errors.items():
        lines += [
            Result.against(
                f"{what}: {words} of the student", metrics[f"student/{key}"], unit, peer, metrics.get(f"{who}/{key}")
            )
            for who, peer in (("teacher", "teacher"), ("alone", "labels alone"))
        ]
    return [*lines, *costs(what, metrics)]


def costs(what: str, metrics: Mapping[str, float]) -> list[Result]:
    """What an answer and the distillation cost, and from when on it pays."""
    return [
        Result.against(
            f"{what}: processor time of an answer",
            metrics["student/core_us_each"],
            "core-us",
            "teacher",
            metrics["teacher/core_us_each"],
        ),
        Result.against(
            f"{what}: processor time of the distillation",
            metrics["distil/core_seconds"],
            "core-s",
            "labels alone",
            metrics.get("alone/train_core_seconds"),
        ),
        Result(f"{what}: of it, answers of the teacher", metrics["distil/answers_core_seconds"], "core-s"),
        Result(f"{what}: training of the teacher", metrics.get("teacher/train_core_seconds", float("nan")), "core-s"),
        Result(f"{what}: inputs that the teacher answered", metrics["distil/answered"], ""),
        Result(f"{what}: inputs outside of its domain", metrics["distil/outside_domain"], ""),
        Result(f"{what}: answers from which it pays", metrics.get("distil/break_even_answers", float("inf")), ""),
    ]


KINDS: Mapping[str, Callable[[argparse.Namespace, Path], list[Result]]] = {
    "properties": properties,
    "potentials": potentials,
    "simulator": simulator,
    "trajectories": trajectories,
}
#: A network that trains in minutes.
SMALL = ["model=painn", "model.network.features=32", "model.network.layers=2", "train.batch_size=8"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`. What is finished in the folder is not run again."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="kinds to distil (all)")
    parser.add_argument("--labels", type=int, default=10_000, help="labelled molecules (%(default)s)")
    parser.add_argument("--tests", type=int, default=10_000, help="molecules of the test (%(default)s)")
    parser.add_argument("--inputs", type=int, default=50_000, help="molecules for the teacher (%(default)s)")
    parser.add_argument("--epochs", type=int, default=60, help="epochs of the teacher of properties (%(default)s)")
    parser.add_argument("--student-epochs", type=int, default=30, help="epochs of its student (%(default)s)")
    parser.add_argument("--frames", type=int, default=200, help="labelled frames of aspirin (%(default)s)")
    parser.add_argument("--frame-inputs", type=int, default=600, help="frames for the teacher (%(default)s)")
    parser.add_argument("--frame-tests", type=int, default=200, help="frames of the test (%(default)s)")
    parser.add_argument("--members", type=int, default=4, help="members of the ensemble of potentials (%(default)s)")
    parser.add_argument("--frame-epochs", type=int, default=100, help="epochs of that ensemble (%(default)s)")
    parser.add_argument("--frame-student-epochs", type=int, default=60, help="epochs of its student (%(default)s)")
    parser.add_argument("--simulator", default="xtb", help="simulator of energies and forces (%(default)s)")
    parser.add_argument("--molecules", type=int, default=100, help="molecules for it (%(default)s)")
    parser.add_argument("--tree", type=int, default=20, help="frames around each of these (%(default)s)")
    parser.add_argument("--trajectories", type=int, default=200, help="labelled trajectories (%(default)s)")
    parser.add_argument("--draws", type=int, default=1000, help="drawn trajectories for the teacher (%(default)s)")
    parser.add_argument("--trajectory-epochs", type=int, default=40, help="epochs of both networks (%(default)s)")
    parser.add_argument("--model", nargs="+", default=SMALL, help="network of potentials and its settings")
    parser.add_argument("--weights", nargs="*", default=[], help="weights of the student's loss, weights.NAME=X")
    parser.add_argument("--again", action="store_true", help="remove what earlier runs left")
    options = parser.parse_args(argv)
    pin(options.cores)
    folder = options.out / "distillation"
    if options.again:
        shutil.rmtree(folder, ignore_errors=True)
    lines: list[Result] = []
    for kind in options.kinds:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        lines += KINDS[kind](options, folder / kind)
    report("distillation", lines, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
