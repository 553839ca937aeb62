"""Molecules of an SDF file as graphs: SMILES and data fields of each record, whose text is kept.

Geometries, labels and charges of an SDF are read by `data.structures.files.read_sdf`; here a record counts by its
bonds, and its data fields are texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rdkit import Chem, rdBase

from data.formats.rows import in_batches, text_problem
from data.processes.parsing import Lost, each
from data.structures.files import TextRecord, data_fields, parse_block, sdf_records

#: Line that ends the mol block of a record.
END = "M  END"
#: Records that are looked at to find the names of the data fields.
LOOKED_AT = 1000
#: Columns that every SDF has: the structure as SMILES, and the title of the record.
OF_AN_SDF = ("smiles", "name")


@dataclass(frozen=True)
class SdfMolecule:
    """A record of an SDF file.

    Attributes:
        number: number of the record, from 1.
        text: its lines.
        fields: its title as "name", if it has one, and its data fields, as they are in the file.
        smiles: its structure; None if it cannot be read.
        reason: why it cannot be read; empty if it can.
    """

    number: int
    text: str
    fields: Mapping[str, str]
    smiles: str | None
    reason: str = ""

    @property
    def block(self) -> str:
        """The mol block, with its last line."""
        lines = self.text.split("\n")
        end = next((i for i, line in enumerate(lines) if line.startswith(END)), len(lines) - 1)
        return "\n".join(lines[: end + 1]) + "\n"


def sdf_molecules(path: Path, first: int = 0, *, parse: bool = True) -> Iterator[SdfMolecule]:
    """The records of an SDF file, in order; none is left out.

    Args:
        path: .sdf or .sd file, also compressed.
        first: number of records that are passed over without being parsed.
        parse: whether structures are parsed; without, `smiles` and `reason` are empty.
    """
    numbered = enumerate(islice(sdf_records(path), first, None), first + 1)

    if not parse:
        yield from (SdfMolecule(n, record.text, fields_of(record.text), "") for n, record in numbered)
        return

    def answer(some: list[tuple[int, TextRecord]]) -> Iterator[SdfMolecule]:
        answers = each(structure, [record.problem or record.text for _, record in some])
        for (number, record), answer in zip(some, answers, strict=True):
            smiles, reason = ("", answer.reason) if isinstance(answer, Lost) else answer
            reason = record.problem or reason
            yield SdfMolecule(number, record.text, fields_of(record.text), None if reason else smiles, reason)

    yield from in_batches(numbered, answer, lambda item: len(item[1].text))


def field_names(path: Path) -> tuple[str, ...]:
    """Names of the columns: those of `OF_AN_SDF` and of the data fields of the first records."""
    names = dict.fromkeys(OF_AN_SDF)
    for record in islice(sdf_records(path), LOOKED_AT):
        names |= dict.fromkeys(fields_of(record.text))
    return tuple(names)


def fields_of(text: str) -> dict[str, str]:
    """The title of a record as "name", and its data fields; a field called name or smiles has this name."""
    lines = text.split("\n")
    end = next((i for i, line in enumerate(lines) if line.startswith(END)), None)
    if end is None:
        # A block that is cut short may still be followed by its data fields.
        end = next((i - 1 for i, line in enumerate(lines) if line.startswith(">")), len(lines))
    fields = {name: str(value) for name, value in data_fields(lines[end + 1 :]).items()}
    return ({"name": lines[0].strip()} if lines[0].strip() and "name" not in fields else {}) | fields


def structure(text: str) -> tuple[str, str]:
    """SMILES of a record, or "" and why it has none; made in this process."""
    lines = text.split("\n")
    end = next((i for i, line in enumerate(lines) if line.startswith(END)), None)
    problem = text_problem(text)
    if problem or end is None:
        return "", problem or 'the molecule has no "M  END": it is cut short'
    molecule = parse_block("\n".join(lines[: end + 1]) + "\n")
    if isinstance(molecule, str):
        return "", molecule
    if molecule.GetNumAtoms() > 1 and not molecule.GetNumBonds():
        written = fields_of(text).get("smiles", "").strip()
        return (written, "") if written else ("", "atoms without bonds, and no data field with SMILES")
    with rdBase.BlockLogs():
        return str(Chem.MolToSmiles(Chem.RemoveHs(molecule))), ""
