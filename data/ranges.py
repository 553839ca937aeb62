"""The range of every number of a configuration: what lies outside is refused before anything is built.

A number that is not finite, a negative duration or a width of a thousand million ends in random weights, a limit
without effect, or a process that runs out of memory. Ranges are wide: they hold what could make sense, and the classes
that take the numbers check how these fit together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from data.errors import InputError

COUNT, COUNT_OR_NONE = "[1, 1e12]", "[0, 1e12]"
POSITIVE, NOT_NEGATIVE, FINITE = "(0, 1e12]", "[0, 1e12]", "(-inf, inf)"
SHARE, SHARE_ABOVE_0 = "[0, 1]", "(0, 1]"
WIDTH, FEW, SMALL = "[1, 65536]", "[1, 1000]", "[0, 1000]"

#: Key, with as many of the keys that hold it as tell it from others (`*` for any) -> interval of its numbers.
RANGES: Mapping[str, str] = {
    # Training
    **dict.fromkeys(("epochs", "validate_every", "patience"), COUNT),
    **dict.fromkeys(("batch_size", "batch_sizes", "batches", "compared_batches"), "[1, 1e6]"),
    "learning_rate": "(0, 1000]",
    "max_seconds": NOT_NEGATIVE,  # 0: no step, for a network that is adjusted as it is
    "max_core_seconds": NOT_NEGATIVE,
    "clip_norm": POSITIVE,
    **dict.fromkeys(("warmup_fraction", "final_lr_fraction", "final_from", "final_ramp"), SHARE),
    **dict.fromkeys(("unroll_from", "unroll_full", "lost_share"), SHARE),
    **dict.fromkeys(("weight_decay", "checkpoint_every_s"), NOT_NEGATIVE),
    "ema_decay": "[0, 1)",
    "seed": "[0, 4294967295]",
    "weight_noise": "[0, 1)",
    "noise": NOT_NEGATIVE,
    "input_noise": NOT_NEGATIVE,
    **dict.fromkeys(("energy_weight", "forces_weight", "stress_weight", "scalar_weight"), NOT_NEGATIVE),
    **dict.fromkeys(("final_energy_weight", "final_forces_weight", "variable_weights.*"), NOT_NEGATIVE),
    "weights.*": NOT_NEGATIVE,  # of what a student learns from
    **dict.fromkeys(("zonal_weight", "spectral_weight", "day_weights"), NOT_NEGATIVE),
    # Data; parts and `valid` are fractions or counts
    **dict.fromkeys(("parts", "valid", "calibration", "train", "test", "part", "start", "stop"), NOT_NEGATIVE),
    **dict.fromkeys(("limit", "size", "count", "top_k", "chunk_rows", "part_rows", "samples"), COUNT),
    **dict.fromkeys(("top", "random", "curve", "retries", "expensive.*"), COUNT_OR_NONE),
    **dict.fromkeys(("initial.count", "audit", "batch"), "[0, 1e6]"),
    "cross_validation": "[2, 1000]",
    "similarity": SHARE,
    "pool": COUNT,
    # Networks
    **dict.fromkeys(("features", "width", "tensor_features", "radial_hidden", "readout", "basis_size"), WIDTH),
    **dict.fromkeys(("radial", "functions", "sensors", "slices", "groups", "heads", "modes"), WIDTH),
    **dict.fromkeys(("layers", "blocks", "buckets", "ensemble", "draws", "unroll", "history"), FEW),
    **dict.fromkeys(("network.size", "expansion", "patch", "multipliers", "dilations"), FEW),
    **dict.fromkeys(("corrections", "network.fold", "network.kernel"), FEW),
    **dict.fromkeys(("committee", "noise_dims", "harmonics"), SMALL),
    **dict.fromkeys(("degree", "hidden_degree", "refinements"), "[0, 12]"),
    **dict.fromkeys(("lifting", "projection", "channel_mlp", "feed_forward", "mlp", "hidden"), "[0, 100]"),
    "cutoff_angstrom": "(0, 100]",
    "repulsion_reach": "(0, 1]",
    "distance_floor": "[0, 1]",
    "neighbours": "(0, 1e4]",
    "dropout": "[0, 1)",
    "padding": "[0, 10]",
    "rank": SHARE_ABOVE_0,
    "reach": "(0, 10]",
    "damping": SHARE,
    "truncation": "[1, 10000]",
    # Processes
    **dict.fromkeys(("workers", "threads", "processes", "streams"), "[1, 65536]"),
    "process": "[0, 65535]",
    "timeout_s": POSITIVE,
    "memory_mb": COUNT,
    "scratch_mb": COUNT,
    "give_up_after": COUNT,
    **dict.fromkeys(("shards", "launcher.jobs", "launcher.cpus"), "[1, 1e6]"),
    **dict.fromkeys(("launcher.nodes", "launcher.tasks"), "[1, 65536]"),
    "local_device_ids": "[0, 65535]",
    "lost_after_s": "[1, 1e6]",
    "launcher.minutes": "(0, 1e7]",
    "launcher.stop_s": "[1, 1e6]",
    "launcher.memory_gb": "(0, 1e6]",
    **dict.fromkeys(("launcher.gpus", "launcher.resubmitted"), "[0, 1e4]"),
    # A server
    "port": "[0, 65535]",
    "max_batch": "[1, 1e6]",
    "max_wait_ms": "[0, 60000]",
    "queue": "[1, 1e8]",
    "body_mb": "(0, 1e5]",
    "largest": "[1, 1e6]",
    # What is sought
    "hit": FINITE,
    "kappa": "[-1e6, 1e6]",
    "windows.*": "[-inf, inf]",
    "low": FINITE,
    "high": FINITE,
    # Molecules
    "n_conformers": "[1, 1e6]",
    "max_iterations": COUNT,
    "max_steps": COUNT,
    "max_cycles": COUNT,
    "cost_s": NOT_NEGATIVE,
    "long_range_angstrom": "[6, 1e4]",
    "accuracy": "(0, 1e4]",
    "electronic_temperature": "[0, 1e6]",
    **dict.fromkeys(("replay", "memory"), "[0, 1e6]"),
    "copies": SMALL,
    "outside": SHARE,
    "certain": SHARE_ABOVE_0,
    "strength": "(0, 1e6]",
    "tolerance": "(0, 1]",
    "grid": "[0, 1e5]",
    "grid_points": "[1, 100000]",
    # Active learning
    "shake_angstrom": "[0, 10]",
    "walkers": "[1, 1e6]",
    "timestep_fs": "(0, 100]",
    "temperature_kelvin": "[0, 1e6]",
    "friction_per_fs": "[0, 100]",
    "record_every": COUNT,
    # Trees of frames
    "tree.frames": "[0, 1e6]",
    "relax_steps": SMALL,
    **dict.fromkeys(("rattle_angstrom", "step_angstrom"), "(0, 10]"),
    "largest_force": "(0, 1e6]",
    "by_generation": SHARE,
    "leash_ev_per_angstrom": POSITIVE,
    "force_error_mev_per_angstrom": POSITIVE,
    "rounds_in_row": COUNT,
    "labels": COUNT,
    "rounds": COUNT,
    "trial.rounds": COUNT_OR_NONE,
    "standard_errors": SMALL,
    "window_kt": "(0, 1000]",
    "regions": "[1, 1e6]",
    # Flows
    "dim": "[1, 3]",
    "points": "[2, 1e6]",
    "cells": "[1, 1e6]",
    "cells_x": "[1, 1e6]",
    "cells_y": "[1, 1e6]",
    **dict.fromkeys(("length", "save_dt", "dt", "growth", "radius", "aspect", "peak", "reynolds", "end"), POSITIVE),
    **dict.fromkeys(("height", "maxh", "body_maxh", "mean_velocity", "steady_tolerance"), POSITIVE),
    "steps": "[1, 1e7]",
    "saves": "[1, 1e6]",
    "order": "[1, 20]",
    "refine": "[0, 60]",
    "grading": "(0, 10]",
    "curvature": "(0, 1000]",
    "dealias": SHARE_ABOVE_0,
    "courant": POSITIVE,
    "plateau.window": "[2, 1e7]",
    "plateau.residual": SHARE_ABOVE_0,
    "clearance": NOT_NEGATIVE,
    "repeats": COUNT,
    "grids": "[2, 1e6]",
    "parameters.*": FINITE,
    "constants.*": FINITE,
    "logarithms.*": POSITIVE,
    "grid.*": FINITE,
    "times": NOT_NEGATIVE,
    "after": NOT_NEGATIVE,
    "every": POSITIVE,
    **dict.fromkeys(("angle", "x", "y", "cosine", "sine", "offset"), FINITE),
    "body.modes": SMALL,
    "wave": SHARE,
    "decay": NOT_NEGATIVE,
    "amplitude": POSITIVE,
    "tau": POSITIVE,
    "alpha": POSITIVE,
    "cutoff": "[1, 1e6]",
    **dict.fromkeys(("recall", "confidence", "calibration.stack", "risk.design"), SHARE),
    "initial.blobs": "[1, 1e6]",
    "initial.width": "(0, 0.3]",
    "initial.height": NOT_NEGATIVE,
    "initial.centre": SHARE,
    "initial.complement": "[0, 1000]",  # numbers of channels
    # Weather
    "boundaries": SHARE,
    "step_minutes": POSITIVE,
    "perturbation_k": "[0, 1000]",
    "days": "(0, 1e6]",
    "spin_up_days": "[0, 1e6]",
    "save_hours": POSITIVE,
    "step_hours": POSITIVE,
    "levels": "(0, 1e6]",
    "levels.*": "(0, 1e6]",
    "diffusion_hours": POSITIVE,
    "diffusion_order": "[1, 100]",
    "mass_tolerance": POSITIVE,
    "depth_m": "(0, 1e6]",
    "region": "[-360, 720]",
    "fill.*": FINITE,
    # The climate of forecasters, in configurations and in cards
    **dict.fromkeys(("climate.days", "adjust_days"), "[0, 1e6]"),
    **dict.fromkeys(("adjust_runs", "runs", "starts", "members", "long_starts", "compared"), "[1, 1e6]"),
    "long_days": "[0, 1e6]",
    "truncations": "[1, 10000]",
    "compared_steps": "[1, 1e6]",
}


def refuse_out_of_range(plain: Any, where: str = "") -> None:
    """Refuse a number outside of its range in `RANGES`; one without a range has to be finite.

    Args:
        plain: a configuration as dicts, lists and plain values.
        where: the key under which it stands.

    Raises:
        InputError: names the key and its range.
    """
    for path, number in _numbers(plain, tuple(filter(None, where.split(".")))):
        interval = interval_of(path) or FINITE
        if not _lies_in(number, interval):
            said = interval.replace("1e12", "10^12").replace("(-inf, inf)", "the finite numbers")
            key = ".".join(path) or None
            raise InputError(f"must lie in {said}, got {number!r}", where=key, key=key)


def interval_of(path: Sequence[str]) -> str | None:
    """The interval of the numbers under a key, by the longest part of its path that `RANGES` holds; None for none."""
    for length in (3, 2, 1):
        tail = path[-length:]
        for key in (".".join(tail), ".".join([*tail[:-1], "*"]) if length > 1 else ""):
            if len(tail) == length and key in RANGES:
                return RANGES[key]
    return None


def _numbers(plain: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(plain, Mapping):
        for key, value in plain.items():
            yield from _numbers(value, (*path, str(key)))
    elif isinstance(plain, list | tuple):
        for value in plain:
            yield from _numbers(value, path)
    elif isinstance(plain, int | float) and not isinstance(plain, bool):
        yield path, plain


@cache
def _parse(interval: str) -> tuple[bool, float, float, bool]:
    match = re.fullmatch(r"([\[(])(\S+), (\S+)([\])])", interval)
    if match is None:
        raise ValueError(f"no interval: {interval!r}")
    return match[1] == "[", float(match[2]), float(match[3]), match[4] == "]"


def _lies_in(number: float, interval: str) -> bool:
    with_low, low, high, with_high = _parse(interval)
    if math.isnan(number):
        return False
    return (low < number or (with_low and number == low)) and (number < high or (with_high and number == high))
