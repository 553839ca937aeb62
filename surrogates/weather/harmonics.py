"""Real spherical harmonics of fields with channels, by dinosaur's transform.

dinosaur's basis (Bourke 1972) is orthonormal on the sphere; a latitude grid is Gaussian, or even with or without the
poles. Coefficients are kept for total wavenumbers up to the truncation, and longitudes are counted from the grid's
first. Products are computed in float32 in full, also where a device would round their factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from data.errors import InputError
from data.weather import WeatherGrid
from surrogates.operator.spectral import EXACT

#: Where latitudes of a grid may lie, as dinosaur names it.
SPACINGS = ("gauss", "equiangular", "equiangular_with_poles")
INSTALL = "pip install 'understudy[weather]'"


@dataclass(frozen=True)
class Harmonics:
    """The transform of one grid.

    Attributes:
        grid: a global one.
        truncation: largest total wavenumber.

    Raises:
        InputError: the grid is none that the transform knows, or too coarse for the truncation.
    """

    grid: WeatherGrid
    truncation: int

    def __post_init__(self) -> None:
        rows, columns = self.grid.shape
        most = min(columns // 2, rows) - 1
        if not 1 <= self.truncation <= most:
            raise InputError(
                f"a grid of {rows} x {columns} points has wavenumbers up to {most}, not {self.truncation}",
                where="truncation",
                remedy="Give fewer",
            )
        _ = self._basis

    @cached_property
    def spacing(self) -> str:
        """Which of `SPACINGS` the grid has."""
        spherical_harmonic = _dinosaur()
        sine = np.sin(np.deg2rad(np.asarray(self.grid.latitude)))
        for spacing in SPACINGS:
            nodes, _ = spherical_harmonic.get_latitude_nodes(len(sine), spacing)
            if self.grid.is_global and np.allclose(nodes, sine, atol=1e-4):
                return spacing
        raise InputError(
            "spherical harmonics need a global grid whose latitudes are Gaussian or even",
            where="surrogate.network.architecture",
            remedy="Regrid the data, or choose surrogate=weather_conv",
        )

    @cached_property
    def _basis(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(weights of latitudes, Fourier functions by longitude, Legendre functions, which coefficients exist)."""
        spacing, (rows, columns) = self.spacing, self.grid.shape
        transform: Any = _dinosaur().RealSphericalHarmonics(
            longitude_wavenumbers=self.truncation + 1,
            total_wavenumbers=self.truncation + 1,
            longitude_nodes=columns,
            latitude_nodes=rows,
            latitude_spacing=spacing,
        )
        basis = transform.basis
        return np.asarray(basis.w), np.asarray(basis.f), np.asarray(basis.p), np.asarray(transform.mask)

    @property
    def is_exact(self) -> bool:
        """Whether coefficients come back from their fields: on even latitudes up to half as many as there are.

        Beyond that the quadrature of an even grid is approximate: at two thirds of 32 latitudes coefficients come back
        with an error of 0.4 % of their root mean square.
        """
        return self.spacing == "gauss" or 2 * self.truncation < self.grid.shape[0]

    @cached_property
    def degrees(self) -> Int[np.ndarray, " degree"]:
        """Total wavenumbers, the last axis of coefficients."""
        return np.arange(self.truncation + 1)

    @cached_property
    def mask(self) -> np.ndarray:
        """Which coefficients (order, degree) exist."""
        return self._basis[3]

    def forward(
        self, x: Float[Array, "batch latitude longitude channel"]
    ) -> Float[Array, "batch order degree channel"]:
        """Coefficients of fields."""
        w, f, p, mask = self._basis
        fourier, weights = jnp.asarray(f, x.dtype), jnp.asarray(w, x.dtype)
        waves = jnp.einsum("bijc,jm,i->bmic", x, fourier, weights, precision=EXACT)
        found = jnp.einsum("bmic,mil->bmlc", waves, jnp.asarray(p, x.dtype), precision=EXACT)
        return found * jnp.asarray(mask, x.dtype)[:, :, None]

    def backward(
        self, z: Float[Array, "batch order degree channel"]
    ) -> Float[Array, "batch latitude longitude channel"]:
        """Fields of coefficients."""
        _, f, p, _ = self._basis
        waves = jnp.einsum("bmlc,mil->bmic", z, jnp.asarray(p, z.dtype), precision=EXACT)
        return jnp.einsum("bmic,jm->bijc", waves, jnp.asarray(f, z.dtype), precision=EXACT)


def _dinosaur() -> Any:
    try:
        from dinosaur import spherical_harmonic
    except ImportError as error:
        raise InputError(
            f"spherical harmonics need dinosaur: {error}", where="surrogate.network.architecture",
            remedy=f"Run {INSTALL}, or choose surrogate=weather_conv",
        ) from error  # fmt: skip
    return spherical_harmonic
