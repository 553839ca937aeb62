"""Properties of every operator network: shifts, parameters, precision, storage of settings, and learning."""

from __future__ import annotations

import functools
from dataclasses import asdict, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from data.errors import InputError
from surrogates.fields.networks.architectures import ARCHITECTURES, FieldShape
from surrogates.fields.networks.corrector import CorrectorConfig
from surrogates.fields.networks.deeponet import DeepONetConfig
from surrogates.fields.networks.ffno import FFNOConfig
from surrogates.fields.networks.fno import FNOConfig
from surrogates.fields.networks.resnet import DilatedResNetConfig
from surrogates.fields.networks.transolver import TransolverConfig
from surrogates.fields.networks.unet import UNetConfig

SMALL: dict[str, Any] = {
    "fno": FNOConfig(width=8, layers=2, modes=(3,)),
    "ffno": FFNOConfig(width=8, layers=2, modes=(3,)),
    "unet": UNetConfig(width=8, multipliers=(1, 2), norm="group"),
    "dilated_resnet": DilatedResNetConfig(width=8, blocks=1, dilations=(1, 2, 1)),
    "transolver": TransolverConfig(width=8, layers=2, heads=2, slices=4, positions="none"),
    "deeponet": DeepONetConfig(width=16, layers=2, functions=8, sensors=8),
    "corrector": CorrectorConfig(width=8, dilations=(1,)),
}
NAMES = list(ARCHITECTURES)
#: The trunk of a DeepONet takes positions, so the network is not equivariant under shifts.
SHIFTS = [name for name in NAMES if name != "deeponet"]


def fresh(name: str, dims: int = 1, *, parameters: int = 0, periodic: bool = True, **changes: Any) -> nnx.Module:
    return network_of(name, dims, parameters, periodic, tuple(changes.items()))


@functools.cache
def network_of(
    name: str, dims: int, parameters: int, periodic: bool, changed: tuple[tuple[str, Any], ...]
) -> nnx.Module:
    """Once for all tests, none of which changes it."""
    shape = FieldShape(dims, 2, 3, parameters, (periodic,) * dims)
    return ARCHITECTURES.network(replace(SMALL[name], **dict(changed)), shape, nnx.Rngs(0))


#: Compiled once for the networks and shapes that are alike, whichever test asks.
ask = nnx.jit(lambda module, *inputs: module(*inputs))


def answer(module: nnx.Module, x: Any, parameters: Any = None) -> np.ndarray:
    conditions = None if parameters is None else jnp.asarray(parameters, jnp.float32)
    return np.asarray(ask(module, jnp.asarray(x), conditions))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_table_is_complete() -> None:
    assert set(SMALL) == set(NAMES)


@pytest.mark.parametrize("name", SHIFTS)
@pytest.mark.parametrize("space", [(16,), (8, 12)])
def test_on_periodic_domains_it_commutes_with_shifts(name: str, space: tuple[int, ...]) -> None:
    """Shifts are by one point, for the U-Net by its stride and for the corrector by its blocks, which are 2 here."""
    module = fresh(name, len(space))
    axes = tuple(range(1, len(space) + 1))
    step = 2 if name in ("unet", "corrector") else 1
    by = (3 * step, 2 * step)[: len(space)]
    x = noise(2, *space, 2)
    moved, still = answer(module, np.roll(x, by, axes)), np.roll(answer(module, x), by, axes)
    np.testing.assert_allclose(moved, still, atol=2e-5)
    assert np.abs(moved - answer(module, x)).max() > 1e-2


@pytest.mark.parametrize("name", SHIFTS)
def test_positions_bind_it_to_the_place(name: str) -> None:
    x = noise(2, 16, 2)
    module = fresh(name, positions="periodic")
    assert np.abs(answer(module, np.roll(x, 4, 1)) - np.roll(answer(module, x), 4, 1)).max() > 1e-3


@pytest.mark.parametrize(("name", "embedding"), [*((name, "mlp") for name in NAMES), ("ffno", "sinusoidal")])
def test_parameters_change_the_answer_and_equal_ones_do_not(name: str, embedding: str) -> None:
    module = fresh(name, parameters=2, embedding=embedding)
    x = np.repeat(noise(1, 16, 2), 3, axis=0)
    out = answer(module, x, [[0.3, -1.0], [0.3, -1.0], [1.3, -1.0]])
    np.testing.assert_allclose(out[0], out[1], atol=1e-6)
    assert np.abs(out[2] - out[0]).max() > 1e-3
    for wrong in (None, np.zeros((3, 1))):
        with pytest.raises(ValueError, match="2 parameters"):
            answer(module, x, wrong)
    with pytest.raises(ValueError, match="takes no parameters"):
        answer(fresh(name), x, np.zeros((3, 2)))


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_close_to_float32(name: str) -> None:
    x = noise(4, 16, 2)
    full, half = answer(fresh(name), x), answer(fresh(name, precision="bfloat16"), x)
    assert half.dtype == np.float32
    error = np.linalg.norm(half - full) / np.linalg.norm(full)
    # bfloat16 rounds to 2^-9; a larger error would mean that a statistic or a transform uses bfloat16.
    assert 0 < error < 0.02


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("space", "periodic"), [((7, 5), False), ((5, 4, 3), True)])
def test_it_takes_any_grid_in_more_dims(name: str, space: tuple[int, ...], periodic: bool) -> None:
    """The output depends on each point of the input, and samples of a batch are independent."""
    module = fresh(name, len(space), periodic=periodic, positions="linear")

    def first(x: jax.Array) -> jax.Array:
        return jnp.sum(module(x)[0] ** 2)  # type: ignore[operator]

    gradient = np.asarray(jax.jit(jax.grad(first))(jnp.asarray(noise(2, *space, 2))))
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient[0]).max(axis=-1) > 0).all()
    np.testing.assert_array_equal(gradient[1], 0.0)
    with pytest.raises(ValueError, match="2 channels"):
        module(jnp.zeros((2, *space, 3)))  # type: ignore[operator]


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_a_derivative(name: str) -> None:
    """Four samples of u -> du/dx, and the loss falls to a tenth within some steps, with gradients that are finite."""
    x = np.arange(16) / 16 * 2 * np.pi
    rng = np.random.default_rng(0)
    phase, size = rng.uniform(0, 2 * np.pi, (4, 3, 1)), rng.normal(size=(4, 3, 1))
    k = np.arange(1, 4)[:, None]
    u = jnp.asarray((size * np.sin(k * x + phase)).sum(1)[..., None], jnp.float32)
    du = jnp.asarray((size * k * np.cos(k * x + phase)).sum(1)[..., None], jnp.float32)
    config = SMALL[name]
    if name == "transolver":
        # A point takes its own value and averages, but no neighbours, so it needs its position.
        config = replace(config, positions="periodic")
    module = ARCHITECTURES.network(config, FieldShape(1, 1, 1, periodic=(True,)), nnx.Rngs(0))
    graph, weights = nnx.split(module)
    adam = optax.adam(1e-2)

    def loss(weights: Any) -> jax.Array:
        return jnp.mean((nnx.merge(graph, weights)(u) - du) ** 2) / jnp.mean(du**2)

    @jax.jit
    def train(weights: Any) -> tuple[jax.Array, jax.Array]:
        def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
            weights, state = carry
            value, gradient = jax.value_and_grad(loss)(weights)
            updates, state = adam.update(gradient, state)
            return (optax.apply_updates(weights, updates), state), value

        (weights, _), values = jax.lax.scan(step, (weights, adam.init(weights)), None, length=200)
        return values, loss(weights)

    values, last = train(weights)
    assert np.isfinite(values).all()
    assert float(last) < 0.1 * float(values[0])
    assert float(last) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_settings_travel_as_json(name: str) -> None:
    value = ARCHITECTURES.to_plain(SMALL[name])
    assert value["architecture"] == name
    assert ARCHITECTURES.from_plain(value) == SMALL[name]
    # Files keep the key that the precision had in the first version.
    assert value["dtype"] == "float32"


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_names_the_architecture_and_its_settings(name: str) -> None:
    value = {"architecture": name, **asdict(SMALL[name])}
    assert ARCHITECTURES.read(value) == SMALL[name]
    with pytest.raises(InputError, match=r"depth: no such key.*width"):
        ARCHITECTURES.read({**value, "depth": 3})
    with pytest.raises(InputError, match="width"):
        ARCHITECTURES.read({**value, "width": 0})
    with pytest.raises(InputError, match=r"no architecture 'mlp'.*fno"):
        ARCHITECTURES.read({**value, "architecture": "mlp"})


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("fno", {"activation": "swish"}),
        ("fno", {"factorisation": "cp"}),
        ("fno", {"rank": 0.0}),
        ("fno", {"padding": -0.1}),
        ("ffno", {"extension": "wrap"}),
        ("unet", {"norm": "batch"}),
        ("unet", {"boundary": "wrap"}),
        ("dilated_resnet", {"dilations": ()}),
        ("transolver", {"heads": 3}),
        ("deeponet", {"positions": "none"}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        ARCHITECTURES.read({"architecture": name, **asdict(SMALL[name]), **bad})
