"""Trajectories of a wave that travels and decays, which a small network can learn, and their layout."""

from __future__ import annotations

import numpy as np

from data.fields.layout import Layout
from data.fields.samples import Fields
from data.spec import Coordinate, Variable

POINTS, TIMES = 16, 6


def layout(points: int = POINTS, times: int = TIMES) -> Layout:
    return Layout(
        output=Variable("u", ("time", "channel", "x"), "m", "float32", "height"),
        initial=Variable("initial", ("channel", "x"), "m", "float32", "height at the start"),
        static=(),
        parameters=(Variable("speed", (), "m s-1", "float64", "speed of the wave"),),
        axes=(
            Coordinate("time", tuple(float(t) for t in range(times)), "s", "time"),
            Coordinate("channel", ("height",), "1", "component"),
            Coordinate("x", tuple(float(i) / points for i in range(points)), "m", "position"),
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


def vortices(samples: int, seed: int, points: int = 12, times: int = 4) -> Fields:
    """Plane velocities of one decaying wave of a stream function each, carried by a mean flow; on a box of 2 x 1."""
    rng = np.random.default_rng(seed)
    size, phase = rng.uniform(0.5, 1.5, samples), rng.uniform(0, 2 * np.pi, samples)
    x, y = np.meshgrid(np.arange(points) / points * 2, np.arange(points) / points, indexing="ij")
    k, m = np.pi, 2 * np.pi
    t = np.arange(times)[None, :, None, None]
    angle = k * (x - 0.2 * t) + m * y + phase[:, None, None, None]
    # psi = a exp(-t / 5) cos(angle) / m; u = d psi / dy, v = -d psi / dx.
    wave = -size[:, None, None, None] * np.exp(-t / 5) * np.sin(angle)
    u = np.stack([0.2 + wave, -wave * k / m], axis=-1)
    base = layout(points, times)
    space = (Coordinate("x", tuple(x[:, 0].tolist()), "m", "x"), Coordinate("y", tuple(y[0].tolist()), "m", "y"))
    plane = Layout(
        output=Variable("v", ("time", "channel", "x", "y"), "m s-1", "float32", "velocity"),
        initial=Variable("initial", ("channel", "x", "y"), "m s-1", "float32", "velocity at the start"),
        static=(),
        parameters=(),
        axes=(base.axes[0], Coordinate("channel", ("u", "v"), "1", "component"), *space),
        periodic=(True, True),
        attrs={"boundary_conditions": "periodic"},
    )
    return Fields(
        plane,
        u.astype(np.float32),
        np.zeros((samples, points, points, 0), np.float32),
        np.zeros((samples, 0), np.float32),
        "e" * 64,
        np.full(samples, 1.0),
    )
