"""The contract of all packages: variables, coordinates, specs, requests, answers, hashes and failed simulations.

A `Spec` names every input and output with dims, units and dtype. A request is an `xarray.Dataset` that fits
`spec.inputs`, an answer one that fits `spec.outputs`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from data import late_dask

# A process that makes records need not import dask.
late_dask.install()

ErrorKind = Literal[
    "not_converged", "timeout", "crashed", "out_of_memory", "invalid_input", "missing_component", "lost"
]
ERROR_KINDS: tuple[str, ...] = get_args(ErrorKind)

#: Dims whose length is the same in every record of every simulator. A simulator's own are the `coords` of its
#: Spec (grid points, times, channels); every other dim is ragged (atoms, orbitals, nodes of a mesh).
FIXED_DIMS: Mapping[str, int] = {"axis": 3, "axis_2": 3}


class SimulationError(Exception):
    """A simulation that gave no answer.

    Args:
        kind: one of `ERROR_KINDS`.
        message: what happened, with numbers; for people.
        details: facts worth storing with the failure (JSON-serialisable).
    """

    def __init__(self, kind: ErrorKind, message: str, details: Mapping[str, Any] | None = None) -> None:
        if kind not in ERROR_KINDS:
            raise ValueError(f"kind must be one of {ERROR_KINDS}, got {kind!r}")
        super().__init__(kind, message)
        self.kind: ErrorKind = kind
        self.message = message
        self.details = dict(details or {})

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (SimulationError, (self.kind, self.message, self.details))


@dataclass(frozen=True)
class Variable:
    """One named quantity of a record.

    Attributes:
        name: the key in the Dataset, in stores, in JSON and in docs.
        dims: dims of one record, without `sample`; `()` for a scalar. Only the first may be ragged.
        units: ASE's units in molecules (eV, Angstrom, Debye), SI/CF in fields; "1" if dimensionless.
        dtype: numpy dtype name, or "str".
        long_name: a phrase for axes and tables.
    """

    name: str
    dims: tuple[str, ...]
    units: str
    dtype: str
    long_name: str

    def __post_init__(self) -> None:
        try:
            # NumPy takes digits alone at one place and refuses them at another.
            letters = self.dtype.strip("<>=|")[:1].isalpha()
            valid = self.dtype == "str" or (letters and np.dtype(self.dtype).kind in "biufcMmUS")
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise ValueError(f"{self.name} has no dtype of NumPy: {self.dtype!r}")

    def attrs(self) -> dict[str, str]:
        """`units` and `long_name`, as every stored array carries them."""
        return {"units": self.units, "long_name": self.long_name}


@dataclass(frozen=True)
class Coordinate:
    """The positions of the entries along a dim that is the same in every record.

    Attributes:
        name: of the dim.
        values: positions, times, or names of channels; in order.
        units: of the values; "1" for names.
        long_name: a phrase for axes and tables.
    """

    name: str
    values: tuple[float, ...] | tuple[str, ...]
    units: str
    long_name: str

    def variable(self) -> xr.Variable:
        """The coordinate as xarray holds it."""
        return xr.Variable((self.name,), np.array(self.values), {"units": self.units, "long_name": self.long_name})


@dataclass(frozen=True)
class Spec:
    """Names, dims, units and dtypes of what goes in and what comes out.

    Attributes:
        inputs, outputs: the variables of a request and of its answer.
        coords: dims that are the same in every record, such as those of a grid.
        attrs: facts that every answer carries as attributes, such as boundary conditions and the solver's version.
    """

    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    coords: tuple[Coordinate, ...] = ()
    attrs: Mapping[str, str] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each dim that is the same in every record."""
        return {**FIXED_DIMS, **{c.name: len(c.values) for c in self.coords}}

    def coordinate(self, name: str) -> Coordinate:
        """The coordinate called `name`; KeyError names those there are."""
        for coordinate in self.coords:
            if coordinate.name == name:
                return coordinate
        raise KeyError(f"no coordinate {name!r}; there are {[c.name for c in self.coords]}")

    def request(self, values: Mapping[str, Any]) -> xr.Dataset:
        """A request with coordinates; see `dataset`. A dim also has to be as long as its coordinate."""
        return self._with_coordinates(dataset(self.inputs, values))

    def answer(self, values: Mapping[str, Any]) -> xr.Dataset:
        """An answer with coordinates and attributes; see `dataset`."""
        return self._with_coordinates(dataset(self.outputs, values)).assign_attrs(self.attrs)

    def _with_coordinates(self, record: xr.Dataset) -> xr.Dataset:
        present = [c for c in self.coords if c.name in record.dims]
        for c in present:
            if record.sizes[c.name] != len(c.values):
                raise SimulationError(
                    "invalid_input", f"{c.name} must have {len(c.values)} entries, got {record.sizes[c.name]}"
                )
        return record.assign_coords({c.name: c.variable() for c in present})

    def output(self, name: str) -> Variable:
        """The output called `name`; KeyError names the outputs there are."""
        for variable in self.outputs:
            if variable.name == name:
                return variable
        raise KeyError(f"no output {name!r}; there are {[v.name for v in self.outputs]}")


def dataset(variables: tuple[Variable, ...], values: Mapping[str, Any]) -> xr.Dataset:
    """A record as a Dataset: `values` in the order, dims, dtype and units of `variables`.

    Args:
        variables: what the record holds.
        values: one entry for each variable that is present; others are left out.

    Raises:
        SimulationError: `invalid_input` if a value has the wrong number of dims, or two values differ in a size.
    """
    arrays: dict[str, xr.Variable] = {}
    for variable in variables:
        if variable.name not in values:
            continue
        dtype = object if variable.dtype == "str" else np.dtype(variable.dtype)
        value = np.asarray(values[variable.name], dtype=dtype)
        if value.ndim != len(variable.dims):
            raise SimulationError(
                "invalid_input",
                f"{variable.name} must have dims {variable.dims}, got an array of shape {value.shape}",
            )
        arrays[variable.name] = xr.Variable(variable.dims, value, variable.attrs())
    try:
        return xr.Dataset(arrays)
    except ValueError as error:
        raise SimulationError("invalid_input", " ".join(str(error).split())) from error


def check(
    record: xr.Dataset,
    variables: tuple[Variable, ...],
    *,
    optional: tuple[str, ...] = (),
    sizes: Mapping[str, int] = FIXED_DIMS,
) -> None:
    """Refuse a record that does not fit: a missing variable, wrong dims or units, or a value that is not finite.

    Args:
        record: a request or an answer.
        variables: what it has to hold.
        optional: names that may be absent.
        sizes: lengths of dims, as `Spec.sizes` gives them.

    Raises:
        SimulationError: `invalid_input`, naming the variable and what was expected.
    """
    for variable in variables:
        if variable.name not in record:
            if variable.name in optional:
                continue
            raise SimulationError("invalid_input", f"{variable.name} is missing; got {sorted(map(str, record))}")
        array = record[variable.name]
        if array.dims != variable.dims:
            raise SimulationError("invalid_input", f"{variable.name} must have dims {variable.dims}, got {array.dims}")
        for dim, length in zip(array.dims, array.shape, strict=True):
            if length != sizes.get(str(dim), length):
                raise SimulationError(
                    "invalid_input", f"{variable.name} must have {sizes[str(dim)]} entries along {dim}, got {length}"
                )
        units = array.attrs.get("units", variable.units)
        if units != variable.units:
            raise SimulationError("invalid_input", f"{variable.name} must be in {variable.units}, got {units}")
        if array.dtype.kind == "f" and not np.isfinite(array.values).all():
            raise SimulationError("invalid_input", f"{variable.name} holds values that are not finite")


def content_hash(value: Any) -> str:
    """SHA-256 (hex) of a JSON-serialisable value, the same on every host and in every session."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def input_hash(record: xr.Dataset) -> str:
    """SHA-256 (hex) of a request: names, dims, dtypes and little-endian bytes of its variables.

    Attributes such as units do not enter; the order of variables does not matter.
    """
    digest = hashlib.sha256()
    for name in sorted(map(str, record.data_vars)):
        array = record[name]
        values = np.asarray(array.values)
        if values.dtype.kind in "OUT":
            body, kind = json.dumps(values.astype(str).tolist()).encode(), "str"
        else:
            little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
            body, kind = little.tobytes(), little.dtype.str
        head = json.dumps([name, list(map(str, array.dims)), list(values.shape), kind, len(body)])
        digest.update(head.encode() + b"\n" + body)
    return digest.hexdigest()
