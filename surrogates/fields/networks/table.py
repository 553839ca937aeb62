"""Networks that learn operators between fields, by the name of their architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from flax import nnx
from jaxtyping import Array, Float

from surrogates.fields.networks.deeponet import DeepONet, DeepONetConfig
from surrogates.fields.networks.ffno import FFNO, FFNOConfig
from surrogates.fields.networks.fno import FNO, FNOConfig
from surrogates.fields.networks.resnet import DilatedResNet, DilatedResNetConfig
from surrogates.fields.networks.transolver import Transolver, TransolverConfig
from surrogates.fields.networks.unet import UNet, UNetConfig
from surrogates.learning.nn.grid import FieldShape
from surrogates.learning.nn.layers import NetworkConfig
from surrogates.learning.nn.registry import settings_from_json, settings_to_json

__all__ = ["ARCHITECTURES", "FieldShape", "Network", "NetworkConfig", "architecture", "config_from_json"]
__all__ += ["config_to_json", "network"]

#: For each architecture, the class of its settings and the class of its network.
ARCHITECTURES: Mapping[str, tuple[type[Any], Any]] = {
    "fno": (FNOConfig, FNO),
    "ffno": (FFNOConfig, FFNO),
    "unet": (UNetConfig, UNet),
    "dilated_resnet": (DilatedResNetConfig, DilatedResNet),
    "transolver": (TransolverConfig, Transolver),
    "deeponet": (DeepONetConfig, DeepONet),
}


class Network(Protocol):
    """A network from fields and parameters to fields on the same grid, with channels last."""

    def __call__(
        self, x: Float[Array, "batch *space inputs"], parameters: Float[Array, "batch parameters"] | None = None
    ) -> Float[Array, "batch *space outputs"]:
        """The output fields on the grid of `x`."""
        ...


def architecture(config: NetworkConfig) -> str:
    """The name of the architecture with these settings."""
    return next(name for name, (settings, _) in ARCHITECTURES.items() if type(config) is settings)


def network(config: NetworkConfig, shape: FieldShape, rngs: nnx.Rngs) -> Any:
    """A network with initial weights.

    Args:
        config: its architecture and hyperparameters.
        shape: dims and channels of inputs and outputs.
        rngs: random numbers for the initial weights.

    Raises:
        ValueError: the settings do not fit the shape.
    """
    return ARCHITECTURES[architecture(config)][1](config, shape, rngs)


def config_to_json(config: NetworkConfig) -> dict[str, Any]:
    """A plain dict, from which `config_from_json` makes equal settings."""
    return settings_to_json(config, ARCHITECTURES)


def config_from_json(value: Any) -> Any:
    """The settings that `config_to_json` described.

    Raises:
        InputError: the architecture or a setting is unknown, or a value is of another type or out of range.
    """
    return settings_from_json(value, ARCHITECTURES)
