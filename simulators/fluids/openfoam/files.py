"""Reading of OpenFOAM's files: fields with their units, ASCII or binary, and tables.

The format is that of the OpenFOAM user guide, section "Basic input/output file format".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from data.errors import InputError
from simulators.fluids.openfoam.contents import MARK, Contents, read_contents
from simulators.fluids.openfoam.start import TIME

#: Numbers that one value of a field holds, by the second half of the field's class.
COMPONENTS: Mapping[str, int] = {"Scalar": 1, "Vector": 3, "SphericalTensor": 1, "SymmTensor": 6, "Tensor": 9}
#: SI units in the order of OpenFOAM's seven exponents.
SI = ("kg", "m", "s", "K", "mol", "A", "cd")
#: Exponents of the units and quantities that dimensions may name in place of numbers.
NAMED: Mapping[str, tuple[int, ...]] = {
    "kg": (1,),
    "m": (0, 1),
    "s": (0, 0, 1),
    "K": (0, 0, 0, 1),
    "mol": (0, 0, 0, 0, 1),
    "A": (0, 0, 0, 0, 0, 1),
    "cd": (0, 0, 0, 0, 0, 0, 1),
    "Hz": (0, 0, -1),
    "N": (1, 1, -2),
    "Pa": (1, -1, -2),
    "J": (1, 2, -2),
    "W": (1, 2, -3),
    "dimless": (),
    "velocity": (0, 1, -1),
    "pressure": (1, -1, -2),
    "kinematicPressure": (0, 2, -2),
    "temperature": (0, 0, 0, 1),
    "density": (1, -3),
    "kinematicViscosity": (0, 2, -1),
    "dynamicViscosity": (1, -1, -1),
}

_CLASS = re.compile(r"(?:^|[\s{;])class\s+([\w:]+)\s*;")
_DIMENSIONS = re.compile(r"(?:^|[\s};])dimensions\s+\[([^\]]*)\]\s*;")
_INTERNAL = re.compile(r"(?:^|[\s};])internalField\s")
_PATCHES = re.compile(r"(?:^|[\s};])boundaryField\s*\{")
_VALUE = re.compile(r"(?<=[\s{;])value\s+(?=uniform|nonuniform)")
_LIST = re.compile(r"nonuniform\s+(?:List<\w+>\s*)?(\d{1,12})\s*([({])", re.ASCII)
#: A line of a log with which a program begins a time; some releases add the unit.
_REACHED = re.compile(r"^Time = ([-+.\deE]+)s?\s*$", re.M)


@dataclass(frozen=True)
class Field:
    """One field of a case at one time.

    Attributes:
        kind: class of the file, such as "volVectorField".
        units: SI units in CF notation.
        values: values of the cells (or inner faces); a single row if the field is uniform.
        patches: name -> values on the faces of a boundary patch, for patches with values; a single row if they are
            uniform.
    """

    kind: str
    units: str
    values: Float64[np.ndarray, "cells components"]
    patches: Mapping[str, Float64[np.ndarray, "faces components"]] = field(default_factory=dict)

    def over(self, cells: int) -> Float64[np.ndarray, "cells components"]:
        """The values of all `cells`; a uniform field is repeated.

        Raises:
            InputError: the field has another number of cells.
        """
        if len(self.values) == 1:
            return np.repeat(self.values, cells, axis=0)
        if len(self.values) != cells:
            raise InputError(f"a {self.kind} of {len(self.values)} values on a mesh of {cells} cells")
        return self.values


def units_of(dimensions: str) -> str:
    """Convert dimensions (the text in the brackets) to CF units: "0 1 -1 0 0 0 0" and "m/s" are "m s-1", "" is "1".

    Raises:
        ValueError: they are neither five or seven whole numbers nor SI units with whole powers.
    """
    words = dimensions.split()
    try:
        powers = [float(p) for p in words]
    except ValueError:
        powers = _named(dimensions)
    if words and (len(powers) not in (5, 7) or any(not p.is_integer() for p in powers)):
        raise ValueError(f"dimensions must be 5 or 7 whole numbers, or SI units, got [{dimensions}]")
    terms = [unit + ("" if p == 1 else f"{p:g}") for unit, p in zip(SI, powers, strict=False) if p]
    # CF writes positive powers first.
    return " ".join(sorted(terms, key=lambda term: "-" in term)) or "1"


def _named(text: str) -> list[float]:
    """Exponents of units such as "kg m^-1 s^-2", "m^2/s^3" or "Pa", as releases of openfoam.org write them.

    Raises:
        ValueError: a unit is not of SI, or it is no product of powers.
    """
    total = [0.0] * len(SI)
    sign = 1
    for word in re.findall(r"[*/]|[^\s*/]+", text):
        if word in "*/":
            # A slash divides by the next word only.
            sign = -1 if word == "/" else 1
            continue
        match = re.fullmatch(r"([A-Za-z]+)(?:\^\(?([-+]?\d+)\)?)?", word)
        if match is None or match[1] not in NAMED:
            raise ValueError(f"dimensions must be 5 or 7 whole numbers, or SI units, got [{text}]")
        for i, power in enumerate(NAMED[match[1]]):
            total[i] += sign * power * int(match[2] or 1)
        sign = 1
    return total


def header(path: Path, text: str) -> tuple[str, str, int]:
    """Class, units and number of components of a field.

    Args:
        path: path of the file, for errors.
        text: content of the file without comments.

    Raises:
        InputError: the file is not a field.
    """
    where = str(path)
    kind = _CLASS.search(text)
    if kind is None:
        raise InputError("no line `class ...;`, so not an OpenFOAM file", where=where)
    shape = re.fullmatch(r"(?:vol|surface|point)(\w+)Field", kind[1])
    if shape is None or shape[1] not in COMPONENTS:
        raise InputError(f"class {kind[1]} is not a field that can be read", where=where)
    dimensions = _DIMENSIONS.search(text)
    if dimensions is None:
        raise InputError("no entry `dimensions [...];`", where=where)
    try:
        return kind[1], units_of(dimensions[1]), COMPONENTS[shape[1]]
    except ValueError as error:
        raise InputError(str(error), where=where) from error


def read_field(path: Path) -> Field:
    """Read a field with the values on its patches; the file may be binary, compressed, or both.

    Args:
        path: path of the file, such as `case/0.5/U`; if only `case/0.5/U.gz` exists, that is read.

    Raises:
        InputError: the file is missing, damaged or truncated, or a list has a length other than it states.
    """
    contents = read_contents(path)
    text = contents.text
    kind, units, components = header(path, text)
    entry = _INTERNAL.search(text)
    if entry is None:
        raise InputError("no entry `internalField`; the file may be cut short", where=str(path))
    values = _values(path, "internalField", contents, entry.end(), components)
    return Field(kind, units, values, _patches(path, contents, components))


def read_table(path: Path) -> tuple[tuple[str, ...], Float64[np.ndarray, "rows columns"]]:
    """Read the names of the columns and the rows of a function object's table, such as `coefficient.dat`.

    Raises:
        InputError: the file is missing or empty, or the length of a row differs from that of the header.
    """
    where = str(path)
    if not path.is_file():
        raise InputError("no such file", where=where, remedy="Does system/controlDict name the function object?")
    lines = path.read_text(errors="replace").splitlines()
    comments = [line.lstrip("# ").split() for line in lines if line.startswith("#")]
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    if not comments or not rows:
        raise InputError("no rows under a line of names", where=where)
    if any(len(row) != len(comments[-1]) for row in rows):
        raise InputError(f"a row that does not have {len(comments[-1])} columns", where=where)
    try:
        return tuple(comments[-1]), np.array(rows, np.float64)
    except ValueError as error:
        raise InputError(f"not a number: {error}", where=where) from error


def times(folder: Path) -> dict[float, Path]:
    """Time -> its folder in a case, in order of time."""
    folders: dict[float, Path] = {}
    for path in folder.iterdir():
        if path.is_dir() and TIME.fullmatch(path.name):
            folders[float(path.name)] = path
    return dict(sorted(folders.items()))


def at_time(folder: Path, time: float) -> Path:
    """The folder in which a case holds its results at `time`.

    Raises:
        InputError: nothing was written at that time.
    """
    folders = times(folder)
    for written, path in folders.items():
        if math.isclose(written, time, rel_tol=1e-6):
            return path
    raise InputError(
        f"nothing was written at time {time:g}; there are {[f'{t:g}' for t in folders]}",
        remedy="Check endTime and writeInterval in system/controlDict",
    )


def latest(folder: Path, *, after: float = 0.0, timeless: bool = False) -> Path:
    """The folder in which a case holds its last results.

    Args:
        folder: folder of the case.
        after: start time of the case.
        timeless: whether results at the start time are accepted if no log reports a later time; programs without time
            steps write there.

    Raises:
        InputError: nothing was written after that time.
    """
    time, path = next(reversed(times(folder).items()), (-math.inf, folder))
    if timeless and time == after:
        timeless = all(
            float(t) <= after for log in folder.glob("log.*") for t in _REACHED.findall(log.read_text("latin-1"))
        )
    if time < after or (time == after and not timeless):
        raise InputError(
            f"nothing was written after time {after:g}", remedy="Check writeInterval in system/controlDict"
        )
    return path


def _values(
    path: Path, entry: str, contents: Contents, start: int, components: int
) -> Float64[np.ndarray, "n components"]:
    """Parse the values that follow `internalField` or `value`, up to the semicolon."""
    where, text = f"{path} ({entry})", contents.text
    end = text.find(";", start)
    if end < 0:
        raise InputError("the file ends within a list", where=where, remedy="It is cut short; run the case again")
    body = text[start:end].strip()
    if body.startswith("uniform"):
        return _numbers(where, body[len("uniform") :], 1, components)
    binary = re.fullmatch(r"nonuniform\s+" + MARK.pattern, body)
    if binary is not None and int(binary[1]) < len(contents.lists):
        values = contents.lists[int(binary[1])]
        if values.shape[1] != components or values.dtype != np.float64:
            raise InputError(f"a list whose items are not {components} floating-point numbers each", where=where)
        return values
    listing = _LIST.match(body)
    if listing is None:
        raise InputError(f"neither `uniform` nor a list: {body[:40]!r}", where=where)
    count, closing = int(listing[1]), ")" if listing[2] == "(" else "}"
    if not body.endswith(closing):
        raise InputError(f"a list without its closing {closing}", where=where)
    inner = body[listing.end() : -1]
    if listing[2] == "{":
        # A view without a copy: a false count in the file must not allocate memory; users check the length.
        return np.broadcast_to(_numbers(where, inner, 1, components), (count, components))
    return _numbers(where, inner, count, components)


def _numbers(where: str, text: str, count: int, components: int) -> Float64[np.ndarray, "count components"]:
    words = text.translate(str.maketrans("()", "  ")).split()
    if len(words) != count * components:
        raise InputError(
            f"{count} values of {components} {'number' if components == 1 else 'numbers'} expected, "
            f"{len(words)} numbers found",
            where=where,
        )
    try:
        return np.array(words, np.float64).reshape(count, components)
    except ValueError as error:
        raise InputError(f"not a number: {error}", where=where) from error


def _patches(path: Path, contents: Contents, components: int) -> dict[str, Float64[np.ndarray, "faces components"]]:
    text = contents.text
    boundary = _PATCHES.search(text)
    patches: dict[str, Float64[np.ndarray, "faces components"]] = {}
    if boundary is None:
        raise InputError("no entry `boundaryField`; the file may be cut short", where=str(path))
    position = boundary.end()
    while True:
        opened = text.find("{", position)
        closed = text.find("}", position)
        if closed < 0:
            raise InputError("the file ends within boundaryField", where=str(path))
        if opened < 0 or closed < opened:
            return patches
        name = text[position:opened].strip()
        end = _closing(path, text, opened)
        # Nested dictionaries have values of their own, which are not those on the faces.
        value = next(
            (
                m
                for m in _VALUE.finditer(text, opened, end)
                if text.count("{", opened, m.start()) - text.count("}", opened, m.start()) == 1
            ),
            None,
        )
        if value is not None and not re.match(r"nonuniform\s+(List<\w+>\s*)?0", text[value.end() : end]):
            values = _values(path, name, contents, value.end(), components)
            patches |= {name: values} if len(values) else {}
        position = end + 1


def _closing(path: Path, text: str, opened: int) -> int:
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, opened):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.start()
    raise InputError("the file ends within boundaryField", where=str(path))
