"""Trains and scores surrogates of fields on stores of a campaign or on files of samples."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from data.errors import InputError
from data.fields.files import ARRAYS, REMEDY
from data.fields.layout import Layout
from data.fields.reading import read_fields
from data.fields.samples import Fields
from data.plain import to_plain
from data.reading import Reading
from data.rejects import RejectLog
from data.spec import content_hash
from experiments.application.stage import build, refuse_equal_stems
from experiments.tasks.overlap import Overlap
from experiments.tasks.parts import (
    PartedData,
    domain_share,
    read_parted,
    read_samples,
    say_other_labels,
    score_apart,
    train_on_parts,
)
from surrogates.fields.bands import coverage, horizon
from surrogates.fields.facts import FieldConfig, FieldSettings
from surrogates.fields.fit import fit_field
from surrogates.fields.networks.table import ARCHITECTURES
from surrogates.fields.surrogate import FieldSurrogate
from surrogates.learning.field_metrics import (
    non_finite,
    relative_l2,
    relative_l2_by_channel,
    relative_l2_per_step,
    rmse_over_spread,
)
from surrogates.learning.learned_from import read_hashes
from surrogates.learning.loop import FitResult, TrainConfig

LOG = logging.getLogger(__name__)
#: Largest relative L2 error at which a rollout counts as reliable.
TOLERANCE = 0.2


@dataclass(frozen=True)
class FieldData(PartedData):
    """The training data; the keys of `data` in task=fluids/..., besides those of `PartedData`.

    The file may also be a Zarr or NetCDF file with a dim `sample`, or a file of PyTorch tensors. The files of `test`
    may have other grids.

    Attributes:
        output: variable to learn; None if there is only one.
        inputs: variables from which it is predicted; None for the inputs of the store.
        periodic: whether the domain is periodic; None to take it from the attributes of the file.
        dims: names of the axes of unnamed arrays, for all arrays or by name; required if an array has more than two
            axes.
    """

    parts: list[Any] = field(default_factory=lambda: [0.8, 0.05, 0.05, 0.1])
    output: str | None = None
    inputs: list[str] | None = None
    periodic: bool | None = None
    dims: Any = None


def field_config(node: DictConfig) -> FieldConfig:
    """The settings of a surrogate of fields, from the configuration group `model`.

    Raises:
        InputError: an architecture or key is unknown, or a value is out of range.
    """
    name = str(node.network.get("architecture"))
    if name not in ARCHITECTURES:
        raise InputError(
            f"no architecture {name!r}; there are {', '.join(ARCHITECTURES)}", where="model.network.architecture"
        )
    inner = OmegaConf.masked_copy(node.network, [str(k) for k in node.network if k != "architecture"])
    outer = OmegaConf.masked_copy(node, [str(k) for k in node if k not in ("kind", "network")])
    network = build(ARCHITECTURES[name][0], inner, where="model.network")
    return FieldConfig(**vars(build(FieldSettings, outer, where="model")), network=network)


def train_fields(config: DictConfig, run_dir: Path) -> dict[str, float]:
    """Run `understudy train task=fluids/...`.

    Raises:
        InputError: a file is missing, a key is unknown or a value is out of range.
    """
    data = build(FieldData, config.data, where="data")
    model = field_config(config.model)
    recipe = build(TrainConfig, config.train, where="train")
    fields, others = read_parted(data, run_dir, partial(_read, data))
    for name, other in others.items():
        other.refuse_other(fields.layout, f"data.test: {name}", same_grid=False)
    return train_surrogate(fields, others, data, model, recipe, run_dir)


def train_surrogate(
    fields: Fields,
    others: Mapping[str, Fields],
    data: FieldData,
    config: FieldConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    progress: bool = True,
) -> dict[str, float]:
    """Split, fit, calibrate, score, and save to `run_dir/surrogate`.

    Args:
        fields: samples, split by `data.parts`.
        others: more samples, each scored under `test/<name>/`.
        data: fractions and seed of the split.
        config: settings of the surrogate.
        training: training recipe.
        run_dir: directory that receives all results.
        progress: whether to show a progress bar.

    Returns:
        Flat metrics: see `experiments.tasks.parts.train_on_parts`; `train/label_core_seconds`
        if the store records the cost of the labels.

    Raises:
        InputError: the parts do not fit the number of samples, or `run_dir` holds a training on other data.
    """

    def fitted(learned: Fields, valid: Fields | None, calibration: Fields | None) -> tuple[FieldSurrogate, FitResult]:
        return fit_field(learned, valid, config, training, run_dir, calibration=calibration, progress=progress)

    all_timed = np.isfinite(fields.seconds).all()
    costs = {"train/label_core_seconds": float(fields.seconds.sum())} if all_timed else {}
    network = content_hash(to_plain(config))
    return train_on_parts(
        fields,
        others,
        data,
        run_dir,
        network=network,
        fit=fitted,
        score=score_fields,
        costs=costs,
        least=1 if fields.layout.evolves else 2,
    )


def score_fields(surrogate: FieldSurrogate, fields: Fields, prefix: str) -> dict[str, float]:
    """Scores on samples: relative L2 errors (of trajectories also by step) and coverage of the bands.

    `relative_l2` is the published norm, over all channels in their units (Li et al. 2021, arXiv:2010.08895).
    `rmse_over_spread` divides the root mean square error by the spread of the truth; for several channels it is the
    root mean square over the channels that vary, and `<channel>/rmse_over_spread` gives each of them. `in_domain` is
    the share of samples inside the training domain.

    Args:
        surrogate: surrogate that is scored.
        fields: samples that its training has not seen.
        prefix: prefix of the keys.
    """
    answer = surrogate.predict_fields(fields)
    evolves = fields.layout.evolves
    # The first time is an input and not predicted.
    first = 1 if evolves else 0
    truth, mean = (np.moveaxis(a, -1, 2)[:, first:] for a in (fields.states, answer.mean))
    metrics = {f"{prefix}/samples": float(len(fields)), f"{prefix}/non_finite": float(non_finite(mean))}
    if metrics[f"{prefix}/non_finite"]:
        return metrics
    metrics |= domain_share(answer.outside, prefix)
    metrics |= _by_channel(mean, truth, fields.layout, prefix)
    metrics[f"{prefix}/relative_l2"] = float(relative_l2(mean, truth))
    if evolves:
        steps = relative_l2_per_step(mean, truth)
        metrics[f"{prefix}/first_step_relative_l2"] = float(steps[0])
        metrics[f"{prefix}/last_step_relative_l2"] = float(steps[-1])
    bands = surrogate.facts.bands
    if bands is not None and fields.states.shape[1] > len(bands.factor):
        LOG.warning(
            "%s: the bands are not scored, because they were calibrated for %d times and these samples have %d",
            prefix,
            len(bands.factor),
            fields.states.shape[1],
        )
    if bands is not None and fields.states.shape[1] <= len(bands.factor):
        inside = coverage(fields.states, answer.mean, bands.half_width(answer.std))[:, first:]
        metrics[f"{prefix}/points_in_band"] = float(inside.mean())
        metrics[f"{prefix}/fields_in_band"] = float((inside >= 1 - bands.alpha).mean())
        if evolves:
            # The horizon that the bound predicts, and whether the error stays below the tolerance up to it.
            error = bands.error(answer.mean, fields.states)
            said = horizon(bands.error_bound(answer.mean, answer.std), TOLERANCE)
            horizon_holds = horizon(error, TOLERANCE) >= said
            metrics[f"{prefix}/predicted_horizon_steps"] = float(said.mean())
            metrics[f"{prefix}/true_horizon_steps"] = float(horizon(error, TOLERANCE).mean())
            metrics[f"{prefix}/horizons_held"] = float(horizon_holds.mean())
    return metrics


def evaluate_fields(
    surrogate: Path,
    files: Sequence[Path],
    rejects: RejectLog | None = None,
    readings: list[Reading] | None = None,
    *,
    dims: Any = None,
) -> dict[str, float]:
    """Score a saved surrogate on files, each under `test/<stem>/`.

    Args:
        surrogate: directory of the surrogate.
        files: files of samples, in a format that training reads.
        rejects: receives the samples that cannot be used.
        readings: receives what was read from each file.
        dims: see `FieldData`.

    Raises:
        InputError: a file has other inputs, outputs or physics than the surrogate.
    """
    refuse_equal_stems(files, "data.test")
    loaded = FieldSurrogate.load(surrogate)
    layout = loaded.facts.layout
    inputs = [v.name for v in (layout.initial, *layout.static, *layout.parameters) if v is not None]
    data = FieldData(file="", output=layout.output.name, inputs=inputs, dims=dims)
    metrics: dict[str, float] = {}
    for path in files:
        fields = read_samples(path, partial(_read, data), rejects, readings)
        if not fields.layout.attrs.get("boundary_conditions"):
            # A file without this attribute is assumed to have the boundary of the training data.
            fields = replace(fields, layout=replace(fields.layout, periodic=layout.periodic))
        fields.refuse_other(layout, str(path), same_grid=False)
        if (path / "store.json").is_file():
            say_other_labels(readings, fields.fingerprint, loaded.labels_fingerprint)
        overlap = Overlap.among(read_hashes(surrogate), fields.input_keys())
        overlap.note(readings)
        metrics |= score_apart(overlap, partial(score_fields, loaded), fields, f"test/{path.stem}")
    return metrics


def _read(data: FieldData, path: Path) -> tuple[Fields, list[tuple[int, str]]]:
    dims: Any = OmegaConf.to_container(data.dims) if OmegaConf.is_config(data.dims) else data.dims
    if dims is not None and not isinstance(dims, list | dict):
        raise InputError(f"must be a list of dims, got {dims!r}", where="data.dims", remedy=REMEDY)
    # Stores and files that name their dims need none, even if other files of the same command do.
    needed = path.suffix.lower() in ARRAYS
    return read_fields(
        path,
        output=data.output,
        inputs=data.inputs,
        periodic=data.periodic,
        dims=dims if needed else None,
    )


def _by_channel(mean: np.ndarray, truth: np.ndarray, layout: Layout, prefix: str) -> dict[str, float]:
    """Errors relative to the spread, and scores of each channel if there are several.

    Infinite ratios are omitted, because JSON cannot hold them.
    """
    ratios = rmse_over_spread(mean, truth)
    varying = ratios[np.isfinite(ratios) & (np.ptp(truth, axis=(0, 1, *range(3, truth.ndim))) > 0)]
    metrics = {}
    if len(varying):
        metrics[f"{prefix}/rmse_over_spread"] = float(np.sqrt(np.square(varying).mean()))
    if layout.channels == 1:
        return metrics
    relative = relative_l2_by_channel(mean, truth)
    error = np.sqrt(np.square(mean - truth, dtype=np.float64).mean(axis=(0, 1, *range(3, truth.ndim))))
    for c, name in enumerate(layout.axis("channel").values):
        numbers = {"rmse_over_spread": ratios[c], "relative_l2": relative[c], "rmse": error[c]}
        metrics |= {f"{prefix}/{name}/{key}": float(v) for key, v in numbers.items() if np.isfinite(v)}
    return metrics
