"""Writes a table of organic molecules to pre-train a potential on, in four equal parts.

Molecules of QM9 have H, C, N, O and F, up to nine heavy atoms, and few rings with several groups. Beside some of them
stand others in which oxygen atoms became sulphur, methyl groups fluorine or chlorine, and carbonyl groups sulphonyl
groups; aromatic rings with two or three groups of `experiments.pipelines.enumeration`; and two such
rings with one group or none, joined directly or by a short link, as in molecules of medicine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase

from benchmarks.chemprop import read_smiles
from benchmarks.common import arguments, data_file
from data.errors import InputError
from data.molecules.smiles import parse_smiles
from data.molecules.writing import write_csv
from experiments.pipelines.enumeration import GROUPS

#: Aromatic rings, with a place in braces for each carbon that may bear a group.
RINGS = (
    *("c1{}c{}c{}c{}c{}c1{}", "c1{}nc{}c{}c{}c1{}", "c1{}nc{}nc{}c1{}", "o1c{}c{}c{}c1{}", "s1c{}c{}c{}c1{}"),
    *("[nH]1c{}c{}c{}c1{}", "[nH]1c{}nc{}c1{}"),
)
#: What joins two rings: SMILES that begin at the first ring, with a place for the second.
LINKS = (
    *("{}", "C{}", "O{}", "N{}", "S{}", "CC{}", "OC{}", "CO{}", "NC{}", "SC{}", "C=C{}", "C(=O){}", "C(=O)N{}"),
    *("NC(=O){}", "C(=O)O{}", "S(=O)(=O){}", "S(=O)(=O)N{}", "CNC{}", "N=N{}", "OCC{}"),
)
#: Patterns of QM9's SMILES whose first atom may become another element, which QM9 lacks or has little of.
REPLACED = tuple((Chem.MolFromSmarts(text), number) for text, number in (
    ("[OX1,OX2]", 16), ("[CH3][C,c]", 17), ("[CH3][C,c]", 9),
))  # fmt: skip
#: A carbonyl group, whose carbon may become sulphur with a second oxygen.
CARBONYL = Chem.MolFromSmarts("[CX3](=O)([#6,#7])[#6,#7]")
#: Heavy atoms below which a molecule of QM9 is always written, because the smallest are the fewest.
SMALL = 4


def ring_molecule(random: np.random.Generator, fewest: int = 2, most: int = 3, link: str = "") -> str:
    """SMILES of an aromatic ring with groups.

    Args:
        random: generator of the draw.
        fewest: least number of groups, the link not counted.
        most: largest number of groups.
        link: one further group, if any.
    """
    groups = [group for some in GROUPS.values() for group in some]
    ring = RINGS[random.integers(len(RINGS))]
    places = ring.count("{}")
    count = min(int(random.integers(fewest, most + 1)), places - bool(link))
    filled = random.permutation(places)[: count + bool(link)].tolist()
    at = {place: f"({groups[random.integers(len(groups))]})" for place in filled[:count]}
    if link:
        at[filled[count]] = f"({link})"
    return ring.format(*(at.get(place, "") for place in range(places)))


def linked_rings(random: np.random.Generator) -> str:
    """SMILES of two aromatic rings that are joined."""
    # Ring closures of the second ring have a number of their own.
    second = ring_molecule(random, 0, 1).replace("1", "9")
    return ring_molecule(random, 0, 1, LINKS[random.integers(len(LINKS))].format(second))


def with_other_elements(smiles: str, random: np.random.Generator) -> str:
    """SMILES of a molecule after one or two replacements; the same molecule where none is possible."""
    molecule = Chem.MolFromSmiles(smiles)
    for _ in range(random.integers(1, 3)):
        pattern, number = REPLACED[random.integers(len(REPLACED))]
        matches = molecule.GetSubstructMatches(pattern)
        if matches:
            edited = Chem.RWMol(molecule)
            edited.GetAtomWithIdx(matches[random.integers(len(matches))][0]).SetAtomicNum(number)
            molecule = _readable(edited) or molecule
    matches = molecule.GetSubstructMatches(CARBONYL) if random.random() < 0.5 else ()
    if matches:
        edited = Chem.RWMol(molecule)
        edited.GetAtomWithIdx(matches[0][0]).SetAtomicNum(16)
        edited.AddBond(matches[0][0], edited.AddAtom(Chem.Atom(8)), Chem.BondType.DOUBLE)
        molecule = _readable(edited) or molecule
    return Chem.MolToSmiles(molecule)


def _readable(edited: Chem.RWMol) -> Chem.Mol | None:
    """The molecule as it is read again, with hydrogens by valence; None where its valences are impossible."""
    return Chem.MolFromSmiles(Chem.MolToSmiles(edited))


def drawn(count: int, seen: set[str], draw: Callable[[], str]) -> list[str]:
    """Different molecules that RDKit can read.

    Args:
        count: number of molecules.
        seen: canonical SMILES that are not wanted again; those that are drawn are added.
        draw: gives a SMILES at each call.
    """
    molecules: list[str] = []
    while len(molecules) < count:
        with rdBase.BlockLogs():
            molecule = parse_smiles(draw())
        canonical = None if molecule is None else Chem.MolToSmiles(molecule)
        if canonical is not None and canonical not in seen:
            seen.add(canonical)
            molecules.append(canonical)
    return molecules


def main(argv: Sequence[str] | None = None) -> None:
    """Write the table; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--each", type=int, default=2500, help="molecules of each part (%(default)s)")
    parser.add_argument("--table", type=Path, default=Path("runs/bench/molecules.csv"), help="(%(default)s)")
    options = parser.parse_args(argv)
    smiles = read_smiles(data_file(options.data, "qm9_smiles.csv"))
    if options.each > len(smiles):
        raise InputError(f"the file has {len(smiles):,} molecules", where="--each", remedy="Give fewer")
    random = np.random.default_rng(0)
    order = iter(random.permutation(len(smiles)))
    seen: set[str] = set()
    small = [text for text in smiles[:1000] if Chem.MolFromSmiles(text).GetNumHeavyAtoms() < SMALL]
    table = drawn(len(small), seen, iter(small).__next__)
    table += drawn(options.each - len(small), seen, lambda: smiles[next(order)])
    table += drawn(options.each, seen, lambda: with_other_elements(smiles[next(order)], random))
    table += drawn(options.each, seen, lambda: ring_molecule(random))
    table += drawn(options.each, seen, lambda: linked_rings(random))
    options.table.parent.mkdir(parents=True, exist_ok=True)
    write_csv(options.table, {"smiles": table})


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
