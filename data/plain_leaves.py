"""Leaves of plain JSON: values and arrays of NumPy, read as the type that is declared, and the error of what is not."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

#: The largest integer of an array of NumPy.
LARGEST = 2**63 - 1
#: The number up to which float64 holds every whole number.
WHOLE = 2**53


class PlainError(ValueError):
    """A value is not what its reader declares.

    Args:
        problem: what was expected, and what is there.
        key: dotted, from the outermost value that is being read.
    """

    def __init__(self, problem: str, key: str = "") -> None:
        super().__init__(f"{key} {problem}" if key else problem)
        self.problem, self.key = problem, key

    def under(self, outer: str) -> PlainError:
        """The same error, seen from the value that holds this one."""
        return PlainError(self.problem, ".".join(filter(None, (outer, self.key))))


@contextmanager
def within(key: str) -> Iterator[None]:
    """Errors of what is read in the block name this key first."""
    try:
        yield
    except PlainError as error:
        raise error.under(key) from error


def read_scalar(kind: Any, value: Any) -> Any:
    """A boolean, number, text, None or path; PlainError where it is none."""
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        # A whole number stays one, so that what is written again, and its hash, are the same.
        if abs(value) <= WHOLE:
            return value
        if abs(value) < 1e308 and math.isfinite(value):
            return float(value)
        raise PlainError(f"must be a finite number, got {abbreviate(value)}")
    if kind is str and isinstance(value, str) and is_encodable(value):
        return value
    if kind is types.NoneType and value is None:
        return None
    if kind is Path and isinstance(value, str) and "\0" not in value:
        return Path(value)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    raise PlainError(f"must be {names.get(kind, getattr(kind, '__name__', str(kind)))}, got {abbreviate(value)}")


def is_encodable(text: str) -> bool:
    """Whether a text can be written again: half a pair of surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def abbreviate(value: Any) -> str:
    """A value as it is shown in a message: short, and in one line."""
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a number of many digits"
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_array(kind: Any, value: Any) -> Any:
    """An array of float64, int64, uint64 or booleans, whichever comes first in a hint of jaxtyping."""
    names = getattr(kind, "dtypes", ("float64",))
    dtype = next((name for name in ("float64", "int64", "uint64", "bool") if name in names), "float64")
    try:
        numbers = np.array(value if isinstance(value, list | tuple) else None)
    except (ValueError, OverflowError):  # rows of unlike lengths
        numbers = np.array(None)
    allowed = {"float64": "iuf", "int64": "i", "uint64": "iu", "bool": "b"}[dtype]
    fits = numbers.dtype.kind in allowed and np.isfinite(numbers).all() and (dtype != "uint64" or numbers.min() >= 0)
    if numbers.size == 0 or fits:
        array = numbers.astype(dtype)
        if isinstance(array, kind):
            return array
    raise PlainError(f"must be an array of {kind.__name__}, got {abbreviate(value)}")
