"""Builds one row from a geometry and its entries: labels, units, cell, charge, spin and constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian

from data.formats.rows import Bad, FrameNotes, Row, numbers_of
from data.structures.frame_names import (
    LABELS,
    FrameKeys,
    find_label,
    ignored_entries,
    look_alikes,
    scalar,
    total_charge,
    unpaired_electrons,
)
from data.structures.frame_units import FrameUnits

MAX_NUMBER = 118
USUAL_UNITS = {"energy": "eV", "forces": "eV/Angstrom", "stress": "eV/Angstrom^3"}
_GEOMETRY = ("numbers", "positions", "tags", "momenta", "masses")


def row_of_atoms(
    line: int,
    text: str,
    atoms: Atoms,
    data: Mapping[str, Any],
    columns: Sequence[str],
    keys: FrameKeys,
    units: FrameUnits | None = None,
    where: str = "",
) -> Row | Bad:
    """Build a row from what ASE has read.

    Args:
        line, text: line of the file where the row begins, and the text that is shown if the row is bad.
        atoms: geometry, cell, constraints, entries and results.
        data: further entries.
        columns: requested numbers.
        keys: which entries are labels.
        units: of the file, where it names them.
        where: the file, for messages.

    Raises:
        InputError: the file names a unit that is not known.
    """
    units = units or FrameUnits()
    results = {} if atoms.calc is None else {k: v for k, v in atoms.calc.results.items() if v is not None}
    fields: dict[str, Any] = {**results, **atoms.info, **data}
    arrays = {name: values for name, values in atoms.arrays.items() if name not in _GEOMETRY}
    cell = np.asarray(atoms.cell.array, np.float64) * units.length
    if atoms.pbc.any():
        fields["pbc"], fields["cell"] = np.asarray(atoms.pbc, bool), cell
    fixed, others = constraints_of(atoms)
    if fixed.any():
        fields["fixed"] = fixed
    if others:
        fields["constraints"] = others
    smiles = fields.pop("smiles", None)
    if smiles is not None and not isinstance(smiles, str):
        return Bad(line, text, f"smiles: {smiles!r} is not text")
    positions = np.asarray(atoms.positions, np.float64) * units.length
    return checked_row(
        line, text, smiles, np.asarray(atoms.numbers, np.int32), positions, fields, columns, keys, arrays, units, where
    )


def constraints_of(atoms: Atoms) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which coordinates ASE's constraints hold fixed (atom, 3), and the names of those that do something else."""
    fixed = np.zeros((len(atoms), 3), bool)
    others: list[str] = []
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            fixed[constraint.index] = True
        elif isinstance(constraint, FixCartesian):
            fixed[constraint.index] |= np.asarray(constraint.mask, bool)
        else:
            others.append(type(constraint).__name__)
    return fixed, tuple(sorted(set(others)))


def checked_row(
    line: int,
    text: str,
    smiles: str | None,
    numbers: np.ndarray | None,
    positions: np.ndarray | None,
    fields: dict[str, Any],
    columns: Sequence[str],
    keys: FrameKeys,
    arrays: Mapping[str, np.ndarray] | None = None,
    units: FrameUnits | None = None,
    where: str = "",
) -> Row | Bad:
    """A row whose quantities of known meaning are finite, of the right shape and in eV and Angstrom.

    Args:
        line, text: line of the file where the row begins, and the text that is shown if the row is bad.
        smiles, numbers, positions: the molecule; None for what is not known.
        fields: further entries, by their names in the file.
        columns: requested numbers.
        keys: which entries are labels.
        arrays: entries with one value for each atom.
        units: of the file, where it names them.
        where: the file, for messages.

    Raises:
        InputError: the file names a unit that is not known.
    """
    if numbers is None or positions is None:
        values = numbers_of(fields, columns)
        if isinstance(values, str):
            return Bad(line, text, values)
        return Row(line, smiles, None, None, fields | values[0], values[1])
    if not len(numbers):
        return Bad(line, text, "no atoms")
    if numbers.min() < 1 or numbers.max() > MAX_NUMBER:
        return Bad(line, text, "has an atom that is no element")
    if not np.isfinite(positions).all():
        return Bad(line, text, "a position is not finite")
    everything = {**(arrays or {}), **fields}
    properties = dict(fields)
    taken: dict[str, str] = {}
    unused: dict[str, str] = {}
    lacking: dict[str, tuple[str, ...]] = {}
    cell = _cell(fields)
    if isinstance(cell, str):
        return Bad(line, text, cell)
    for label in LABELS:
        chosen = find_label(everything, keys.label(label))
        similar = [name for name in look_alikes(label, everything, len(numbers)) if name != chosen]
        if label == "stress" and not cell.any():
            similar = []
        unused |= dict.fromkeys(similar, label)
        for spelled in [name for name in properties if str(name).lower() == label]:
            properties.pop(spelled)
        if chosen is None:
            if similar and not getattr(keys, label):
                lacking[label] = tuple(similar)
            continue
        value = _label(label, everything[chosen], len(numbers))
        if isinstance(value, str):
            return Bad(line, text, value)
        declared = keys.units.get(label)
        scale, reads = (units or FrameUnits()).of(chosen, USUAL_UNITS[label], where, declared)
        if keys.units and declared is None and reads == USUAL_UNITS[label]:
            return Bad(line, text, f"the unit of its {label} is not given, as that of others is: say "
                       f"{keys.prefix}units.{label}")  # fmt: skip
        if label == "stress" and "virial" in chosen.lower():
            volume = float(abs(np.linalg.det(cell)))
            if not volume:
                unused[chosen] = "stress"
                continue
            value, reads = -np.asarray(value) / volume, f"{reads}, minus the virial in eV over the volume"
        properties[label] = value * scale
        taken[label] = reads if chosen == label else f"{reads}, from {chosen}"
    charge, named, problem = total_charge(everything, numbers, keys)
    if problem:
        return Bad(line, text, problem)
    if charge is not None:
        properties["charge"] = charge
        taken["charge"] = f"e, from {named}"
    elif "charge" in properties:
        properties.pop("charge")
    properties.pop("spin", None)
    spin, how, spin_problem = unpaired_electrons(everything, numbers, charge or 0, bool(cell.any()), keys)
    if spin is not None:
        properties["spin"] = spin
        taken["spin"] = str(how)
    unused |= ignored_entries(everything, numbers, charge or 0, keys, {"charge": named, "spin": how})
    values = numbers_of(fields, columns)
    if isinstance(values, str):
        return Bad(line, text, values)
    notes = FrameNotes(taken, unused, lacking, spin_problem)
    return Row(line, smiles, numbers, positions, properties | values[0], values[1], notes)


def _cell(fields: Mapping[str, Any]) -> np.ndarray | str:
    """Lattice vectors (Angstrom) with zeros where nothing repeats, or why there is no such cell."""
    pbc = np.broadcast_to(np.asarray(fields.get("pbc", False), bool), (3,))
    if not pbc.any():
        return np.zeros((3, 3))
    cell = np.where(pbc[:, None], np.asarray(fields.get("cell", np.zeros((3, 3))), np.float64), 0.0)
    if not np.isfinite(cell).all() or np.linalg.matrix_rank(cell[pbc]) < pbc.sum():
        return (
            f"it repeats along {int(pbc.sum())} directions, but its cell does not span them: "
            'give Lattice="..." with a vector for each, or pbc="F F F"'
        )
    return cell


def _label(label: str, value: Any, atoms: int) -> Any:
    """The value of a label as numbers, or why it is not valid."""
    if label == "energy":
        number = scalar(value)
        return f"energy: {value!r} is not a finite number" if number is None else number
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return f"{label}: not numbers, three for each {'atom' if label == 'forces' else 'axis'}"
    if label == "forces":
        if array.shape != (atoms, 3):
            return f"forces have shape {array.shape}, positions {(atoms, 3)}"
        return array if np.isfinite(array).all() else "a force is not finite"
    array = array[0] if array.ndim > 1 and array.shape[0] == 1 else array
    if array.shape == (6,):
        xx, yy, zz, yz, xz, xy = array
        array = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if array.size != 9:
        return f"stress has shape {array.shape}, not 3 x 3 or 6"
    array = array.reshape(3, 3)
    return array if np.isfinite(array).all() else "a stress is not finite"
