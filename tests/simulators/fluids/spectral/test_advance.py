"""The step of a solver as a function that networks learn through: its parts, its gradient and what it refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.errors import InputError
from data.spec import SimulationError
from simulators.adapter import AdvancesStates
from simulators.fluids.spectral.exponax import Exponax
from simulators.fluids.spectral.resample import resample

#: The vorticity of a decaying flow, on as few points as hold a few waves.
FLOW = Exponax(
    "navier_stokes_vorticity", 12, dim=2, save_dt=0.2, steps=1, dt=0.05, varied=("viscosity",), dtype="float64"
)


def vorticity(points: int = 12) -> np.ndarray:
    x, y = np.meshgrid(*[2 * np.pi * np.arange(points) / points] * 2, indexing="ij")
    return (np.sin(x + 2 * y) + 0.7 * np.cos(2 * x) - 0.4 * np.sin(y))[None]


def test_its_parts_are_those_of_the_saved_step_and_its_gradient_is_the_difference() -> None:
    assert isinstance(FLOW, AdvancesStates)
    with jax.enable_x64(True):
        start, nu = jnp.asarray(vorticity()), {"viscosity": jnp.asarray(0.01)}
        halves = FLOW.advance(FLOW.advance(start, nu, 2), nu, 2)
        np.testing.assert_allclose(halves, FLOW.solve(start, nu)[1], atol=1e-12)
        # Waves that both grids hold are advanced alike, on whatever grid they come.
        fine = FLOW.advance(jnp.asarray(vorticity(24)), nu)
        np.testing.assert_allclose(fine, resample(FLOW.advance(start, nu), 24, dim=2), atol=1e-12)
        rng = np.random.default_rng(0)
        weights, along = jnp.asarray(rng.normal(size=(2, 1, 12, 12)))

        @jax.jit
        def value(amount: jax.Array, viscosity: jax.Array) -> jax.Array:
            return (weights * FLOW.advance(start + amount * along, {"viscosity": viscosity})).sum()

        at = (jnp.asarray(0.0), jnp.asarray(0.01))
        for k, step in enumerate((1e-5, 1e-6)):
            up, down = (value(*[v + sign * step * (i == k) for i, v in enumerate(at)]) for sign in (1, -1))
            assert float(jax.jit(jax.grad(value, k))(*at)) == pytest.approx(float(up - down) / (2 * step), rel=1e-6)


def test_what_it_cannot_do_is_refused() -> None:
    state = jnp.asarray(vorticity(), jnp.float32)
    with pytest.raises(InputError, match="float64 needs JAX in that precision"):
        FLOW.advance(state, {})
    single = Exponax("navier_stokes_vorticity", 12, dim=2, save_dt=0.2, dt=0.05)
    with pytest.raises(InputError, match="4 time steps between saved states cannot be divided into 3"):
        single.advance(state, {}, 3)
    with pytest.raises(SimulationError, match="initial must have shape"):
        single.advance(jnp.concatenate([state, state]), {})
    with pytest.raises(SimulationError, match="speed of shape"):
        single.advance(state, {"speed": jnp.asarray(1.0)})
