"""Table of the weather networks by the name of their architecture."""

from __future__ import annotations

from surrogates.forecasts.networks.conv import ConvConfig, ConvNet
from surrogates.forecasts.networks.icosahedral_mesh import MeshNet, SphereMeshConfig
from surrogates.forecasts.networks.layers import SphereConfig, SphereShape
from surrogates.forecasts.networks.sfno import SFNO, SFNOConfig
from surrogates.learning.nn.registry import Architectures

__all__ = ["ARCHITECTURES", "SphereConfig", "SphereShape"]

#: Name of an architecture -> (class of its settings, class of its network).
ARCHITECTURES = Architectures(
    {
        "conv": (ConvConfig, ConvNet),
        "mesh": (SphereMeshConfig, MeshNet),
        "sfno": (SFNOConfig, SFNO),
    }
)
