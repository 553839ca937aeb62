"""Decides whether float32 resolves what varies in a field: 0.01 Pa on top of 101,325 Pa is one rounding step."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

#: Largest rounding error, relative to the standard deviation of a channel, at which float32 is used.
LOST = 1e-3
#: The smallest normal float32; below it digits are lost.
TINY = float(np.finfo(np.float32).tiny)


def narrow_precision(
    values: Float[np.ndarray, "*any channel"], name: str
) -> tuple[Float[np.ndarray, "*any channel"], tuple[str, ...]]:
    """Values in float32 if that resolves the variation of each channel, otherwise unchanged.

    Args:
        values: in float32 or float64; those that are not finite do not count.
        name: of the variable.

    Returns:
        The values, and a sentence for each channel whose variation was lost before it was stored.
    """
    said = []
    wide = False
    for c in range(values.shape[-1]):
        channel = values[..., c]
        finite = channel[np.isfinite(channel)]
        if not finite.size:
            continue
        spread, size = float(np.std(finite, dtype=np.float64)), float(np.abs(finite).max())
        if spread == 0:
            continue
        rounding = float(np.finfo(np.float32).eps) * size
        if values.dtype == np.float32 and rounding > 0.1 * spread:
            said.append(
                f"{name} is stored in float32 with steps of {rounding:.2g} and varies by {spread:.2g}: "
                "what is between the steps is lost; store it in float64, or subtract its mean"
            )
        small = spread < TINY / float(np.finfo(np.float32).eps)
        wide = wide or small or rounding > LOST * spread or size > float(np.finfo(np.float32).max)
    keep = wide and values.dtype == np.float64
    return (values if keep else values.astype(np.float32)), tuple(said)
