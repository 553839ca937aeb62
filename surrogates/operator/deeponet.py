"""DeepONet: an answer as a sum of learned functions of place (Lu et al. 2021, arXiv:1910.03193, eq. 2).

The trunk gives the functions at any point; the branch gives their amplitudes from the input at fixed sensors.
The input of any grid is averaged over as many cells as there are sensors, so detail below the spacing of the sensors
is lost to it whatever the grid, and the answer can be asked for on any.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from surrogates.operator.conditioning import Conditioning
from surrogates.operator.domain import FieldShape, coordinates
from surrogates.operator.layers import HE, NetworkConfig, activate, linear


@dataclass(frozen=True)
class DeepONetConfig(NetworkConfig):
    """The size of the network; see `NetworkConfig` for what all have. The answer depends on place by the trunk.

    Attributes:
        layers: hidden layers of branch and trunk, each of `width` channels.
        functions: of place, for each channel out.
        sensors: along each dim.
        harmonics: largest wave number of the sines and cosines that the trunk sees.
        positions: "periodic": sines and cosines alone; "linear": the coordinates too, which no periodic domain allows.
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
            raise ValueError("positions must be linear or periodic: a trunk that is not told of them gives a constant")


class DeepONet(nnx.Module):
    """See the module.

    Args:
        config: its size.
        shape: of what goes in and comes out.
        rngs: for the first weights.
    """

    def __init__(self, config: DeepONetConfig, shape: FieldShape, rngs: nnx.Rngs) -> None:
        self.config, self.shape = config, shape
        sensors = shape.inputs * config.sensors**shape.dims
        trunk = shape.dims * (2 * config.harmonics + (config.positions == "linear"))
        layer = partial(linear, dtype=config.dtype, rngs=rngs, kernel_init=HE)
        sizes = (config.width,) * (config.layers - 1)
        self.branch = nnx.List([layer(a, config.width) for a in (sensors, *sizes)])
        self.trunk = nnx.List([layer(a, config.width) for a in (trunk, *sizes)])
        self.amplitudes = linear(config.width, shape.outputs * config.functions, config.dtype, rngs)
        self.functions = linear(config.width, shape.outputs * config.functions, config.dtype, rngs)
        self.bias = nnx.Param(jnp.zeros((shape.outputs,)))
        self.conditioning = Conditioning(shape.parameters, config.layers, config.width, config, rngs)

    def __call__(
        self, x: Float[Array, "batch *space inputs"], parameters: Float[Array, "batch parameters"] | None = None
    ) -> Float[Array, "batch *space outputs"]:
        """The answer on the grid of x, whatever its size.

        Raises:
            ValueError: x or the parameters are of another shape.
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
        # The sum is one of many terms, of variance 1 each at first.
        total = jnp.einsum("bof,...of->b...o", amplitudes, functions) / np.sqrt(config.functions)
        return (total + self.bias[...]).astype(x.dtype)

    def _trunk_features(self, where: Float[Array, "*space dims"]) -> Float[Array, "*space features"]:
        """What the trunk sees of each point."""
        waves = 2 * np.pi * np.arange(1, self.config.harmonics + 1)
        angles = (where[..., None] * waves).reshape(*where.shape[:-1], -1)
        seen = [jnp.sin(angles), jnp.cos(angles)]
        if self.config.positions == "linear":
            seen.append(2 * where - 1)
        return jnp.concatenate(seen, axis=-1)


def at_sensors(x: Float[Array, "batch *space channel"], sensors: int) -> Float[Array, "batch *sensors channel"]:
    """Averages of a field over cells that divide each dim into `sensors` equal parts.

    A point stands for the cell around it, and counts in each part by its share of it.

    Args:
        x: the field.
        sensors: along each dim.
    """
    for axis in range(1, x.ndim - 1):
        x = jnp.moveaxis(jnp.tensordot(x, _averages(x.shape[axis], sensors).T, ((axis,), (0,))), -1, axis)
    return x


def _averages(points: int, sensors: int) -> Float[np.ndarray, "sensors points"]:
    """Shares of the points in the average over each part."""
    cells, parts = np.arange(points + 1) / points, np.arange(sensors + 1) / sensors
    left = np.maximum(cells[None, :-1], parts[:-1, None])
    right = np.minimum(cells[None, 1:], parts[1:, None])
    return (np.clip(right - left, 0, None) * sensors).astype(np.float32)
