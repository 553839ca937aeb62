"""A coarse solver of Darcy flow, whose answer is a further input field of the network beside the permeability.

Finite volumes on the samples' own grid solve -div(a grad u) = 1 with u = 0 on the boundary: five points, with the
harmonic mean of two neighbours' permeabilities at the face between them (Patankar 1980, Numerical Heat Transfer and
Fluid Flow, section 4.2-3). The network then learns to correct the error of the coarse grid. Where a file contains the
permeability as a mask only, its contrast and the unit of the answer are fitted to the training samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Float

from data.errors import InputError
from data.fields.layout import Layout

#: Range of the search for the contrast, and number of training samples that the search compares.
CONTRASTS, COMPARED = (1.5, 100.0), 100
#: Smallest divisor, which avoids a division by 0 for a field of zeros in any unit.
SMALLEST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class CoarseDarcy:
    """The coarse solver with its fitted constants.

    Attributes:
        contrast: permeability at the largest value of the field over that at the smallest; it is interpolated
            geometrically in between.
        scale: answer in the units of the samples over the answer for a smallest permeability of 1 and a unit source.
        low, high: smallest and largest values of the field that gives the permeability.
    """

    contrast: float
    scale: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (self.contrast > 0 and self.high > self.low):
            raise ValueError("contrast must be above 0, and high above low")

    @staticmethod
    def fit(field: Float[np.ndarray, "sample x y"], truth: Float[np.ndarray, "sample x y"]) -> CoarseDarcy:
        """Fit contrast and scale, so that the mean relative L2 error of the coarse answers is smallest.

        Args:
            field: permeability, or a mask of it.
            truth: answers of the samples.

        Raises:
            InputError: the field is constant.
        """
        low, high = float(field.min()), float(field.max())
        if low == high:
            raise InputError("the permeability is the same everywhere", where="model.coarse", remedy="Set it to none")
        rows = slice(0, COMPARED)
        size = np.maximum(
            np.linalg.norm(np.asarray(truth[rows], np.float64).reshape(len(truth[rows]), -1), axis=1), SMALLEST
        )

        def error_and_scale(log_contrast: float) -> tuple[float, float]:
            answers = CoarseDarcy(float(np.exp(log_contrast)), 1.0, low, high).solve(field[rows])
            flat, exact = (a.reshape(len(a), -1) / size[:, None] for a in (answers, truth[rows]))
            scale = float((flat * exact).sum() / (flat * flat).sum())
            return float(np.linalg.norm(scale * flat - exact, axis=1).mean()), scale

        optimum = scipy.optimize.minimize_scalar(
            lambda log: error_and_scale(log)[0],
            bounds=tuple(np.log(CONTRASTS)),
            method="bounded",
            options={"xatol": 0.02},
        )
        return CoarseDarcy(float(np.exp(optimum.x)), error_and_scale(float(optimum.x))[1], low, high)

    def solve(self, field: Float[np.ndarray, "sample x y"]) -> Float[np.ndarray, "sample x y"]:
        """Coarse answers at the points i / n of the unit square, the first of which lie on its boundary."""
        share = np.clip((np.asarray(field, np.float64) - self.low) / (self.high - self.low), 0.0, 1.0)
        return np.stack([self.scale * _solve(self.contrast**one) for one in share])


def with_coarse(
    coarse: CoarseDarcy, static: Float[np.ndarray, "sample x y static"]
) -> Float[np.ndarray, "sample x y more"]:
    """Static fields with the coarse answer to the first of them appended as a further field."""
    return np.concatenate([static, coarse.solve(static[..., 0])[..., None]], axis=-1)


def refuse_unfit(layout: Layout) -> None:
    """Refuse samples that are not Darcy flow on the unit square.

    Raises:
        InputError: the output evolves, space is not a square that is not periodic, or the input is not one field.
    """
    one = len(layout.static) == 1 and not layout.parameters and layout.channels == 1
    square = len(layout.points) == 2 and layout.points[0] == layout.points[1] and not any(layout.periodic)
    if layout.evolves or not one or not square:
        raise InputError(
            "coarse Darcy flow needs one field, the permeability, on a square that is not periodic, and one answer",
            where="model.coarse",
            remedy="Set it to none",
        )


def _solve(permeability: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """The answer for a unit source, by a banded Cholesky factorisation."""
    n = len(permeability)
    # The last row and column lie on the boundary and have no points; their permeability is that of their neighbours.
    full = np.pad(permeability, ((0, 1), (0, 1)), mode="edge")
    along_x = 2 * full[:-1] * full[1:] / (full[:-1] + full[1:])
    along_y = 2 * full[:, :-1] * full[:, 1:] / (full[:, :-1] + full[:, 1:])
    west, east, south, north = along_x[:-1, 1:-1], along_x[1:, 1:-1], along_y[1:-1, :-1], along_y[1:-1, 1:]
    inner = n - 1
    bands = np.zeros((inner + 1, inner * inner))
    bands[0] = (west + east + south + north).ravel()
    # Below the diagonal: the next point along y, unless it begins another row, and the next along x.
    step = -north.copy()
    step[:, -1] = 0
    bands[1] = step.ravel()
    bands[inner] = -east.ravel()
    interior = scipy.linalg.solveh_banded(bands, np.full(inner * inner, 1.0 / n**2), lower=True)
    answer = np.zeros((n, n))
    answer[1:, 1:] = interior.reshape(inner, inner)
    return answer
