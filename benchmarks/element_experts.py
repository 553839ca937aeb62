"""Asks whether a potential gains from an update of its own for each group of elements, beside the one for all.

PaiNN learns frames of drug-like molecules with nine elements, labelled with GFN2-xTB, for a fixed number of epochs:
as it is, as a wider network, and with an expert of each group of elements in every update. Here each expert is computed
for all atoms, of which those of its group are kept. That costs more than a program that sorts the atoms by group, which
would cost at least as much as the network without experts, so that the errors at equal epochs bound from above what
experts can gain at equal cost. All are scored on molecules that none has learned from.

python -m benchmarks.element_experts --cores 1
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report
from benchmarks.few_labels import labelled_by
from benchmarks.potential_learning import METRICS, measure_once, write

if TYPE_CHECKING:
    from data.structures.structures import Structures

#: Share of the molecules in which fluorine is written as chlorine, and as bromine: the file has neither.
HALOGENS = 1 / 3
VARIANTS = ("base", "wider", "experts")


def drawn_molecules(path: Path, count: int, most_atoms: int) -> list[str]:
    """SMILES of the file of at most so many atoms with hydrogen, drawn with a fixed seed."""
    from rdkit import Chem

    from benchmarks.chemprop import read_smiles

    random, smiles = np.random.default_rng(0), read_smiles(path)
    chosen: list[str] = []
    for row in random.permutation(len(smiles)):
        one, draw = smiles[row], random.random()
        if draw < 2 * HALOGENS:
            # Fluorine is an atom of its own in the file, never the first letter of another symbol.
            one = one.replace("F", "Cl" if draw < HALOGENS else "Br")
        molecule = Chem.MolFromSmiles(one)
        if molecule is not None and Chem.AddHs(molecule).GetNumAtoms() <= most_atoms:
            chosen.append(one)
        if len(chosen) == count:
            break
    return chosen


def labelled_frames(smiles: Sequence[str], frames: int, folder: Path) -> Structures:
    """Geometries in thermal motion with the energies and forces of GFN2-xTB; what has no geometry is left out."""
    from data.formats.rows import Row
    from data.molecules.writing import write_extxyz
    from simulators.chemistry.thermal_frames import ThermalConfig, thermal_frames_foreign
    from simulators.chemistry.xtb import XTB
    from surrogates.potentials.structure_reading import read_structures

    drawn = thermal_frames_foreign(smiles, ThermalConfig(frames=frames, temperatures_kelvin=(300.0, 600.0)))
    geometries = [one for each in drawn if not isinstance(each, str) for one in each]
    bare = folder / "bare.xyz"
    write_extxyz(bare, [Row(i + 1, None, g.numbers, g.positions, {}) for i, g in enumerate(geometries)])
    return labelled_by(XTB(outputs=("energy", "forces")), read_structures(bare, None))


def parts_of(options: Any, base: Path) -> tuple[dict[str, Path], Path, int]:
    """Files of training, validation and test, by whole molecules, and the number of elements."""
    parts = {name: base / f"{name}.xyz" for name in ("train", "valid", "test")}
    drawn = drawn_molecules(data_file(options.data, "nonfullerene_smiles.csv"), options.molecules, options.most_atoms)
    bounds = (0, int(0.75 * len(drawn)), int(0.8 * len(drawn)), len(drawn))
    elements: set[int] = set()
    for name, first, last in zip(parts, bounds, bounds[1:], strict=False):
        facts = base / f"{name}.json"
        counts = measure_once(
            facts,
            [str(options.molecules), str(options.most_atoms), str(options.frames)],
            partial(_write_part, drawn[first:last], options.frames, base, parts[name]),
            resume=parts[name].is_file(),
        )
        elements |= {int(number) for number in counts}
    return parts, parts.pop("test"), len(elements)


def _write_part(smiles: Sequence[str], frames: int, base: Path, path: Path) -> dict[str, float]:
    """Write the frames of some molecules; returns how many atoms of each element there are."""
    labelled = labelled_frames(smiles, frames, base)
    write(labelled, path)
    numbers, counts = np.unique(labelled.numbers, return_counts=True)
    return {str(int(number)): float(count) for number, count in zip(numbers, counts, strict=True)}


def trained(folder: Path, name: str, parts: dict[str, Path], test: Path, overrides: Sequence[str]) -> dict[str, float]:
    """Train one variant, score it, and measure its answers."""
    from hydra import compose, initialize_config_dir

    from benchmarks.expert_network import painn_with_experts
    from experiments.application.choices import CONF
    from experiments.stages.train import task_of, train_task
    from surrogates.potentials.scores import evaluate_frames
    from surrogates.potentials.structure_reading import read_structures
    from surrogates.potentials.surrogate import PotentialSurrogate

    with painn_with_experts() if name == "experts" else nullcontext():
        shutil.rmtree(folder, ignore_errors=True)
        settings = ["task=molecules/potentials", "model=painn", "train.max_seconds=null", "train.mlflow=false"]
        settings += [f"data.train={parts['train']}", f"data.valid={parts['valid']}", f"run.dir={folder}", *overrides]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", settings)
        train_task(task_of(config), folder)
        potential: PotentialSurrogate = PotentialSurrogate.load(folder / "surrogate")
        scores = evaluate_frames(potential, [test])
        table = read_structures(test, None)
        potential.predict_structures(table, error_bars=False)
        start = time.process_time()
        potential.predict_structures(table, error_bars=False)
        answer = (time.process_time() - start) / len(table)
    fit = json.loads((folder / "fit.json").read_text())
    return {
        **{key: scores[f"test/{test.stem}/{key}"] for key in METRICS},
        "train": fit["core_seconds"],
        "ms": 1e3 * answer,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--molecules", type=int, default=800, help="molecules (%(default)s)")
    parser.add_argument("--most-atoms", type=int, default=40, help="atoms with hydrogen (%(default)s)")
    parser.add_argument("--frames", type=int, default=2, help="geometries of a molecule (%(default)s)")
    parser.add_argument("--epochs", type=int, default=40, help="passes of each training (%(default)s)")
    parser.add_argument("--features", type=int, default=32, help="width of the network (%(default)s)")
    parser.add_argument("--wider", type=int, default=40, help="width of the wider one (%(default)s)")
    parser.add_argument("--layers", type=int, default=2, help="rounds of messages (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the weights (%(default)s)")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=VARIANTS, help="variants (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    base = (options.out / "element_experts").resolve()
    base.mkdir(parents=True, exist_ok=True)
    parts, test, elements = parts_of(options, base)
    results = [Result("elements", elements, "1")]
    for seed in options.seeds:
        for name in options.only:
            width = options.wider if name == "wider" else options.features
            overrides = [f"model.network.features={width}", f"model.network.layers={options.layers}"]
            overrides += [
                "model.committee=0",
                "model.buckets=2",
                f"train.epochs={options.epochs}",
                f"train.seed={seed}",
            ]
            folder = base / f"{name}_{seed}"
            settings = [*overrides, f"{options.molecules} molecules of {options.most_atoms}, {options.frames} frames"]
            make = partial(trained, folder, name, parts, test, overrides)
            scores = measure_once(base / f"{folder.name}.json", settings, make, resume=True)
            head = f"{name}, seed {seed}"
            results += [Result(f"{head}: {key.split('_')[0]} MAE", scores[key], unit) for key, unit in METRICS.items()]
            results += [
                Result(f"{head}: energy and forces of a frame", scores["ms"], "core-ms"),
                Result(f"{head}: training", scores["train"], "core-s"),
            ]
            report("element_experts", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
