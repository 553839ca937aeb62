"""Reads frames that are kept as NumPy arrays: .npz files in the layout of MD17, and directories of DeePMD-kit.

MD17: Chmiela et al., Sci. Adv. 2017, 3, e1603015 (`z`, `R`, `E`, `F`); rMD17: Christensen and von Lilienfeld, Mach.
Learn.: Sci. Technol. 2020, 1, 045018 (`nuclear_charges`, `coords`, `energies`, `forces`). DeePMD-kit: Wang et al.,
Comput. Phys. Commun. 2018, 228, 178, whose documentation fixes eV and Angstrom. Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from data.errors import InputError
from data.formats.numpy_file import read_npy, read_npz
from data.formats.rows import Bad, Row
from data.structures.frame_names import FrameKeys
from data.structures.frame_rows import USUAL_UNITS, checked_row
from data.structures.frame_units import FrameUnits

#: What an array of a .npz file is -> the names that it may have.
NAMES: Mapping[str, tuple[str, ...]] = {
    "numbers": ("z", "Z", "nuclear_charges", "numbers", "atomic_numbers", "species"),
    "positions": ("R", "coords", "coordinates", "positions", "pos"),
    "energy": ("E", "energies", "energy"),
    "forces": ("F", "forces", "force"),
    "cell": ("cell", "lattice", "cells"),
}
#: Entries with which sGDML says the units of its files, for energies and for lengths.
ENERGY_UNIT, LENGTH_UNIT = "e_unit", "r_unit"
DEEPMD_FILES = {"energy.npy": "energy", "force.npy": "forces"}


def read_npz_frames(path: Path, columns: Sequence[str], keys: FrameKeys) -> Iterator[Row | Bad]:
    """The frames of a .npz file in the layout of MD17 or rMD17, numbered from 1.

    The atomic numbers may be those of every frame (atom), or one row each (frame, atom) with 0 for padding. Other
    arrays with a number for each frame are entries of the frames. Such a file rarely says its units, and those of MD17
    are kcal/mol: where it says none, they have to be given.

    Raises:
        InputError: the arrays are not of this layout, or the units of labels are neither in the file nor in `keys`.
    """
    arrays = read_npz(path)
    array_names = {what: next((n for n in names if n in arrays), None) for what, names in NAMES.items()}
    numbers_name, positions_name = array_names["numbers"], array_names["positions"]
    if numbers_name is None or positions_name is None:
        raise InputError(
            f"has no atomic numbers and positions; its arrays are {', '.join(arrays)}",
            where=str(path),
            remedy=f"Name the numbers {' or '.join(NAMES['numbers'][:3])} and the positions (frame, atom, 3) "
            f"{' or '.join(NAMES['positions'][:3])}",
        )
    positions = np.asarray(arrays[positions_name])
    positions = positions[None] if positions.ndim == 2 else positions
    if positions.ndim != 3 or positions.shape[2] != 3 or positions.dtype.kind not in "fiu":
        raise InputError(f"{positions_name} has shape {positions.shape}, not (frame, atom, 3)", where=str(path))
    frames, atoms = positions.shape[:2]
    numbers = np.asarray(arrays[numbers_name])
    if numbers.shape not in ((atoms,), (frames, atoms)) or numbers.dtype.kind not in "iu":
        raise InputError(
            f"{numbers_name} has shape {numbers.shape} and type {numbers.dtype}, not integers (atom) or (frame, atom)",
            where=str(path),
        )
    units, labels = _units(path, arrays, array_names, keys), {}
    for what, shape in (("energy", (frames,)), ("forces", positions.shape), ("cell", (frames, 3, 3))):
        name = array_names[what]
        if name is None:
            continue
        values = np.asarray(arrays[name])
        if what == "cell" and values.shape == (3, 3):
            values = np.broadcast_to(values, shape)
        if values.size != np.prod(shape) or values.dtype.kind not in "fiu":
            raise InputError(f"{name} has shape {values.shape}, not {shape}", where=str(path))
        if what != "energy" or keys.labels:
            labels[what] = values.reshape(shape)
    if not keys.labels:
        labels.pop("forces", None)
    taken = {numbers_name, positions_name, *(array_names[n] for n in labels), ENERGY_UNIT, LENGTH_UNIT}
    others = {
        name: values.reshape(frames)
        for name, values in arrays.items()
        if name not in taken and values.size == frames and values.dtype.kind in "fiuU" and values.ndim
    }
    if not keys.labels:
        others = {name: values for name, values in others.items() if name not in NAMES["energy"]}
    return _rows(path, positions, numbers, labels, others, columns, keys, units)


def _units(
    path: Path, arrays: Mapping[str, np.ndarray], array_names: Mapping[str, str | None], keys: FrameKeys
) -> FrameUnits:
    """The units that the file says.

    Raises:
        InputError: it has labels, and neither says their unit nor do the keys.
    """
    said = {n: _text(arrays[n]) for n in (ENERGY_UNIT, LENGTH_UNIT) if n in arrays}
    length = said.get(LENGTH_UNIT, "Angstrom")
    named = {}
    if (energy := said.get(ENERGY_UNIT)) is not None:
        named = {"energy": energy, "forces": f"{energy}/{length}"}
    needed = [label for label in ("energy", "forces") if array_names[label] and label not in named and keys.labels]
    lacking = [label for label in needed if label not in keys.units]
    if lacking:
        example = " ".join(f"{keys.prefix}units.{x}={'kcal/mol' + '/Angstrom' * (x == 'forces')}" for x in lacking)
        raise InputError(
            f"does not say the unit of its {' and '.join(lacking)}",
            where=str(path),
            remedy=f"Say it, such as {example} for the files of MD17 and rMD17",
        )
    return FrameUnits.of_metadata({"_distance_unit": length, "_property_unit_dict": named}, str(path))


def _text(value: np.ndarray) -> str:
    one = value.reshape(-1)[0].item() if value.size == 1 else ""
    return one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)


def _rows(
    path: Path,
    positions: np.ndarray,
    numbers: np.ndarray,
    labels: Mapping[str, np.ndarray],
    others: Mapping[str, np.ndarray],
    columns: Sequence[str],
    keys: FrameKeys,
    units: FrameUnits,
    first: int = 1,
) -> Iterator[Row | Bad]:
    for i in range(len(positions)):
        z = numbers if numbers.ndim == 1 else numbers[i]
        real = z > 0
        fields: dict[str, Any] = {name: values[i].item() for name, values in others.items()}
        for name, values in labels.items():
            if name == "cell":
                cell = np.asarray(values[i], np.float64) * units.length
                if cell.any():
                    fields["cell"], fields["pbc"] = cell, np.any(cell != 0, axis=1)
            else:
                fields[name] = values[i][real] if name == "forces" else np.asarray(values[i])
        x = np.asarray(positions[i][real], np.float64) * units.length
        yield checked_row(
            first + i, "", None, np.asarray(z[real], np.int32), x, fields, columns, keys, None, units, str(path)
        )


def read_deepmd(path: Path, columns: Sequence[str], keys: FrameKeys) -> Iterator[Row | Bad]:
    """The frames of a system of DeePMD-kit, or of all systems below a directory, numbered from 1.

    A system has `type.raw`, `type_map.raw` and directories `set.*` with `coord.npy` (Angstrom), and, where known,
    `box.npy`, `energy.npy` (eV), `force.npy` (eV/Angstrom) and `virial.npy` (eV), of which the stress is minus the
    virial over the volume. `real_atom_types.npy` gives the types of each frame (-1 for none) where they differ. Other
    arrays with a number for each frame are entries of the frames.

    Raises:
        InputError: a file is missing or has another shape, or the elements of the types are not named.
    """
    first = 1
    for marker in sorted(path.glob("**/type.raw")):
        system = marker.parent
        sets = sorted(p for p in system.glob("set.*") if p.is_dir())
        if not sets:
            raise InputError("has no directory set.*", where=str(system), remedy="Write it in the format deepmd/npy")
        elements = _elements(system)
        types = _types(marker, len(elements))
        for folder in sets:
            count, rows = _set(folder, types, elements, (system / "nopbc").exists(), columns, keys, first)
            yield from rows
            first += count


def _elements(system: Path) -> np.ndarray:
    """The atomic number of each type."""
    names = system / "type_map.raw"
    if not names.is_file():
        raise InputError(
            "the elements of its types are not named", where=str(names), remedy="Write one element a line, such as O"
        )
    symbols = names.read_text(encoding="utf-8", errors="replace").split()
    unknown = [symbol for symbol in symbols if not atomic_numbers.get(symbol)]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no element", where=str(names), remedy="Write one element a line")
    return np.array([atomic_numbers[symbol] for symbol in symbols], np.int32)


def _types(marker: Path, kinds: int) -> np.ndarray:
    words = marker.read_text(encoding="utf-8", errors="replace").split()
    if not all(word.isascii() and word.isdigit() and int(word) < kinds for word in words):
        raise InputError(f"holds no types below {kinds}", where=str(marker), remedy="Write one type for each atom")
    return np.array([int(word) for word in words], np.int64)


def _set(
    folder: Path,
    types: np.ndarray,
    elements: np.ndarray,
    isolated: bool,
    columns: Sequence[str],
    keys: FrameKeys,
    first: int,
) -> tuple[int, Iterator[Row | Bad]]:
    """How many frames a set has, and the frames."""

    def array(name: str, *shape: int) -> np.ndarray | None:
        if not (folder / name).is_file():
            return None
        values = read_npy(folder / name)
        if values.size != np.prod(shape) or values.dtype.kind not in "fiu":
            raise InputError(f"has shape {values.shape}, not {shape}", where=str(folder / name))
        return values.reshape(shape)

    if not (folder / "coord.npy").is_file():
        raise InputError("no such file", where=str(folder / "coord.npy"), remedy="Write the positions of the set")
    coordinates = read_npy(folder / "coord.npy")
    atoms = len(types)
    if coordinates.ndim < 2 or coordinates[0].size != 3 * atoms:
        raise InputError(
            f"has shape {coordinates.shape}, and type.raw names {atoms} atoms", where=str(folder / "coord.npy")
        )
    frames = len(coordinates)
    labels: dict[str, np.ndarray] = {}
    box = None if isolated else array("box.npy", frames, 3, 3)
    if box is None and not isolated:
        raise InputError(
            "no such file, and the system has no file nopbc", where=str(folder / "box.npy"),
            remedy="Write the cells, or an empty file nopbc beside type.raw",
        )  # fmt: skip
    if box is not None:
        labels["cell"] = box
    for name, label in DEEPMD_FILES.items():
        values = array(name, frames, *((atoms, 3) if label == "forces" else ()))
        if values is not None:
            labels[label] = values
    virial = array("virial.npy", frames, 3, 3)
    if virial is not None and box is not None:
        volume = np.abs(np.linalg.det(np.asarray(box, np.float64)))
        labels["stress"] = -np.asarray(virial, np.float64) / np.where(volume > 0, volume, np.nan)[:, None, None]
    real = array("real_atom_types.npy", frames, atoms)
    kinds = np.broadcast_to(types, (frames, atoms)) if real is None else real.astype(np.int64)
    if kinds.max(initial=-1) >= len(elements):
        raise InputError(f"has types of {len(elements)} or more", where=str(folder / "real_atom_types.npy"))
    numbers = np.where(kinds < 0, 0, elements[np.maximum(kinds, 0)])
    standard = {"coord.npy", "box.npy", "virial.npy", "real_atom_types.npy", *DEEPMD_FILES}
    others = {}
    for extra in sorted(set(folder.glob("*.npy"))):
        if extra.name not in standard and (column := read_npy(extra)).size == frames and column.dtype.kind in "fiu":
            others[extra.stem] = column.reshape(frames)
    rows = _rows(
        folder, coordinates.reshape(frames, atoms, 3), numbers, labels, others, columns, keys,
        FrameUnits("Angstrom", USUAL_UNITS), first,
    )  # fmt: skip
    return frames, rows
