"""Sums over neighbours as matrix products; all networks of potentials spend most of their time here.

a_ic = sum_j sum_b f_b(r_ij) w_bc h_jc, where few functions f_b of the pair are shared by all channels c. In this order
no tensor over pairs and channels is formed: the sum over neighbours and functions is one long inner dimension of a
matrix product, which a processor computes many times faster than the same sum element by element.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from surrogates.potentials.networks.geometry import Pairs


def collect(
    functions: Float[Array, "M N A B K"],
    values: Float[Array, "M N C"],
    weights: Float[Array, "B C"],
    pairs: Pairs,
) -> Float[Array, "M N A C"]:
    """The sum a_ic that each atom receives from its neighbours.

    Args:
        functions: f of each atom and each of its K slots for neighbours, 0 in empty slots; A sets of B functions,
            and all sets share the weights.
        values: h, the C channels that each atom sends.
        weights: w, the weight of each function in each channel.
        pairs: the atom in each slot.
    """
    m, n, a, b, k = functions.shape
    if pairs.neighbours is None:
        weighted = jnp.concatenate([values * weights[i] for i in range(b)], axis=1)
        return (functions.reshape(m, n * a, b * k) @ weighted).reshape(m, n, a, -1)
    each = functions.reshape(m, n, a * b, k) @ pairs.gather(values)
    return jnp.sum(each.reshape(m, n, a, b, -1) * weights, axis=3)
