"""Compares the speed of energies and forces with MACE and PySCF, on different molecules of about 20 atoms.

The geometries are ETKDG conformers of QM9 molecules of C, H and O, and frames of aspirin. A rate includes all work
from a table of structures to a table of answers: neighbours, padding, prediction and unpacking. MACE's batches and
neighbour lists are made before its clock starts, and its best of three batch sizes counts, with or without TorchScript.
The models are those that `potential_learning` trained on ethanol, so the error that belongs to each rate is known. The
rate itself does not depend on the weights.

The comparison at equal error takes the fastest of our models whose errors of energies and forces are at most those of
the peer, after the same training time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report
from benchmarks.mace import Mace
from benchmarks.potential_learning import FILES, METRICS, write
from data.errors import InputError

if TYPE_CHECKING:
    from data.structures.batches import StructureBatches
    from data.structures.structures import Structures
    from surrogates.potentials.surrogate import PotentialSurrogate

ELEMENTS = {1, 6, 8}
SIZES = range(18, 25)
#: Minimum number of seconds over which a rate is averaged.
LONG = 5.0


def mixed_batch(smiles_file: Path, aspirin_file: Path, molecules: int, frames: int) -> Structures:
    """Different molecules of C, H and O with about 20 atoms, and frames of aspirin, in random order."""
    from benchmarks.chemprop import read_smiles
    from data.spec import SimulationError
    from data.structures.structures import Structures
    from simulators.chemistry.conformers import ConformerConfig, embed
    from surrogates.potentials.structure_reading import read_structures

    smiles = read_smiles(smiles_file)
    order = np.random.default_rng(0).permutation(len(smiles))
    numbers: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    for row in order:
        if len(numbers) == molecules:
            break
        if "N" in smiles[row] or "n" in smiles[row] or "F" in smiles[row]:
            continue
        try:
            geometry = embed(smiles[row], ConformerConfig(n_conformers=1)).geometry
        except SimulationError:
            continue
        if set(geometry.numbers.tolist()) <= ELEMENTS and len(geometry.numbers) in SIZES:
            numbers.append(geometry.numbers)
            positions.append(geometry.positions)
    aspirin = read_structures(aspirin_file, None).take(np.arange(frames))
    table = Structures.concatenate([Structures.from_arrays(numbers, positions), aspirin])
    return table.take(np.random.default_rng(1).permutation(len(table)))


def rate(potential: PotentialSurrogate, table: Structures, *, error_bars: bool = False) -> float:
    """Molecules per second from table to table, after compilation, for energies and forces or also error bars."""
    potential.predict_structures(table, error_bars=error_bars)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < LONG:
        potential.predict_structures(table, error_bars=error_bars)
        done += len(table)
    return done / (time.perf_counter() - start)


def padding(batches: StructureBatches) -> tuple[float, float]:
    """Shares of the atom slots and of the pair slots that are padding, over one epoch.

    A pair slot is used by two atoms of a molecule; with neighbour lists, by two atoms within the cutoff.
    """
    table = batches.structures
    atoms = pairs = slots = pair_slots = 0
    for k, rows in batches.plan(0):
        shape = batches.shapes[k]
        sizes = table.sizes[rows].astype(np.int64)
        atoms, slots = atoms + int(sizes.sum()), slots + shape.molecules * shape.atoms
        real = sizes**2 if shape.neighbours is None else table.take(rows).neighbours(batches.cutoff).counts
        pairs += int(real.sum())
        pair_slots += shape.molecules * shape.atoms * (shape.neighbours or shape.atoms)
    return 1 - atoms / slots, 1 - pairs / pair_slots


@dataclass(frozen=True)
class Model:
    """A model, its errors on ethanol by metric (meV and meV/Angstrom), and its rate in molecules per second."""

    name: str
    errors: Mapping[str, float]
    rate: float


def no_worse(ours: Sequence[Model], peer: Model) -> list[Model]:
    """Our models whose errors are all at most those of the peer, the fastest first."""
    able = [model for model in ours if all(model.errors[key] <= value for key, value in peer.errors.items())]
    return sorted(able, key=lambda model: -model.rate)


def compare_at_equal_error(ours: Sequence[Model], peer: Model) -> list[Result]:
    """Compare the speed of our fastest sufficiently accurate model with the peer, by the rule of the module."""
    able = no_worse(ours, peer)
    results = [Result("models of ours that err no more than the peer on ethanol", float(len(able)), "1")]
    if able:
        label = f"at equal error ({able[0].name}): mixed batch"
        results.append(Result.against(label, able[0].rate, "molecules/s", peer.name, peer.rate))
    return results


def density_functional(table: Structures, count: int, atoms: int, threads: int) -> float:
    """Mean seconds of a B3LYP/6-31G* energy and gradient of a molecule with `atoms` atoms, on all cores."""
    from data.spec import dataset
    from simulators.chemistry.pyscf import PySCF

    # isort: split
    from pyscf import lib

    lib.num_threads(threads)
    simulator = PySCF(method="b3lyp", basis="6-31g*", outputs=("energy", "forces"))
    rows = np.flatnonzero(table.sizes == atoms)[:count]
    if not len(rows):
        raise InputError(f"no molecule of {atoms} atoms", where="--atoms", remedy="Give another number")
    start = time.perf_counter()
    for row in rows:
        one = table.take(np.array([row]))
        simulator.simulate(dataset(simulator.spec.inputs, {"numbers": one.numbers, "positions": one.positions}))
    return (time.perf_counter() - start) / len(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--surrogates", nargs="+", default=None, help="our models (all that were trained with this budget)"
    )
    parser.add_argument(
        "--minutes", type=float, default=None, help="training budget of the models (the largest available)"
    )
    parser.add_argument("--molecules", type=int, default=192, help="number of molecules from QM9 (%(default)s)")
    parser.add_argument("--frames", type=int, default=64, help="number of frames of aspirin (%(default)s)")
    parser.add_argument("--no-peers", action="store_true", help="run Understudy alone")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    from surrogates.potentials.scores import evaluate_frames
    from surrogates.potentials.surrogate import PotentialSurrogate

    learned = options.out / "potential_learning" / "ethanol"
    budgets = sorted((float(p.name) for p in learned.glob("[0-9]*") if p.is_dir()), reverse=True)
    if not budgets:
        raise InputError(f"no trained models in {learned}", where="--out", remedy="Run potential_learning first")
    folder = learned / f"{options.minutes or budgets[0]:g}"
    surrogates = options.surrogates or sorted(p.parent.name for p in folder.glob("*/surrogate"))
    if not surrogates:
        raise InputError(f"no surrogate in {folder}", where="--minutes", remedy="Run potential_learning for that long")
    test = data_file(options.data, FILES["ethanol"][1])
    table = mixed_batch(
        data_file(options.data, "qm9_smiles.csv"),
        data_file(options.data, FILES["aspirin"][1]),
        options.molecules,
        options.frames,
    )
    mixture = write(table, (options.out / "potential_speed.xyz").resolve())
    peer: Model | None = None
    if not options.no_peers:
        mace = Mace(options.peers.resolve(), len(cores))
        scored = mace.score(mace.model(folder / "mace" / "run"), {"test": test}, mixture)
        peer = Model(mace.version(), scored["test"], scored["molecules_per_second"])
    name = None if peer is None else peer.name
    reference = density_functional(table, 2, 18, len(cores))
    results = [
        Result("training of each model", float(folder.name), "CPU min"),
        Result("B3LYP/6-31G* energy and gradient, 18 atoms", reference, "s"),
    ]
    ours: list[Model] = []
    for surrogate in surrogates:
        where = folder / surrogate / "surrogate"
        if not where.is_dir():
            raise InputError(f"no surrogate in {where}", where="--surrogates", remedy="Run potential_learning for it")
        potential = PotentialSurrogate.load(where)
        scores = evaluate_frames(potential, [test])
        errors = {key: scores[f"test/{test.stem}/{key}"] for key in METRICS}
        for key, unit in METRICS.items():
            label = f"{surrogate}: ethanol {key.split('_')[0]} MAE"
            results.append(Result.against(label, errors[key], unit, name, None if peer is None else peer.errors[key]))
        speed = rate(potential, table)
        ours.append(Model(surrogate, errors, speed))
        theirs = None if peer is None else peer.rate
        results.append(Result.against(f"{surrogate}: mixed batch", speed, "molecules/s", name, theirs))
        sizes = float(potential.compilations)
        barred = rate(potential, table, error_bars=True)
        results.append(Result(f"{surrogate}: mixed batch, with error bars", barred, "molecules/s"))
        batches = potential.batches(table)
        empty_atoms, empty_pairs = padding(batches)
        results += [
            Result(f"{surrogate}: buckets", float(len({k for k, _ in batches.plan(0)})), "1"),
            Result(f"{surrogate}: compilations", sizes, "1"),
            Result(f"{surrogate}: padding of atoms", empty_atoms, "1"),
            Result(f"{surrogate}: padding of pairs", empty_pairs, "1"),
            Result(f"{surrogate}: speed-up over B3LYP/6-31G*, 18 atoms", reference * speed, "1"),
        ]
        report("potential_speed", results, options.out, argv)
    if peer is not None:
        report("potential_speed", results + compare_at_equal_error(ours, peer), options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
