"""The fair continuous ranked probability score of an ensemble: its mean does not depend on the number of members."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

#: Number of members up to which they are compared in pairs.
FEW = 4


def fair_crps(members: Float[Array, " member *points"], truth: Float[Array, "*points"]) -> Float[Array, "*points"]:
    """The fair CRPS, mean |x_i - y| - sum |x_i - x_j| / (2 M (M - 1)).

    Ferro 2014, Q. J. R. Meteorol. Soc. 140, 1917, eq. 6.

    Sorted members need M log M instead of M^2 terms: sum over pairs of |x_i - x_j| is 2 sum_k (2k - M - 1) x_(k). For
    a few members pairs are faster, because XLA sorts along an axis of two as it does along one of a thousand.

    Args:
        members: two or more forecasts.
        truth: the true values.
    """
    count = members.shape[0]
    error = jnp.abs(members - truth[None]).mean(axis=0)
    if count <= FEW:
        pairs = sum(jnp.abs(members[i] - members[k]) for i in range(count) for k in range(i))
        return error - pairs / (count * (count - 1))
    ranks = (2 * jnp.arange(1, count + 1) - count - 1).reshape(-1, *(1,) * truth.ndim).astype(members.dtype)
    spread = (ranks * jnp.sort(members, axis=0)).sum(axis=0)
    return error - spread / (count * (count - 1))
