"""The networks of potentials, by the name of their architecture."""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Array, Float, Int

from surrogates.learning.nn.registry import Architectures
from surrogates.potentials.networks.ace import ACE, ACEConfig
from surrogates.potentials.networks.geometry import Pairs
from surrogates.potentials.networks.painn import PaiNN, PaiNNConfig

NetworkConfig = PaiNNConfig | ACEConfig
#: For each architecture, the class of its settings and the class of its network.
ARCHITECTURES = Architectures(
    {
        "painn": (PaiNNConfig, PaiNN),
        "ace": (ACEConfig, ACE),
    }
)


class PotentialNetwork(Protocol):
    """A network from atomic numbers, pairs of atoms and molecular charges to `width` features of each atom."""

    width: int

    def __call__(self, numbers: Int[Array, "M N"], pairs: Pairs, charge: Float[Array, " M"]) -> Float[Array, "M N W"]:
        """Features of each atom, invariant under rotations of the molecule."""
        ...
