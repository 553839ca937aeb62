"""Fields on regular grids from files of VTK: one file, a folder of them (one sample each), or a collection (.pvd)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from data.errors import InputError
from data.formats.vtk_file import (
    COLLECTION,
    GRIDS,
    LEGACY,
    LENGTH_UNITS,
    MESHES,
    SAMPLE,
    TIME,
    TIME_UNITS,
    Grid,
    Numbers,
    read_collection,
    read_vtk,
    refuse_legacy,
)

SPACE = ("x", "y", "z")


def vtk_files(path: Path, suffixes: tuple[str, ...] = (*GRIDS, *MESHES)) -> list[tuple[float, int, Path]] | None:
    """Time, part and path of each file of VTK that a path names, in order; None if it names none.

    Args:
        path: such a file, a collection, or a folder with such files, whose parts are then numbered by their names.
        suffixes: those that count.

    Raises:
        InputError: the collection cannot be read, or what is named are files in VTK's legacy format.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes and p.is_file())
        if not files:
            refuse_legacy(sorted(p for p in path.iterdir() if p.suffix.lower() == LEGACY and p.is_file()))
        return [(0.0, i, file) for i, file in enumerate(files)] or None
    refuse_legacy([path])
    if suffix == COLLECTION:
        parts = read_collection(path)
        refuse_legacy([file for _, _, file in parts])
        return parts if all(p.suffix.lower() in suffixes for _, _, p in parts) else None
    return [(0.0, 0, path)] if suffix in suffixes and path.is_file() else None


def open_fields(path: Path) -> tuple[xr.Dataset, tuple[str, ...]] | None:
    """Samples of fields as a Dataset along (sample, [time], [channel], x, [y], [z]), and what was assumed of them.

    Vectors have the channels x, y and z; a component along an axis that the grid does not have is left out where it is
    0. Numbers of the whole (field data) are numbers of the sample.

    Args:
        path: see `vtk_files`.

    Returns:
        None if the path names no grids of VTK.

    Raises:
        InputError: files have other grids or arrays than the first one, or hold values both at points and in cells.
    """
    files = vtk_files(path, GRIDS)
    if files is None:
        return None
    read: dict[tuple[int, float | None], tuple[Path, Grid, dict[str, Numbers], list[np.ndarray]]] = {}
    timed = len({part for _, part, _ in files}) < len(files)
    for time, part, file in files:
        grid = read_vtk(file)
        assert isinstance(grid, Grid)
        sample, at = grid.facts.get(SAMPLE), grid.facts.get(TIME)
        # What this project has written says itself what it is; of other collections, parts are samples.
        number = int(sample.values[0]) if isinstance(sample, Numbers) else part
        when = float(at.values[0]) if isinstance(at, Numbers) else time if timed and sample is None else None
        if (number, when) in read:
            raise InputError(f"sample {number} comes twice", where=str(file))
        read[number, when] = (file, grid, *_values(grid, file))
    first, grid, arrays, axes = next(iter(read.values()))
    kept = [i for i, axis in enumerate(axes) if len(axis) > 1]
    if not kept:
        raise InputError("its grid has one point", where=str(first))
    for file, _, others, places in read.values():
        if [len(a) for a in places] != [len(a) for a in axes] or any(
            not np.allclose(a, b, rtol=0, atol=1e-6 * max(float(np.ptp(a)), 1e-300))
            for a, b in zip(axes, places, strict=True)
        ):
            raise InputError(f"has another grid than {first.name}", where=str(file), remedy="Resample it to one grid")
        shapes = [{n: (a.values.shape, a.units) for n, a in x.items()} for x in (arrays, others)]
        if shapes[0] != shapes[1]:
            unlike = sorted(n for n in {*shapes[0], *shapes[1]} if shapes[0].get(n) != shapes[1].get(n))
            raise InputError(f"has another {' and '.join(unlike)} than {first.name}", where=str(file))
    numbers, times = sorted({n for n, _ in read}), sorted({t for _, t in read if t is not None})
    if len(read) != len(numbers) * max(1, len(times)):
        raise InputError("its samples do not all have the same times", where=str(path))
    return _dataset(read, numbers, times, kept, grid)


def _values(grid: Grid, file: Path) -> tuple[dict[str, Numbers], list[np.ndarray]]:
    """The arrays of a grid and where they lie: at its points, or in the middle of its cells."""
    if grid.at_points and grid.in_cells:
        raise InputError(
            "holds values both at points and in cells", where=str(file), remedy="Use ParaView's Cell Data To Point Data"
        )
    if not grid.in_cells:
        return dict(grid.at_points), list(grid.axes)
    return dict(grid.in_cells), [(a[1:] + a[:-1]) / 2 if len(a) > 1 else a for a in grid.axes]


def _dataset(
    read: dict[tuple[int, float | None], tuple[Path, Grid, dict[str, Numbers], list[np.ndarray]]],
    numbers: list[int],
    times: list[float],
    kept: list[int],
    grid: Grid,
) -> tuple[xr.Dataset, tuple[str, ...]]:
    _, _, arrays, axes = next(iter(read.values()))
    sizes = [len(a) for a in axes]
    space = SPACE[: len(kept)]
    said = []
    if kept != list(range(len(kept))):
        said.append(f"the axes {', '.join(SPACE[i] for i in kept)} of the grid are called {', '.join(space)}")
    units = grid.facts.get(LENGTH_UNITS)
    lengths = units.split(", ") if isinstance(units, str) else []
    if len(lengths) != len(space):
        lengths = ["1"] * len(space)
        said.append("positions are in an unknown unit, as VTK has no place for it")
    coords: dict[str, xr.Variable] = {
        name: xr.Variable(name, axes[i], {"units": unit}) for name, i, unit in zip(space, kept, lengths, strict=True)
    }
    if times:
        coords["time"] = xr.Variable("time", np.array(times), {"units": str(grid.facts.get(TIME_UNITS, "1"))})
    variables: dict[str, xr.DataArray] = {}
    vectors: dict[str, tuple[list[str], np.ndarray, dict[str, str]]] = {}
    whens: list[float | None] = [*times] or [None]
    lead = ("sample", "time") if times else ("sample",)
    for name, array in arrays.items():
        rows = [[read[n, t][2][name].values for t in whens] for n in numbers]
        values = np.stack([np.stack(row) for row in rows])
        # VTK's entries run along x first.
        laid = values.reshape(*values.shape[:2], *sizes[::-1], *array.values.shape[1:])
        laid = np.moveaxis(laid, (2, 3, 4), (4, 3, 2))
        laid = laid.squeeze(tuple(2 + i for i in range(3) if i not in kept))
        laid = laid if times else laid[:, 0]
        attrs = {"units": array.units}
        if array.values.ndim == 1:
            variables[name] = xr.DataArray(laid, dims=(*lead, *space), attrs=attrs)
            continue
        width = array.values.shape[1]
        labels = list(SPACE) if width == 3 else [str(i) for i in range(width)]
        flat = [i for i in range(width) if width == 3 and i not in kept and not laid[..., i].any()]
        use = [i for i in range(width) if i not in flat]
        vectors[name] = ([labels[i] for i in use], laid[..., use], attrs)
    one = len({tuple(labels) for labels, _, _ in vectors.values()}) == 1
    for name, (labels, laid, attrs) in vectors.items():
        if one and len(labels) > 1:
            variables[name] = xr.DataArray(laid, dims=(*lead, *space, "channel"), attrs=attrs)
            coords["channel"] = xr.Variable("channel", labels)
        else:
            variables |= {
                f"{name}_{label}": xr.DataArray(laid[..., i], dims=(*lead, *space), attrs=attrs)
                for i, label in enumerate(labels)
            }
    for name, fact in grid.facts.items():
        every = [f[1].facts.get(name) for f in read.values()]
        if name in (SAMPLE, TIME) or name in variables or not isinstance(fact, Numbers) or fact.values.size != 1:
            continue
        if all(isinstance(other, Numbers) and other.values.size == 1 for other in every):
            firsts = [read[n, times[0] if times else None][1].facts[name] for n in numbers]
            column = np.array([float(np.ravel(f.values)[0]) for f in firsts if isinstance(f, Numbers)])
            variables[name] = xr.DataArray(column, dims="sample", attrs={"units": fact.units})
    # A variable that has the name of a dim would be taken for its coordinate.
    named = {f"field_{n}" if n in (*SPACE, "time", "channel", "sample") else n: v for n, v in variables.items()}
    return xr.Dataset(named, coords=coords), tuple(said)
