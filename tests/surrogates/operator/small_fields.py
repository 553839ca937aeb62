"""Trajectories of a wave that travels and decays, which a small network can learn, and their layout."""

from __future__ import annotations

import numpy as np

from data.fields import Axis, Fields, FieldVariable, Layout

POINTS, TIMES = 16, 6


def layout(points: int = POINTS, times: int = TIMES) -> Layout:
    return Layout(
        output=FieldVariable("u", ("time", "channel", "x"), "m", "float32", "height"),
        initial=FieldVariable("initial", ("channel", "x"), "m", "float32", "height at the start"),
        static=(),
        parameters=(FieldVariable("speed", (), "m s-1", "float64", "speed of the wave"),),
        axes=(
            Axis("time", tuple(float(t) for t in range(times)), "s", "time"),
            Axis("channel", ("height",), "1", "component"),
            Axis("x", tuple(float(i) / points for i in range(points)), "m", "position"),
        ),
        periodic=(True,),
        attrs={"boundary_conditions": "periodic", "solver": "exact"},
    )


def waves(samples: int, seed: int, points: int = POINTS, times: int = TIMES) -> Fields:
    """u(x, t) = 2 + a exp(-t / 10) sin(2 pi (x - c t) + p), with c from 0.02 to 0.08."""
    rng = np.random.default_rng(seed)
    size, phase = rng.uniform(0.5, 1.5, samples), rng.uniform(0, 2 * np.pi, samples)
    speed = rng.uniform(0.02, 0.08, samples)
    x, t = np.arange(points) / points, np.arange(times)
    angle = 2 * np.pi * (x[None, None] - speed[:, None, None] * t[None, :, None]) + phase[:, None, None]
    u = 2.0 + size[:, None, None] * np.exp(-t / 10)[None, :, None] * np.sin(angle)
    return Fields(
        layout(points, times),
        u[..., None].astype(np.float32),
        np.zeros((samples, points, 0), np.float32),
        speed[:, None].astype(np.float32),
        "f" * 64,
        np.full(samples, 2.0),
    )
