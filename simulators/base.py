"""The one interface of the project: what a simulator, and so also a surrogate, takes and gives.

A `Spec` names every input and output with dims, units and dtype. A `Simulator` answers one
request, an `xarray.Dataset` that fits `spec.inputs`, with a Dataset that fits `spec.outputs`, or
raises `SimulationError`. Everything else (campaigns, comparison, screening) is written against this.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import xarray as xr

ErrorKind = Literal["not_converged", "timeout", "crashed", "out_of_memory", "invalid_input", "missing_component"]
ERROR_KINDS: tuple[str, ...] = get_args(ErrorKind)

#: Dims whose length is the same in every record; every other dim is ragged (atoms, orbitals, ...).
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

    def attrs(self) -> dict[str, str]:
        """`units` and `long_name`, as every stored array carries them."""
        return {"units": self.units, "long_name": self.long_name}


@dataclass(frozen=True)
class Spec:
    """Names, dims, units and dtypes of what goes in and what comes out."""

    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]

    def to_json(self) -> dict[str, Any]:
        """A plain dict, from which `from_json` makes an equal Spec."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Spec:
        """The Spec that `to_json` described."""

        def variables(items: Any) -> tuple[Variable, ...]:
            return tuple(Variable(**{**item, "dims": tuple(item["dims"])}) for item in items)

        return Spec(variables(value["inputs"]), variables(value["outputs"]))

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
        SimulationError: `invalid_input` if a value has the wrong number of dims.
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
    return xr.Dataset(arrays)


def check(record: xr.Dataset, variables: tuple[Variable, ...], *, optional: tuple[str, ...] = ()) -> None:
    """Refuse a record that does not fit: a missing variable, wrong dims, or a value that is not finite.

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


@runtime_checkable
class Simulator(Protocol):
    """Anything that answers a request: a program, a library, or a surrogate of one.

    Attributes:
        name: short and readable, such as "pyscf:b3lyp/def2-svp".
        spec: what goes in and what comes out.
        fingerprint: hash of the method, its settings and the wrapped package's version: the
            identity of its labels. Threads, memory and the host never enter.
        provenance: JSON-serialisable facts stored beside the labels: at least `simulator`,
            `version` and `settings`.
    """

    @property
    def name(self) -> str: ...

    @property
    def spec(self) -> Spec: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def provenance(self) -> dict[str, Any]: ...

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Answer one request.

        Args:
            inputs: fits `spec.inputs` (see `check`).

        Returns:
            A Dataset that fits `spec.outputs`; finite throughout. `attrs["log"]`, where present,
            is a JSON string of how the answer was reached (retries, cycles).

        Raises:
            SimulationError: the request has no answer; the kind says why.
        """
        ...
