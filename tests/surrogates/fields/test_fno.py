"""The Fourier neural operators are operators: their outputs do not depend on the grid."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from surrogates.fields.networks.architectures import ARCHITECTURES
from surrogates.learning.nn.fourier_layers import SpectralConv
from surrogates.learning.nn.grid import FieldShape
from surrogates.learning.recipe import is_matrix


def fresh_network(architecture: str, dims: int, *, periodic: bool = True, **settings: Any) -> nnx.Module:
    config = ARCHITECTURES.read({"architecture": architecture, "width": 8, "layers": 3, "modes": [3], **settings})
    return ARCHITECTURES.network(config, FieldShape(dims, 1, 1, periodic=(periodic,) * dims), nnx.Rngs(0))


#: Compiled once for the networks and shapes that are alike, whichever test asks.
ask = nnx.jit(lambda module, x: module(x))


def answer(module: nnx.Module, x: np.ndarray) -> np.ndarray:
    return np.asarray(ask(module, jnp.asarray(x, jnp.float32)))


def wave(space: tuple[int, ...]) -> np.ndarray:
    """Wave numbers up to 2, on any grid."""
    x = np.meshgrid(*[np.arange(n) / n * 2 * np.pi for n in space], indexing="ij")
    total = sum(np.sin(axis + i) + 0.5 * np.cos(2 * axis - i) for i, axis in enumerate(x))
    return np.asarray(total + 0.3 * np.prod([np.cos(axis) for axis in x], axis=0))[None, ..., None]


def refinement(module: nnx.Module, space: tuple[int, ...]) -> float:
    """Largest change of the output when the grid is refined by two, at the coarse points, over the largest output."""
    coarse, fine = answer(module, wave(space)), answer(module, wave(tuple(2 * n for n in space)))
    every = (slice(None), *(slice(None, None, 2) for _ in space))
    return float(np.abs(fine[every] - coarse).max() / np.abs(coarse).max())


@pytest.mark.parametrize("architecture", ["fno", "ffno"])
@pytest.mark.parametrize("space", [(12,), (9, 12)])
@pytest.mark.parametrize("positions", ["none", "periodic"])
def test_a_linear_one_equals_itself_on_a_finer_grid(architecture: str, space: tuple[int, ...], positions: str) -> None:
    module = fresh_network(architecture, len(space), activation="identity", positions=positions)
    assert refinement(module, space) < 1e-5


@pytest.mark.parametrize("architecture", ["fno", "ffno"])
def test_activations_alias_less_on_finer_grids(architecture: str) -> None:
    """A smooth activation creates harmonics of all orders, whose aliasing is strong on 8 points and absent on 64."""
    module = fresh_network(architecture, 1, activation="gelu")
    changes = [refinement(module, (n,)) for n in (8, 16, 64)]
    assert changes[0] > 3 * changes[1] > 9 * changes[2]
    assert changes[2] < 1e-5


def test_a_kinked_activation_stays_dependent_on_the_grid() -> None:
    """The harmonics of relu fall slowly: on 64 points its change is still far above rounding."""
    assert refinement(fresh_network("fno", 1, activation="relu"), (64,)) > 1e-4


def test_padding_parts_the_two_ends_of_a_domain() -> None:
    """A block that shifts a field by two points does not carry one end to the other if two points are padded."""
    x = np.zeros((1, 16, 1))
    x[0, -1] = 1.0

    def far(padding: float) -> float:
        module = fresh_network("fno", 1, periodic=False, layers=1, activation="identity", padding=padding, modes=[15])
        block = module.blocks[0]  # type: ignore[attr-defined]
        k = np.arange(16)
        turn = np.exp(-2j * np.pi * k * 2 / (16 + round(16 * padding))) / np.where(k == 0, np.sqrt(2), 1.0)
        block.spectral.real[...] = jnp.asarray(turn.real[:, None, None] * np.eye(8), jnp.float32)
        block.spectral.imag[...] = jnp.asarray(turn.imag[:, None, None] * np.eye(8), jnp.float32)
        block.local.kernel[...], block.scale[...] = jnp.zeros((8, 8)), jnp.zeros(8)
        change = answer(module, x) - answer(module, 0 * x)
        return float(np.abs(change[0, 1, 0]))

    assert far(1.0) < 0.05 * far(0.0)


def test_a_tfno_has_fewer_weights() -> None:
    def size(**settings: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(fresh_network("fno", 2, **settings), nnx.Param)))

    assert size(factorisation="tucker", rank=0.5) < 0.5 * size()
    assert size(factorisation="separable") < 0.5 * size()


def test_blocks_of_an_ffno_can_share_their_spectral_weights() -> None:
    apart, shared = fresh_network("ffno", 2), fresh_network("ffno", 2, shared=True)
    assert (len(apart.spectral), len(shared.spectral)) == (3, 1)  # type: ignore[attr-defined]
    assert answer(shared, wave((9, 12))).std() > 1e-3


def test_an_optimiser_of_matrices_takes_the_weights_of_each_mode_for_one() -> None:
    """Real and imaginary weights of channels are matrices; vectors of a block and separable weights are not."""
    state = nnx.to_pure_dict(nnx.state(fresh_network("fno", 2).blocks[0], nnx.Param))  # type: ignore[attr-defined]
    flat = jax.tree_util.tree_flatten_with_path(state)[0]
    matrices = {jax.tree_util.keystr(path): leaf.shape for path, leaf in flat if is_matrix(path, leaf)}
    assert matrices["['spectral']['real']"] == matrices["['spectral']['imag']"] == (7, 4, 8, 8)
    assert not any("scale" in key or "bias" in key for key in matrices)
    apart = nnx.to_pure_dict(nnx.state(SpectralConv(8, 8, (3, 9), nnx.Rngs(0), factorisation="separable"), nnx.Param))
    assert not any(is_matrix(path, leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(apart)[0])
