"""A time step in Fourier space for each equation of the table, by exponax.

Steps are pure functions and parameters may be traced, so that gradients and batches over parameters work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import exponax as ex  # type: ignore[import-untyped]
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from simulators.fluids.spectral.equations import AXES
from simulators.fluids.spectral.etdrk import Step, etdrk

Parameters = Mapping[str, Any]
INTEGRATORS = (ex.etdrk.ETDRK1, ex.etdrk.ETDRK2, ex.etdrk.ETDRK3, ex.etdrk.ETDRK4)


@dataclass(frozen=True)
class Discretisation:
    """Discretisation of space and time.

    Attributes:
        dim: number of space dimensions.
        length: side of the periodic box.
        points: grid points along each side.
        dt: time step.
        order: order of the exponential Runge-Kutta method, 1 to 4.
        dealias: fraction of the wavenumbers that products keep.
        real_coefficients: whether to use exponax's real coefficients for dispersion; see `spectral.etdrk`.
    """

    dim: int
    length: float
    points: int
    dt: float
    order: int
    dealias: float
    real_coefficients: bool

    @property
    def grid(self) -> tuple[int, float, int, float]:
        """The first arguments of every exponax stepper."""
        return self.dim, self.length, self.points, self.dt

    @property
    def method(self) -> dict[str, Any]:
        """The keyword arguments of every nonlinear exponax stepper."""
        return {"order": self.order, "dealiasing_fraction": self.dealias}

    @property
    def derivative(self) -> Complex[Array, " D *K"]:
        """Derivative operator i k along each axis."""
        return ex.spectral.build_derivative_operator(self.dim, self.length, self.points)

    @property
    def coordinates(self) -> Float[Array, " D *N"]:
        """Positions of the grid points."""
        return ex.make_grid(self.dim, self.length, self.points)


def _velocity(d: Discretisation, p: Parameters) -> Float[Array, " D"]:
    return jnp.stack([jnp.asarray(p[f"velocity_{axis}"], jnp.result_type(float)) for axis in AXES[: d.dim]])


def _each(d: Discretisation, value: Any) -> Float[Array, " D"]:
    return jnp.asarray(value) * jnp.ones(d.dim)


def advection(d: Discretisation, p: Parameters) -> Step:
    """Advection, exact in time."""
    return ex.stepper.Advection(*d.grid, velocity=_velocity(d, p)).step_fourier


def diffusion(d: Discretisation, p: Parameters) -> Step:
    """Diffusion, exact in time."""
    return ex.stepper.Diffusion(*d.grid, diffusivity=_each(d, p["diffusivity"])).step_fourier


def advection_diffusion(d: Discretisation, p: Parameters) -> Step:
    """Advection and diffusion, exact in time."""
    return ex.stepper.AdvectionDiffusion(
        *d.grid, velocity=_velocity(d, p), diffusivity=_each(d, p["diffusivity"])
    ).step_fourier


def burgers(d: Discretisation, p: Parameters) -> Step:
    """Burgers equation: in 1D in conservative form, which keeps the mean; in 2D and 3D with (u . grad) u."""
    return ex.stepper.Burgers(
        *d.grid, diffusivity=p["viscosity"], convection_scale=p["convection"], conservative=d.dim == 1, **d.method
    ).step_fourier


def korteweg_de_vries(d: Discretisation, p: Parameters) -> Step:
    """Korteweg-de Vries equation in conservative form, with complex coefficients unless real ones are requested."""
    if d.real_coefficients:
        return ex.stepper.KortewegDeVries(
            *d.grid,
            convection_scale=p["convection"],
            dispersivity=p["dispersion"],
            diffusivity=p["viscosity"],
            hyper_diffusivity=p["hyperviscosity"],
            conservative=True,
            **d.method,
        ).step_fourier
    derivative = d.derivative
    nonlinear = ex.nonlin_fun.ConvectionNonlinearFun(
        d.dim,
        d.points,
        derivative_operator=derivative,
        dealiasing_fraction=d.dealias,
        scale=p["convection"],
        conservative=True,
    )
    linear = p["viscosity"] * derivative**2 - p["dispersion"] * derivative**3 - p["hyperviscosity"] * derivative**4
    return etdrk(d.order, d.dt, linear, nonlinear)


def kuramoto_sivashinsky(d: Discretisation, p: Parameters) -> Step:
    """Kuramoto-Sivashinsky equation in combustion form; exponax removes the mean of the squared gradient."""
    return ex.stepper.KuramotoSivashinsky(
        *d.grid,
        gradient_norm_scale=p["gradient_norm"],
        second_order_scale=p["second_order"],
        fourth_order_scale=p["fourth_order"],
        **d.method,
    ).step_fourier


def kuramoto_sivashinsky_conservative(d: Discretisation, p: Parameters) -> Step:
    """Kuramoto-Sivashinsky equation in conservative form, whose state is the derivative of the combustion form's."""
    return ex.stepper.KuramotoSivashinskyConservative(
        *d.grid,
        convection_scale=p["convection"],
        second_order_scale=p["second_order"],
        fourth_order_scale=p["fourth_order"],
        **d.method,
    ).step_fourier


def gray_scott(d: Discretisation, p: Parameters) -> Step:
    """Gray-Scott reaction-diffusion of two species."""
    return ex.stepper.reaction.GrayScott(
        *d.grid,
        diffusivity_1=p["diffusivity_a"],
        diffusivity_2=p["diffusivity_b"],
        feed_rate=p["feed"],
        kill_rate=p["kill"],
        **d.method,
    ).step_fourier


def fisher_kpp(d: Discretisation, p: Parameters) -> Step:
    """Fisher-KPP equation: diffusion with logistic growth."""
    return ex.stepper.reaction.FisherKPP(
        *d.grid, diffusivity=p["diffusivity"], reactivity=p["reactivity"], **d.method
    ).step_fourier


def allen_cahn(d: Discretisation, p: Parameters) -> Step:
    """Allen-Cahn equation: separation of two phases."""
    return ex.stepper.reaction.AllenCahn(
        *d.grid,
        diffusivity=p["diffusivity"],
        first_order_coefficient=p["linear"],
        third_order_coefficient=p["cubic"],
        **d.method,
    ).step_fourier


def navier_stokes_vorticity(d: Discretisation, p: Parameters) -> Step:
    """Vorticity in 2D without forcing."""
    return _vorticity(d, p, None)


def navier_stokes_kolmogorov(d: Discretisation, p: Parameters) -> Step:
    """Vorticity in 2D, forced by a shear."""
    wavenumber = 2 * jnp.pi * p["forcing_mode"] / d.length
    return _vorticity(d, p, -p["forcing"] * wavenumber * jnp.cos(wavenumber * d.coordinates[1]))


def navier_stokes_li(d: Discretisation, p: Parameters) -> Step:
    """Vorticity in 2D, forced along the diagonal as in Li et al."""
    phase = 2 * jnp.pi * (d.coordinates[0] + d.coordinates[1]) / d.length
    return _vorticity(d, p, p["forcing"] * (jnp.sin(phase) + jnp.cos(phase)))


def _vorticity(d: Discretisation, p: Parameters, forcing: Float[Array, "N N"] | None) -> Step:
    derivative = d.derivative
    # exponax defines curl^-1 with the opposite sign, so that its state is minus the curl of its velocity. The scale -1
    # makes the state the curl itself, as the forcing of vorticity requires.
    convection = ex.nonlin_fun.VorticityConvection2d(
        d.dim, d.points, convection_scale=-1.0, derivative_operator=derivative, dealiasing_fraction=d.dealias
    )
    linear = p["viscosity"] * ex.spectral.build_laplace_operator(derivative) - p["drag"]
    if forcing is None:
        return INTEGRATORS[d.order - 1](d.dt, linear, convection).step_fourier
    force = ex.fft(forcing[None])
    return INTEGRATORS[d.order - 1](d.dt, linear, lambda w: convection(w) + force).step_fourier


def navier_stokes_3d(d: Discretisation, p: Parameters) -> Step:
    """Velocity in 3D, with the pressure eliminated by projection."""
    return ex.stepper.NavierStokesVelocity(
        *d.grid, diffusivity=p["viscosity"], drag=-p["drag"], **d.method
    ).step_fourier


def navier_stokes_kolmogorov_3d(d: Discretisation, p: Parameters) -> Step:
    """Velocity in 3D, forced by a shear.

    The force is added here, because that of exponax 0.2.0 is half a cosine although its documentation says a sine.
    """
    derivative = d.derivative
    convection = ex.nonlin_fun.ProjectedConvection3d(
        d.dim, d.points, derivative_operator=derivative, dealiasing_fraction=d.dealias
    )
    linear = p["viscosity"] * ex.spectral.build_laplace_operator(derivative) - p["drag"]
    shear = p["forcing"] * jnp.sin(2 * jnp.pi * p["forcing_mode"] / d.length * d.coordinates[1])
    force = ex.fft(jnp.stack([shear, jnp.zeros_like(shear), jnp.zeros_like(shear)]))
    return INTEGRATORS[d.order - 1](d.dt, linear, lambda u: convection(u) + force).step_fourier


#: Function that makes the step, for each row of `simulators.fluids.spectral.equations.EQUATIONS`.
STEPPERS: Mapping[str, Callable[[Discretisation, Parameters], Step]] = {
    function.__name__: function
    for function in (
        *(advection, diffusion, advection_diffusion, burgers, korteweg_de_vries),
        *(kuramoto_sivashinsky, kuramoto_sivashinsky_conservative, gray_scott, fisher_kpp, allen_cahn),
        *(navier_stokes_vorticity, navier_stokes_kolmogorov, navier_stokes_li, navier_stokes_3d),
        navier_stokes_kolmogorov_3d,
    )
}
