"""Table of the weather networks by the name of their architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flax import nnx

from surrogates.forecasts.networks.conv import ConvConfig, ConvNet
from surrogates.forecasts.networks.layers import SphereConfig, SphereShape
from surrogates.forecasts.networks.mesh import MeshConfig, MeshNet
from surrogates.forecasts.networks.sfno import SFNO, SFNOConfig
from surrogates.learning.nn.registry import settings_from_json, settings_to_json

__all__ = ["ARCHITECTURES", "SphereConfig", "SphereShape", "config_from_json", "config_to_json", "network"]

#: Name of an architecture -> (class of its settings, class of its network).
ARCHITECTURES: Mapping[str, tuple[type[Any], Any]] = {
    "conv": (ConvConfig, ConvNet),
    "mesh": (MeshConfig, MeshNet),
    "sfno": (SFNOConfig, SFNO),
}


def network(config: SphereConfig, shape: SphereShape, rngs: nnx.Rngs) -> Any:
    """A network with fresh weights.

    Args:
        config: settings of the network; their class selects the architecture.
        shape: shape of inputs and outputs.
        rngs: random keys of the initial weights.

    Raises:
        InputError: the grid does not suit the architecture.
        ValueError: the settings do not fit the shape.
    """
    return next(network_class for settings, network_class in ARCHITECTURES.values() if type(config) is settings)(
        config, shape, rngs
    )


def config_to_json(config: SphereConfig) -> dict[str, Any]:
    """Settings as a plain dict, from which `config_from_json` makes equal settings."""
    return settings_to_json(config, ARCHITECTURES)


def config_from_json(value: Any) -> Any:
    """The settings that `config_to_json` described.

    Raises:
        InputError: the architecture or a setting is unknown, or a value is of another type or out of range.
    """
    return settings_from_json(value, ARCHITECTURES)
