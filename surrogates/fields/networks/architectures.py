"""Networks that learn operators between fields, by the name of their architecture."""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Array, Float

from surrogates.fields.networks.corrector import Corrector, CorrectorConfig
from surrogates.fields.networks.deeponet import DeepONet, DeepONetConfig
from surrogates.fields.networks.ffno import FFNO, FFNOConfig
from surrogates.fields.networks.fno import FNO, FNOConfig
from surrogates.fields.networks.resnet import DilatedResNet, DilatedResNetConfig
from surrogates.fields.networks.transolver import Transolver, TransolverConfig
from surrogates.fields.networks.unet import UNet, UNetConfig
from surrogates.learning.nn.grid import FieldShape
from surrogates.learning.nn.layers import NetworkConfig
from surrogates.learning.nn.registry import Architectures

__all__ = ["ARCHITECTURES", "FieldNetwork", "FieldShape", "NetworkConfig"]

#: For each architecture, the class of its settings and the class of its network.
ARCHITECTURES = Architectures(
    {
        "fno": (FNOConfig, FNO),
        "ffno": (FFNOConfig, FFNO),
        "unet": (UNetConfig, UNet),
        "dilated_resnet": (DilatedResNetConfig, DilatedResNet),
        "transolver": (TransolverConfig, Transolver),
        "deeponet": (DeepONetConfig, DeepONet),
        "corrector": (CorrectorConfig, Corrector),
    }
)


class FieldNetwork(Protocol):
    """A network from fields and parameters to fields on the same grid, with channels last."""

    def __call__(
        self, x: Float[Array, "batch *space inputs"], parameters: Float[Array, "batch parameters"] | None = None
    ) -> Float[Array, "batch *space outputs"]:
        """The output fields on the grid of `x`."""
        ...
