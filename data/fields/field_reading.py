"""Fields read from a store of a campaign or from a file, checked and laid out as `data.fields.samples.Fields`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.costs import core_seconds
from data.errors import InputError
from data.fields.files import INITIAL, open_samples
from data.fields.first_time import begin
from data.fields.layout import Layout
from data.fields.precision import narrow_precision
from data.fields.sample_variables import SPACE, channels_of, usable
from data.fields.samples import Fields
from data.fields.suspects import missing_codes, seconds_of_dates
from data.grouping import repeats_note
from data.reading_summary import Reading
from data.spec import Coordinate, Variable
from data.store.columns import FACTS
from data.store.records import RecordStore

LOG = logging.getLogger(__name__)


def read_fields(
    path: Path,
    *,
    output: str | None = None,
    inputs: Sequence[str] | None = None,
    periodic: bool | None = None,
    dims: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
) -> tuple[Fields, list[tuple[int, str]]]:
    """Samples from a store of `understudy simulate`, or a file of NetCDF, Zarr, HDF5, MATLAB, PyTorch or NumPy.

    Args:
        path: a directory or file; see `data.fields.files.open_samples`.
        output: variable to learn; may be left out for a store with one output.
        inputs: variables that determine it; may be left out for a store. `initial`, the state at the first time, may be
            absent from a file with a trajectory, which holds it.
        periodic: whether the domain is periodic; None takes it from the attribute `boundary_conditions`.
        dims: what the axes of unnamed arrays are, of all of them or by name; needed where one has more
            than two.

    Returns:
        The samples, and (number, reason) for each that was left out.

    Raises:
        InputError: variables are missing or do not fit, or no sample is left.
    """
    where = str(path)
    if (path / "store.json").is_file():
        with RecordStore.open(path) as store:
            data = store.dataset()
            facts = {"fingerprint": str(store.attrs.get("fingerprint", ""))}
            input_names = list(store.inputs) if inputs is None else list(inputs)
            outputs = list(store.outputs)
        seconds = core_seconds(data, where)
        failed = np.flatnonzero(data["status"].values != "ok")
        bad = [(int(i), str(data["status"].values[i])) for i in failed]
        keep = np.flatnonzero(data["status"].values == "ok")
        data = data.isel(sample=keep).drop_vars([n for n in FACTS if n in data])
        seconds = seconds[keep]
        numbers, total = keep, len(keep) + len(failed)
        kind = "store of a campaign"
        said: tuple[str, ...] = ()
        others: tuple[str, ...] = ()
    else:
        opened = open_samples(path, dims, output, [] if inputs is None else list(inputs))
        output, inputs = output if opened.output is None else opened.output, list(opened.inputs) or inputs
        data, kind, said, others = opened.data, opened.format, opened.assumed, opened.unused
        facts, bad = {"fingerprint": ""}, []
        input_names = [part for name in inputs or [] for part in channels_of(name, data) or [name]]
        outputs = [str(n) for n in data.data_vars if n not in input_names]
        seconds = np.full(data.sizes.get("sample", 0), np.nan)
        numbers, total = np.arange(len(seconds)), len(seconds)
    if output is None:
        if len(outputs) != 1:
            raise InputError(
                f"it has the variables {', '.join(outputs)}", where=where, remedy="Say which to learn: data.output=NAME"
            )
        output = outputs[0]
    if INITIAL in input_names and INITIAL not in data and output in data and "time" in data[output].dims:
        data[INITIAL] = data[output].isel(time=0, drop=True)
        said += ("the state at the first time is that of the trajectory",)
    lacking = [n for n in (output, *input_names) if n not in data]
    if lacking:
        raise InputError(
            f"no variable {' and no '.join(lacking)} in it",
            where=where,
            remedy=f"It has {', '.join(map(str, data.data_vars))}",
        )
    data, shared = usable(data, output, input_names, where)
    data, timed = seconds_of_dates(data)
    layout = _layout(data, output, input_names, periodic, where)
    fields, assumed = _arrays(data, layout, facts["fingerprint"], seconds, where)
    for sentence in assumed:
        LOG.warning("%s: %s", where, sentence)
    finite = np.isfinite(fields.states).all(axis=tuple(range(1, fields.states.ndim)))
    finite &= np.isfinite(fields.static).all(axis=tuple(range(1, fields.static.ndim)))
    finite &= np.isfinite(fields.parameters).all(axis=1)
    bad += [(int(numbers[i]), "holds values that are not finite") for i in np.flatnonzero(~finite)]
    coded = {} if kind == "store of a campaign" else missing_codes(data, [output, *input_names])
    for row, reason in coded.items():
        if finite[row]:
            bad.append((int(numbers[row]), reason))
            finite[row] = False
    if not finite.any():
        raise InputError(
            f"no sample of it can be used: {_why_none(data, [output, *input_names], bad)}",
            where=where,
            remedy="Fill what lies outside of the flow with a number, and give its mask as one of data.inputs",
        )
    fields = fields.take(np.flatnonzero(finite))
    if not fields.fingerprint:
        fields = replace(fields, fingerprint=fields.content())
    reading = Reading(
        source=where,
        format=kind,
        unit="samples",
        total=total,
        used=len(fields),
        quantities=_quantities(fields.layout),
        left_out=Counter(reason for _, reason in bad),
        unused={
            n: "name it in data.inputs" for n in (*map(str, data.data_vars), *others) if n not in (output, *input_names)
        },
        assumed=(*said, *timed, *shared, *assumed, *repeats_note(fields.input_keys())),
    )
    fields = replace(fields, reading=reading)
    return fields, sorted(bad)


def _why_none(data: xr.Dataset, names: Sequence[str], bad: Sequence[tuple[int, str]]) -> str:
    """Why no sample is left, in words."""
    for name in names:
        off = ~np.isfinite(np.asarray(data[name].values, np.float64))
        rows = off.reshape(len(off), -1) if data[name].dims[:1] == ("sample",) else off.reshape(1, -1)
        if off.size and rows.any(axis=1).all():
            same = ", the same in each" if len(rows) > 1 and (rows == rows[0]).all() else ""
            return f"{name} is not finite at {int(rows[0].sum())} of {rows.shape[1]} places of the first{same}"
    return f"{bad[0][1]} (sample {bad[0][0]})" if bad else "it holds none"


def _quantities(layout: Layout) -> dict[str, str]:
    """How each variable was understood."""
    grid = ", ".join(f"{d} of {len(layout.axis(d).values)}" for d in layout.output.dims)
    meanings = {layout.output.name: f"{layout.output.units}, learned, along {grid}"}
    if layout.initial is not None:
        when = "one step before the first time" if layout.lead else "at the first time"
        meanings[layout.initial.name] = f"{layout.initial.units}, the state {when}"
    meanings |= {v.name: f"{v.units}, field that decides it" for v in layout.static}
    meanings |= {v.name: f"{v.units}, number that decides it" for v in layout.parameters}
    return meanings | {"ends meet": "yes" if all(layout.periodic) else "no"}


def _layout(data: xr.Dataset, output: str, inputs: Sequence[str], periodic: bool | None, where: str) -> Layout:
    """What each variable of a Dataset is.

    Raises:
        InputError: a variable's dims do not fit, or a grid is not uniform.
    """
    dims = tuple(str(d) for d in data[output].dims if d != "sample")
    space = tuple(d for d in dims if d in SPACE)
    expected = tuple(d for d in ("time", "channel") if d in dims) + space
    if not space or dims != expected:
        raise InputError(
            f"{output} has the dims {dims}", where=where, remedy="They must be sample, [time], [channel], x, [y], [z]"
        )
    initial: Variable | None = None
    static: list[Variable] = []
    parameters: list[Variable] = []
    for name in inputs:
        input_dims = tuple(str(d) for d in data[name].dims if d != "sample")
        variable = _variable(data, name)
        if not input_dims:
            parameters.append(variable)
        elif name == INITIAL and "time" in dims and input_dims == tuple(d for d in dims if d != "time"):
            initial = variable
        elif input_dims == space:
            static.append(variable)
        else:
            raise InputError(
                f"{name} has the dims {input_dims}",
                where=where,
                remedy=f"An input is a number, or a field along {', '.join(space)}",
            )
    if initial is None and not static and not parameters:
        raise InputError("no input is named", where=where, remedy="Say what decides the output: data.inputs=[...]")
    axes = tuple(_axis(data, d) for d in dims)
    for axis in axes:
        if axis.name in (*SPACE, "time"):
            _refuse_uneven(axis, where)
    bounds = str(data.attrs.get("boundary_conditions", ""))
    closed = bounds.startswith("periodic") if periodic is None else periodic
    attrs = {str(k): str(v) for k, v in data.attrs.items() if k in ("boundary_conditions", "solver", "equation")}
    return Layout(
        output=_variable(data, output),
        initial=initial,
        static=tuple(static),
        parameters=tuple(parameters),
        axes=axes,
        periodic=(closed,) * len(space),
        attrs=attrs,
    )


def _variable(data: xr.Dataset, name: str) -> Variable:
    array = data[name]
    dims = tuple(str(d) for d in array.dims if d != "sample")
    dtype = str(array.dtype) if array.dtype.kind == "f" else "float32"
    return Variable(name, dims, str(array.attrs.get("units", "1")), dtype, str(array.attrs.get("long_name", name)))


def _axis(data: xr.Dataset, dim: str) -> Coordinate:
    values: tuple[Any, ...]
    if dim in data.coords:
        array = data[dim]
        values = tuple(v if isinstance(v, str) else float(v) for v in array.values.tolist())
        return Coordinate(dim, values, str(array.attrs.get("units", "1")), str(array.attrs.get("long_name", dim)))
    count = data.sizes[dim]
    values = tuple(f"{dim} {i}" for i in range(count)) if dim == "channel" else tuple(float(i) for i in range(count))
    return Coordinate(dim, values, "1", dim)


def _refuse_uneven(axis: Coordinate, where: str) -> None:
    values = np.asarray(axis.values, float)
    steps = np.diff(values)
    if len(values) > 1 and (steps[0] <= 0 or not np.allclose(steps, steps[0], rtol=1e-4, atol=0.0)):
        raise InputError(
            f"{axis.name} is not evenly spaced and ascending", where=where, remedy="Resample it to a uniform grid"
        )


def _arrays(
    data: xr.Dataset, layout: Layout, fingerprint: str, seconds: Float[np.ndarray, " sample"], where: str
) -> tuple[Fields, tuple[str, ...]]:
    """The samples, and sentences about what was assumed."""
    space = layout.space
    names = [layout.output.name, *([layout.initial.name] if layout.initial else []), *(v.name for v in layout.static)]
    laid = {name: _channels_last(data[name], space) for name in names}
    states, assumed = narrow_precision(laid[layout.output.name], layout.output.name)
    if layout.initial is not None and layout.evolves:
        # Rounded as the states are, so that equal ones stay equal.
        initial = laid[layout.initial.name][:, 0].astype(states.dtype)
        times = np.asarray(layout.axis("time").values, np.float64) if "time" in data.coords else None
        start = begin(initial, states, times, where)
        states, layout = start.states, replace(layout, lead=start.lead)
        assumed += start.assumed
    static = []
    for v in layout.static:
        values, said = narrow_precision(laid[v.name][:, 0], v.name)
        static.append(values[..., 0])
        assumed += said
    samples = len(states)
    # There are few numbers, so they stay in float64.
    numbers = [np.asarray(data[v.name].values, np.float64) for v in layout.parameters]
    fields = Fields(
        layout,
        np.ascontiguousarray(states),
        np.stack(static, axis=-1) if static else np.zeros((samples, *layout.points, 0), np.float32),
        np.stack(numbers, axis=-1) if numbers else np.zeros((samples, 0)),
        fingerprint,
        seconds,
    )
    return fields, assumed


def _channels_last(array: xr.DataArray, space: tuple[str, ...]) -> Float[np.ndarray, "sample time *space channel"]:
    """Values with all dims, in the order of `Fields.states`."""
    for dim in ("time", "channel"):
        if dim not in array.dims:
            array = array.expand_dims(dim)
    values = array.transpose("sample", "time", *space, "channel").values
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)
