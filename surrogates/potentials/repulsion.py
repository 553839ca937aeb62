"""Short-range repulsion of nuclei: the universal screened Coulomb energy of Ziegler, Biersack and Littmark.

E = 1/2 sum_ij k Z_i Z_j / r phi(r / a) u(r), a = 0.46850 / (Z_i^0.23 + Z_j^0.23) Angstrom (Ziegler, Biersack and
Littmark, The Stopping and Range of Ions in Solids, 1985, eqs. 2-60 and 2-61). The envelope u is zero beyond an end
that depends on the two elements: either a little below their shortest distance in training (see `distance_floor`), or
`reach` times the sum of the covalent radii. With a reach of 1, as in MACE, the term also acts on compressed bonds,
where the network has to undo it; with 0.75 it is exactly zero on molecules near equilibrium, and describes collisions
alone.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from ase import units
from ase.data import covalent_radii
from jaxtyping import Array, Float, Int

from surrogates.potentials.networks.geometry import Pairs
from surrogates.potentials.networks.radial import envelope

#: e^2 / (4 pi epsilon_0) in eV Angstrom.
COULOMB = float(units.Hartree * units.Bohr)
COEFFICIENTS = (0.18175, 0.50986, 0.28022, 0.02817)
EXPONENTS = (3.19980, 0.94229, 0.40290, 0.20162)
LENGTH, POWER = 0.46850, 0.23


def ends_at_radii(numbers: Int[Array, "M N"], pairs: Pairs, reach: float) -> Float[Array, "M N K"]:
    """Ends of the repulsion of pairs, Angstrom: `reach` times the sum of the covalent radii of the two atoms."""
    radii = jnp.asarray(np.nan_to_num(covalent_radii), pairs.distance.dtype)
    end: Array = reach * (radii[numbers][..., None] + pairs.gather(radii[numbers]))
    return end


def repulsion(numbers: Int[Array, "M N"], pairs: Pairs, end: Float[Array, "M N K"]) -> Float[Array, "M N"]:
    """Repulsion energy of each atom, eV: half of the energies of its pairs; finite for all distances above 0.

    Args:
        numbers: atomic numbers; 0 is padding.
        pairs: see `geometry.pairs`; slots without a neighbour give 0.
        end: distance beyond which the energy of a pair is 0, Angstrom.
    """
    dtype = pairs.distance.dtype
    z_i = numbers.astype(dtype)[..., None]
    z_j = pairs.gather(numbers).astype(dtype)
    # An empty slot is treated like two distant hydrogen atoms, so that all functions below are smooth.
    present = pairs.weight > 0
    charge = jnp.where(present, z_i * z_j, 0.0)
    length = LENGTH / (jnp.maximum(z_i, 1.0) ** POWER + jnp.maximum(z_j, 1.0) ** POWER)
    x = pairs.distance / length
    screening = sum(c * jnp.exp(-e * x) for c, e in zip(COEFFICIENTS, EXPONENTS, strict=True))
    switch = envelope(pairs.distance / jnp.where(present, end, 1.0), 1.0)
    return 0.5 * COULOMB * jnp.sum(charge / pairs.distance * screening * switch, axis=-1)
