"""The U-Net and the dilated network: boundaries, odd grids and receptive fields."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from surrogates.fields.networks.architectures import ARCHITECTURES
from surrogates.fields.networks.unet import upsample
from surrogates.learning.nn.grid import FieldShape

UNET = {"architecture": "unet", "width": 8, "multipliers": [1, 2], "norm": "none"}
RESNET = {"architecture": "dilated_resnet", "width": 8, "blocks": 1, "dilations": [1, 2, 1]}
#: Receptive field on each side, in points: 1 for every convolution on the way, in points of the finest grid.
#: U-Net: encode 1, block 2, coarsen 1, then at spacing 2 a block of 2 and the refining one (at spacing 1 again), up
#: block 2, decode 1; half a coarse cell for the repetition.
REACH = {"unet": 1 + 2 + 1 + 2 * 2 + 1 + 1 + 2 + 1, "dilated_resnet": 1 + 4 + 1}


def fresh_network(settings: dict[str, Any], dims: int = 1, *, periodic: bool = True, **changes: Any) -> nnx.Module:
    shape = FieldShape(dims, 1, 1, periodic=(periodic,) * dims)
    return ARCHITECTURES.network(ARCHITECTURES.read({**settings, **changes}), shape, nnx.Rngs(0))


#: Compiled once for the networks and shapes that are alike, whichever test asks.
ask = nnx.jit(lambda module, x: module(x))


def answer(module: nnx.Module, x: np.ndarray) -> np.ndarray:
    return np.asarray(ask(module, jnp.asarray(x, jnp.float32)))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("settings", [UNET, RESNET])
@pytest.mark.parametrize("boundary", ["zero", "edge"])
def test_ends_that_do_not_meet_do_not_see_each_other(settings: dict[str, Any], boundary: str) -> None:
    name = settings["architecture"]
    x = noise(1, 64, 1)
    changed = x.copy()
    changed[0, -1] += 10.0
    for periodic in (False, True):
        module = fresh_network(settings, periodic=periodic, boundary=boundary)
        moved = np.abs(answer(module, changed) - answer(module, x))[0, :, 0] > 0
        seen = np.flatnonzero(moved)
        assert moved[-1]
        # On a periodic dim a change at the last point reaches the first.
        assert moved[0] == periodic
        assert moved[: 64 - 1 - REACH[name]].any() == periodic
        assert not moved[REACH[name] : 64 - 1 - REACH[name]].any()
        assert seen.size >= 4


def test_boundaries_differ_where_they_should_alone() -> None:
    x = noise(1, 64, 1)
    zero, edge = (answer(fresh_network(RESNET, periodic=False, boundary=b), x)[0, :, 0] for b in ("zero", "edge"))
    differs = np.abs(zero - edge) > 1e-6
    assert differs[0]
    assert differs[-1]
    assert not differs[8:-8].any()


@pytest.mark.parametrize("norm", ["none", "layer", "group"])
def test_a_periodic_unet_commutes_with_shifts_by_its_stride(norm: str) -> None:
    module = fresh_network(UNET, 2, multipliers=[1, 1, 2], norm=norm, attention=True)
    x = noise(2, 16, 8, 1)
    still = answer(module, x)
    np.testing.assert_allclose(answer(module, np.roll(x, (4, -4), (1, 2))), np.roll(still, (4, -4), (1, 2)), atol=1e-5)
    # A smaller shift does not commute: the coarse grid keeps every other point.
    assert np.abs(answer(module, np.roll(x, 1, 1)) - np.roll(still, 1, 1)).max() > 1e-3


@pytest.mark.parametrize("space", [(15, 9), (5, 13), (3, 2)])
@pytest.mark.parametrize("periodic", [False, True])
def test_a_unet_takes_odd_grids(space: tuple[int, int], periodic: bool) -> None:
    """Each point of the output depends on the point of the input at its position, and no edge appears."""
    module = fresh_network(UNET, 2, periodic=periodic)
    x = noise(1, *space, 1)
    base = answer(module, x)
    assert base.shape == (1, *space, 1)
    for corner in ((0, 0), (space[0] - 1, space[1] - 1)):
        changed = x.copy()
        changed[(0, *corner, 0)] += 1.0
        assert abs(answer(module, changed) - base)[(0, *corner, 0)] > 1e-4


def test_an_even_grid_repeats_each_coarse_point_twice() -> None:
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    np.testing.assert_array_equal(upsample(x, (4, 5))[0, ..., 0], np.kron(x[0, ..., 0], np.ones((2, 2)))[:, :5])


def test_attention_lets_every_point_see_every_other() -> None:
    x = noise(1, 64, 1)

    def sees(attention: bool) -> bool:
        module = fresh_network(UNET, periodic=False, attention=attention)
        gradient = jax.jit(jax.grad(lambda a: module(a)[0, 0, 0]))(jnp.asarray(x))  # type: ignore[operator]
        return bool(abs(gradient[0, -1, 0]) > 0)

    assert sees(True)
    assert not sees(False)


def test_dilated_convolutions_see_as_far_as_they_say() -> None:
    """Dilations 1, 2, 4, 8, 4, 2, 1 and two convolutions around them: 24 points on each side."""
    module = fresh_network(RESNET, dilations=[1, 2, 4, 8, 4, 2, 1])
    x = jnp.asarray(noise(1, 96, 1))
    gradient = np.asarray(jax.jit(jax.grad(lambda a: module(a)[0, 48, 0]))(x))[0, :, 0]  # type: ignore[operator]
    assert np.flatnonzero(gradient).tolist() == list(range(48 - 24, 48 + 25))
