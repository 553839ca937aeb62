"""Small stores of records, for the tests of `data.store.records`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.store.records import RecordStore


class Variable(NamedTuple):
    """What the store asks of a variable."""

    name: str
    dims: tuple[str, ...]
    units: str
    dtype: str
    long_name: str


INPUTS = (
    Variable("smiles", (), "1", "str", "SMILES"),
    Variable("positions", ("atom", "axis"), "Angstrom", "float64", "positions"),
)


OUTPUTS = (
    Variable("energy", (), "eV", "float64", "energy"),
    Variable("forces", ("atom", "axis"), "eV/Angstrom", "float64", "forces"),
    Variable("orbital_energies", ("orbital",), "eV", "float64", "orbital energies"),
    Variable("dipole", ("axis",), "Debye", "float64", "dipole"),
)


FACTS = {"seconds": 0.5, "threads": 1}


def make(path: Path, **options: Any) -> RecordStore:
    return RecordStore.create(path, INPUTS, OUTPUTS, provenance={"simulator": "toy", "settings": {"a": 1}}, **options)


def values(i: int, atoms: int | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    n = atoms if atoms is not None else 1 + i % 7
    return {
        "smiles": "C" * n,
        "positions": rng.normal(size=(n, 3)),
        "energy": float(i),
        "forces": rng.normal(size=(n, 3)),
        "orbital_energies": rng.normal(size=2 * n),
        "dipole": rng.normal(size=3),
    }


def assert_same(record: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        if isinstance(value, str):
            assert record[name] == value
        else:
            np.testing.assert_array_equal(record[name], value)
