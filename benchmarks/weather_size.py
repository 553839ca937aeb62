"""Measures memory and time of a forecast step and of a training step for states of WeatherBench 2's size.

A state has 240 x 121 points, 13 levels and 5 variables. Each part runs in a separate process, whose peak memory is
reported. The training step is also split over `--devices` virtual devices, and must give the same gradient as on one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.common import Result, arguments, pin, report

PART = """
import json, resource, sys, time
import jax, numpy as np
from flax import nnx
from data.sphere.weather_layout import WeatherChannel, WeatherLayout
from simulators.atmosphere.reanalysis.regrid import global_grid
from surrogates.learning.devices import data_mesh, replicate, shard_batch
from surrogates.forecasts.batches import ForecastBatch
from surrogates.forecasts.facts import ForecastConfig, ForecastFacts
from surrogates.forecasts.loss import ForecastLoss
from surrogates.forecasts.networks.conv import ConvConfig
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.forecasts.networks.icosahedral_mesh import SphereMeshConfig
from surrogates.forecasts.model import ForecastScale
from surrogates.forecasts.networks.sfno import SFNOConfig

kind, what, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
network = {
    "conv": ConvConfig(patch=4), "sfno": SFNOConfig(width=32), "mesh": SphereMeshConfig(refinements=4, remat=True),
}[kind]
names = ("temperature", "geopotential", "u_component_of_wind", "v_component_of_wind", "specific_humidity")
channels = tuple(WeatherChannel(n, 50.0 * (k + 1)) for n in names for k in range(13))
layout = WeatherLayout(global_grid(121, 240, True), channels)
ones = (1.0,) * len(channels)
config = ForecastConfig(network=network)
facts = ForecastFacts(config, layout, ForecastScale(ones, ones, (0,)), "none", ones, ones)
model = facts.model()
rng = np.random.default_rng(0)
measurements = {"parameters": sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))}
if what == "forecast":
    forecaster = ForecastSurrogate(model, facts)
    past = rng.normal(size=(1, 1, *layout.grid.shape, len(channels))).astype(np.float32)
    times = np.array(["2020-01-01"], "datetime64[ns]")
    forecaster.forecast_arrays(past, times, 4)
    began = time.perf_counter()
    answer = forecaster.forecast_arrays(past, times, 4)
    measurements["seconds"] = (time.perf_counter() - began) / 4
    assert np.isfinite(answer).all()
else:
    frames = rng.normal(size=(batch, 2, *layout.grid.shape, len(channels))).astype(np.float32)
    states = ForecastBatch(frames, np.zeros(batch, np.int32), np.zeros(batch, np.int32), np.ones(batch, np.float32))
    loss, mesh = ForecastLoss.of(config.loss, layout), data_mesh()
    graph, state = nnx.split(model)
    key = jax.random.key(0)
    step = jax.jit(jax.value_and_grad(lambda s, b: loss(nnx.merge(graph, s), b, key, 0.5)[0]))
    arguments = replicate(state, mesh), shard_batch(states, mesh)
    value, gradient = jax.block_until_ready(step(*arguments))
    began = time.perf_counter()
    jax.block_until_ready(step(*arguments))
    measurements["seconds"] = time.perf_counter() - began
    measurements["loss"] = float(value)
    measurements["norm"] = float(sum((x.astype("float32") ** 2).sum() for x in jax.tree.leaves(gradient)) ** 0.5)
measurements["memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps(measurements))
"""


def part(kind: str, what: str, batch: int, devices: int) -> dict[str, float]:
    """Run one part in a separate process and return its measurements."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
    line = [sys.executable, "-c", PART, kind, what, str(batch)]
    done = subprocess.run(line, env=os.environ | {"XLA_FLAGS": flags}, check=True, stdout=subprocess.PIPE, text=True)
    measurements: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return measurements


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--networks", nargs="+", choices=("conv", "sfno", "mesh"), default=["conv", "mesh", "sfno"])
    parser.add_argument("--devices", type=int, default=4, help="virtual devices of the training step (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    results = []
    for kind in options.networks:
        measurements = part(kind, "forecast", 1, 1)
        head = f"weather_size: {kind}, {measurements['parameters'] / 1e3:,.0f}k parameters"
        results += [
            Result(f"{head}: forecast step", measurements["seconds"], "s"),
            Result(f"{head}: forecast, largest memory", measurements["memory_gb"], "GB"),
        ]
    kind = options.networks[0]
    one, several = (part(kind, "train", options.devices, n) for n in (1, options.devices))
    results += [
        Result(f"weather_size: {kind}: training step, batch of {options.devices}, 1 device", one["seconds"], "s"),
        Result(f"weather_size: {kind}: the same shared among {options.devices}", several["seconds"], "s"),
        Result(f"weather_size: {kind}: training step, largest memory, 1 device", one["memory_gb"], "GB"),
        Result(f"weather_size: {kind}: the same shared among {options.devices}", several["memory_gb"], "GB"),
        Result.against("weather_size: norm of the gradient, shared", several["norm"], "1", "1 device", one["norm"]),
    ]
    report("weather_size", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
