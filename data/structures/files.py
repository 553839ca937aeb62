"""Geometries of SDF, extxyz and ASE db files, record by record; a malformed record costs that record only.

Files are split into records here and each record is parsed by RDKit or ASE, so that one that is cut short or
has a wrong count cannot shift those after it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from ase.io.extxyz import read_xyz
from rdkit import Chem, rdBase

from data.formats.rows import (
    LONGEST_LINE,
    LONGEST_RECORD_BYTES,
    MAX_ATOMS,
    Bad,
    Lines,
    Row,
    decode_text,
    empty,
    in_batches,
    text_problem,
)
from data.formats.text_files import KEPT_BYTES
from data.processes.parsing import Lost, each
from data.structures.frame_names import CHARGE_NAMES, FrameKeys, plain_name, scalar, unpaired_electrons
from data.structures.frame_rows import MAX_NUMBER, checked_row, row_of_atoms

_COUNTS = re.compile(r"^[ \d]{6}.*V[23]000\s*$")
_FIELD = re.compile(r"^>.*?<([^>]*)>")
_PROPERTIES = re.compile(r'(?:^|\s)Properties\s*=\s*"?([^\s"]+)"?', re.IGNORECASE)
USUAL = FrameKeys()
_PLAIN = "species:S:1:pos:R:3"


def read_sdf(path: Path, columns: Sequence[str], keys: FrameKeys = USUAL) -> Iterator[Row | Bad]:
    """Molecules of an SDF file, V2000 or V3000, with all their data fields.

    A molecule that is drawn flat, or lacks its hydrogens, has SMILES and no geometry.
    """
    return _apart(sdf_records(path), partial(_molecule, columns=tuple(columns), keys=keys))


def _apart(records: Iterator[TextRecord], work: Callable[[TextRecord], Row | Bad]) -> Iterator[Row | Bad]:
    """Records as rows, each parsed in a process that may die of it."""

    def answer(some: list[TextRecord]) -> Iterator[Row | Bad]:
        for record, row in zip(some, each(work, some, size=_size), strict=True):
            yield Bad(record.line, record.text, row.reason) if isinstance(row, Lost) else row

    return in_batches(records, answer, _size)


@dataclass(frozen=True)
class TextRecord:
    """Lines of a file that belong together.

    Attributes:
        line: the first one.
        text: all of them, or their beginning.
        problem: why they are no molecule, as far as that is known without reading them.
    """

    line: int
    text: str
    problem: str | None = None


def _size(record: TextRecord) -> int:
    return len(record.text)


def sdf_records(path: Path) -> Iterator[TextRecord]:
    """The molecules of an SDF file, not parsed yet."""
    lines, any_molecule, ended = Lines(path), False, False
    while not ended:
        record, ended = _sdf_record(lines)
        any_molecule = any_molecule or bool(record.text.strip())
        yield from _sdf_parts(record)
    if not any_molecule:
        raise empty(path)


def _sdf_record(lines: Lines) -> tuple[TextRecord, bool]:
    """The lines up to $$$$, and whether the file ends with them; of a record without an end only the head."""
    record: list[str] = []
    first = size = 0
    problem: str | None = None
    ended = True
    while (taken := lines.take()) is not None:
        first = first or taken[0]
        if taken[1].startswith(b"$$$$"):
            ended = False
            break
        size += len(taken[1]) + 1
        if problem is None and len(taken[1]) > LONGEST_LINE:
            problem = f"a line is longer than {LONGEST_LINE:,} bytes"
        elif problem is None and size > LONGEST_RECORD_BYTES:
            problem = f"longer than {LONGEST_RECORD_BYTES:,} bytes: it has lost its end"
        if problem is None or not record:
            record.append(decode_text(taken[1][:KEPT_BYTES] if problem else taken[1]))
    if problem is not None:
        record = record[:8]
    return TextRecord(first, "\n".join(record), problem), ended


def _sdf_parts(whole: TextRecord) -> list[TextRecord]:
    """The molecules of a record: more than one where $$$$ is missing between them."""
    if whole.problem is not None:
        return [whole]
    record = whole.text.split("\n")
    counts = [i for i, line in enumerate(record) if _COUNTS.match(line)]
    # A molecule begins three lines before its counts; one right below the head of a data field is a value.
    starts = [i - 3 for i in counts if i > 3 and not record[i - 4].startswith(">")]
    parts = [(start, "\n".join(record[start:end])) for start, end in pairwise([0, *starts, len(record)])]
    return [TextRecord(whole.line + start, text) for start, text in parts if text.strip()]


def _molecule(part: TextRecord, columns: Sequence[str], keys: FrameKeys) -> Row | Bad:
    line, text = part.line, part.text
    record = text.split("\n")
    problem = part.problem or text_problem(text)
    end = next((i for i, row in enumerate(record) if row.startswith("M  END")), None)
    if problem or end is None:
        return Bad(line, text, problem or 'the molecule has no "M  END": it is cut short')
    block = "\n".join(record[: end + 1]) + "\n"
    molecule = parse_block(block)
    if isinstance(molecule, str):
        return Bad(line, text, molecule)
    fields = data_fields(record[end + 1 :])
    smiles = None
    bonded: dict[str, str] = {}
    radicals = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
    # Bare atoms without bonds, as `write_sdf` writes a geometry, are no graph: their valences are open. A lone atom
    # that lacks its hydrogens, such as a methyl radical in a drawing, is one.
    if molecule.GetNumBonds() or not radicals or _hydrogens(molecule):
        with rdBase.BlockLogs():
            heavy = Chem.RemoveHs(molecule)
            smiles = Chem.MolToSmiles(heavy) if heavy.GetNumAtoms() <= MAX_ATOMS else None
        problem, bonded = _of_the_graph(fields, molecule, radicals, keys)
        if problem:
            return Bad(line, text, problem)
    smiles = smiles or fields.pop("smiles", None)
    if record[0].strip():
        fields.setdefault("name", record[0].strip())
    for name, value in fields.items():
        if isinstance(value, str) and value.count("\n") + 1 == molecule.GetNumAtoms() and "force" in name.lower():
            fields[name] = [row.split() for row in value.splitlines()]
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], np.int32)
    positions = np.asarray(molecule.GetConformer().GetPositions(), np.float64)
    if not np.isfinite(positions).all():
        return Bad(line, text, "a position is not finite")
    flat = record[1][20:22] == "2D" and not positions[:, 2].any()
    if flat or (len(numbers) > 1 and not positions.any()) or any(a.GetTotalNumHs() for a in molecule.GetAtoms()):
        return checked_row(line, text, smiles, None, None, fields, columns, keys)
    row = checked_row(line, text, smiles, numbers, positions, fields, columns, keys)
    if isinstance(row, Row):
        return replace(row, notes=replace(row.notes, taken={**row.notes.taken, **bonded}))
    return row


def _of_the_graph(
    fields: dict[str, Any], molecule: Chem.Mol, radicals: int, keys: FrameKeys
) -> tuple[str | None, dict[str, str]]:
    """Put the charge and the unpaired electrons that the bonds imply into `fields`.

    Returns:
        Why they contradict the entries of the file, if they do; and how each quantity was obtained.
    """
    charge = Chem.GetFormalCharge(molecule)
    for name in [name for name in fields if plain_name(name) in CHARGE_NAMES]:
        stated = scalar(fields[name])
        if stated is not None and stated != charge:
            return f"its bonds have a total charge of {charge:+d}, but {name} is {fields[name]}", {}
        # Charges of atoms, as some programs write them under this name, are no total charge.
        fields.pop(name)
    fields["charge"] = charge
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()] + [1] * _hydrogens(molecule))
    spin, _, problem = unpaired_electrons(fields, numbers, charge, False, keys)
    if spin is not None or problem is not None:
        return None, {"charge": "e, from the bonds"}
    fields["spin"] = radicals
    return None, {"charge": "e, from the bonds", "spin": "unpaired electrons, from the bonds"}


def _hydrogens(molecule: Chem.Mol) -> int:
    return sum(atom.GetTotalNumHs() for atom in molecule.GetAtoms())


def parse_block(block: str) -> Chem.Mol | str:
    """The molecule of a mol block, or why it is none."""
    with rdBase.BlockLogs():
        try:
            molecule = Chem.MolFromMolBlock(block, sanitize=True, removeHs=False)
            loose = None if molecule is not None else Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
            problems: list[Any] = [] if loose is None else Chem.DetectChemistryProblems(loose)
        except (RuntimeError, ValueError) as error:
            return f"not a mol block: {' '.join(str(error).split())}"
    if problems:
        return " ".join(str(problems[0].Message()).split())
    if molecule is None:
        return "not a mol block: its counts, atoms or bonds cannot be read"
    if not molecule.GetNumAtoms():
        return "no atoms"
    if any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()):
        return "has a dummy atom, which is no element"
    return molecule


def data_fields(lines: list[str]) -> dict[str, Any]:
    """The data fields of an SDF record, as texts, from the lines below its mol block."""
    fields: dict[str, Any] = {}
    name = None
    for line in lines:
        head = _FIELD.match(line) if name is None else None
        if head:
            name = head[1]
            fields[name] = ""
        elif not line.strip():
            name = None
        elif name is not None:
            fields[name] += ("\n" if fields[name] else "") + line
    return fields


def read_extxyz(path: Path, columns: Sequence[str], keys: FrameKeys = USUAL) -> Iterator[Row | Bad]:
    """Frames of an (ext)xyz file; reading resumes at the next plausible frame after a malformed one."""
    return _apart(_frames(path), partial(_frame, columns=tuple(columns), keys=keys))


def _frames(path: Path) -> Iterator[TextRecord]:
    """The frames of a file, not parsed yet."""
    lines = Lines(path)
    any_frame = False
    lost = False
    while (head := lines.peek(0)) is not None or (head := lines.take()) is not None:
        line, raw = head
        if not raw.strip():
            lines.drop(1)
            continue
        any_frame = True
        count = _count(raw)
        if lost and (count is None or not _plausible(lines, count)):
            lines.drop(1)
            continue
        if count is None:
            yield TextRecord(line, decode_text(raw[:KEPT_BYTES]), "a frame should begin here with its number of atoms")
            lines.drop(1)
            lost = True
            continue
        problem, rows = _frame_problem(lines, count)
        text = "\n".join(decode_text(row[1]) for row in (lines.peek(i) for i in range(min(rows, count + 2))) if row)
        if problem is None:
            lines.drop(rows)
            lost = False
            yield TextRecord(line, text)
        else:
            yield TextRecord(line, text[:KEPT_BYTES], problem)
            lines.drop(1)
            lost = True
    if not any_frame:
        raise empty(path)


def _count(raw: bytes) -> int | None:
    text = raw.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _plausible(lines: Lines, count: int) -> bool:
    """Whether a frame begins at the next line: a comment that is no atom, and as many atoms as announced."""
    comment = lines.peek(1)
    if count == 0 or comment is None or _atom_problem(decode_text(comment[1]), _PLAIN) is None:
        return False
    layout = layout_of(decode_text(comment[1]))
    room = LONGEST_RECORD_BYTES
    for i in range(count):
        row = lines.peek(2 + i)
        room -= 0 if row is None else len(row[1])
        if row is None or room < 0 or _atom_problem(decode_text(row[1]), layout) is not None:
            return False
    return True


def _frame_problem(lines: Lines, count: int) -> tuple[str | None, int]:
    """Why the lines ahead are no frame of `count` atoms, as far as its lines tell; and how many were looked at."""
    if count == 0:
        return "no atoms", 1
    comment = lines.peek(1)
    if comment is None:
        return "cut short: there is no comment line", 1
    if len(comment[1]) > LONGEST_LINE:
        return f"its comment line is longer than {LONGEST_LINE:,} bytes", 2
    layout = layout_of(decode_text(comment[1]))
    width = width_of(layout)
    if width is None:
        return f"Properties={layout!r} cannot be read", 2
    exact = layout != _PLAIN
    room = LONGEST_RECORD_BYTES
    for i in range(count):
        row = lines.peek(2 + i)
        if row is None:
            return f"cut short: {i} of {count} atom lines", 2 + i
        room -= len(row[1])
        if room < 0:
            return f"longer than {LONGEST_RECORD_BYTES:,} bytes within {i + 1} of {count} atom lines", 3 + i
        fields = len(row[1].split())
        if fields < width or (exact and fields > width):
            return f"atom line {i + 1} of {count} (line {row[0]}) has {fields} fields, not {width}", 3 + i
    after = lines.peek(2 + count)
    if after is not None and _count(after[1]) is None and _atom_problem(decode_text(after[1]), layout) is None:
        return f"more atom lines than the {count} announced", 2 + count
    return None, 2 + count


def layout_of(comment: str) -> str:
    """The columns of the atom lines of a frame, as its comment line names them."""
    match = _PROPERTIES.search(comment)
    return match[1] if match else _PLAIN


def width_of(layout: str) -> int | None:
    """Fields of an atom line; None where the layout has no element or no position, or is none."""
    parts = layout.split(":")
    names, kinds, counts = parts[::3], parts[1::3], parts[2::3]
    valid = len(parts) % 3 == 0 and all(k in "RILS" for k in kinds) and all(map(_is_digits, counts))
    if not valid or not {"species", "Z"} & set(names) or "pos" not in names:
        return None
    return sum(map(int, counts)) if counts[names.index("pos")] == "3" else None


def _is_digits(text: str) -> bool:
    """Whether a text is a small number; digits of other scripts are none to Python."""
    return text.isascii() and text.isdigit() and len(text) < 5


def _atom_problem(text: str, layout: str) -> str | None:
    """Why a line is no atom of this layout."""
    width, cells = width_of(layout), text.split()
    if width is None or len(cells) < width:
        return f"has {len(cells)} fields"
    parts, at = layout.split(":"), 0
    for name, kind, count in zip(parts[::3], parts[1::3], map(int, parts[2::3]), strict=True):
        for cell in cells[at : at + count]:
            if name == "species" and not 0 < atomic_numbers.get(cell.capitalize(), 0) <= MAX_NUMBER:
                return f"unknown element {cell[:20]!r}"
            if name == "Z" and not (_is_digits(cell) and 0 < int(cell) <= MAX_NUMBER):
                return f"unknown element {cell[:20]!r}"
            if kind in "RI" and not _is_number(cell, kind):
                return f"{cell[:40]!r} is not a number"
        at += count
    return None


def _is_number(cell: str, kind: str) -> bool:
    try:
        float(cell) if kind == "R" else int(cell)
    except ValueError:
        return False
    return "_" not in cell


def _frame(record: TextRecord, columns: Sequence[str], keys: FrameKeys) -> Row | Bad:
    line, text = record.line, record.text
    problem = record.problem or text_problem(text)
    if problem:
        return Bad(line, text, problem)
    _, comment, *rows = text.split("\n")
    layout = layout_of(comment)
    for i, row in enumerate(rows):
        problem = _atom_problem(row, layout)
        if problem:
            return Bad(line, text, f"line {line + 2 + i}: {problem}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = next(iter(read_xyz(StringIO(text + "\n"), index=0)))
    except Exception as error:  # ASE raises many kinds for what users write into comment lines.
        return Bad(line, text, f"ASE cannot read the frame: {' '.join(str(error).split()) or type(error).__name__}")
    return row_of_atoms(line, text, atoms, {}, columns, keys)
