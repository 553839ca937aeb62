"""Writes predictions of molecules as SDF, whose records carry the answers as data fields, and as a list of SMILES.

An SDF has a record for each row of the input. A row of an SDF keeps its structure and its coordinates; one of another
file is drawn flat from its SMILES; one that cannot be read is a record without atoms, with the reason as a data
field. A list of SMILES has a header and fields separated by tabs, as RDKit reads it by default, and only the rows
that have an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from rdkit import Chem, rdBase

from data.molecules.smiles import parse_smiles
from data.processes.parsing import Lost, each
from data.structures.sdf_molecules import SdfMolecule, sdf_molecules

#: Suffixes of what is written here.
SUFFIXES = (".sdf", ".smi")
#: Columns that may name a molecule, in this order.
TITLES = ("name", "id", "title")
_BLANK = re.compile(r"\s+")


def molecule_writer(
    stream: IO[bytes], kind: str, columns: Sequence[str], smiles: str, source: Path | None
) -> Callable[[pa.RecordBatch], None]:
    """The function that writes a batch of rows.

    Args:
        stream: file that is written.
        kind: one of `SUFFIXES`.
        columns: names of the columns of the batches; one is "reason".
        smiles: name of the column that holds SMILES.
        source: the SDF file from which the rows were read, whose structures are repeated; None if it was another file.
    """
    if kind == ".smi":
        return _smiles_writer(stream, columns, smiles)
    records = None if source is None else sdf_molecules(source, parse=False)

    def write(batch: pa.RecordBatch) -> None:
        rows = batch.to_pylist()
        blocks = _drawn(rows, smiles) if records is None else _repeated(rows, records)
        for row, block in zip(rows, blocks, strict=True):
            fields = [(name, value) for name, value in row.items() if name != smiles and value is not None]
            text = block + "".join(f">  <{_name(name)}>\n{_value(value)}\n\n" for name, value in fields)
            stream.write((text + "$$$$\n").encode())

    return write


def _smiles_writer(stream: IO[bytes], columns: Sequence[str], smiles: str) -> Callable[[pa.RecordBatch], None]:
    others = [name for name in columns if name not in (smiles, "reason")]
    stream.write(("\t".join(["smiles", *map(_word, others)]) + "\n").encode())

    def write(batch: pa.RecordBatch) -> None:
        for row in batch.to_pylist():
            text = str(row[smiles] or "").strip()
            if row["reason"] is None and text:
                cells = ["" if row[name] is None else _word(_value(row[name])) for name in others]
                stream.write(("\t".join([_word(text.split()[0]), *cells]) + "\n").encode())

    return write


def _repeated(rows: list[dict[str, Any]], records: Iterator[SdfMolecule]) -> Iterator[str]:
    """The structure of each row, which is the record of that number."""
    for row in rows:
        record = next(one for one in records if one.number == row["line"])
        yield _empty(record.fields.get("name", "")) if row["reason"] is not None else record.block


def _drawn(rows: list[dict[str, Any]], smiles: str) -> Iterator[str]:
    """Each row as a drawing of its SMILES."""
    titles = [_title(row) for row in rows]
    texts = ["" if row["reason"] is not None else str(row[smiles] or "") for row in rows]
    for title, block in zip(titles, each(drawing, texts), strict=True):
        yield _empty(title) if isinstance(block, Lost) or not block else f"{title}\n{block.partition(chr(10))[2]}"


def drawing(text: str) -> str:
    """A mol block with flat coordinates; empty for what cannot be read. Made in this process."""
    from rdkit.Chem import rdDepictor

    with rdBase.BlockLogs():
        molecule = parse_smiles(text) if text else None
        if molecule is None:
            return ""
        rdDepictor.Compute2DCoords(molecule)
        return str(Chem.MolToMolBlock(molecule))


def _title(row: dict[str, Any]) -> str:
    lower = {name.lower(): value for name, value in row.items()}
    return next((_word(str(lower[name])) for name in TITLES if lower.get(name) is not None), "")


def _empty(title: str) -> str:
    """A mol block without atoms."""
    return f"{title}\n     Understudy\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n"


def _name(name: str) -> str:
    """A name of a data field, which holds no angle bracket."""
    return re.sub(r"[<>\s]+", " ", name).strip() or "unnamed"


def _value(value: Any) -> str:
    """A value as text without blank lines, which would end a data field."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return f"{value:.10g}"
    return "\n".join(line for line in str(value).splitlines() if line.strip() and not line.startswith("$$$$"))


def _word(text: str) -> str:
    """A text in one cell of a line: blanks of any kind become one space."""
    return _BLANK.sub(" ", text).strip()
