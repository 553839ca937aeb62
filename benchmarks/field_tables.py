"""Builds tables of samples from arrays that a benchmark computed itself."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from data.fields.layout import Layout
from data.fields.sample_variables import SPACE
from data.fields.samples import Fields
from data.spec import Coordinate, Variable


def trajectory_table(
    trajectories: Float[np.ndarray, "sample time channel *space"],
    *,
    length: float = 1.0,
    save_dt: float = 1.0,
    seconds: float = float("nan"),
) -> Fields:
    """Turn trajectories on a periodic box into a table of samples.

    Args:
        trajectories: states at all saved times; the first is the input.
        length: length of the box along each dimension.
        save_dt: time between saved states.
        seconds: core-seconds that each trajectory took.
    """
    samples, times, channels, *points = trajectories.shape
    space = SPACE[: len(points)]
    layout = Layout(
        output=Variable("u", ("time", "channel", *space), "1", "float32", "state"),
        initial=Variable("initial", ("channel", *space), "1", "float32", "initial state"),
        static=(),
        parameters=(),
        axes=(
            Coordinate("time", tuple(save_dt * t for t in range(times)), "1", "time"),
            Coordinate("channel", tuple(f"component {c}" for c in range(channels)), "1", "component of the state"),
            *(
                Coordinate(d, tuple(length * i / n for i in range(n)), "1", f"position along {d}")
                for d, n in zip(space, points, strict=True)
            ),
        ),
        periodic=(True,) * len(points),
        attrs={"boundary_conditions": "periodic"},
    )
    fields = Fields(
        layout,
        np.ascontiguousarray(np.moveaxis(trajectories, 2, -1), np.float32),
        np.zeros((samples, *points, 0), np.float32),
        np.zeros((samples, 0), np.float32),
        "",
        np.full(samples, seconds),
    )
    return Fields(**{**vars(fields), "fingerprint": fields.content()})
