"""Numbers that OpenFOAM's function objects wrote: forces, force coefficients, probes, averages and sums over surfaces.

A function object writes tables into `postProcessing/NAME/TIME/`, in which TIME is the time at which a run began; a run
that goes on writes another folder, or a file `NAME_TIME.dat` beside the first one. Releases name files and columns
differently, and write vectors as columns or in parentheses; all are read as one table of named columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from data.errors import InputError
from data.settings import build
from data.spec import Variable
from data.suggestions import did_you_mean
from simulators.fluids.openfoam.start import TIME

#: Folder of a case that holds the tables.
FOLDER = "postProcessing"
#: Largest size of a table, bytes.
MOST_BYTES = 10**9
#: Files of function objects that are no tables over time.
_NO_TABLE = re.compile(r".*\.(?:vt[kpu]|xy|raw|csv|obj|stl|png|gz|case|geo|foam)|\..*", re.I)
#: What a run that goes on adds to the name of a file: its time.
_AGAIN = re.compile(r"(.+)_(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
_AXES: Mapping[int, tuple[str, ...]] = {
    1: ("",),
    3: ("_x", "_y", "_z"),
    6: ("_xx", "_xy", "_xz", "_yy", "_yz", "_zz"),
    9: ("_xx", "_xy", "_xz", "_yx", "_yy", "_yz", "_zx", "_zy", "_zz"),
}


@dataclass(frozen=True)
class FunctionValue:
    """One number of a function object, as an output of a case.

    Attributes:
        object: name of the function object in system/controlDict.
        column: column of its table, such as Cd, areaAverage(p), sum(phi), total_x, or 0 for the first probe.
        units: unit of the column, which the tables do not state.
        file: name of the table without its suffix, if several of them have the column, such as U of probes.
        minus: function object whose number of the same column is subtracted, as for a pressure drop; OBJECT:COLUMN
            names another column too.
        after: the mean over all times from this one on, s; None for the last time.

    Raises:
        InputError: a name is empty.
    """

    object: str
    column: str
    units: str
    file: str | None = None
    minus: str | None = None
    after: float | None = None

    def __post_init__(self) -> None:
        # A probe is a number in YAML.
        object.__setattr__(self, "column", str(self.column))
        if not (self.object and self.column and self.units):
            raise InputError("object, column and units must be named", where="simulator.case.scalars")
        if any("/" in name or name.startswith(".") for name in (self.object, self.minus or "")):
            raise InputError("the name of a function object has no /", where="simulator.case.scalars")

    def read(self, folder: Path) -> float:
        """The number in the results of a case.

        Raises:
            InputError: there is no such table, column or time, or a line of the table cannot be read.
        """
        value = self._of(folder, self.object, self.column)
        if self.minus is None:
            return value
        other, _, column = self.minus.partition(":")
        return value - self._of(folder, other, column or self.column)

    def _of(self, folder: Path, name: str, column: str) -> float:
        times, values = column_of(folder, name, column, self.file)
        if self.after is None:
            return float(values[-1])
        late = values[times >= self.after]
        if not len(late):
            raise InputError(f"ends at time {times[-1]:g}, before {self.after:g}", where=f"{FOLDER}/{name}")
        return float(late.mean())


def function_values(settings: Mapping[str, Any] | None) -> dict[str, FunctionValue]:
    """The outputs that settings describe: name of an output -> keys of `FunctionValue`."""
    where = "simulator.case.scalars"
    return {
        str(name): value if isinstance(value, FunctionValue) else build(FunctionValue, value, where=f"{where}.{name}")
        for name, value in (settings or {}).items()
    }


def scalar_outputs(values: Mapping[str, FunctionValue]) -> tuple[Variable, ...]:
    """The numbers as outputs of a simulator."""
    outputs = []
    for name, value in values.items():
        what = f"{value.column} of {value.object}" + (f" minus {value.minus}" if value.minus else "")
        when = "" if value.after is None else f", mean from {value.after:g} s on"
        outputs.append(Variable(name, (), value.units, "float64", f"{what}{when}"))
    return tuple(outputs)


def column_of(
    folder: Path, name: str, column: str, file: str | None = None
) -> tuple[Float64[np.ndarray, " times"], Float64[np.ndarray, " times"]]:
    """Times and values of one column of a function object, joined over the runs of a case.

    Args:
        folder: folder of the case.
        name: name of the function object.
        column: name of the column; small and capital letters are only distinguished where they have to be.
        file: name of the table without its suffix; None: the one that has the column.

    Raises:
        InputError: see `FunctionValue.read`.
    """
    root = folder / FOLDER / name
    where = f"{FOLDER}/{name}"
    if not root.is_dir():
        folders = sorted(p.name for p in (folder / FOLDER).iterdir()) if (folder / FOLDER).is_dir() else []
        raise InputError(
            f"no function object {name!r} has written results; {', '.join(folders) or 'none'} did",
            where=FOLDER,
            remedy="Name it in system/controlDict, with writeControl timeStep or onEnd",
        )
    tables = _tables(root, file)
    if not tables:
        raise InputError(f"holds no table{'' if file is None else f' {file}'}", where=where)
    matches: list[tuple[str, np.ndarray]] = []
    columns: list[str] = []
    for stem, paths in sorted(tables.items()):
        names, rows = _joined([read_columns(path) for path in paths])
        columns += [n for n in names[1:] if n not in columns]
        if (place := _place(names, column)) is not None:
            matches.append((stem, rows[:, [0, place]]))
    if not matches:
        remedies = [did_you_mean(column, columns), f"It has {', '.join(columns[:30])}"]
        raise InputError(f"no column {column!r}", where=where, remedy=" ".join(filter(None, remedies)))
    if len(matches) > 1:
        raise InputError(
            f"{' and '.join(stem for stem, _ in matches)} have a column {column!r}",
            where=where,
            remedy=f"Name one of them: file: {matches[0][0]}",
        )
    rows = matches[0][1]
    return rows[:, 0], rows[:, 1]


def read_columns(path: Path) -> tuple[tuple[str, ...], Float64[np.ndarray, "rows columns"]]:
    """Names of the columns of a table, and its rows; the first column is the time.

    Raises:
        InputError: the file is too large or has no rows, or a row has other columns than the first or no numbers.
    """
    where = str(path)
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"above {MOST_BYTES / 1e9:g} GB", where=where, remedy="Write less often")
    heads: list[str] = []
    rows: list[list[float]] = []
    shape: list[int] | None = None
    for number, line in enumerate(path.read_text("latin-1").splitlines(), 1):
        text = line.strip()
        if not text:
            continue
        if text.startswith("#"):
            if not rows:
                heads.append(text.lstrip("# \t"))
            continue
        try:
            groups = [[float(word) for word in re.split(r"[\s(),]+", token) if word] for token in _tokens(text)]
        except ValueError as error:
            raise InputError(
                f"no row of numbers: {error}", where=f"{where}:{number}", file=where, row=number
            ) from error
        sizes = [len(group) for group in groups]
        if shape is not None and sizes != shape:
            raise InputError(
                f"{sum(sizes)} numbers where the rows above have {sum(shape)}",
                where=f"{where}:{number}",
                file=where,
                row=number,
                remedy="The file may be cut short; run the case again",
            )
        shape = sizes
        rows.append([value for group in groups for value in group])
    if not rows or shape is None or not shape[0] == 1:
        raise InputError("no rows that begin with a time", where=where)
    return _names(heads, shape, where), np.array(rows, np.float64)


def _tokens(text: str) -> list[str]:
    """The words of a line; what stands in parentheses is one word with what touches it."""
    words, word, depth = [], "", 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character.isspace() and depth == 0:
            words += [word] if word else []
            word = ""
        else:
            word += character
    return [*words, word] if word else words


def _names(heads: Sequence[str], shape: Sequence[int], where: str) -> tuple[str, ...]:
    """Names of the columns, from the comments above the rows and the number of values in each word of a row."""
    probes = [match[1] for head in heads if (match := re.match(r"(?:Probe|Patch)\s+(\d+)\s+\(", head))]
    if not probes and (line := next((h for h in heads if re.match(r"Probe(?:\s+\d+)+\s*$", h)), None)):
        probes = line.split()[1:]
    titles = _tokens(next((h for h in reversed(heads) if re.match(r"Time\b", h)), "Time"))
    if probes and len(titles) != len(shape):
        titles = ["Time", *probes]
    if len(titles) == len(shape):
        return tuple(name for title, size in zip(titles, shape, strict=True) for name in _parts(title, size))
    flat = [name for title in titles for name in _parts(title, None)]
    if len(flat) == sum(shape):
        return tuple(flat)
    raise InputError(f"{len(titles)} names of columns above rows of {len(shape)} values", where=where)


def _parts(title: str, size: int | None) -> list[str]:
    """Names of the values under one title, such as `forces(pressure viscous)` with the components of each."""
    group = re.fullmatch(r"([^()]*)\((.*)\)", title)
    inner = group[2].split() if group is not None and (len(group[2].split()) > 1 or not group[1]) else []
    names = [f"{group[1]}_{name}" if group is not None and group[1] else name for name in inner] or [title]
    each = 1 if size is None else size // len(names)
    if size is not None and each * len(names) != size:
        return [f"{title}_{k}" for k in range(size)]
    ends = _AXES.get(each, tuple(f"_{k}" for k in range(each)))
    return [f"{name}{end}" for name in names for end in ends]


def _tables(root: Path, file: str | None) -> dict[str, list[Path]]:
    """Name of each table without suffix -> its files, the oldest first."""
    times = sorted((p for p in root.iterdir() if p.is_dir() and TIME.fullmatch(p.name)), key=lambda p: float(p.name))
    tables: dict[str, list[tuple[float, Path]]] = {}
    for began in times:
        paths = [p for p in began.iterdir() if p.is_file() and not _NO_TABLE.fullmatch(p.name)]
        stems = {p.name.removesuffix(".dat") for p in paths}
        for path in paths:
            stem, since = path.name.removesuffix(".dat"), float(began.name)
            again = _AGAIN.fullmatch(stem)
            if again is not None and again[1] in stems:
                stem, since = again[1], float(again[2])
            tables.setdefault(stem, []).append((since, path))
    named = {stem: [path for _, path in sorted(files)] for stem, files in tables.items()}
    return named if file is None else {k: v for k, v in named.items() if k == file.removesuffix(".dat")}


def _joined(
    parts: Sequence[tuple[tuple[str, ...], Float64[np.ndarray, "rows columns"]]],
) -> tuple[tuple[str, ...], Float64[np.ndarray, "rows columns"]]:
    """The rows of all runs in order of time; a later run replaces what an earlier one wrote from its beginning on."""
    names, rows = parts[-1]
    for earlier, before in reversed(parts[:-1]):
        if earlier == names:
            rows = np.concatenate([before[before[:, 0] < rows[0, 0]], rows])
    return names, rows


def _place(names: Sequence[str], column: str) -> int | None:
    """Index of a column behind the time; None if there is none, or several that differ in capitals alone."""
    for spelling, candidates in ((column, list(names)), (column.lower(), [n.lower() for n in names])):
        places = [k for k, name in enumerate(candidates) if k and name == spelling]
        if len(places) == 1:
            return places[0]
    return None
