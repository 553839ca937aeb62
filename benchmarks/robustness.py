"""Errors of potentials on geometries hotter than those of training, their tails, and whether the domain says so.

Each variant trains on the frames of 3BPA at 300 K with the same seed and number of epochs, and is tested on frames at
300, 600 and 1200 K. The file with these holds no temperatures; they follow from the order of its frames, whose energies
jump at two rows. Frames that the training file holds too are left out. Core-seconds are processor time of the
whole training with its error bars; a variant counts only where its processor time is no larger. `--potential` measures
a potential that is there instead, and squeezes bonds of molecules of QM9 too, relaxed by it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from benchmarks.common import Result, arguments, data_file, pin, report
from benchmarks.potential_learning import write
from benchmarks.whole_molecules import FirstBonds

if TYPE_CHECKING:
    from data.structures.structures import Structures
    from surrogates.potentials.surrogate import PotentialSurrogate

TRAIN, TEST, ISOLATED = "3bpa_train_300K.xyz", "3bpa_train_mixedT.xyz", "3bpa_iso_atoms.xyz"
#: Temperature, K, and rows of the test file.
ROWS = {300: (0, 167), 600: (167, 334), 1200: (334, 500)}
#: Frames of the training file that train; the others validate.
TRAINED = 450
#: Settings of the variants by name; `--variant NAME:KEY=VALUE,...` adds others.
VARIANTS: dict[str, tuple[str, ...]] = {
    "plain": ("model.repulsion=false",),
    "to_radii": ("model.repulsion=true", "model.repulsion_reach=1"),
    "all_distances": ("model.distance_floor=0",),
    "default": (),
}
FEMTOSECONDS, RECORD_EVERY = 0.5, 20
#: Lengths of a bond that is squeezed, over its first length.
SHARES = (0.3, 0.4, 0.5, 0.6, 0.7)


def frames_by_temperature(folder: Path) -> dict[int, Structures]:
    """Test frames at each temperature without those that the training file holds."""
    from surrogates.potentials.structure_reading import read_structures

    test, train = (read_structures(data_file(folder, name), None) for name in (TEST, TRAIN))
    seen = set(np.round(train.energy, 9).tolist())
    fresh = np.array([round(float(e), 9) not in seen for e in test.energy])
    return {t: test.take(np.flatnonzero(fresh[a:b]) + a) for t, (a, b) in ROWS.items()}


def trained(folder: Path, data: Path, epochs: int, settings: Sequence[str]) -> tuple[PotentialSurrogate, float]:
    """The potential that `understudy train` makes with these settings, and its core-seconds."""
    from hydra import compose, initialize_config_dir

    from experiments.application.choices import CONF
    from experiments.stages.train import task_of, train_task
    from surrogates.potentials.structure_reading import read_structures
    from surrogates.potentials.surrogate import PotentialSurrogate

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    frames = read_structures(data_file(data, TRAIN), None)
    order = np.random.default_rng(0).permutation(len(frames))
    train = write(frames.take(np.sort(order[:TRAINED])), folder / "train.xyz")
    valid = write(frames.take(np.sort(order[TRAINED:])), folder / "valid.xyz")
    keys = ["task=molecules/potentials", "model=ace", f"data.train={train.resolve()}", f"data.valid={valid.resolve()}"]
    keys += [
        f"data.isolated_atoms={data_file(data, ISOLATED).resolve()}",
        f"train.epochs={epochs}",
        "train.mlflow=false",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*keys, f"run.dir={folder.resolve()}", *settings])
    start = time.process_time()
    train_task(task_of(config), folder.resolve())
    return PotentialSurrogate.load(folder / "surrogate"), time.process_time() - start


def rmse_of_frames(frames: Structures, forces: Float[np.ndarray, "A 3"]) -> Float[np.ndarray, " M"]:
    """Root mean square error of the force components of each frame, meV/Angstrom."""
    square = np.mean((forces - frames.forces) ** 2, axis=-1)
    return 1000 * np.sqrt(np.add.reduceat(square, frames.atom_start[:-1]) / frames.sizes)


def rank_correlation(a: Float[np.ndarray, " M"], b: Float[np.ndarray, " M"]) -> float:
    """Spearman's rank correlation."""
    first, second = (np.argsort(np.argsort(each)) for each in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def measure(
    name: str, potential: PotentialSurrogate, frames: dict[int, Structures], folder: Path | None
) -> list[Result]:
    """Errors at each temperature, and how the domain, the interval and the distances rank them.

    Errors and distances of the frames are written to the folder, unless it is None.
    """
    results, base = [], 0.0
    for kelvin, table in frames.items():
        answer = potential.predict_structures(table)
        each = rmse_of_frames(table, answer.forces)
        whole = float(np.sqrt(np.mean(each**2)))
        base = base or whole
        head = f"{name}, {kelvin} K"
        far = potential.novelties(table)
        if folder is not None:
            np.savez(folder / f"{kelvin}.npz", error=each, novelty=far)
        rows = [
            ("RMSE of forces", whole, "meV/A"),
            ("over that at 300 K", whole / base, "1"),
            ("median frame", float(np.median(each)), "meV/A"),
            ("99th percentile", float(np.percentile(each, 99)), "meV/A"),
            ("worst frame", float(each.max()), "meV/A"),
            ("worst over median", float(each.max() / np.median(each)), "1"),
            ("Spearman of distance and error", rank_correlation(far, each), "1"),
        ]
        if answer.forces_std is not None:
            std = np.sqrt(np.add.reduceat(np.mean(answer.forces_std**2, -1), table.atom_start[:-1]) / table.sizes)
            rows.append(("Spearman of deviation and error", rank_correlation(std, each), "1"))
        if answer.forces_low is not None and answer.forces_high is not None:
            hit = (answer.forces_low <= table.forces) & (table.forces <= answer.forces_high)
            rows.append(("force components inside the interval", float(hit.mean()), "1"))
        if answer.in_domain is not None:
            inside = np.asarray(answer.in_domain, bool)
            rows.append(("frames outside the domain", float(1 - inside.mean()), "1"))
            for label, chosen in (("inside", inside), ("outside", ~inside)):
                if chosen.any():
                    rows.append((f"RMSE {label} the domain", float(np.sqrt(np.mean(each[chosen] ** 2))), "meV/A"))
        results += [Result(f"{head}: {label}", value, unit) for label, value, unit in rows]
    return results


def approaches(potential: PotentialSurrogate, table: Structures, name: str) -> list[Result]:
    """What happens as one atom of a bond is moved towards the other, where nuclei must repel whatever the method.

    For each of the frames, one bond is shortened to 0.3 to 0.7 of its length and the others stay. An energy below that
    of the frame is a hole into which a dynamics falls.
    """
    from data.structures.structures import Structures as Table

    generator = np.random.default_rng(0)
    numbers, positions, along = [], [], []
    for m in range(len(table)):
        rows = slice(table.atom_start[m], table.atom_start[m + 1])
        z, x = table.numbers[rows], table.positions[rows]
        apart = np.linalg.norm(x[:, None] - x[None], axis=-1) + 9.0 * np.eye(len(x))
        i = int(generator.integers(len(x)))
        j = int(np.argmin(apart[i]))
        # The atom with fewer neighbours moves, so that it meets no third one.
        if (apart[i] < 1.8).sum() < (apart[j] < 1.8).sum():
            i, j = j, i
        for share in (1.0, *SHARES):
            moved = x.copy()
            moved[j] = x[i] + share * (x[j] - x[i])
            numbers.append(z)
            positions.append(moved)
            along.append((i, j, (x[j] - x[i]) / apart[i, j]))
    squeezed = Table.from_arrays(numbers, positions)
    answer = potential.predict_structures(squeezed, error_bars=False)
    assert answer.energy is not None
    energy = np.reshape(answer.energy, (len(table), -1))
    push = [
        float((answer.forces[squeezed.atom_start[row] + j] - answer.forces[squeezed.atom_start[row] + i]) @ way)
        for row, (i, j, way) in enumerate(along)
    ]
    attracted = np.reshape(push, energy.shape)[:, 1:] < 0
    inside = np.reshape(np.asarray(potential.novelties(squeezed) <= 1), energy.shape)[:, 1:]
    return [
        Result(
            f"{name}: bonds with an energy below the frame's when squeezed",
            float((energy[:, 1:] < energy[:, :1]).any(1).mean()),
            "1",
        ),
        Result(
            f"{name}: lowest energy of a squeezed bond over the frame's", float((energy - energy[:, :1]).min()), "eV"
        ),
        Result(f"{name}: bonds that attract when squeezed", float(attracted.any(1).mean()), "1"),
        Result(f"{name}: squeezed frames counted as in the domain", float(inside.mean()), "1"),
    ]


def relaxed_molecules(potential: PotentialSurrogate, table: Path, count: int) -> Structures:
    """Molecules of QM9 with elements of the potential that it relaxes from conformers, those that converge."""
    from benchmarks.chemprop import read_smiles
    from data.spec import SimulationError
    from data.structures.structures import Structures as Table
    from simulators.chemistry.conformers import ConformerConfig, embed
    from surrogates.potentials.dynamics.relax import RelaxConfig, Relaxer

    smiles, conformers = read_smiles(table), []
    for row in np.random.default_rng(0).permutation(len(smiles))[:count]:
        try:
            geometry = embed(smiles[row], ConformerConfig(seed=1)).geometry
        except SimulationError as failure:
            print(f"{smiles[row]}: {failure}", file=sys.stderr)
            continue
        if set(geometry.numbers.tolist()) <= set(potential.facts.references.elements):
            conformers.append(geometry)
    begin = Table.from_arrays([one.numbers for one in conformers], [one.positions for one in conformers])
    ended = Relaxer(potential, RelaxConfig(fmax=0.05, buckets=2))(begin)
    return ended.structures.take(np.flatnonzero(ended.converged))


def broken_trajectories(
    potential: PotentialSurrogate, start: Structures, picoseconds: float, kelvin: float
) -> tuple[int, float]:
    """Number of trajectories in which a bond broke or a force was not finite, and core-seconds.

    Args:
        potential: gives the forces.
        start: first frames, one a trajectory.
        picoseconds: length of each trajectory.
        kelvin: temperature of the heat bath.
    """
    from surrogates.potentials.dynamics.dynamics import Dynamics, DynamicsConfig

    steps = round(1000 * picoseconds / FEMTOSECONDS / RECORD_EVERY) * RECORD_EVERY
    settings = DynamicsConfig(steps, FEMTOSECONDS, kelvin, friction_per_fs=0.01, record_every=RECORD_EVERY)
    begin, broken = time.process_time(), np.zeros(len(start), bool)
    bonds = FirstBonds.of(start)
    for snapshot in Dynamics(potential, settings)(start):
        # A molecule whose forces are not finite any more stands still at its last finite state.
        broken[snapshot.rows] |= ~np.asarray(snapshot.alive, bool)[: len(snapshot.rows)]
        broken[snapshot.rows] |= bonds.broken(snapshot.structures, snapshot.rows)
    return int(broken.sum()), time.process_time() - begin


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--variants", nargs="*", default=["plain", "default"], help=f"of {', '.join(VARIANTS)}, or added"
    )
    parser.add_argument(
        "--variant", action="append", default=[], metavar="NAME:KEY=VALUE,...", help="add a variant by its settings"
    )
    parser.add_argument("--potential", help="measure this potential, and train none")
    parser.add_argument("--molecules", type=int, default=150, help="of QM9, with --potential (%(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the 450 training frames (%(default)s)")
    parser.add_argument("--picoseconds", type=float, default=0.0, help="of 8 trajectories at 600 K (%(default)s)")
    options = parser.parse_args(argv)
    run(options, argv)


def dynamics(potential: PotentialSurrogate, start: Structures, picoseconds: float, name: str) -> list[Result]:
    """Broken trajectories at twice the temperature of training, and what they cost; nothing without a length."""
    if picoseconds <= 0:
        return []
    broken, spent = broken_trajectories(potential, start, picoseconds, 600.0)
    what = f"{name}: broken of {len(start)} trajectories of {picoseconds:g} ps at 600 K"
    return [Result(what, float(broken), "1"), Result(f"{name}: processor time of dynamics", spent, "s")]


def of_existing(options: argparse.Namespace) -> list[Result]:
    """Errors of a potential on 3BPA, its squeezed bonds, those of relaxed molecules of QM9, and its dynamics."""
    from surrogates.potentials.surrogate import PotentialSurrogate
    from surrogates.saved import surrogate_directory

    potential = PotentialSurrogate.load(surrogate_directory(options.potential, "potential"))
    molecules = relaxed_molecules(potential, data_file(options.data, "qm9_smiles.csv"), options.molecules)
    frames = frames_by_temperature(options.data)
    # A potential of one molecule may relax no other.
    of_molecules = approaches(potential, molecules, "QM9") if len(molecules) else []
    return [
        *measure("3BPA", potential, frames, None),
        *approaches(potential, frames[300].take(np.arange(64)), "3BPA at 300 K"),
        *dynamics(potential, frames[300].take(np.arange(8)), options.picoseconds, "3BPA"),
        Result("relaxed molecules of QM9", float(len(molecules)), "1"),
        *of_molecules,
    ]


def run(options: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Train, test and report each variant."""
    pin(options.cores)
    import jax
    from flax import nnx

    if options.potential:
        report("robustness", of_existing(options), options.out, argv)
        return
    chosen = dict(VARIANTS)
    for text in options.variant:
        name, _, settings = text.partition(":")
        chosen[name] = tuple(settings.split(","))
    frames = frames_by_temperature(options.data)
    results: list[Result] = []
    for name in dict.fromkeys([*options.variants, *(text.partition(":")[0] for text in options.variant)]):
        folder = options.out / "robustness" / name
        potential, seconds = trained(folder, options.data, options.epochs, chosen[name])
        weights = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(potential.model)))
        results += [
            Result(f"{name}: processor time", seconds, "s"),
            Result(f"{name}: processor time of a frame", 1e6 * seconds / (options.epochs * TRAINED), "us"),
            Result(f"{name}: parameters", float(weights), "1"),
            *measure(name, potential, frames, folder),
            *approaches(potential, frames[300].take(np.arange(64)), name),
        ]
        results += dynamics(potential, frames[300].take(np.arange(8)), options.picoseconds, name)
        report("robustness", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run as run_benchmark

    sys.exit(run_benchmark(main))
