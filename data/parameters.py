"""Numbers that depend on numbers: the samples that a surrogate of parameters learns from.

A sample is one request of a campaign and its answers. Inputs and outputs that are arrays along dims of fixed length,
such as curves over saved times, are laid out as columns of a table: `cosine` along mode = 3, 4, 5 gives `cosine_3`,
`cosine_4`, `cosine_5`. The positions along a dim may be spaced unevenly.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from data.costs import core_seconds
from data.errors import InputError
from data.grouping import row_keys
from data.spec import Coordinate, Variable
from data.store.records import RecordStore
from data.suggestions import did_you_mean

#: Dims of fields, which are learned by operators on their grid.
SPACE = ("x", "y", "z", "latitude", "longitude", "level")
#: Largest number of entries of an output that is learned entry by entry.
MOST_TARGETS = 20_000


@dataclass(frozen=True)
class ParameterLayout:
    """Describes the columns of a `ParameterTable`.

    Attributes:
        inputs, outputs: numbers, or arrays along `axes`, in the order of their columns.
        axes: dims of the inputs and outputs.
        attrs: boundary conditions, solver and equation, as far as the source names them.
    """

    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    axes: tuple[Coordinate, ...]
    attrs: Mapping[str, str]

    def __post_init__(self) -> None:
        sizes = {a.name for a in self.axes}
        if any(d not in sizes for v in (*self.inputs, *self.outputs) for d in v.dims):
            raise ValueError("inputs and outputs must be numbers, or lie along the axes")

    @property
    def columns(self) -> tuple[str, ...]:
        """Name of each input column."""
        return self._column_names(self.inputs)

    @property
    def units(self) -> tuple[str, ...]:
        """Unit of each column."""
        return tuple(v.units for v in self.inputs for _ in range(self._size(v)))

    @property
    def targets(self) -> tuple[str, ...]:
        """Name of each output column: for numbers, the names of the outputs."""
        return self._column_names(self.outputs)

    @property
    def target_slices(self) -> dict[str, slice]:
        """The output columns of each output."""
        ends = np.cumsum([self._size(v) for v in self.outputs]).tolist()
        return {v.name: slice(end - self._size(v), end) for v, end in zip(self.outputs, ends, strict=True)}

    def refuse_other_columns(self, other: ParameterLayout, where: str) -> None:
        """Refuse a table whose columns differ from these.

        Raises:
            InputError: it has other inputs or outputs.
        """
        if (other.columns, other.targets) != (self.columns, self.targets):
            raise InputError(f"{where} has other columns", remedy="Give samples of the same simulator")

    def positions(self, variable: Variable) -> dict[str, tuple[float, ...] | tuple[str, ...]]:
        """The positions along each dim of a variable."""
        return {a.name: a.values for dim in variable.dims for a in self.axes if a.name == dim}

    def flat(self, record: Mapping[str, Any]) -> Float[np.ndarray, "*batch column"]:
        """Inputs by name, each (*batch, *dims), as columns."""
        return self._flat(self.inputs, record)

    def flat_outputs(self, record: Mapping[str, Any]) -> Float[np.ndarray, "*batch target"]:
        """Outputs by name, each (*batch, *dims), as columns."""
        return self._flat(self.outputs, record)

    def named(self, columns: Float[np.ndarray, "*batch column"]) -> dict[str, np.ndarray]:
        """The inverse of `flat`."""
        return self._named(self.inputs, columns)

    def named_outputs(self, columns: Float[np.ndarray, "*batch target"]) -> dict[str, np.ndarray]:
        """The inverse of `flat_outputs`."""
        return self._named(self.outputs, columns)

    def _column_names(self, variables: tuple[Variable, ...]) -> tuple[str, ...]:
        labels = {a.name: _labels(a) for a in self.axes}
        return tuple("_".join((v.name, *entry)) for v in variables for entry in product(*(labels[d] for d in v.dims)))

    def _flat(self, variables: tuple[Variable, ...], record: Mapping[str, Any]) -> Float[np.ndarray, "*batch column"]:
        parts = []
        for variable in variables:
            array = np.asarray(record[variable.name], np.float64)
            batch = array.shape[: array.ndim - len(variable.dims)]
            parts.append(array.reshape((*batch, self._size(variable))))
        return np.concatenate(parts, axis=-1)

    def _named(
        self, variables: tuple[Variable, ...], columns: Float[np.ndarray, "*batch column"]
    ) -> dict[str, np.ndarray]:
        arrays, start = {}, 0
        sizes = self._sizes()
        for variable in variables:
            size = self._size(variable)
            part = columns[..., start : start + size]
            arrays[variable.name] = part.reshape((*columns.shape[:-1], *(sizes[d] for d in variable.dims)))
            start += size
        return arrays

    def _sizes(self) -> dict[str, int]:
        return {a.name: len(a.values) for a in self.axes}

    def _size(self, variable: Variable) -> int:
        sizes = self._sizes()
        return int(np.prod([sizes[d] for d in variable.dims], dtype=int))


@dataclass(frozen=True)
class ParameterTable:
    """Samples of one layout.

    Attributes:
        layout: description of the columns.
        values: the inputs, in the units of the layout.
        labels: the outputs, in the units of the layout.
        fingerprint: identity of the simulator, or of the numbers.
        seconds: core-seconds that each sample took.
        failed: kind of failure -> records of the store that hold it.
        failed_seconds: core-seconds that those took.
        unused: other outputs of the store, by name, and how they are learned.
        cheaper: answers of a cheaper simulator to the same inputs, on which a surrogate stands; None for none.
        cheaper_costs: metrics of these answers: `on/core_seconds` of all, `on/requests` and `on/failed`.
    """

    layout: ParameterLayout
    values: Float[np.ndarray, "sample column"]
    labels: Float[np.ndarray, "sample target"]
    fingerprint: str
    seconds: Float[np.ndarray, " sample"]
    failed: Mapping[str, int]
    failed_seconds: float = 0.0
    unused: Mapping[str, str] = field(default_factory=dict)
    cheaper: Float[np.ndarray, "sample answer"] | None = None
    cheaper_costs: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def quantities(self) -> dict[str, str]:
        """Inputs and outputs, and how they are understood."""
        units = dict(zip(self.layout.columns, self.layout.units, strict=True))
        inputs = {name: f"input, {unit}, {_span(self.values[:, k])}" for k, (name, unit) in enumerate(units.items())}
        slices = self.layout.target_slices
        outputs = {v.name: f"output, {v.units}, {_span(self.labels[:, slices[v.name]])}" for v in self.layout.outputs}
        for variable in self.layout.outputs:
            if variable.dims:
                outputs[variable.name] += f", along {' and '.join(variable.dims)}"
        return inputs | outputs

    def take(self, rows: Int[np.ndarray, " n"]) -> ParameterTable:
        """Some of the samples."""
        cheaper = None if self.cheaper is None else self.cheaper[rows]
        values, labels, seconds = self.values[rows], self.labels[rows], self.seconds[rows]
        return replace(self, values=values, labels=labels, seconds=seconds, cheaper=cheaper)

    def input_keys(self) -> list[str]:
        """A key for each sample: the same for the same inputs."""
        return row_keys(self.values)

    def content(self) -> str:
        """SHA-256 (hex) of the numbers."""
        digest = hashlib.sha256()
        for array in (self.values, self.labels, *([] if self.cheaper is None else [self.cheaper])):
            digest.update(f"{array.shape}".encode() + np.ascontiguousarray(array, "<f8").tobytes())
        return digest.hexdigest()


def _span(values: Float[np.ndarray, "*any"]) -> str:
    return f"{values.min():.4g} to {values.max():.4g}" if values.size else "none"


def _labels(axis: Coordinate) -> list[str]:
    """A short name for each position along an axis; no two are equal."""
    short = [v if isinstance(v, str) else f"{v:g}" for v in axis.values]
    return short if len(set(short)) == len(short) else [str(v) for v in axis.values]


def read_parameters(
    path: Path, targets: Sequence[str], inputs: Sequence[str] | None = None
) -> tuple[ParameterTable, list[tuple[int, str]]]:
    """Samples from a store that `understudy simulate` made.

    Args:
        path: of the store.
        targets: outputs to learn: numbers, or arrays along dims of fixed length that are not those of space.
        inputs: inputs that determine them; None for all inputs of the store.

    Returns:
        The samples, and (number, reason) for each record that was left out.

    Raises:
        InputError: the path is not a store, variables are missing or are fields, or no sample is left.
    """
    where = str(path)
    if not (path / "store.json").is_file():
        raise InputError("is no store of a campaign", where=where, remedy="Give one that `understudy simulate` made")
    if not targets:
        raise InputError("no output to learn is named", where="data.target", remedy="Name one, or a list")
    if len(set(targets)) < len(targets) or len(set(inputs or ())) < len(inputs or ()):
        raise InputError("a variable is named twice", where="data", remedy="Name each once in target and inputs")
    with RecordStore.open(path) as store:
        named = list(store.inputs) if inputs is None else list(inputs)
        # An answer may hold the fields of each sample too, which nothing here needs to load.
        variables = [*store.inputs, *store.outputs]
        if lacking := [n for n in (*named, *targets) if n not in variables]:
            remedies = [did_you_mean(lacking[0], variables), f"It has {', '.join(variables)}"]
            raise InputError(
                f"no variable {' and no '.join(lacking)} in it", where=where, remedy=" ".join(filter(None, remedies))
            )
        dataset = store.dataset()
        fingerprint = str(store.attrs.get("fingerprint", ""))
    layout = _layout(dataset, named, targets, where)
    status = dataset["status"].values.astype(str)
    seconds = core_seconds(dataset, where)
    good = status == "ok"
    bad = [(int(i), str(status[i])) for i in np.flatnonzero(~good)]
    values = layout.flat({v.name: dataset[v.name].transpose("sample", *v.dims).values for v in layout.inputs})
    labels = layout.flat_outputs({v.name: dataset[v.name].transpose("sample", *v.dims).values for v in layout.outputs})
    finite = np.isfinite(values).all(axis=1) & np.isfinite(labels).all(axis=1)
    bad += [(int(i), "holds values that are not finite") for i in np.flatnonzero(good & ~finite)]
    keep = np.flatnonzero(good & finite)
    if not len(keep):
        reasons = Counter(reason for _, reason in bad)
        commonest = reasons.most_common(1)[0][0] if reasons else "it is empty"
        raise InputError(
            f"none of its {len(status)} samples can be used: {commonest}",
            where=where,
            remedy="Simulate more, or look at the column message of the store",
        )
    table = ParameterTable(
        layout,
        values[keep],
        labels[keep],
        fingerprint,
        seconds[keep],
        dict(Counter(reason for _, reason in bad)),
        float(np.nansum(seconds) - np.nansum(seconds[keep])),
        _unused_numbers(dataset, variables, [*named, *targets]),
    )
    return (table if fingerprint else replace(table, fingerprint=table.content())), sorted(bad)


def _unused_numbers(dataset: xr.Dataset, variables: Sequence[str], used: Sequence[str]) -> dict[str, str]:
    """Numbers of a store that are neither an input nor a target, and what they are."""
    others = [
        n for n in variables if n not in used and dataset[n].dims == ("sample",) and dataset[n].dtype.kind in "fiu"
    ]
    return {n: f"a number, {dataset[n].attrs.get('units', '1')}; data.target or data.inputs takes it" for n in others}


def _layout(dataset: xr.Dataset, inputs: Sequence[str], targets: Sequence[str], where: str) -> ParameterLayout:
    """What the variables are.

    Raises:
        InputError: a variable is along a dim without coordinates, an output is a field, or there is no input.
    """
    if not inputs:
        raise InputError("no input is named", where=where, remedy="Say what decides the outputs: data.inputs=[...]")
    variables = [_variable(dataset, name) for name in inputs]
    outputs = [_variable(dataset, name) for name in targets]
    for variable in variables:
        unknown = [d for d in variable.dims if d not in dataset.coords]
        if unknown or dataset[variable.name].dtype.kind not in "fiu":
            raise InputError(
                f"{variable.name} is no number, nor some along a dim of fixed length",
                where=where,
                remedy="Name the inputs that are: data.inputs=[...]",
            )
    for variable in outputs:
        size = int(np.prod([dataset.sizes[d] for d in variable.dims], dtype=int))
        if size > MOST_TARGETS or any(d in SPACE or d not in dataset.coords for d in variable.dims):
            raise InputError(f"{variable.name} is a field", where=where, remedy="Learn it with task=fluids/fields")
    dims = dict.fromkeys(d for v in (*variables, *outputs) for d in v.dims)
    axes = tuple(
        Coordinate(d, tuple(dataset[d].values.tolist()), *(str(dataset[d].attrs.get(k, e)) for k, e in _default(d)))
        for d in dims
    )
    attrs = {str(k): str(v) for k, v in dataset.attrs.items() if k in ("boundary_conditions", "solver", "equation")}
    return ParameterLayout(tuple(variables), tuple(outputs), axes, attrs)


def _default(dim: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("units", "1"), ("long_name", dim)


def _variable(dataset: xr.Dataset, name: str) -> Variable:
    array = dataset[name]
    dims = tuple(str(d) for d in array.dims if d != "sample")
    attrs = array.attrs
    return Variable(name, dims, str(attrs.get("units", "1")), "float64", str(attrs.get("long_name", name)))
