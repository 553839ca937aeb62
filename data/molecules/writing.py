"""Molecules written to the files that chemists use: SMILES, CSV, SDF, extxyz, ASE databases and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.db
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCartesian
from ase.data import chemical_symbols
from ase.io.extxyz import key_val_dict_to_str
from ase.io.trajectory import TrajectoryWriter
from rdkit import Chem, rdBase

from data.errors import InputError
from data.files import atomic_path
from data.formats.cells import safe_row
from data.formats.headers import DELIMITERS
from data.formats.kinds import PARQUET_SUFFIXES, SDF_SUFFIXES, SMILES_SUFFIXES, TRAJECTORY, XYZ_SUFFIXES, kind_of
from data.formats.rows import Row, atomic_text
from data.molecules.smiles import parse_smiles


def write_smiles(path: Path, smiles: Iterable[str]) -> None:
    """Write one molecule in each line; a blank and a name may follow it.

    Raises:
        InputError: a molecule is empty or has a line break.
    """
    _writable(path, SMILES_SUFFIXES)
    with atomic_text(Path(path)) as file:
        for i, text in enumerate(smiles):
            if not text.strip() or text.splitlines() != [text]:
                raise InputError(f"molecule {i} is {text!r}, not one line", where=str(path))
            file.write(text + "\n")


def write_csv(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write a CSV or TSV table with a header; NaN and None become empty cells, formulas text (`data.formats.cells`).

    Raises:
        InputError: the columns have different lengths.
    """
    kind = _writable(path, tuple(DELIMITERS))
    _equal_lengths(path, columns)
    with atomic_text(Path(path)) as file:
        writer = csv.writer(file, delimiter=DELIMITERS[kind], lineterminator="\n")
        writer.writerow(safe_row(columns))
        writer.writerows(safe_row(map(_cell, row)) for row in zip(*columns.values(), strict=True))


def write_parquet(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write a Parquet file.

    Raises:
        InputError: the columns have different lengths.
    """
    _writable(path, PARQUET_SUFFIXES)
    _equal_lengths(path, columns)
    with atomic_path(Path(path)) as temporary:
        pq.write_table(pa.table(dict(columns)), temporary, row_group_size=1 << 16, compression="zstd")


def write_sdf(path: Path, rows: Iterable[Row]) -> None:
    """Write V3000 records: a geometry becomes atoms without bonds, a row without one the graph of its SMILES.

    Properties become data fields, as does the SMILES of a geometry.

    Raises:
        InputError: a row has neither a geometry nor a readable SMILES.
    """
    _writable(path, SDF_SUFFIXES)
    with atomic_text(Path(path)) as file:
        for row in rows:
            properties = dict(row.properties)
            name = " ".join(str(properties.pop("name", "")).split())
            if row.numbers is not None and row.positions is not None:
                file.write(_bare_block(name, row.numbers, row.positions))
                if row.smiles is not None:
                    properties["smiles"] = row.smiles
            else:
                file.write(_graph_block(path, row, name))
            for key, value in properties.items():
                file.write(f">  <{key}>\n{_field(value)}\n\n")
            file.write("$$$$\n")


def write_extxyz(path: Path, rows: Iterable[Row], *, per_atom: Sequence[str] = ()) -> None:
    """Write extxyz frames with every digit of positions (Angstrom), energy (eV) and forces (eV/Angstrom).

    Entries such as forces_std, with three numbers for each atom, are columns of the atoms too.

    Args:
        path: .xyz or .extxyz, also compressed.
        rows: the frames.
        per_atom: entries with a number, or three, for each atom, which are columns of the atoms.

    Raises:
        InputError: a row has no geometry.
    """
    _writable(path, XYZ_SUFFIXES)
    with atomic_text(Path(path)) as file:
        for row in rows:
            numbers, positions = _geometry(path, row)
            info = dict(row.properties)
            forces, pbc, cell = info.pop("forces", None), info.pop("pbc", None), info.pop("cell", None)
            fixed = _fixed_mask(path, row, info)
            if row.smiles is not None:
                info["smiles"] = row.smiles
            if "stress" in info and np.shape(info["stress"]) == (6,):
                xx, yy, zz, yz, xz, xy = np.asarray(info["stress"], np.float64)
                info["stress"] = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
            if _missing(info.get("energy")):
                info.pop("energy", None)
            head = "Properties=species:S:1:pos:R:3"
            table = positions
            if forces is not None:
                head += ":forces:R:3"
                table = np.concatenate([positions, np.asarray(forces, np.float64)], axis=1)
            shapes = (positions.shape, positions.shape[:1])
            for name in [
                n for n in info if n in per_atom or (n.startswith("forces_") and np.shape(info[n]) == shapes[0])
            ]:
                if np.shape(info[name]) not in shapes:
                    continue
                values = np.asarray(info.pop(name), np.float64).reshape(len(numbers), -1)
                head += f":{name}:R:{values.shape[1]}"
                table = np.concatenate([table, values], axis=1)
            free = [""] * len(numbers)
            if fixed is not None:
                head += ":move_mask:L:3"
                free = [" " + " ".join("F" if f else "T" for f in atom) for atom in fixed.tolist()]
            if cell is not None:
                head = f'Lattice="{" ".join(map(repr, np.asarray(cell, np.float64).ravel().tolist()))}" {head}'
            head += ' pbc="{} {} {}"'.format(*("T" if p else "F" for p in (pbc if pbc is not None else (False,) * 3)))
            lines = [str(len(numbers)), " ".join(f"{head} {key_val_dict_to_str(info)}".split("\n")).rstrip()]
            for z, values, mask in zip(numbers.tolist(), table.tolist(), free, strict=True):
                lines.append(" ".join([chemical_symbols[z], *map(repr, values)]) + mask)
            file.write("\n".join(lines) + "\n")


def write_ase_db(path: Path, rows: Iterable[Row]) -> None:
    """Write an ASE database: energy (eV), forces (eV/Angstrom) and stress as results, the rest as data.

    Raises:
        InputError: a row has no geometry.
    """
    _writable(path, (".db",))
    with atomic_path(Path(path)) as temporary:
        temporary.unlink(missing_ok=True)
        with ase.db.connect(str(temporary), type="db", append=False) as database:
            for row in rows:
                atoms, data = _atoms(path, row)
                database.write(atoms, data=data)


def write_trajectory(path: Path, rows: Iterable[Row]) -> None:
    """Write a trajectory of ASE: energy (eV), forces (eV/Angstrom) and stress as results, the rest as info.

    Raises:
        InputError: a row has no geometry.
    """
    _writable(path, (TRAJECTORY,))
    with atomic_path(Path(path)) as temporary, TrajectoryWriter(str(temporary), "w") as writer:
        for row in rows:
            atoms, data = _atoms(path, row)
            atoms.info = data
            writer.write(atoms)


def _atoms(path: Path, row: Row) -> tuple[Atoms, dict[str, Any]]:
    """The atoms of a row with constraints and results, and its other entries."""
    numbers, positions = _geometry(path, row)
    data = dict(row.properties)
    atoms = Atoms(numbers, positions, pbc=data.pop("pbc", None), cell=data.pop("cell", None))
    fixed = _fixed_mask(path, row, data)
    if fixed is not None:
        atoms.set_constraint([FixCartesian(int(a), fixed[a]) for a in np.flatnonzero(fixed.any(axis=1))])
    results = {key: data.pop(key) for key in ("energy", "forces", "stress") if key in data}
    results = {key: value for key, value in results.items() if not _missing(value)}
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    if row.smiles is not None:
        data["smiles"] = row.smiles
    return atoms, data


def _writable(path: Path, kinds: tuple[str, ...]) -> str:
    kind = kind_of(Path(path))
    if kind not in kinds:
        raise InputError(f"its name ends in {kind}", where=str(path), remedy=f"Use one of {' '.join(kinds)}")
    return kind


def _equal_lengths(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"the columns have different lengths: {lengths}", where=str(path))


def _missing(value: Any) -> bool:
    return value is None or (np.ndim(value) == 0 and isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


def _cell(value: Any) -> Any:
    if _missing(value):
        return ""
    return value.item() if isinstance(value, np.generic) else value


def _geometry(path: Path, row: Row) -> tuple[np.ndarray, np.ndarray]:
    if row.numbers is None or row.positions is None:
        raise InputError(f"the row of line {row.line} has no geometry", where=str(path), remedy="Write SMILES instead")
    return np.asarray(row.numbers), np.asarray(row.positions, np.float64)


def _fixed_mask(path: Path, row: Row, properties: dict[str, Any]) -> np.ndarray | None:
    """Remove the mask of fixed coordinates from `properties` and return it; None where none is fixed."""
    if properties.pop("constraints", ()):
        raise InputError(
            f"the row of line {row.line} has constraints that this format has no place for",
            where=str(path),
            remedy="Take them out of the row",
        )
    fixed = properties.pop("fixed", None)
    return None if fixed is None else np.asarray(fixed, bool).reshape(-1, 3)


def _field(value: Any) -> str:
    """A value as lines of a data field; blank lines would end it."""
    array = np.asarray(value)
    if array.ndim == 2:
        return "\n".join(" ".join(map(str, line)) for line in array.tolist())
    text = " ".join(map(str, array.tolist())) if array.ndim == 1 else str(_cell(value))
    return "\n".join(line for line in text.splitlines() if line.strip())


def _bare_block(name: str, numbers: np.ndarray, positions: np.ndarray) -> str:
    """A V3000 block of atoms without bonds; VAL=-1 keeps a reader from adding hydrogens."""
    atoms = [
        f"M  V30 {i} {chemical_symbols[z]} {x!r} {y!r} {w!r} 0 VAL=-1"
        for i, (z, (x, y, w)) in enumerate(zip(numbers.tolist(), np.asarray(positions, float).tolist(), strict=True), 1)
    ]
    head = [name, f"{'':20}3D", "", "  0  0  0     0  0            999 V3000", "M  V30 BEGIN CTAB"]
    counts = [f"M  V30 COUNTS {len(atoms)} 0 0 0 0", "M  V30 BEGIN ATOM"]
    return "\n".join([*head, *counts, *atoms, "M  V30 END ATOM", "M  V30 END CTAB", "M  END", ""])


def _graph_block(path: Path, row: Row, name: str) -> str:
    with rdBase.BlockLogs():
        molecule = None if row.smiles is None else parse_smiles(row.smiles)
    if molecule is None:
        raise InputError(
            f"the row of line {row.line} has no geometry and no readable SMILES", where=str(path), remedy="Leave it out"
        )
    molecule.SetProp("_Name", name)
    return str(Chem.MolToV3KMolBlock(molecule))
