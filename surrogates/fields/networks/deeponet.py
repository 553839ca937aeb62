"""DeepONet: the output is a sum of learned functions of position (Lu et al. 2021, arXiv:1910.03193, eq. 2).

The trunk computes the functions at any point; the branch computes their amplitudes from the input at fixed sensors.
The input may lie on any grid and is averaged over the cell of each sensor, so detail below the spacing of the sensors
is lost on every grid. The output can be evaluated on any grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from surrogates.fields.networks.conditioning import Conditioning
from surrogates.learning.nn.grid import FieldShape, coordinates
from surrogates.learning.nn.layers import HE, NetworkConfig, activate, linear


@dataclass(frozen=True)
class DeepONetConfig(NetworkConfig):
    """Hyperparameters of the network, in addition to those of `NetworkConfig`.

    Attributes:
        layers: hidden layers of branch and of trunk, each of `width` channels.
        functions: number of functions of position for each output channel.
        sensors: number of sensors along each dim.
        harmonics: largest wave number of the sines and cosines that the trunk takes.
        positions: inputs of the trunk, "periodic" for sines and cosines alone, or "linear" for coordinates too, which
            do not suit periodic domains.
    """

    width: int = 128
    positions: str = "periodic"
    layers: int = 3
    functions: int = 64
    sensors: int = 16
    harmonics: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.positions == "none":
            raise ValueError("positions must be linear or periodic: without positions the output is constant")


class DeepONet(nnx.Module):
    """A DeepONet; see the docstring of the module.

    Args:
        config: hyperparameters of the network.
        shape: dims and channels of inputs and outputs.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, config: DeepONetConfig, shape: FieldShape, rngs: nnx.Rngs) -> None:
        self.config, self.shape = config, shape
        sensors = shape.inputs * config.sensors**shape.dims
        trunk = shape.dims * (2 * config.harmonics + (config.positions == "linear"))
        layer = partial(linear, precision=config.precision, rngs=rngs, kernel_init=HE)
        sizes = (config.width,) * (config.layers - 1)
        self.branch = nnx.List([layer(a, config.width) for a in (sensors, *sizes)])
        self.trunk = nnx.List([layer(a, config.width) for a in (trunk, *sizes)])
        self.amplitudes = linear(config.width, shape.outputs * config.functions, config.precision, rngs)
        self.functions = linear(config.width, shape.outputs * config.functions, config.precision, rngs)
        self.bias = nnx.Param(jnp.zeros((shape.outputs,)))
        self.conditioning = Conditioning(shape.parameters, config.layers, config.width, config, rngs)

    def __call__(
        self, x: Float[Array, "batch *space inputs"], parameters: Float[Array, "batch parameters"] | None = None
    ) -> Float[Array, "batch *space outputs"]:
        """The output fields on the grid of x, which may have any size.

        Raises:
            ValueError: x or the parameters have the wrong shape.
        """
        config, shape = self.config, self.shape
        shape.check(x)
        space = x.shape[1:-1]
        conditions = self.conditioning.features(parameters)
        h = at_sensors(x, config.sensors).reshape(x.shape[0], -1)
        for index, layer in enumerate(self.branch):
            h = activate(config.activation, self.conditioning(index, layer(h), conditions))
        amplitudes = self.amplitudes(h).reshape(x.shape[0], shape.outputs, config.functions)
        where = self._trunk_features(coordinates(space, shape.periodic, config.grid))
        for layer in self.trunk:
            where = activate(config.activation, layer(where))
        functions = self.functions(where).reshape(*space, shape.outputs, config.functions)
        # The sum has many terms, each with an initial variance of 1.
        total = jnp.einsum("bof,...of->b...o", amplitudes, functions) / np.sqrt(config.functions)
        return (total + self.bias[...]).astype(x.dtype)

    def _trunk_features(self, where: Float[Array, "*space dims"]) -> Float[Array, "*space features"]:
        """Inputs of the trunk for each point."""
        waves = 2 * np.pi * np.arange(1, self.config.harmonics + 1)
        angles = (where[..., None] * waves).reshape(*where.shape[:-1], -1)
        seen = [jnp.sin(angles), jnp.cos(angles)]
        if self.config.positions == "linear":
            seen.append(2 * where - 1)
        return jnp.concatenate(seen, axis=-1)


def at_sensors(x: Float[Array, "batch *space channel"], sensors: int) -> Float[Array, "batch *sensors channel"]:
    """Averages of a field over cells that divide each dim into `sensors` equal parts.

    A point represents the cell around it, and is weighted by the share of the part that its cell covers.

    Args:
        x: the field.
        sensors: number of sensors along each dim.
    """
    for axis in range(1, x.ndim - 1):
        x = jnp.moveaxis(jnp.tensordot(x, _averages(x.shape[axis], sensors).T, ((axis,), (0,))), -1, axis)
    return x


def _averages(points: int, sensors: int) -> Float[np.ndarray, "sensors points"]:
    """Weights of the points in the average over each part."""
    cells, parts = np.arange(points + 1) / points, np.arange(sensors + 1) / sensors
    left = np.maximum(cells[None, :-1], parts[:-1, None])
    right = np.minimum(cells[None, 1:], parts[1:, None])
    return (np.clip(right - left, 0, None) * sensors).astype(np.float32)
