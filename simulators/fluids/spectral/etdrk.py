"""Exponential time differencing Runge-Kutta steps whose coefficients are complex where the linear part is.

For u' = L u + N(u) with L diagonal in Fourier space: Cox and Matthews, J. Comput. Phys. 2002, 176, 430, equations
(20), (22), (23-25) and (26-29), written with the functions phi_k; these are means over a circle in the complex plane
(Kassam and Trefethen, SIAM J. Sci. Comput. 2005, 26, 1214). That mean is real only where L is. exponax 0.2.0 keeps
the real part alone, which leaves every dispersive equation with a first-order error in time, whatever the order.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex

#: Points on the circle; the error of the mean falls faster than exponentially, to round-off in float64.
CIRCLE_POINTS = 32

Fourier = Complex[Array, " C *K"]
Step = Callable[[Fourier], Fourier]


def phi(z: Complex[Array, " *S"]) -> tuple[Complex[Array, " *S"], Complex[Array, " *S"], Complex[Array, " *S"]]:
    """phi_1(z) = (e^z - 1) / z, phi_2 = (phi_1 - 1) / z, phi_3 = (phi_2 - 1/2) / z, entire functions, at any z."""
    # The angles avoid the axes, so that no point of a circle about a real or imaginary z is zero.
    angles = 2 * jnp.pi * (jnp.arange(CIRCLE_POINTS) + 0.5) / CIRCLE_POINTS

    def add(sums: tuple[Array, Array, Array], angle: Array) -> tuple[tuple[Array, Array, Array], None]:
        w = z + jnp.exp(1j * angle)
        one = (jnp.exp(w) - 1) / w
        two = (one - 1) / w
        three = (two - 0.5) / w
        return (sums[0] + one, sums[1] + two, sums[2] + three), None

    zeros = jnp.zeros_like(z)
    (one, two, three), _ = jax.lax.scan(add, (zeros, zeros, zeros), angles)
    return one / CIRCLE_POINTS, two / CIRCLE_POINTS, three / CIRCLE_POINTS


def etdrk(order: int, dt: float, linear: Complex[Array, " E *K"], nonlinear: Step) -> Step:
    """The time step of length `dt` and of the given order, 1 to 4.

    Args:
        order: order of convergence in time.
        dt: length of the step.
        linear: eigenvalue of the linear part for each Fourier coefficient.
        nonlinear: the rest of the right-hand side, in Fourier space.
    """
    z = dt * linear
    whole, half = jnp.exp(z), jnp.exp(z / 2)
    p1, p2, p3 = phi(z)
    q1, _, _ = phi(z / 2)

    def first(u: Fourier) -> Fourier:
        return whole * u + dt * p1 * nonlinear(u)

    def second(u: Fourier) -> Fourier:
        n = nonlinear(u)
        a = whole * u + dt * p1 * n
        return a + dt * p2 * (nonlinear(a) - n)

    def third(u: Fourier) -> Fourier:
        n = nonlinear(u)
        a = nonlinear(half * u + dt / 2 * q1 * n)
        b = nonlinear(whole * u + dt * p1 * (2 * a - n))
        return whole * u + dt * ((p1 - 3 * p2 + 4 * p3) * n + (4 * p2 - 8 * p3) * a + (4 * p3 - p2) * b)

    def fourth(u: Fourier) -> Fourier:
        n = nonlinear(u)
        start = half * u + dt / 2 * q1 * n
        a = nonlinear(start)
        b = nonlinear(half * u + dt / 2 * q1 * a)
        c = nonlinear(half * start + dt / 2 * q1 * (2 * b - n))
        return whole * u + dt * ((p1 - 3 * p2 + 4 * p3) * n + (2 * p2 - 4 * p3) * (a + b) + (4 * p3 - p2) * c)

    return (first, second, third, fourth)[order - 1]
