"""Trains potentials on labels by SO3LR, and compares their rate and forces with it on molecules that they never saw.

Molecules are drawn from the QM9 file. Each has one ETKDG conformer, relaxed by a force field, whose atoms are then
moved at random, so that forces are far from 0. A rate counts the processor time of a process and of all that it
started, from requests to answers, and SO3LR's is that of its best batch. Errors of students are against SO3LR and not
against its level of theory. Labels and training are counted beside the rates. Needs `make teachers`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report
from data.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from data.structures.structures import Structures
    from simulators.adapter import Simulator
    from simulators.chemistry.teachers.so3lr import SO3LR

#: Largest number of ordered pairs of atoms in a batch of SO3LR; 1 is one molecule at a time.
PAIRS = (1, 3_000, 10_000, 30_000, 100_000)
#: Smallest processor time over which a rate is measured, s.
LONG_S = 4.0


def frames(smiles: Sequence[str], each: int, shaken: float, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Atomic numbers and positions (Angstrom) of `each` frames of the conformer of each SMILES."""
    from data.spec import SimulationError
    from simulators.chemistry.conformers import ConformerConfig, embed

    random = np.random.default_rng(seed)
    geometries = []
    for one in smiles:
        try:
            geometry = embed(one, ConformerConfig(n_conformers=1)).geometry
        except SimulationError:
            continue
        for _ in range(each):
            geometries.append(
                (geometry.numbers, geometry.positions + random.normal(0, shaken, geometry.positions.shape))
            )
    return geometries


def label(teacher: SO3LR, geometries: Sequence[tuple[np.ndarray, np.ndarray]]) -> Structures:
    """The structures with the teacher's energies and forces; what it refuses is left out."""
    from data.structures.structures import Structures

    answers = teacher.simulate_many([request(n, p) for n, p in geometries])
    kept = [(g, a) for g, a in zip(geometries, answers, strict=True) if not isinstance(a, Exception)]
    return Structures.from_arrays(
        [numbers for (numbers, _), _ in kept],
        [positions for (_, positions), _ in kept],
        energy=[float(a["energy"]) for _, a in kept],
        forces=[a["forces"].values for _, a in kept],
    )


def request(numbers: np.ndarray, positions: np.ndarray) -> xr.Dataset:
    """The request for one structure."""
    from simulators.chemistry.variables import Geometry

    return Geometry(np.asarray(numbers, np.int32), positions).dataset()


def rate(work: Callable[[], int]) -> float:
    """Molecules per second of processor time; `work` answers some and returns their number."""
    from data.processes.processor import tree_seconds

    work()
    done, start = 0, tree_seconds()
    while tree_seconds() - start < LONG_S:
        done += work()
    return done / (tree_seconds() - start)


def teacher_rates(teacher: SO3LR, table: Structures) -> dict[int, float]:
    """Rate of the teacher by the size of its batches."""
    from simulators.chemistry.teachers import so3lr

    asked = [request(table.numbers[s], table.positions[s]) for s in _slices(table)]
    usual, rates = so3lr.PAIRS, {}
    for pairs in PAIRS:
        so3lr.PAIRS = pairs
        rates[pairs] = rate(lambda: len(teacher.simulate_many(asked)))
    so3lr.PAIRS = usual
    return rates


def campaign_costs(teacher: SO3LR, table: Structures, folder: Path) -> tuple[float, float]:
    """Processor time of a campaign over a table of structures, one by one and together, with the loading, core-s."""
    from benchmarks.one_by_one import OneByOne
    from simulators.campaigns.campaign import run_campaign
    from simulators.campaigns.config import CampaignConfig

    asked = [request(table.numbers[s], table.positions[s]) for s in _slices(table)]
    both: dict[str, Simulator] = {"alone": OneByOne(teacher), "together": teacher}
    costs = []
    with TemporaryDirectory(dir=folder) as stores:
        for name, one in both.items():
            config = CampaignConfig(workers=1)
            costs.append(run_campaign(one, asked, Path(stores) / name, config, progress=False).core_seconds)
    return costs[0], costs[1]


def _slices(table: Structures) -> list[slice]:
    return [slice(table.atom_start[m], table.atom_start[m + 1]) for m in range(len(table))]


def train(folder: Path, model: str, labels: Path, valid: Path, epochs: int) -> float:
    """Train as `understudy train task=molecules/potentials` does; returns its core-seconds."""
    from data.processes.processor import tree_seconds
    from understudy.stages import train as stage

    start = tree_seconds()
    stage(
        "task=molecules/potentials", f"model={model}", f"data.train={labels}", f"data.valid={valid}",
        f"train.epochs={epochs}", "train.mlflow=false", f"run.dir={folder}",
    )  # fmt: skip
    return tree_seconds() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--molecules", type=int, default=1000, help="molecules to learn from (%(default)s)")
    parser.add_argument("--each", type=int, default=5, help="frames of each molecule (%(default)s)")
    parser.add_argument("--held-out", type=int, default=100, help="molecules of two frames to test on (%(default)s)")
    parser.add_argument("--shaken", type=float, default=0.05, help="deviation of the atoms, Angstrom (%(default)s)")
    parser.add_argument("--models", nargs="*", default=["painn", "ace"], help="configurations (%(default)s)")
    parser.add_argument("--epochs", type=int, default=100, help="epochs of each training (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    from benchmarks.chemprop import read_smiles
    from benchmarks.potential_learning import write
    from data.processes.processor import tree_seconds
    from simulators.chemistry.teachers.so3lr import SO3LR
    from surrogates.potentials.surrogate import PotentialSurrogate

    folder = (options.out / "teachers").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    smiles = read_smiles(data_file(options.data, "qm9_smiles.csv"))
    order = np.random.default_rng(0).permutation(len(smiles))
    if options.molecules + 2 * options.held_out > len(order):
        raise InputError(f"the file has {len(order)} molecules", where="--molecules", remedy="Give fewer")
    test, valid, learned = np.split(order, [options.held_out, 2 * options.held_out])
    teacher = SO3LR()
    parts: dict[str, Structures] = {}
    for name, rows, each in (
        ("test", test, 2), ("valid", valid, 1), ("train", learned[: options.molecules], options.each)
    ):  # fmt: skip
        geometries = frames([smiles[row] for row in rows], each, options.shaken, seed=len(parts))
        before = tree_seconds()
        parts[name] = label(teacher, geometries)
        seconds = tree_seconds() - before
    table = parts["test"]
    rates = teacher_rates(teacher, table)
    best = max(rates, key=lambda pairs: rates[pairs])
    one, many = rates[1], rates[best]
    alone, together = campaign_costs(teacher, parts["train"], folder)
    results = [
        Result("frames to learn from", float(len(parts["train"])), "1"),
        Result("labels of these frames", seconds, "core-s"),
        Result("SO3LR, one molecule at a time", one, "molecules/core-s"),
        Result(f"SO3LR, best batches ({best:,} pairs)", many, "molecules/core-s"),
        Result.against(
            "a campaign over the frames to learn from, with loading", together, "core-s", "one by one", alone
        ),
        Result("mean absolute force of the tested frames", 1e3 * float(np.abs(table.forces).mean()), "meV/Angstrom"),
    ]
    report("teachers", results, options.out, argv)
    labels, validation = write(parts["train"], folder / "train.xyz"), write(parts["valid"], folder / "valid.xyz")
    for model in options.models:
        cost = train(folder / model, model, labels, validation, options.epochs)
        student = PotentialSurrogate.load(folder / model / "surrogate")
        error = np.abs(student.predict_structures(table, error_bars=False).forces - table.forces)

        def work(student: PotentialSurrogate = student) -> int:
            student.predict_structures(table, error_bars=False)
            return len(table)

        results += [
            Result(f"{model}: training", cost, "core-s"),
            Result(f"{model}: force MAE against SO3LR, molecules not learned from", 1e3 * float(error.mean()),
                   "meV/Angstrom"),
            Result.against(f"{model}: rate", rate(work), "molecules/core-s", "SO3LR in its best batch", many),
        ]  # fmt: skip
        report("teachers", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
