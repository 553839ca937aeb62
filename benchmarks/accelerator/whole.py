"""Whole tasks: a mixed table of structures, one structure of many atoms, and a screen of a prepared library."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.accelerator.cases import ISOLATED, clusters, enumerated_molecules, repeated
from benchmarks.common import Result
from data.structures.structures import Structures
from surrogates.learning.machine import best
from surrogates.potentials.atom_energies import References
from surrogates.potentials.calculator import SingleShape
from surrogates.potentials.facts import Head, PotentialConfig, PotentialFacts
from surrogates.potentials.networks.architectures import ARCHITECTURES
from surrogates.potentials.surrogate import PotentialSurrogate

#: Distance between molecules of liquid water, Angstrom.
WATER_SPACING = 3.1
WATER = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.0, -0.76, -0.47]])


def untrained_potential(name: str) -> PotentialSurrogate:
    """A potential with the default sizes and fresh weights; its rate does not depend on them."""
    elements, energies = tuple(ISOLATED), tuple(ISOLATED.values())
    head = Head(References(elements, energies, energies), "none")
    config = PotentialConfig(network=ARCHITECTURES.kinds[name](), ensemble=1)
    facts = PotentialFacts(config, 1.0, {"main": head}, "main")
    return PotentialSurrogate(facts.model(0), facts)


def water(atoms: int) -> Structures:
    """A cube of water molecules on a lattice, turned at random, of at least so many atoms."""
    rng, side = np.random.default_rng(0), int(np.ceil((atoms / 3) ** (1 / 3)))
    cells = np.stack(np.meshgrid(*3 * [np.arange(side)], indexing="ij"), -1).reshape(-1, 3)
    turns = np.linalg.qr(rng.standard_normal((len(cells), 3, 3)))[0]
    positions = (WATER @ turns + WATER_SPACING * cells[:, None]).reshape(-1, 3)
    return Structures.from_arrays([np.tile([8, 1, 1], len(cells))], [positions])


def structures_rates(name: str, *, small: bool) -> Iterator[Result]:
    """The rate from a table of clusters of 18 to 24 atoms to its answers, and the time of one large structure."""
    potential = untrained_potential(name)
    table = Structures.concatenate([repeated(clusters(4, n), 16 if small else 512) for n in range(18, 25)])
    table = table.take(np.random.default_rng(0).permutation(len(table)))
    seconds = best(lambda: potential.predict_structures(table, error_bars=False), rounds=3)
    yield Result(f"potential {name}: table of {len(table):,} molecules to answers", len(table) / seconds, "molecules/s")
    large = water(300 if small else 20_000)
    shapes = SingleShape(potential)
    seconds = best(lambda: shapes.answer(large), rounds=3)
    yield Result(f"potential {name}: energy and forces of {len(large.numbers):,} atoms", seconds, "s")


def screening_rate(folder: Path, *, small: bool) -> Result:
    """Molecules a second of a screen of a prepared library by a network that was trained for one epoch."""
    # The commands are processes of their own, which must find memory beside this one.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from understudy.stages import prepare, screen, train

    molecules = enumerated_molecules(2_000 if small else 200_000)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "train.csv", [(s, float(len(s))) for s in molecules[:400]], ("smiles", "length"))
    _write(folder / "library.csv", [(s,) for s in molecules], ("smiles",))
    surrogate = train(
        "task=molecules/properties", f"data.file={folder / 'train.csv'}", "data.target=length", "data.units=1",
        "train.epochs=1", "train.mlflow=false", f"run.dir={folder / 'surrogate'}",
    ).directory  # fmt: skip
    library = folder / "library"
    prepare(f"candidates={folder / 'library.csv'}", f"out={library}", f"surrogate={surrogate}")
    metrics = screen(
        f"surrogate={surrogate}", f"candidates={library}", "objective.maximize=length", f"out={folder / 'screen'}"
    ).metrics
    rate = len(molecules) / metrics["screen/seconds"]
    return Result(
        f"screen of a prepared library of {len(molecules):,} molecules, compilation counted", rate, "molecules/s"
    )


def _write(path: Path, rows: list[tuple[object, ...]], names: tuple[str, ...]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)
