"""Opens files of samples of PyTorch, NumPy, HDF5, MATLAB, NetCDF or Zarr, and never guesses what an axis means.

A wrong guess would make all that follows silently wrong. The dims of unnamed arrays are therefore taken from
`data.dims`, or inferred where no array has more than two axes. All else is refused: an array along (sample, time, x)
can have the shape of one along (sample, x, y), and channels the size of a third dim of space.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import xarray as xr

from data.errors import InputError
from data.fields.benchmark_layouts import open_benchmark
from data.fields.formats import READ, is_plain_hdf5, refuse_unread
from data.fields.sample_variables import ATTRS, DIMS, SPACE, is_requested, split_inputs
from data.fields.vtk_fields import open_fields
from data.formats.array_files import StoredArray, stored_arrays
from data.formats.netcdf import open_netcdf
from data.formats.numpy_file import read_npy, read_npz
from data.formats.torch_file import read_torch
from data.formats.zarr_files import open_zarr
from data.formats.zip_files import is_zip

#: Fewest points along an axis that is inferred to be space; fewer may be channels.
FEWEST_POINTS = 8
ARRAYS = (".pt", ".pth", ".npy", ".npz")
#: Suffixes of files of arrays, and what these are called.
KINDS = {
    **dict.fromkeys((".pt", ".pth"), "PyTorch tensors"),
    **dict.fromkeys((".npy", ".npz"), "NumPy arrays"),
    ".mat": "MATLAB arrays",
    **dict.fromkeys((".h5", ".hdf5"), "HDF5 without named dims"),
}
#: The variable that holds the state at the first time, where something evolves.
INITIAL = "initial"
REMEDY = (
    "Say what each axis is: data.dims=[sample,channel,x,y] for all arrays, "
    "or 'data.dims={NAME: [sample,x,y], OTHER: [sample,channel,x,y]}' for each; there are " + ", ".join(DIMS)
)
#: Usual dims of arrays by their number of axes, the most common first; an error suggests those that fit.
LAYOUTS: dict[int, tuple[tuple[str, ...], ...]] = {
    1: (("sample",),),
    2: (("sample", "x"), ("sample", "channel")),
    3: (("sample", "x", "y"), ("sample", "time", "x"), ("sample", "channel", "x"), ("sample", "x", "time")),
    4: (
        ("sample", "channel", "x", "y"),
        ("sample", "x", "y", "channel"),
        ("sample", "time", "x", "y"),
        ("sample", "x", "y", "time"),
        ("sample", "x", "y", "z"),
        ("sample", "time", "channel", "x"),
    ),
    5: (
        ("sample", "time", "channel", "x", "y"),
        ("sample", "time", "x", "y", "channel"),
        ("sample", "channel", "x", "y", "z"),
        ("sample", "x", "y", "z", "channel"),
        ("sample", "time", "x", "y", "z"),
    ),
    6: (("sample", "time", "channel", "x", "y", "z"), ("sample", "time", "x", "y", "z", "channel")),
}


@dataclass(frozen=True)
class Opened:
    """A file of samples.

    Attributes:
        data: its variables.
        format: what it was read as.
        assumed: assumptions about what the file does not state, one sentence each.
        unused: names of arrays that were not asked for and are not in `data`.
        output, inputs: what is learned from what where nothing is said; empty where the format does not tell.
    """

    data: xr.Dataset
    format: str
    assumed: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    output: str | None = None
    inputs: tuple[str, ...] = ()


def open_samples(
    path: Path,
    dims: Sequence[str] | Mapping[str, Sequence[str]] | None,
    output: str | None,
    inputs: Sequence[str],
    *,
    to_predict: bool = False,
    alone: str = "array",
) -> Opened:
    """A file as a Dataset with a dim `sample`.

    Args:
        path: a NetCDF or Zarr file, or one of tensors or arrays. Arrays that are called x, y or z become field_x,
            field_y, field_z.
        dims: of unnamed arrays: of all, or by name; None where no array has more than two axes.
        output: variable to learn; None for any.
        inputs: variables that determine it; `NAME_i` is channel i of NAME.
        to_predict: whether the output may be absent.
        alone: name of the array of a .npy file, which has none.

    Raises:
        InputError: the file cannot be opened, or the meaning of an axis is not certain.
    """
    where = str(path)
    if not path.exists():
        raise InputError(f"no such file: {path}", remedy="Check the path")
    if (grids := None if dims is not None else open_fields(path)) is not None:
        data, said = grids
        named = {str(name): array for name, array in data.data_vars.items()}
        return Opened(split_inputs(named, output, inputs), "VTK", said)
    if (benchmark := None if dims is not None else open_benchmark(path, output, inputs)) is not None:
        return Opened(
            benchmark.data, benchmark.format, benchmark.assumed, benchmark.unused, benchmark.output, benchmark.inputs
        )
    if not holds_arrays(path):
        refuse_unread(path)
        if dims is not None:
            raise InputError(
                "a NetCDF or Zarr file names its dims itself", where="data.dims", remedy="Leave data.dims out"
            )
        return Opened(split_inputs(_named_dims(path, where), output, inputs), "Zarr" if path.is_dir() else "NetCDF")
    with _stored(path, alone) as stored:
        # An array that has the name of a dim would be taken for its coordinate.
        every = {f"field_{name}" if name in DIMS else name: array for name, array in stored.items()}
        pair = set(stored) == {"x", "y"} and path.suffix.lower() in (".pt", ".pth") and output is None and not inputs
        if pair:
            # The dictionaries of neuraloperator (Kossaifi et al. 2024, arXiv:2412.10354).
            output, inputs = "field_y", ["field_x"]
        output = None if output is None else _own_name(output, every)
        inputs = [_own_name(name, every) for name in inputs]
        requested = [] if output is None else [output, *inputs]
        if INITIAL not in every and output in every:
            # The first time of a trajectory is its state at that time.
            requested = [name for name in requested if name != INITIAL]
        if to_predict and output not in every:
            requested = [name for name in requested if name != output]
        # Arrays that are not asked for may have axes that fit no dims, and need not be read.
        places = [name for name in every if not requested or is_requested(name, requested, every)]
        if lacking := [n for n in requested if n not in every and not any(n.startswith(f"{p}_") for p in places)]:
            raise InputError(
                f"no variable {' and no '.join(lacking)} in it", where=where, remedy=f"It has {', '.join(every)}"
            )
        asked = {name: every[name].read() for name in places}
    assigned, assumed = axes_of(asked, dims, where)
    try:
        data = split_inputs({name: xr.DataArray(a, dims=assigned[name]) for name, a in asked.items()}, output, inputs)
    except ValueError as error:
        raise InputError(str(error).splitlines()[0], where=where, remedy=REMEDY) from error
    # Points of a unit domain, whose grid contains that of half as many points.
    space = [d for d in SPACE if d in data.dims]
    assumed += (f"points of a unit domain: {', '.join(f'{d} = i / {data.sizes[d]}' for d in space)}",)
    kind = KINDS.get(path.suffix.lower(), "arrays without named dims")
    data = data.assign_coords({d: np.arange(data.sizes[d]) / data.sizes[d] for d in space})
    if pair:
        assumed += ("y is learned from x, as in the dictionaries of neuraloperator (else data.output, data.inputs)",)
    unused = tuple(name for name in every if name not in asked)
    return Opened(data, kind, assumed, unused, output, tuple(inputs))


def _own_name(name: str, every: Container[str]) -> str:
    """The name of an array whose own name is that of a dim."""
    return f"field_{name}" if name in DIMS and f"field_{name}" in every else name


def axes_of(
    arrays: Mapping[str, np.ndarray], dims: Sequence[str] | Mapping[str, Sequence[str]] | None, where: str
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The dims of unnamed arrays, and sentences about what was inferred.

    Raises:
        InputError: dims are unknown or do not fit, or the meaning of an axis is not certain.
    """
    shapes = {name: a.shape for name, a in arrays.items()}
    shown = ", ".join(f"{name} {' x '.join(map(str, shape)) or 'of one number'}" for name, shape in shapes.items())
    if isinstance(dims, Mapping):
        axes = {}
        # An array of the name of a dim has been renamed, and may be meant by either name.
        stated = {f"field_{name}" if name in DIMS else name: list(v) for name, v in dims.items()}
        for name, shape in shapes.items():
            if name not in stated:
                raise InputError(f"the dims of {name} are not said", where="data.dims", remedy=REMEDY)
            axes[name] = _check_dims(stated[name], len(shape), name)
        if unlike := _conflict(axes, arrays):
            raise InputError(unlike, where="data.dims", remedy=_suggest_dims(arrays))
        return axes, ()
    if dims is not None:
        most = max(map(len, shapes.values()))
        full = _check_dims(dims, most, max(shapes, key=lambda n: len(shapes[n])))
        sizes: dict[str, set[int]] = {d: set() for d in full}
        for shape in shapes.values():
            if len(shape) == most:
                for d, size in zip(full, shape, strict=True):
                    sizes[d].add(size)
        return {name: _without(full, shape, sizes, name, where, shown) for name, shape in shapes.items()}, ()
    samples = {shape[0] for shape in shapes.values() if shape}
    lengths = {shape[1] for shape in shapes.values() if len(shape) > 1}
    certain = len(samples) == len(lengths) == 1 and all(1 <= len(shape) <= 2 for shape in shapes.values())
    if not certain or min(lengths) < FEWEST_POINTS:
        raise InputError(
            f"what the axes of {shown} are cannot be told from their sizes", where=where, remedy=_suggest_dims(arrays)
        )
    return (
        {name: ("sample", "x") if len(shape) > 1 else ("sample",) for name, shape in shapes.items()},
        (f"axes are (sample, x), as all arrays are fields of {lengths.pop()} points (else data.dims)",),
    )


def _suggest_dims(arrays: Mapping[str, np.ndarray]) -> str:
    """A remedy with values of `data.dims` that fit all arrays: one for all of them, or else one for each by name."""
    most = max(arrays, key=lambda n: (arrays[n].ndim, arrays[n].size))
    layouts = [dims for dims in LAYOUTS.get(arrays[most].ndim, ()) if "x" in dims]
    fitting = []
    for dims in layouts:
        try:
            axes_of(arrays, dims, "")
        except InputError:
            continue
        fitting.append(f"data.dims=[{','.join(dims)}]")
    if fitting:
        return f"Say which it is: {' or '.join(fitting)}; or each by its name: 'data.dims={{NAME: [sample,...], ...}}'"
    for dims in layouts:
        axes = {most: dims}
        for name, array in arrays.items():
            others = (d for d in LAYOUTS.get(array.ndim, ()) if not _conflict({**axes, name: d}, arrays))
            if name != most and (fits := next(others, None)) is not None:
                axes[name] = fits
        if len(axes) == len(arrays) and not _conflict(axes, arrays):
            named = ", ".join(f"{name}: [{','.join(axes[name])}]" for name in arrays)
            return f"Say what each axis is, such as 'data.dims={{{named}}}'; there are {', '.join(DIMS)}"
    return REMEDY


def _conflict(dims: Mapping[str, tuple[str, ...]], arrays: Mapping[str, np.ndarray]) -> str:
    """A sentence that names a dim with different sizes in two arrays; empty if there is none.

    Channels may differ, because each array has its own, and so may times: those of a past are not those of an answer.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, axes in dims.items():
        for dim, size in zip(axes, arrays[name].shape, strict=True):
            other, where = sizes.setdefault(dim, (size, name))
            if size != other and dim not in ("channel", "time"):
                return f"{dim} has {size} places in {name} and {other} in {where}"
    return ""


def _check_dims(dims: Sequence[str], rank: int, name: str) -> tuple[str, ...]:
    names = tuple(map(str, dims))
    if unknown := [d for d in names if d not in DIMS]:
        raise InputError(f"no dim {unknown[0]!r}; there are {', '.join(DIMS)}", where="data.dims")
    if len(set(names)) < len(names) or "sample" not in names or len(names) != rank:
        raise InputError(
            f"{', '.join(names)} are not the dims of {name}, which has {rank} axes, one of them sample",
            where="data.dims",
            remedy=REMEDY,
        )
    space = [d for d in names if d in SPACE]
    if set(space) != set(SPACE[: len(space)]):
        raise InputError(f"space is x, or x and y, or x, y and z, got {', '.join(space)}", where="data.dims")
    return names


def _without(
    full: tuple[str, ...], shape: tuple[int, ...], sizes: Mapping[str, set[int]], name: str, where: str, shown: str
) -> tuple[str, ...]:
    """The dims of an array of lower rank: the only choice that fits its shape and has all dims of space, or none."""
    space = [d for d in full if d in SPACE]
    fits = [
        kept
        for kept in combinations(full, len(shape))
        if "sample" in kept
        and (set(space) <= set(kept) or kept == ("sample",))
        and all(sizes[d] == {size} or (d == "channel" and size) for d, size in zip(kept, shape, strict=True))
    ]
    if len(fits) != 1:
        raise InputError(
            f"which of the dims {', '.join(full)} {name} has cannot be told: {shown}", where=where, remedy=REMEDY
        )
    return fits[0]


@contextmanager
def _stored(path: Path, alone: str) -> Iterator[Mapping[str, StoredArray]]:
    """The arrays of a file whose dims have no names."""
    if path.suffix.lower() not in ARRAYS:
        with stored_arrays(path) as arrays:
            yield arrays
        return
    if path.suffix.lower() in (".pt", ".pth"):
        every = read_torch(path)
    else:
        every = read_npz(path) if is_zip(path) else {alone: read_npy(path)}
    yield {name: StoredArray(array.shape, lambda array=array: array) for name, array in every.items()}  # type: ignore[misc]


def holds_arrays(path: Path) -> bool:
    """Whether the dims of a file of samples have no names: of PyTorch, NumPy, MATLAB, and of plain HDF5."""
    if path.is_dir():
        return False
    if path.suffix.lower() in ARRAYS:
        return True
    with open(path, "rb") as file:
        if file.read(6) == b"MATLAB":
            return True
    if not is_plain_hdf5(path):
        return False
    try:
        with open_netcdf(path) as named:
            return "sample" not in named.dims
    except InputError:
        return True


def _named_dims(path: Path, where: str) -> dict[str, xr.DataArray]:
    try:
        dataset = open_zarr(path, consolidated=False) if path.is_dir() else open_netcdf(path)
    except InputError as error:
        raise InputError(error.problem, where=where, remedy=f"Give one of {READ}") from error
    if "sample" not in dataset.dims:
        raise InputError("has no dim `sample`", where=where, remedy="Stack its samples along one")
    return {str(name): array.assign_attrs(dataset[name].attrs) for name, array in dataset.data_vars.items()} | {
        ATTRS: xr.DataArray(0).assign_attrs(dataset.attrs)
    }
