"""exponax against analytic solutions, conservation, convergence, finite differences, and its own steppers."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import exponax as ex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from data.errors import InputError
from data.plain import from_plain, to_plain
from data.spec import SimulationError, Spec, check, dataset
from data.store.records import RecordStore
from experiments.application.stage import instantiate
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.fluids.spectral.equations import EQUATIONS
from simulators.fluids.spectral.etdrk import etdrk, phi
from simulators.fluids.spectral.exponax import Exponax
from simulators.fluids.spectral.initial import FourierSeries, MaternField, Solenoidal
from simulators.fluids.spectral.resample import resample
from simulators.fluids.spectral.spin_up import SpunUp
from simulators.fluids.spectral.stability import courant, divergence
from simulators.fluids.spectral.steppers import STEPPERS
from simulators.requests import DrawSettings, Range

CONF = Path(__file__).resolve().parents[4] / "experiments" / "conf"
TAU = 2 * np.pi


def grid(points: int, length: float = 1.0, dim: int = 1) -> list[np.ndarray]:
    axis = np.arange(points) * length / points
    return list(np.meshgrid(*[axis] * dim, indexing="ij"))


def run(simulator: Exponax, initial: np.ndarray, **parameters: float) -> np.ndarray:
    batch = {name: np.array([value]) for name, value in parameters.items()}
    return np.asarray(simulator.trajectories(np.asarray(initial)[None], batch))[0]


def relative(fields: np.ndarray, true: np.ndarray) -> float:
    return float(np.linalg.norm(fields - true) / np.linalg.norm(true))


def preset(name: str) -> Exponax:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        built = instantiate(compose("simulate", [f"simulator={name}", "inputs=x"]).simulator)
    assert isinstance(built, Exponax)
    return built


def test_every_equation_of_the_table_has_a_step() -> None:
    assert set(STEPPERS) == set(EQUATIONS)


def test_advection_shifts_a_wave_exactly() -> None:
    (x,) = grid(32)
    states = run(Exponax("advection", 32, save_dt=0.37, steps=2, parameters={"velocity_x": 0.7}), np.sin(TAU * x)[None])
    for step in range(3):
        assert np.allclose(states[step, 0], np.sin(TAU * (x - 0.7 * 0.37 * step)), atol=2e-6)


def test_each_direction_has_its_own_velocity() -> None:
    x, y = grid(16, dim=2)
    simulator = Exponax("advection", 16, dim=2, save_dt=0.25, parameters={"velocity_x": 0.5}, varied=("velocity_y",))
    states = run(simulator, (np.sin(TAU * x) * np.cos(TAU * y))[None], velocity_y=-1.5)
    true = np.sin(TAU * (x - 0.125)) * np.cos(TAU * (y + 0.375))
    assert np.allclose(states[1, 0], true, atol=2e-6)


@pytest.mark.parametrize("wavenumber", [1, 3])
def test_diffusion_damps_each_mode_at_its_rate(wavenumber: int) -> None:
    (x,) = grid(32, 2.0)
    simulator = Exponax("diffusion", 32, length=2.0, save_dt=0.5, steps=2, parameters={"diffusivity": 0.05})
    states = run(simulator, np.cos(np.pi * wavenumber * x)[None])
    decay = np.exp(-0.05 * (np.pi * wavenumber) ** 2 * np.array([0.0, 0.5, 1.0]))
    assert np.allclose(states[:, 0, 0], decay, rtol=1e-5)


def cole_hopf(x: float, t: float, viscosity: float) -> float:
    """Burgers' equation from u(x, 0) = sin(x): u = integral of ((x - y) / t) K / integral of K."""

    def kernel(y: float) -> float:
        return float(np.exp(-((x - y) ** 2) / (4 * viscosity * t) - (1 - np.cos(y)) / (2 * viscosity)))

    span = {"a": x - 4, "b": x + 4, "limit": 200}
    return float(quad(lambda y: (x - y) / t * kernel(y), **span)[0] / quad(kernel, **span)[0])


def test_burgers_is_the_cole_hopf_solution() -> None:
    points, viscosity = 128, 0.05
    (x,) = grid(points, TAU)
    simulator = Exponax("burgers", points, length=TAU, save_dt=1.0, dt=0.02, parameters={"viscosity": viscosity})
    front = run(simulator, np.sin(x)[None])[1, 0]
    picked = np.arange(0, points, 8)
    true = np.array([cole_hopf(x[i], 1.0, viscosity) for i in picked])
    assert np.abs(front[picked] - true).max() < 5e-6
    assert np.abs(front).max() > 0.7  # a front, not a wave that has decayed


def soliton(x: np.ndarray, t: float, speed: float = 4.0, length: float = 20.0) -> np.ndarray:
    """u_t + 6 u u_x + u_xxx = 0 carries c / 2 sech^2(sqrt(c) (x - c t) / 2) without change."""
    s = (x - speed * t) % length - length / 2
    return speed / 2 / np.cosh(np.sqrt(speed) / 2 * s) ** 2


def test_a_soliton_keeps_its_shape_and_speed() -> None:
    (x,) = grid(128, 20.0)
    simulator = Exponax("korteweg_de_vries", 128, length=20.0, save_dt=1.0, dt=0.005, steps=2)
    states = run(simulator, soliton(x, 0.0)[None])
    assert relative(states[2, 0], soliton(x, 2.0)) < 2e-4
    # exponax's own coefficients lose a phase that only a shorter step gives back.
    with_real_coefficients = run(
        Exponax("korteweg_de_vries", 128, length=20.0, save_dt=1.0, dt=0.005, steps=2, coefficients="real"),
        soliton(x, 0.0)[None],
    )
    assert relative(with_real_coefficients[2, 0], soliton(x, 2.0)) > 0.05


@pytest.mark.parametrize(
    ("equation", "order"), [*(("korteweg_de_vries", order) for order in (1, 2, 3, 4)), ("burgers", 2), ("burgers", 4)]
)
def test_errors_in_time_fall_with_the_order(equation: str, order: int) -> None:
    # Against the fourth order with a step four times shorter, on the same grid: only time is refined.
    (x,) = grid(16, TAU)
    initial = 0.2 * (np.sin(x) + 0.5 * np.cos(2 * x))[None]
    parameters = {"dispersion": 0.3} if equation == "korteweg_de_vries" else {"viscosity": 0.05}
    simulator = Exponax(equation, 16, length=TAU, save_dt=0.4, order=order, dtype="float64", parameters=parameters)
    true = run(Exponax(**{**simulator.provenance["settings"], "order": 4, "dt": 0.025 / 4}), initial)[-1]
    errors = [relative(run(simulator.at(dt=dt), initial)[-1], true) for dt in (0.05, 0.025)]
    assert order - 0.3 < np.log2(errors[0] / errors[1]) < order + 0.7, errors


@settings(max_examples=25, deadline=None)
@given(real=st.floats(-50.0, 0.5), imaginary=st.floats(-50.0, 50.0))
def test_the_phi_functions_are_their_definitions(real: float, imaginary: float) -> None:
    z = complex(real, imaginary)
    with jax.enable_x64(True):
        values = [complex(p[0]) for p in phi(jnp.array([z]))]
    for k, value in enumerate(values, start=1):
        # phi_k(z) = integral over s from 0 to 1 of exp((1 - s) z) s^(k-1) / (k-1)!, by Gauss-Legendre.
        s, weights = np.polynomial.legendre.leggauss(60)
        s, weights = (s + 1) / 2, weights / 2
        true = np.sum(weights * np.exp((1 - s) * z) * s ** (k - 1)) / (1, 1, 2)[k - 1]
        assert abs(value - true) < 1e-12 * np.exp(max(real, 0))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_complex_coefficients_are_exponaxs_where_nothing_disperses(order: int) -> None:
    with jax.enable_x64(True):
        d = ex.spectral.build_derivative_operator(1, TAU, 16)
        nonlinear = ex.nonlin_fun.ConvectionNonlinearFun(1, 16, derivative_operator=d, conservative=True)
        u = ex.fft(jnp.asarray(np.sin(grid(16, TAU)[0]) + 0.3)[None])
        theirs = getattr(ex.etdrk, f"ETDRK{order}")(0.1, 0.1 * d**2, nonlinear).step_fourier(u)
        ours = etdrk(order, 0.1, 0.1 * d**2, nonlinear)(u)
        assert np.allclose(ours, theirs, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("apebench_burgers", {"gammas": (0.0, 0.0, 1.5, 0.0, 0.0), "delta": 1.5, "single": False}),
        ("apebench_kdv", {"gammas": (0.0, 0.0, 0.0, -14.0, -9.0), "delta": 2.0, "single": True}),
        ("apebench_ks_cons", {"gammas": (0.0, 0.0, -2.0, 0.0, -18.0), "delta": 1.0, "single": False}),
    ],
)
def test_apebench_presets_are_its_difficulties(name: str, theirs: dict) -> None:  # type: ignore[type-arg]
    simulator = preset(name)
    initial = FourierSeries(cutoff=5, amplitudes="uniform").sample(np.random.default_rng(0), 1, 160, 1)[0]
    if theirs["single"]:  # APEBench's KdV goes through the general stepper
        stepper = ex.stepper.generic.DifficultyNonlinearStepper(
            1, 160, linear_difficulties=theirs["gammas"], nonlinear_difficulties=(0.0, -theirs["delta"], 0.0), order=2
        )
    else:
        stepper = ex.stepper.generic.DifficultyConvectionStepper(
            1,
            160,
            linear_difficulties=theirs["gammas"],
            convection_difficulty=theirs["delta"],
            conservative=True,
            order=2,
        )
    state = run(Exponax(**{**simulator.provenance["settings"], "steps": 1}), initial)[1]
    change = np.abs(state - initial).max()
    assert change > 1e-3
    assert np.abs(state - np.asarray(stepper(jnp.asarray(initial)))).max() < 1e-6
    # One coefficient one percent off is seen.
    key, value = next(iter(simulator.parameters.items()))
    off = run(
        Exponax(
            **{
                **simulator.provenance["settings"],
                "steps": 1,
                "parameters": {**simulator.parameters, key: 1.01 * value},
            }
        ),
        initial,
    )[1]
    assert np.abs(off - state).max() > 3e-6


OWN = [
    ("kuramoto_sivashinsky", {}, lambda: ex.stepper.KuramotoSivashinsky(1, 20.0, 32, 0.1, order=4), 1),
    ("gray_scott", {}, lambda: ex.stepper.reaction.GrayScott(1, 20.0, 32, 0.1, order=4), 2),
    ("fisher_kpp", {}, lambda: ex.stepper.reaction.FisherKPP(1, 20.0, 32, 0.1, order=4), 1),
    ("allen_cahn", {}, lambda: ex.stepper.reaction.AllenCahn(1, 20.0, 32, 0.1, order=4), 1),
    (
        "advection_diffusion",
        {"velocity_x": 0.3},
        lambda: ex.stepper.AdvectionDiffusion(1, 20.0, 32, 0.1, velocity=0.3, diffusivity=0.01),
        1,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("equation", "parameters", "stepper", "channels"), OWN, ids=[row[0] for row in OWN])
def test_a_step_is_exponaxs(equation, parameters, stepper, channels) -> None:  # type: ignore[no-untyped-def]
    simulator = Exponax(equation, 32, length=20.0, save_dt=0.1, parameters=parameters)
    initial = FourierSeries().sample(np.random.default_rng(1), 1, 32, 1, channels)[0]
    assert np.allclose(run(simulator, initial)[1], stepper()(jnp.asarray(initial)), atol=3e-6)


def test_taylor_green_vorticity_decays_exactly() -> None:
    x, y = grid(32, TAU, 2)
    initial = 2 * np.sin(x) * np.sin(y)
    simulator = Exponax(
        "navier_stokes_vorticity",
        32,
        dim=2,
        length=TAU,
        save_dt=1.0,
        dt=0.1,
        parameters={"viscosity": 0.05, "drag": 0.1},
    )
    vorticity = run(simulator, initial[None])[1, 0]
    assert np.allclose(vorticity, initial * np.exp(-2 * 0.05 - 0.1), atol=3e-6)


def test_kolmogorov_flow_settles_on_the_laminar_profile() -> None:
    # v_x = forcing sin(k y) / (viscosity k^2), w = -dv_x/dy, stable at this Reynolds number; on a box that is not 2 pi.
    length, viscosity, forcing = 1.0, 0.5, 3.0
    _, y = grid(16, length, 2)
    k = TAU * 2 / length
    laminar = -forcing / (viscosity * k) * np.cos(k * y)
    simulator = Exponax(
        "navier_stokes_kolmogorov", 16, dim=2, length=length, save_dt=1.0, dt=0.05,
        parameters={"viscosity": viscosity, "forcing": forcing, "forcing_mode": 2},
    )  # fmt: skip
    assert np.allclose(run(simulator, np.zeros((1, 16, 16)))[1, 0], laminar, atol=1e-5)


def test_kolmogorov_flow_in_three_dimensions_settles_on_the_laminar_profile() -> None:
    # v = (forcing sin(k y) / (viscosity k^2 + drag), 0, 0): a parallel flow, so that only friction balances the force.
    length, viscosity, forcing, drag = 1.0, 0.5, 3.0, 2.0
    _, y, _ = grid(8, length, 3)
    k = TAU / length
    simulator = Exponax(
        "navier_stokes_kolmogorov_3d", 8, dim=3, length=length, save_dt=1.0, dt=0.05,
        parameters={"viscosity": viscosity, "forcing": forcing, "forcing_mode": 1, "drag": drag},
    )  # fmt: skip
    velocity = run(simulator, np.zeros((3, 8, 8, 8)))[1]
    assert np.allclose(velocity[0], forcing / (viscosity * k**2 + drag) * np.sin(k * y), atol=1e-5)
    assert np.abs(velocity[1:]).max() < 1e-6


def test_the_forcing_of_li_is_the_published_one() -> None:
    # From rest, w = forcing t (sin + cos) exactly while diffusion is small: the flow is parallel to its own fronts.
    x, y = grid(16, 1.0, 2)
    simulator = Exponax("navier_stokes_li", 16, dim=2, save_dt=0.5, dt=0.1, parameters={"viscosity": 0.0})
    vorticity = run(simulator, np.zeros((1, 16, 16)))[1, 0]
    assert np.allclose(vorticity, 0.5 * 0.1 * (np.sin(TAU * (x + y)) + np.cos(TAU * (x + y))), atol=1e-6)


def test_two_and_three_dimensions_agree_on_a_plane_flow() -> None:
    # Two solvers that share no sign: velocity with projection in 3D, and vorticity with a stream function in 2D.
    n, viscosity = 16, 0.02
    plane = Solenoidal(FourierSeries(cutoff=2)).sample(np.random.default_rng(3), 1, n, 2)[0].astype(float)
    velocity = np.zeros((3, n, n, n))
    velocity[:2] = plane[..., None]

    def curl(v: np.ndarray) -> np.ndarray:
        k = np.fft.fftfreq(n, 1 / n)
        return np.fft.ifft2(1j * k[:, None] * np.fft.fft2(v[1]) - 1j * k * np.fft.fft2(v[0])).real

    common = {"points": n, "length": TAU, "save_dt": 1.0, "dt": 0.05, "parameters": {"viscosity": viscosity}}
    solid = run(Exponax("navier_stokes_3d", dim=3, **common), velocity)[1]
    flat = run(Exponax("navier_stokes_vorticity", dim=2, **common), curl(plane)[None])[1, 0]
    assert np.abs(solid[2]).max() < 1e-6
    assert np.abs(flat - curl(plane)).max() > 0.1
    assert np.allclose(curl(solid[:2, :, :, 0]), flat, atol=2e-4)


def test_a_three_dimensional_flow_stays_solenoidal_and_loses_the_energy_that_viscosity_takes() -> None:
    n, viscosity, dt = 16, 0.05, 0.02
    x, y, z = grid(n, TAU, 3)
    initial = np.stack([np.sin(x) * np.cos(y) * np.cos(z), -np.cos(x) * np.sin(y) * np.cos(z), 0 * x])
    simulator = Exponax(
        "navier_stokes_3d", n, dim=3, length=TAU, save_dt=dt, steps=10, parameters={"viscosity": viscosity}
    )
    states = run(simulator, initial)
    assert max(divergence(u) for u in states) < 1e-5
    energy = np.array([0.5 * np.mean(np.sum(u**2, axis=0)) for u in states.astype(float)])
    k = np.stack(np.meshgrid(*[np.fft.fftfreq(n, 1 / n)] * 3, indexing="ij"))
    squared = np.sum(k**2, axis=0)
    hats = np.fft.fftn(states.astype(float), axes=(2, 3, 4), norm="forward")
    loss = viscosity * np.sum(squared * np.abs(hats) ** 2, axis=(1, 2, 3, 4))
    # dE/dt = -viscosity <|grad v|^2>, by Simpson's rule over the ten intervals.
    weights = dt / 3 * np.array([1, 4, 2, 4, 2, 4, 2, 4, 2, 4, 1])
    assert np.isclose(energy[0], 1 / 8, rtol=1e-6)  # <sin^2 cos^2 cos^2> = 1/8 for each of two components, halved
    assert np.isclose(energy[0] - energy[-1], np.sum(weights * loss), rtol=2e-4)
    assert np.abs(states[-1, 2]).max() > 0.01  # the third component has come up: this is no plane flow


@pytest.mark.parametrize("equation", ["burgers", "korteweg_de_vries", "kuramoto_sivashinsky_conservative"])
def test_conservative_equations_keep_the_mean(equation: str) -> None:
    initial = FourierSeries(cutoff=3).sample(np.random.default_rng(2), 1, 64, 1)[0] + np.float32(0.3)
    states = run(Exponax(equation, 64, length=20.0, save_dt=1.0, dt=0.05, steps=3), initial)
    assert np.abs(states[-1] - initial).max() > 0.05
    assert np.allclose(states.mean(axis=(1, 2)), 0.3, atol=2e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    simulator = Exponax("burgers", 32, length=TAU, save_dt=0.5, dt=0.05, steps=2, dtype="float64")
    (x,) = grid(32, TAU)
    target = np.cos(x)[None]
    direction = np.random.default_rng(0).standard_normal((1, 32))
    with jax.enable_x64(True):
        initial = jnp.asarray(np.sin(x)[None])

        def loss(u: jax.Array, viscosity: jax.Array) -> jax.Array:
            return jnp.sum((simulator.solve(u, {"viscosity": viscosity})[-1] - target) ** 2)

        viscosity, h = jnp.asarray(0.1), 1e-5
        loss = jax.jit(loss)
        by_state, by_parameter = jax.jit(jax.grad(loss, argnums=(0, 1)))(initial, viscosity)
        differences = (
            (loss(initial + h * direction, viscosity) - loss(initial - h * direction, viscosity)) / (2 * h),
            (loss(initial, viscosity + h) - loss(initial, viscosity - h)) / (2 * h),
        )
        forward = jax.jvp(loss, (initial, viscosity), (jnp.asarray(direction), jnp.asarray(0.0)))[1]
    assert np.isclose(np.sum(np.asarray(by_state) * direction), differences[0], rtol=1e-6)
    assert np.isclose(by_parameter, differences[1], rtol=1e-6)
    assert np.isclose(forward, differences[0], rtol=1e-6)


def test_a_batch_is_its_members_and_is_compiled_once() -> None:
    simulator = Exponax("burgers", 32, save_dt=0.1, dt=0.02, steps=2, varied=("viscosity",))
    initial = FourierSeries().sample(np.random.default_rng(0), 3, 32, 1)
    viscosity = np.array([0.01, 0.02, 0.05])
    together = np.asarray(simulator.trajectories(initial, {"viscosity": viscosity}))
    simulator.trajectories(initial[::-1], {"viscosity": viscosity})
    assert simulator._compiled._cache_size() == 1  # type: ignore[attr-defined]
    for u, nu, whole in zip(initial, viscosity, together, strict=True):
        single = simulator.simulate(simulator.spec.request({"initial": u, "viscosity": nu}))["u"]
        assert np.allclose(single, whole, atol=2e-6)
        assert np.array_equal(single[0], u)
    assert not np.allclose(together[0], together[1], atol=1e-3)


def test_a_trajectory_goes_on_from_any_saved_state() -> None:
    simulator = Exponax("kuramoto_sivashinsky_conservative", 64, length=30.0, save_dt=0.5, dt=0.1, steps=4)
    whole = run(simulator, FourierSeries().sample(np.random.default_rng(0), 1, 64, 1)[0])
    again = run(Exponax(**{**simulator.provenance["settings"], "steps": 2}), whole[2])
    assert np.array_equal(again, whole[2:])


BLOWS_UP = {"equation": "burgers", "points": 64, "save_dt": 0.5, "order": 2, "parameters": {"viscosity": 0.01}}


def test_a_blow_up_is_an_error_that_says_when_and_what_to_do() -> None:
    simulator = Exponax(**BLOWS_UP)
    request = simulator.spec.request({"initial": 20 * np.sin(TAU * grid(64)[0])[None]})
    words = r"burgers blew up between times 0 and 0\.5 with dt 0\.5 at Courant number 6\.4e\+02 .*refine"
    with pytest.raises(SimulationError, match=words) as caught:
        simulator.simulate(request)
    assert caught.value.kind == "not_converged"
    assert caught.value.details == {"refinements": 0, "dt": 0.5}


def test_a_blow_up_is_refined_away() -> None:
    simulator = Exponax(**{**BLOWS_UP, "refine": 10})
    initial = 5 * np.sin(TAU * grid(64)[0])[None]
    answer = simulator.simulate(simulator.spec.request({"initial": initial}))
    log = json.loads(answer.attrs["log"])
    assert 4 <= log["refinements"] <= 10  # down to a step of 1/32 it is not finite
    assert log["dt"] == 0.5 / 2 ** log["refinements"]
    fine = run(simulator.at(dt=0.5 / 1024), initial)
    assert relative(answer["u"].values[-1], fine[-1]) < 0.1


def test_a_step_that_leaps_over_cells_is_not_taken_for_a_solution() -> None:
    # One step of 0.5 multiplies the amplitude by 12, where the maximum principle lets it only fall: within bounds.
    initial = 2 * np.sin(TAU * grid(64)[0])[None]
    lax, strict = (Exponax(**{**BLOWS_UP, "courant": number}) for number in (None, 5.0))
    request = lax.spec.request({"initial": initial})
    assert np.abs(lax.simulate(request)["u"][-1]).max() > 10
    with pytest.raises(SimulationError, match="5 is allowed"):
        strict.simulate(request)


def test_a_tolerance_makes_the_answer_as_accurate_as_it_says() -> None:
    initial = 2 * np.sin(TAU * grid(64)[0])[None]
    careful = Exponax(**{**BLOWS_UP, "refine": 10, "tolerance": 1e-3})
    request = careful.spec.request({"initial": initial})
    answer = careful.simulate(request)
    assert 0 < json.loads(answer.attrs["log"])["step_error"] <= 1e-3
    assert relative(answer["u"].values[-1], run(careful.at(dt=0.5 / 2048), initial)[-1]) < 1e-3
    for refine, words in ((1, "blew up|is allowed"), (4, "no shorter step"), (5, "differ by")):
        with pytest.raises(SimulationError, match=words):
            Exponax(**{**BLOWS_UP, "refine": refine, "tolerance": 1e-9}).simulate(request)


def test_good_tells_which_trajectories_of_a_batch_are_solutions() -> None:
    simulator = Exponax(**BLOWS_UP)
    wave = np.sin(TAU * grid(64)[0])[None]
    trajectories = np.array(simulator.trajectories(np.stack([0.01 * wave, 20 * wave])))
    assert simulator.good(trajectories).tolist() == [True, False]
    assert simulator.good(trajectories, {"convection": np.array([100.0, 1.0])}).tolist() == [False, False]
    trajectories[0, 1, 0, 3] = 101.0  # a hundred times the larger of 1 and the initial amplitude is the bound
    bound = Exponax(**{**BLOWS_UP, "courant": None})
    assert bound.good(trajectories).tolist() == [False, False]
    assert Exponax(**{**BLOWS_UP, "courant": None, "growth": 102.0}).good(trajectories).tolist() == [True, False]


def test_the_courant_number_of_a_vorticity_is_that_of_its_velocity() -> None:
    x, y = grid(32, 3.0, 2)
    k = TAU / 3.0
    vorticity = 2 * k * np.sin(k * x) * np.sin(k * y)  # v = (sin cos, -cos sin)
    states = np.stack([0.5 * vorticity, vorticity])[:, None]
    assert np.isclose(courant(EQUATIONS["navier_stokes_li"], states, 3.0, 0.01, {}), 0.01 * 32 / 3, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(dim=st.integers(1, 3), coarse=st.integers(5, 9), extra=st.integers(0, 6), seed=st.integers(0, 99))
def test_resampling_a_band_limited_field_is_exact(dim: int, coarse: int, extra: int, seed: int) -> None:
    fine = coarse + extra
    series = FourierSeries(cutoff=2, normalise="none")
    low, high = (series.sample(np.random.default_rng(seed), 2, n, dim, 2) for n in (coarse, fine))
    up, down = resample(low, fine, dim=dim), resample(high.astype(np.float64), coarse, dim=dim)
    assert (up.dtype, down.dtype) == (np.float32, np.float64)
    scale = np.abs(high).max()
    assert np.allclose(up, high, atol=3e-6 * scale)
    assert np.allclose(down, low, atol=3e-6 * scale)


@pytest.mark.parametrize(("old", "new"), [(8, 6), (7, 4), (6, 9)])
def test_resampling_is_exponaxs(old: int, new: int) -> None:
    noise = np.random.default_rng(0).standard_normal((3, old, old)).astype(np.float32)
    resampled = resample(jnp.asarray(noise), new, dim=2)
    assert isinstance(resampled, jax.Array)
    assert np.allclose(resampled, ex.map_between_resolutions(jnp.asarray(noise), new), atol=1e-6)
    assert np.allclose(resample(noise, new, dim=2), resampled, atol=1e-6)


def test_resampling_drops_what_the_coarser_grid_cannot_hold() -> None:
    (x,) = grid(32)
    field = np.cos(TAU * 2 * x) + np.cos(TAU * 4 * x) + np.sin(TAU * 7 * x)
    coarse = resample(field, 8, dim=1)  # 4 is its Nyquist wavenumber, 7 would alias to 1
    assert np.allclose(coarse, np.cos(TAU * 2 * grid(8)[0]), atol=1e-12)
    assert np.allclose(resample((-1.0) ** np.arange(8), 32, dim=1), 0.0, atol=1e-12)
    with pytest.raises(ValueError, match="one length"):
        resample(np.zeros((3, 4)), 8, dim=2)


def test_a_coarser_copy_has_the_same_times_and_nears_the_fine_answer() -> None:
    fine = Exponax("burgers", 128, length=TAU, save_dt=0.5, dt=0.025, steps=2, parameters={"viscosity": 0.1})
    initial = np.sin(grid(128, TAU)[0])[None]
    true = run(fine, initial)
    errors = []
    for points in (16, 32):
        coarse = fine.at(points=points, dt=0.05)
        assert coarse.spec.coordinate("time") == fine.spec.coordinate("time")
        states = run(coarse, np.asarray(resample(initial, points, dim=1)))
        errors.append(relative(np.asarray(resample(states, 128, dim=1)), true))
    assert errors[1] < errors[0] / 8 < 0.01


def test_float64_is_a_precision_of_the_computation() -> None:
    simulator = Exponax("advection", 16, save_dt=0.3, dtype="float64")
    (x,) = grid(16)
    trajectories = simulator.trajectories(np.sin(TAU * x)[None, None])
    assert trajectories.dtype == np.float64
    assert np.abs(np.asarray(trajectories)[0, 1, 0] - np.sin(TAU * (x - 0.3))).max() < 1e-14
    with pytest.raises(InputError, match="enable_x64"):
        simulator.solve(jnp.zeros((1, 16)))
    answer = simulator.simulate(simulator.spec.request({"initial": np.sin(TAU * x)[None]}))
    assert answer["u"].dtype == np.float32
    assert jnp.zeros(()).dtype == np.float32  # the precision of the rest of the process is as it was


def test_the_adapter_keeps_the_promises_of_a_simulator() -> None:
    simulator = Exponax("burgers", 16, dim=2, save_dt=0.1, steps=2, varied=("viscosity",))
    good_one, bad = ({"initial": np.zeros((2, 16, 16)) + value, "viscosity": 0.1} for value in (0.1, np.nan))
    answer = simulator.simulate(simulator.spec.request(good_one))
    check(answer, simulator.spec.outputs, sizes=simulator.spec.sizes)
    assert answer["u"].dims == ("time", "channel", "x", "y")
    assert answer["channel"].values.tolist() == ["u", "v"]
    assert answer["time"].values.tolist() == [0.0, 0.1, 0.2]
    assert answer.attrs["boundary_conditions"] == "periodic"
    assert answer.attrs["solver"] == "exponax 0.2.0 ETDRK4"
    again = pickle.loads(pickle.dumps(simulator))
    assert again == simulator
    assert "_compiled" not in vars(again)
    assert again.fingerprint == simulator.fingerprint != simulator.at(dt=0.05).fingerprint
    assert from_plain(Spec, json.loads(json.dumps(to_plain(simulator.spec)))) == simulator.spec
    for values, words in (
        (bad, "not finite"),
        ({**good_one, "viscosity": -1.0}, "at least 0"),
        ({**good_one, "initial": np.zeros((2, 16, 8))}, "16 entries along y"),
    ):
        with pytest.raises(SimulationError, match=words) as caught:
            simulator.simulate(dataset(simulator.spec.inputs, values))
        assert caught.value.kind == "invalid_input"


def test_a_velocity_with_divergence_is_refused() -> None:
    simulator = Exponax("navier_stokes_3d", 8, dim=3, save_dt=0.1)
    x, _, _ = grid(8, dim=3)
    with pytest.raises(SimulationError, match=r"not incompressible.*Solenoidal"):
        simulator.simulate(simulator.spec.request({"initial": np.stack([np.sin(TAU * x)] * 3)}))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"equation": "euler"}, "no equation 'euler'"),
        ({"dim": 4}, r"Choose from \[1, 2, 3\]"),
        ({"dt": 0.03}, r"simulator\.dt: 0\.03 does not divide save_dt 0\.1\. Use 0\.0333333333"),
        ({"order": 5}, "no order 5"),
        ({"parameters": {"nu": 1.0}}, r"no parameter 'nu'. It has \['convection', 'viscosity'\]"),
        ({"parameters": {"viscosity": -1.0}}, "at least 0, got -1"),
        ({"varied": ("nu",)}, "'nu' cannot vary"),
        ({"varied": ("viscosity",), "parameters": {"viscosity": 0.1}}, "'viscosity' cannot vary"),
        ({"equation": "navier_stokes_kolmogorov", "dim": 2, "varied": ("forcing_mode",)}, "cannot vary"),
        ({"equation": "navier_stokes_kolmogorov", "dim": 2, "points": 8}, "cannot hold a force of wavenumber 4"),
        ({"dealias": 1.5}, "at most 1"),
        ({"tolerance": 0.1}, r"simulator\.refine: must be at least 1"),
        ({"dtype": "bfloat16"}, "no dtype"),
        ({"length": float("nan")}, r"simulator\.length: must be above 0"),
    ],
)
def test_settings_without_sense_are_refused(settings: dict, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError, match=words):
        Exponax(**{"equation": "burgers", "points": 16, "save_dt": 0.1, **settings})


def test_misshapen_batches_are_named() -> None:
    simulator = Exponax("burgers", 16, varied=("viscosity",))
    for initial, parameters, words in (
        (np.zeros((2, 16)), {}, r"initial must have shape \('B', 1, 16\)"),
        (np.zeros((2, 1, 16)), {"viscosity": np.ones(3)}, "viscosity of shape"),
        (np.zeros((2, 1, 16)), {"nu": np.ones(2)}, "nu of shape"),
        (np.zeros((2, 1, 16)), {}, "lack"),
    ):
        with pytest.raises(SimulationError, match=words):
            simulator.trajectories(initial, parameters)


def test_a_campaign_fills_a_store_that_xarray_reads(tmp_path: Path) -> None:
    simulator = Exponax("burgers", 32, save_dt=0.1, dt=0.02, steps=3, varied=("viscosity",))
    series = list(simulator.draw(DrawSettings(3, FourierSeries(), ranges={"viscosity": Range(0.01, 0.1, log=True)}), 5))
    config = CampaignConfig(workers=1)
    run_campaign(simulator, series[:2], tmp_path / "s", config, progress=False)
    summary = run_campaign(simulator, series, tmp_path / "s", config, progress=False)
    assert (summary.done, summary.cached) == (1, 2)
    with RecordStore.open(tmp_path / "s") as store:
        records = store.dataset().load()
    assert records["u"].dims == ("sample", "time", "channel", "x")
    assert np.allclose(records["x"], np.arange(32) / 32)
    assert np.allclose(records["time"], [0.0, 0.1, 0.2, 0.3])
    for index, request in enumerate(series):
        assert np.array_equal(records["initial"][index], request["initial"])
        assert np.allclose(records["u"][index], simulator.simulate(request)["u"], atol=1e-6)


def test_a_request_depends_on_the_seed_and_its_number_alone() -> None:
    one = Exponax("advection_diffusion", 16, varied=("diffusivity",))
    two = Exponax("advection_diffusion", 16, varied=("velocity_x", "diffusivity"))
    ranges = {"diffusivity": Range(1e-3, 1e-1, log=True), "velocity_x": Range(-1.0, 1.0)}
    whole = list(two.draw(DrawSettings(6, FourierSeries(), ranges=ranges), 1))
    for request, true in zip(
        two.draw(DrawSettings(6, FourierSeries(), ranges=ranges, start=4), 1), whole[4:], strict=True
    ):
        assert request.identical(true)
    for request, true in zip(
        one.draw(DrawSettings(6, FourierSeries(), ranges={"diffusivity": ranges["diffusivity"]}), 1), whole, strict=True
    ):
        assert request.identical(true.drop_vars("velocity_x"))
    other = next(two.draw(DrawSettings(1, FourierSeries(), ranges=ranges), 2))
    assert not np.allclose(other["initial"], whole[0]["initial"])
    assert len({float(r["diffusivity"]) for r in whole}) == 6
    with pytest.raises(InputError, match="ranges"):
        next(two.draw(DrawSettings(1, FourierSeries(), ranges={}), 0))


def test_a_logarithmic_range_is_uniform_in_the_logarithm() -> None:
    rng = np.random.default_rng(0)
    drawn = np.log10([Range(1e-4, 1e-2, log=True).sample(rng) for _ in range(4000)])
    assert drawn.min() > -4
    assert drawn.max() < -2
    assert abs(drawn.mean() + 3) < 4 * (2 / np.sqrt(12)) / np.sqrt(4000)
    with pytest.raises(InputError, match="above 0"):
        Range(0.0, 1.0, log=True)


def test_spun_up_states_are_the_last_of_a_run() -> None:
    solver = Exponax("kuramoto_sivashinsky_conservative", 48, length=30.0, save_dt=5.0, dt=0.1, steps=8)
    states = SpunUp(FourierSeries(), solver).sample(np.random.default_rng(0), 2, 48, 1)
    start = FourierSeries().sample(np.random.default_rng(0), 2, 48, 1)
    assert np.array_equal(states, np.asarray(solver.trajectories(start))[:, -1])
    with pytest.raises(InputError, match="varied"):
        SpunUp(FourierSeries(), Exponax("burgers", 16, varied=("viscosity",)))


PRESETS = sorted(p.stem for p in (CONF / "simulator").glob("*.yaml") if "exponax" in p.read_text())


@pytest.mark.parametrize("name", PRESETS)
def test_presets_run_to_their_end_on_few_points(name: str) -> None:
    simulator = preset(name)
    few = simulator.at(points=min(simulator.points, (64, 32, 12)[simulator.dim - 1]))
    few = Exponax(**{**few.provenance["settings"], "steps": 2})
    channels = len(few.spec.coordinate("channel").values)
    base = MaternField(normalise="max") if few.dim == 2 else FourierSeries()
    drawn = (Solenoidal(base) if few.row.solenoidal else base).sample(
        np.random.default_rng(0), 1, few.points, few.dim, channels
    )
    if few.equation == "gray_scott":
        drawn = (drawn + 1) / 4
    answer = few.simulate(few.spec.request({"initial": drawn[0], **{n: few.values[n] for n in few.varied}}))
    assert np.isfinite(answer["u"]).all()
    assert not np.allclose(answer["u"][1], answer["u"][0], atol=1e-5)
