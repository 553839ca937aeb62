"""The variables of a file of samples: which of them are fields, and whether they can be learned from."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import xarray as xr

from data.errors import InputError

SPACE = ("x", "y", "z")
#: Every dim that a variable may have, in the order in which it is kept.
DIMS = ("sample", "time", "channel", *SPACE)
#: Key of the attributes of a file beside its variables; no variable has an empty name.
ATTRS = ""


def split_inputs(variables: dict[str, xr.DataArray], output: str | None, inputs: Sequence[str]) -> xr.Dataset:
    """Variables as a Dataset in which inputs with channels are one field for each channel."""
    attrs = variables.pop(ATTRS).attrs if ATTRS in variables else {}
    parts: dict[str, xr.DataArray] = {}
    for name, values in variables.items():
        array = values.transpose(*(d for d in DIMS if d in values.dims), ...)
        mine = is_requested(name, inputs, variables)
        is_state = name == "initial" and output in variables and "time" in variables[output or ""].dims
        if name == output or is_state or not mine or not {"channel", "time"} & set(array.dims):
            parts[name] = array
            continue
        if "time" in array.dims:
            # Each time of an input is an input of its own, as are its channels.
            parts |= _at_each_time(name, array)
            continue
        labels = array["channel"].values.tolist() if "channel" in array.coords else range(array.sizes["channel"])
        for c, label in enumerate(labels):
            one = array.isel(channel=c, drop=True)
            parts[name if array.sizes["channel"] == 1 else f"{name}_{label}"] = one
    return xr.Dataset(parts, attrs=attrs)


def _at_each_time(name: str, array: xr.DataArray) -> dict[str, xr.DataArray]:
    """An input along time as one input for each time, `NAME_0`, `NAME_1`, ..., and for each of its channels."""
    parts: dict[str, xr.DataArray] = {}
    for t in range(array.sizes["time"]):
        now = array.isel(time=t, drop=True)
        if "channel" not in now.dims:
            parts[f"{name}_{t}"] = now
            continue
        for c in range(now.sizes["channel"]):
            parts[f"{name}_{t}" if now.sizes["channel"] == 1 else f"{name}_{t}_{c}"] = now.isel(channel=c, drop=True)
    return parts


def is_requested(name: str, requested: Sequence[str], variables: Container[str]) -> bool:
    """Whether a variable, or one of its channels, is among those that are asked for."""
    return name in requested or any(n not in variables and n.startswith(f"{name}_") for n in requested)


def channels_of(name: str, data: xr.Dataset) -> list[str]:
    """The variables that an input is: itself, or one for each of its channels."""
    if name in data:
        return [name]
    return [str(n) for n in data.data_vars if str(n).startswith(f"{name}_")]


def usable(data: xr.Dataset, output: str, inputs: Sequence[str], where: str) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Variables as real numbers along `sample`, and sentences about what was assumed.

    Raises:
        InputError: a variable is named twice, is no real number, or the output has no dim `sample`.
    """
    twice = [n for i, n in enumerate((output, *inputs)) if n in (output, *inputs)[:i]]
    if twice:
        raise InputError(f"{twice[0]} is named twice", where="data.inputs", remedy="Name each variable once")
    assumed: list[str] = []
    for name in (output, *inputs):
        kind = data[name].dtype.kind
        if kind == "c":
            raise InputError(
                f"{name} is complex", where=where, remedy="Give its real and imaginary parts as two channels"
            )
        if kind not in "biuf":
            raise InputError(
                f"{name} holds no numbers but {data[name].dtype}", where=where, remedy="Give numbers in its place"
            )
    space = [d for d in SPACE if d in data[output].dims]
    if space and all(data.sizes[d] == 1 for d in space):
        raise InputError(
            f"{output} has one cell along {', '.join(space)}, so it is no field",
            where=where,
            remedy="Learn it as a number",
        )
    if "sample" not in data[output].dims:
        raise InputError(f"{output} has no dim `sample`", where=where, remedy="Stack its samples along one")
    for name in inputs:
        if "sample" not in data[name].dims:
            assumed.append(f"{name} is the same in all samples, as it has no dim `sample`")
            shared: Any = data[name].expand_dims(sample=data.sizes["sample"])
            data = data.assign({name: shared})
    return data, tuple(assumed)
