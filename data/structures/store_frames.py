"""The records of a campaign as frames: geometries with the answers of the simulator, in units that the store names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.symbols import Symbols

from data.errors import InputError
from data.formats.rows import Bad, Row
from data.store.records import RecordStore
from data.structures.frame_names import FrameKeys
from data.structures.frame_rows import checked_row
from data.structures.frame_units import FrameUnits

#: Inputs and outputs that become the geometry.
_GEOMETRY = ("numbers", "positions", "cell", "relaxed_positions", "smiles")


def read_store(path: Path, columns: Sequence[str], keys: FrameKeys) -> Iterator[Row | Bad]:
    """The records of a store, in order: a frame for each answer, and the reason for each request that failed.

    Where the simulator relaxed the geometry, the frame has the relaxed positions, to which the answer belongs. Charge
    and spin are those of the request.

    Args:
        path: directory of the store.
        columns: requested numbers.
        keys: names of the labels; charge and spin have the names that every simulator gives them.

    Raises:
        InputError: there is no store, it holds no geometries, or a unit of it is not known.
        CorruptStoreError: it is damaged.
    """
    store = RecordStore.open(path)
    names = (*store.inputs, *store.outputs)
    if not {"numbers", "positions"} <= set(names):
        raise InputError(
            "its records have no geometries", where=str(path), remedy="Give a store of a simulator of molecules"
        )
    units = units_of(store)
    keys = replace(keys, charge=None, spin=None, spin_convention="unpaired")
    for line, (key, record) in enumerate(store.records(status=None), 1):
        text = title(record) or key
        if record["status"] != "ok":
            yield Bad(line, text, f"{record['status']}: {record.get('message', '')}".rstrip(": "))
            continue
        yield _row(line, text, {name: record[name] for name in names}, columns, keys, units, str(path))


def title(record: Mapping[str, Any]) -> str:
    """The SMILES of a record, or the formula of its atoms; empty if it has neither."""
    return str(record.get("smiles", "")) or Symbols(record.get("numbers", [])).formula.format("hill")


def units_of(store: RecordStore) -> FrameUnits:
    """The units of the variables of a store, by name; those without one are left out."""
    named = {name: attrs["units"] for name, attrs in store.attributes.items()}
    return FrameUnits.of_metadata(
        {"_distance_unit": named.get("positions"), "_property_unit_dict": {n: u for n, u in named.items() if u != "1"}},
        str(store.path),
    )


def _row(
    line: int,
    text: str,
    record: Mapping[str, Any],
    columns: Sequence[str],
    keys: FrameKeys,
    units: FrameUnits,
    where: str,
) -> Row | Bad:
    positions = np.asarray(record.get("relaxed_positions", record["positions"]), np.float64) * units.length
    fields = {n: v.item() if isinstance(v, np.generic) else v for n, v in record.items() if n not in _GEOMETRY}
    cell = np.asarray(record.get("cell", np.zeros((3, 3))), np.float64) * units.length
    if cell.any():
        fields["pbc"], fields["cell"] = np.any(cell != 0, axis=1), cell
    smiles = str(record["smiles"]) if "smiles" in record else None
    return checked_row(
        line,
        text,
        smiles,
        np.asarray(record["numbers"], np.int32),
        positions,
        fields,
        columns,
        keys,
        None,
        units,
        where,
    )
