"""The networks of potentials, by the name of their architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from flax import nnx
from jaxtyping import Array, Float, Int

from surrogates.learning.nn.registry import settings_from_json, settings_to_json
from surrogates.potentials.networks.ace import ACE, ACEConfig
from surrogates.potentials.networks.geometry import Pairs
from surrogates.potentials.networks.painn import PaiNN, PaiNNConfig

NetworkConfig = PaiNNConfig | ACEConfig
#: For each architecture, the class of its settings and the class of its network.
ARCHITECTURES: Mapping[str, tuple[type[Any], Any]] = {
    "painn": (PaiNNConfig, PaiNN),
    "ace": (ACEConfig, ACE),
}


class Network(Protocol):
    """A network from atomic numbers, pairs of atoms and molecular charges to `width` features of each atom."""

    width: int

    def __call__(self, numbers: Int[Array, "M N"], pairs: Pairs, charge: Float[Array, " M"]) -> Float[Array, "M N W"]:
        """Features of each atom, invariant under rotations of the molecule."""
        ...


def architecture(config: NetworkConfig) -> str:
    """The name of the architecture with these settings."""
    return next(name for name, (settings, _) in ARCHITECTURES.items() if isinstance(config, settings))


def make_network(config: NetworkConfig, rngs: nnx.Rngs) -> Any:
    """A network with initial weights."""
    return ARCHITECTURES[architecture(config)][1](config, rngs)


def config_to_json(config: NetworkConfig) -> dict[str, Any]:
    """A plain dict, from which `config_from_json` makes equal settings."""
    return settings_to_json(config, ARCHITECTURES)


def config_from_json(value: Any) -> Any:
    """The settings that `config_to_json` described.

    Raises:
        InputError: the architecture or a setting is unknown, or a value is of another type or out of range.
    """
    return settings_from_json(value, ARCHITECTURES)
