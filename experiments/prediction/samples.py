"""Answers of a surrogate of fields to every sample of a file, a chunk at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from data.errors import InputError
from data.fields.batches import FieldBatch
from data.fields.files import holds_arrays, open_samples
from data.fields.sample_variables import SPACE
from data.files import make_directory, remove_directory
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.store.columns import FACTS
from data.store.records import RecordStore
from data.terminal import progress_bar
from experiments.application.run_directory import configuration_checked, rejects_path
from experiments.application.stage import show_readings
from experiments.application.usage import PeakMemory, cpu_seconds
from experiments.prediction.array_output import SAMPLE, AnswerArray, AnswerStore, array_kind, write_arrays
from experiments.prediction.delivery import Delivered
from experiments.prediction.rows import NOT_FINITE, PARTS
from experiments.prediction.truth import TruthScores
from surrogates.learning.box import IN_DOMAIN

if TYPE_CHECKING:
    from data.fields.layout import Layout
    from surrogates.fields.surrogate import FieldSurrogate

#: Most values of the answers to a chunk of samples, and most samples of a chunk.
CHUNK_VALUES, CHUNK_SAMPLES = 4_000_000, 256
#: Whether a sample has an answer, by number.
STATUS = ("answered", "input_not_finite", "prediction_not_finite", "failed_in_the_store")
REASONS = (
    "",
    "holds values that are not finite",
    NOT_FINITE,
    "the simulator has no answer, and its inputs are not used",
)


def predict_fields(
    surrogate: FieldSurrogate, inputs: Path, out: Path, run_dir: Path, settings: Mapping[str, Any]
) -> Delivered:
    """Write the answers to all samples of a file as arrays of the same format or another one.

    Args:
        surrogate: the surrogate.
        inputs: a store of `understudy simulate`, or a file that `data.fields.files.open_samples` reads. The output may
            be in it, and is then the truth.
        out: .zarr, .nc, .h5, .npz or .npy.
        run_dir: directory of the run.
        settings: `dims`, the axes of arrays without named dims, as in training.

    Raises:
        InputError: a variable is missing, or has other dims or units than in training; or no sample can be used.
    """
    array_kind(out)
    began, layout = time.perf_counter(), surrogate.facts.layout
    with ExitStack() as stack:
        memory = stack.enter_context(PeakMemory())
        data, failed, kind, said = _opened(inputs, layout, settings["dims"], stack)
        data = _checked(data, layout, inputs)
        count = data.sizes[SAMPLE]
        truth = layout.output.name if layout.output.name in data else None
        arrays = _arrays(surrogate, data, count, truth)
        size = max(1, sum(int(np.prod(a.shape[1:])) for a in arrays if a.values is None))
        chunk = max(1, min(CHUNK_SAMPLES, CHUNK_VALUES // size, count))
        make_directory(run_dir / PARTS)
        made_from = {"surrogate": surrogate.fingerprint, "samples": count, "inputs": sorted(map(str, data.data_vars))}
        store = AnswerStore(run_dir / PARTS, arrays, made_from, chunk)
        earlier, start_cpu = store.done, cpu_seconds()
        with progress_bar("samples", count) as bar:
            bar.advance(store.done)
            for start in range(store.done, count, chunk):
                rows = np.arange(start, min(start + chunk, count))
                store.write(start, _answers(surrogate, data, rows, failed, truth, chunk, arrays))
                bar.advance(len(rows))
        seconds, core = time.perf_counter() - began, cpu_seconds() - start_cpu
    status = np.concatenate(list(store.blocks(next(a for a in arrays if a.name == "status"))))
    with RejectLog(rejects_path(run_dir)) as rejects:
        for i in np.flatnonzero(status):
            rejects.add(inputs, int(i), "", REASONS[int(status[i])])
    left_out = {REASONS[code]: int((status == code).sum()) for code in set(status.tolist()) - {0}}
    reading = Reading(str(inputs), kind, "samples", count, int((status == 0).sum()), left_out=left_out, assumed=said)
    show_readings([reading], run_dir)
    if not (status == 0).any():
        remove_directory(run_dir / PARTS)
        raise InputError("no sample of it can be used", where=str(inputs), remedy=f"See {rejects.path}")
    configuration_checked(run_dir)
    attrs = {"surrogate": surrogate.fingerprint[:12], **layout.attrs}
    write_arrays(store, out, attrs, layout.output.name)
    scores, metrics = ({}, {}) if truth is None else _scores(store, layout)
    inside = [a for a in arrays if a.name == IN_DOMAIN]
    outside = count - int(sum(block.sum() for block in store.blocks(inside[0]))) if inside else 0
    counted = {
        "samples": count, "rejected": int((status != 0).sum()), "out_of_domain": outside, "seconds": seconds,
        "core_seconds": core, "peak_memory_mb": memory.peak_mb, "samples_per_second": (count - earlier) / seconds,
    }  # fmt: skip
    metrics = {f"predict/{k}": float(v) for k, v in counted.items()} | metrics
    shown: dict[str, object] = {
        "samples": f"{count:,}" + (f" ({earlier:,} before)" if earlier else ""),
        "without an answer": f"{counted['rejected']:,}",
        "outside the training domain": f"{outside:,}" if inside else "not known",
        "rate": f"{counted['samples_per_second']:,.1f} samples/s over {seconds:.1f} s",
    }
    shown |= {name.removeprefix("predict/"): f"{v:.6g}" for name, v in metrics.items() if name.count("/") > 1}
    return Delivered(metrics, shown, scores, {a.name: str(a.attrs.get("units", "")) for a in arrays})


def _opened(
    path: Path, layout: Layout, dims: Any, stack: ExitStack
) -> tuple[xr.Dataset, np.ndarray, str, tuple[str, ...]]:
    """The samples of a file, which of them a store has no answer of, and what it was read as."""
    names = [v.name for v in (layout.initial, *layout.static, *layout.parameters) if v is not None]
    if (path / "store.json").is_file():
        store = stack.enter_context(RecordStore.open(path))
        data = store.dataset()
        failed = np.asarray(data["status"].values != "ok")
        return data.drop_vars([n for n in FACTS if n in data]), failed, "store of a campaign", ()
    fields = [v.name for v in (layout.initial, *layout.static) if v is not None]
    opened = open_samples(
        path,
        dims if holds_arrays(path) else None,
        layout.output.name,
        names,
        to_predict=True,
        alone=fields[0] if len(fields) == 1 else "array",
    )
    return opened.data, np.zeros(opened.data.sizes[SAMPLE], bool), opened.format, opened.assumed


def _checked(data: xr.Dataset, layout: Layout, path: Path) -> xr.Dataset:
    """The samples, if they are the inputs of a surrogate of this layout.

    Raises:
        InputError: a variable is missing, or has other dims or units.
    """
    output = layout.output.name
    if layout.initial is not None and layout.initial.name not in data and output in data:
        data = data.assign({layout.initial.name: data[output].isel(time=0, drop=True)})
    variables = [v for v in (layout.initial, *layout.static, *layout.parameters) if v is not None]
    if lacking := [v.name for v in variables if v.name not in data]:
        raise InputError(
            f"no variable {' and no '.join(lacking)} in it", where=str(path),
            remedy=f"It has {', '.join(map(str, data.data_vars))}; the surrogate takes "
            + ", ".join(f"{v.name} ({', '.join((SAMPLE, *v.dims))})" for v in variables),
        )  # fmt: skip
    for variable in variables:
        array = data[variable.name]
        dims = {str(d) for d in array.dims} - {"channel"}
        if dims != {SAMPLE, *variable.dims} - {"channel"}:
            raise InputError(
                f"{variable.name} has the dims {', '.join(map(str, array.dims))}", where=str(path),
                remedy=f"It must have {', '.join((SAMPLE, *variable.dims))}",
            )  # fmt: skip
        unit = str(array.attrs.get("units", "1"))
        if "1" not in (unit, variable.units) and unit != variable.units:
            raise InputError(
                f"{variable.name} is in {unit}, the surrogate takes {variable.units}", where=str(path),
                remedy=f"Convert it to {variable.units}",
            )  # fmt: skip
        if "channel" in array.dims and array.sizes["channel"] != _channels(layout, variable.name):
            raise InputError(
                f"{variable.name} has {array.sizes['channel']} channels, the surrogate takes "
                f"{_channels(layout, variable.name)}", where=str(path),
            )  # fmt: skip
    return data


def _channels(layout: Layout, name: str) -> int:
    return layout.channels if layout.initial is not None and name == layout.initial.name else 1


def _arrays(surrogate: FieldSurrogate, data: xr.Dataset, count: int, truth: str | None) -> list[AnswerArray]:
    """The arrays of the file of answers: coordinates, what identifies a sample, answers, and the truth."""
    layout = surrogate.facts.layout
    grid = next(data[v.name] for v in (layout.initial, *layout.static) if v is not None) if _on_grid(layout) else None
    sizes: dict[str, int] = {}
    arrays: list[AnswerArray] = []
    for axis in layout.axes:
        values = np.asarray(axis.values)
        if axis.name in SPACE and grid is not None:
            size = grid.sizes[axis.name]
            given_axis = data[axis.name].values if axis.name in data.coords else None
            values = values if size == len(values) else (np.arange(size) if given_axis is None else given_axis)
        sizes[axis.name] = len(values)
        if values.dtype.kind in "fiu":
            attrs = {"units": axis.units, "long_name": axis.long_name}
            arrays.append(AnswerArray(axis.name, (axis.name,), values.shape, "float64", attrs, values))
    channels = [str(v) for v in layout.axis("channel").values] if "channel" in sizes else []
    arrays.append(AnswerArray(SAMPLE, (SAMPLE,), (count,), "int64", {"long_name": "sample"}, np.arange(count)))
    for name in map(str, data.data_vars):
        if data[name].dims == (SAMPLE,) and data[name].dtype.kind in "fiub":
            attrs = {k: str(v) for k, v in data[name].attrs.items() if k in ("units", "long_name")}
            # Answers of before may be inputs again, and keep their numbers under another name.
            column = (
                f"{name}_input" if name in {"status", IN_DOMAIN, *(v.name for v in surrogate.spec.outputs)} else name
            )
            arrays.append(
                AnswerArray(column, (SAMPLE,), (count,), "float64", attrs, np.asarray(data[name].values, float))
            )
    for v in surrogate.spec.outputs:
        if v.name != IN_DOMAIN:
            shape = tuple(sizes[d] for d in v.dims)
            attrs = {"units": v.units, "long_name": v.long_name} | (
                {"channels": " ".join(channels)} if channels else {}
            )
            arrays.append(AnswerArray(v.name, (SAMPLE, *v.dims), (count, *shape), "float32", attrs))
            if truth == v.name:
                about = {**attrs, "long_name": f"{v.long_name}, as in the input"}
                arrays.append(AnswerArray(f"{truth}_true", (SAMPLE, *v.dims), (count, *shape), "float32", about))
    if surrogate.facts.domain is not None:
        about = {"long_name": "whether the sample looks like what was learned from", "units": "1"}
        arrays.append(AnswerArray(IN_DOMAIN, (SAMPLE,), (count,), "int8", about))
    flags = {"flag_values": list(range(len(STATUS))), "flag_meanings": " ".join(STATUS)}
    arrays.append(
        AnswerArray("status", (SAMPLE,), (count,), "int8", {**flags, "long_name": "whether there is an answer"})
    )
    return arrays


def _on_grid(layout: Layout) -> bool:
    return layout.initial is not None or bool(layout.static)


def _answers(
    surrogate: FieldSurrogate,
    data: xr.Dataset,
    rows: np.ndarray,
    failed: np.ndarray,
    truth: str | None,
    chunk: int,
    arrays: Sequence[AnswerArray],
) -> dict[str, np.ndarray]:
    """The answers to a chunk of samples; those without one are NaN and have a status."""
    layout = surrogate.facts.layout
    some = data.isel({SAMPLE: rows}).load()

    def on_grid(name: str) -> np.ndarray:
        values = some[name] if "channel" in some[name].dims else some[name].expand_dims("channel")
        return values.transpose(SAMPLE, *layout.space, "channel").values

    initial = None if layout.initial is None else on_grid(layout.initial.name)
    static = [on_grid(v.name)[..., 0] for v in layout.static]
    points = initial.shape[1:-1] if initial is not None else static[0].shape[1:] if static else layout.points
    fields = np.stack(static, -1) if static else np.zeros((len(rows), *points, 0))
    columns = [np.asarray(some[v.name].values, float) for v in layout.parameters]
    numbers = np.stack(columns, -1) if columns else np.zeros((len(rows), 0))
    status = np.where(failed[rows], 3, 0).astype(np.int8)
    for values in (initial, fields, numbers):
        if values is not None:
            status[(status == 0) & ~np.isfinite(values.reshape(len(rows), -1)).all(axis=1)] = 1
    good = np.flatnonzero(status == 0)
    named: dict[str, np.ndarray] = {}
    for array in arrays:
        if array.values is None and array.name != "status":
            fill = np.nan if array.dtype.startswith("float") else 0
            named[array.name] = np.full((len(rows), *array.shape[1:]), fill, array.dtype)
    if len(good):
        # A chunk is always asked with the same number of samples, so that one program serves all.
        full = np.resize(good, chunk)
        first = np.zeros((chunk, *points, layout.channels), np.float32) if initial is None else initial[full]
        batch = FieldBatch(first[:, None], fields[full], numbers[full], np.ones(chunk))
        answers = {name: values[: len(good)] for name, values in surrogate.predict(batch).items()}
        finite = np.isfinite(answers[layout.output.name].reshape(len(good), -1)).all(axis=1)
        status[good[~finite]] = 2
        for name, values in answers.items():
            if name in named:
                named[name][good[finite]] = values[finite]
    if truth is not None:
        labels = some[truth]
        if "channel" in layout.output.dims and "channel" not in labels.dims:
            labels = labels.expand_dims("channel")
        true = labels.transpose(SAMPLE, *layout.output.dims).values
        if true.shape[1:] == named[f"{truth}_true"].shape[1:]:
            named[f"{truth}_true"][:] = true
    return {**named, "status": status}


def _scores(store: AnswerStore, layout: Layout) -> tuple[dict[str, TruthScores], dict[str, float]]:
    """Scores of each value, and the mean relative L2 error of the samples (Li et al. 2021, arXiv:2010.08895)."""
    output = layout.output
    by_name = {array.name: array for array in store.arrays}
    names = [output.name, f"{output.name}_true", f"{output.name}_low", f"{output.name}_high"]
    scores, relative = TruthScores(output.units), []
    # The first time of a trajectory is an input, and not predicted.
    first = 1 if layout.evolves and not layout.lead else 0
    for blocks in zip(*(store.blocks(by_name[name]) for name in names if name in by_name), strict=True):
        value, truth, *bounds = (np.moveaxis(b, 1 + output.dims.index("time"), 1)[:, first:] if layout.evolves else b
                                 for b in blocks)  # fmt: skip
        scores.add(*(np.asarray(b, float).ravel() for b in (truth, value, *bounds)))
        axes = tuple(range(1, value.ndim))
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.sqrt(((value - truth) ** 2).sum(axes, dtype=float) / (truth**2).sum(axes, dtype=float))
        relative += ratio[np.isfinite(ratio)].tolist()
    metrics = {f"predict/{output.name}/{name}": v for name, v in scores.metrics().items()}
    if relative:
        metrics[f"predict/{output.name}/relative_l2"] = float(np.mean(relative))
    return {output.name: scores}, metrics
