"""Energies and forces of a mixed batch of different molecules of about 20 atoms, beside MACE and PySCF.

Geometries are ETKDG conformers of molecules of QM9 made of C, H and O, and frames of aspirin. A rate counts everything
from a table of structures to a table of answers: neighbours, padding, prediction and unpacking. MACE's batches and
neighbour lists are made before its clock starts, and the best of three batch sizes counts. The models are those
that `potential_learning` trained on ethanol, so that the error that belongs to each rate is known; the
rate itself does not depend on the weights.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.errors import InputError
from experiments.benchmarks.common import Result, arguments, data_file, pin, report
from experiments.benchmarks.mace import Mace
from experiments.benchmarks.potential_learning import FILES, write

if TYPE_CHECKING:
    from data.structures import Structures
    from surrogates.graph.potential import Potential

ELEMENTS = {1, 6, 8}
SIZES = range(18, 25)
#: Seconds that a rate is averaged over, at least.
LONG = 5.0


def mixed(smiles_file: Path, aspirin_file: Path, molecules: int, frames: int) -> Structures:
    """Different molecules of C, H and O of about 20 atoms, and frames of aspirin, interleaved."""
    from data.structures import Structures
    from experiments.benchmarks.chemprop import read_smiles
    from experiments.frames import read_structures
    from simulators.base import SimulationError
    from simulators.quantum.conformers import ConformerConfig, embed

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


def rate(potential: Potential, table: Structures) -> float:
    """Molecules a second, from table to table, once compiled."""
    potential.predict_structures(table)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < LONG:
        potential.predict_structures(table)
        done += len(table)
    return done / (time.perf_counter() - start)


def padding(potential: Potential, table: Structures) -> tuple[float, float]:
    """Shares of atom slots and of pair slots that hold nothing, in the batches of a prediction."""
    batches = potential.batches(table)
    atoms = pairs = slots = pair_slots = 0
    for (k, rows), _ in zip(batches.plan(0), range(batches.steps_per_epoch), strict=True):
        shape = batches.shapes[k]
        sizes = table.sizes[rows].astype(np.int64)
        atoms, slots = atoms + int(sizes.sum()), slots + shape.molecules * shape.atoms
        real = sizes**2 if shape.neighbours is None else table.take(rows).neighbours(batches.cutoff).counts
        pairs += int(real.sum())
        pair_slots += shape.molecules * shape.atoms * (shape.neighbours or shape.atoms)
    return 1 - atoms / slots, 1 - pairs / pair_slots


def density_functional(table: Structures, count: int, atoms: int, threads: int) -> float:
    """Seconds of one B3LYP/6-31G* energy and gradient of a molecule of so many atoms, all cores at work."""
    from pyscf import lib

    from simulators.base import dataset
    from simulators.quantum.pyscf import PySCF

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
    parser.add_argument("--surrogates", nargs="+", default=["painn", "ace"], help="ours (%(default)s)")
    parser.add_argument("--minutes", type=float, default=None, help="budget of the models (the largest there is)")
    parser.add_argument("--molecules", type=int, default=192, help="from QM9 (%(default)s)")
    parser.add_argument("--frames", type=int, default=64, help="of aspirin (%(default)s)")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    given = parser.parse_args(argv)
    cores = pin(given.cores)
    from experiments.forces import evaluate_forces
    from surrogates.graph.potential import Potential

    learned = given.out / "potential_learning" / "ethanol"
    budgets = sorted((float(p.name) for p in learned.glob("[0-9]*") if p.is_dir()), reverse=True)
    if not budgets:
        raise InputError(f"no trained models in {learned}", where="--out", remedy="Run potential_learning first")
    folder = learned / f"{given.minutes or budgets[0]:g}"
    test = data_file(given.data, FILES["ethanol"][1])
    table = mixed(
        data_file(given.data, "qm9_smiles.csv"),
        data_file(given.data, FILES["aspirin"][1]),
        given.molecules,
        given.frames,
    )
    mixture = write(table, (given.out / "potential_speed.xyz").resolve())
    results: list[Result] = []
    name, theirs, errors = None, None, {}
    if not given.no_peers:
        mace = Mace(given.peers.resolve(), len(cores))
        name = mace.version()
        run = folder / "mace" / "run"
        model = next(p for p in (run / "mace_stagetwo.model", run / "mace.model") if p.exists())
        scored = mace.score(model, {"test": test}, mixture)
        theirs, errors = scored["molecules_per_second"], scored["test"]
    reference = density_functional(table, 2, 18, len(cores))
    results.append(Result("B3LYP/6-31G* energy and gradient, 18 atoms", reference, "s"))
    for surrogate in given.surrogates:
        where = folder / surrogate / "surrogate"
        if not where.is_dir():
            raise InputError(f"no surrogate in {where}", where="--surrogates", remedy="Run potential_learning for it")
        potential = Potential.load(where)
        own = evaluate_forces(where, [test])
        for key, unit in (("energy_mae_mev", "meV"), ("forces_mae_mev_per_angstrom", "meV/A")):
            value = own[f"test/{test.stem}/{key}"]
            results.append(
                Result.against(f"{surrogate}: ethanol {key.split('_')[0]} MAE", value, unit, name, errors.get(key))
            )
        speed = rate(potential, table)
        results.append(Result.against(f"{surrogate}: mixed batch", speed, "molecules/s", name, theirs))
        results.append(Result(f"{surrogate}: compilations", potential.compilations, "1"))
        empty_atoms, empty_pairs = padding(potential, table)
        results.append(Result(f"{surrogate}: padding of atoms", empty_atoms, "1"))
        results.append(Result(f"{surrogate}: padding of pairs", empty_pairs, "1"))
        results.append(Result(f"{surrogate}: speed-up over B3LYP/6-31G*, 18 atoms", reference * speed, "1"))
        report("potential_speed", results, given.out, argv)


if __name__ == "__main__":
    from experiments.benchmarks.common import run

    sys.exit(run(main))
