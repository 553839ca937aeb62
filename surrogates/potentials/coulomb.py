"""Long-range interaction: the Coulomb energy of atomic charges that the network predicts, for isolated molecules.

E = k/2 sum_ij q_i q_j erf(r_ij / (sqrt(2) s)) / r_ij over all pairs, without cutoff: the latent charges of Cheng 2025
(doi:10.1038/s41524-025-01577-7) in real space. The charges are not fitted to reference
charges; they are learned through the energies and forces alone. Unlike in that work, the charges are shifted evenly so
that they sum to the total charge of the molecule.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf
from jaxtyping import Array, Float, Int

from surrogates.potentials.repulsion import COULOMB

#: s, Angstrom: the width of the charges; at distances below it they do not interact like point charges.
WIDTH = 1.0


def conserve(raw: Float[Array, "M N"], numbers: Int[Array, "M N"], charge: Float[Array, " M"]) -> Float[Array, "M N"]:
    """Shift charges (e) so that they sum to the total charge of each molecule; 0 for padding."""
    real = numbers > 0
    count = jnp.maximum(real.sum(axis=-1), 1)
    missing = (charge - jnp.where(real, raw, 0.0).sum(axis=-1)) / count
    return jnp.where(real, raw + missing[:, None], 0.0)


def coulomb(
    charges: Float[Array, "M N"], numbers: Int[Array, "M N"], positions: Float[Array, "M N 3"]
) -> Float[Array, "M N"]:
    """Coulomb energy of each atom, eV: half of the energies of its pairs.

    Args:
        charges: e; 0 for padding.
        numbers: atomic numbers; 0 is padding.
        positions: Angstrom.
    """
    real = numbers > 0
    vector = positions[:, :, None] - positions[:, None, :]
    itself = jnp.eye(charges.shape[1], dtype=bool) | ~(real[:, :, None] & real[:, None, :])
    distance = jnp.sqrt(jnp.sum(jnp.where(itself[..., None], 1.0, vector) ** 2, axis=-1))
    each = jnp.where(itself, 0.0, erf(distance / (np.sqrt(2.0) * WIDTH)) / distance)
    return 0.5 * COULOMB * charges * jnp.einsum("mij,mj->mi", each, charges)
