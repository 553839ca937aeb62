"""Values of inputs, as JSON and Arrow hold them, checked against the variables that a Spec names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from data.spec import Variable
from experiments.serving.refusals import Refusal, RowError, invalid
from experiments.serving.rows import MISSING, Column

#: Longest text of an input.
LONGEST_TEXT = 100_000


def is_numeric(variable: Variable) -> bool:
    """Whether a variable holds numbers."""
    return variable.dtype != "str" and np.dtype(variable.dtype).kind in "iuf"


def array_of(variable: Variable, value: Any, sizes: Mapping[str, int]) -> np.ndarray:
    """The value of an input of numbers as an array.

    Args:
        variable: the input.
        value: a number, nested lists of numbers, or an array.
        sizes: lengths of dims that are the same in every request.

    Raises:
        RowError: it is missing, holds something else than finite numbers, or has another shape.
    """
    dtype, shape = np.dtype(variable.dtype), _shape(variable, sizes)
    remedy = f"Send {shape} in {variable.units}" if variable.units != "1" else f"Send {shape}"
    if value is MISSING or value is None:
        raise invalid("it is missing", variable.name, remedy)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError):
        raise invalid("its lists have different lengths, or are nested too deep", variable.name, remedy) from None
    if array.size == 0:
        raise invalid("it is empty", variable.name, remedy)
    if array.dtype.kind not in "iuf":
        raise invalid("it does not hold numbers alone", variable.name, remedy)
    if array.ndim != len(variable.dims):
        raise invalid(f"it has {array.ndim} dims, and {len(variable.dims)} are needed", variable.name, remedy)
    for dim, length in zip(variable.dims, array.shape, strict=True):
        if length != sizes.get(dim, length):
            raise invalid(f"it has {length} entries along {dim}", variable.name, remedy)
    if not np.isfinite(array).all():
        raise invalid("it holds a value that is not finite", variable.name, remedy)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if (array != np.floor(array)).any() or (array < limits.min).any() or (array > limits.max).any():
            raise invalid(f"it holds what is no whole number that {variable.dtype} holds", variable.name, remedy)
    with np.errstate(over="ignore"):
        result: np.ndarray = array.astype(dtype)
    if not np.isfinite(result).all():
        raise invalid(f"it holds a number that {variable.dtype} cannot hold", variable.name, remedy)
    return result


def text_of(variable: Variable, value: Any) -> str:
    """The value of an input of text.

    Raises:
        RowError: it is missing, empty, no text, or too long.
    """
    remedy = f"Send {variable.long_name} as text"
    if value is MISSING or value is None:
        raise invalid("it is missing", variable.name, remedy)
    if not isinstance(value, str):
        raise invalid(f"it is a {type(value).__name__} and no text", variable.name, remedy)
    text = value.strip()
    if not text:
        raise invalid("it is empty", variable.name, remedy)
    if len(text) > LONGEST_TEXT:
        raise invalid(f"it has {len(text):,} characters, and {LONGEST_TEXT:,} are taken", variable.name, remedy)
    return text


def number_column(variable: Variable, values: Column) -> tuple[np.ndarray, dict[int, Refusal]]:
    """A column of numbers, float64, and the rows that hold none, which are 0."""
    if (isinstance(values, np.ndarray) and values.dtype.kind in "iuf") or all(
        type(value) is float or type(value) is int for value in values
    ):
        try:
            column = np.asarray(values, np.float64)
        except OverflowError:
            column = np.full(1, np.nan)
        if column.shape == (len(values),) and np.isfinite(column).all():
            return column, {}
    column, refusals = np.zeros(len(values)), {}
    for row, value in enumerate(values):
        try:
            column[row] = float(array_of(variable, value, {}))
        except RowError as error:
            refusals[row] = error.refusal
    return column, refusals


def _shape(variable: Variable, sizes: Mapping[str, int]) -> str:
    if not variable.dims:
        return "a number"
    lengths = [f"{sizes[dim]} {dim}" if dim in sizes else dim for dim in variable.dims]
    return f"an array of numbers along ({', '.join(lengths)})"
