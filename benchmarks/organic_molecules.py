"""Writes a table of molecules to pre-train on: some of QM9, and as many aromatic rings with groups of the enumeration.

QM9 has up to nine heavy atoms, so that few of its molecules are rings with several groups, as those of medicine are.
The rings are benzene, pyridine, pyrimidine, furan, thiophene, pyrrole and imidazole with two or three groups of
`experiments.pipelines.enumeration`, at random places.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.chemprop import read_smiles
from benchmarks.common import arguments, data_file
from data.errors import InputError
from data.molecules.writing import write_csv
from experiments.pipelines.enumeration import GROUPS

#: Aromatic rings, with a place in braces for each carbon that may bear a group.
RINGS = (
    *("c1{}c{}c{}c{}c{}c1{}", "c1{}nc{}c{}c{}c1{}", "c1{}nc{}nc{}c1{}", "o1c{}c{}c{}c1{}", "s1c{}c{}c{}c1{}"),
    *("[nH]1c{}c{}c{}c1{}", "[nH]1c{}nc{}c1{}"),
)


def ring_molecules(count: int, seed: int) -> list[str]:
    """SMILES of aromatic rings with two or three groups."""
    random = np.random.default_rng(seed)
    groups = [group for some in GROUPS.values() for group in some]
    molecules = []
    for _ in range(count):
        ring = RINGS[random.integers(len(RINGS))]
        places = ring.count("{}")
        filled = random.choice(places, random.integers(2, min(3, places) + 1), replace=False)
        at = ["" if place not in filled else f"({groups[random.integers(len(groups))]})" for place in range(places)]
        molecules.append(ring.format(*at))
    return molecules


def main(argv: Sequence[str] | None = None) -> None:
    """Write the table; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--each", type=int, default=5000, help="molecules of QM9, and rings (%(default)s)")
    parser.add_argument("--table", type=Path, default=Path("runs/bench/molecules.csv"), help="(%(default)s)")
    options = parser.parse_args(argv)
    smiles = read_smiles(data_file(options.data, "qm9_smiles.csv"))
    if options.each > len(smiles):
        raise InputError(f"the file has {len(smiles):,} molecules", where="--each", remedy="Give fewer")
    drawn = np.random.default_rng(0).permutation(len(smiles))[: options.each]
    options.table.parent.mkdir(parents=True, exist_ok=True)
    write_csv(options.table, {"smiles": [*(smiles[row] for row in drawn), *ring_molecules(options.each, 0)]})


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
