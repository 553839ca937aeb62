"""Plans of where to place samples in a unit cube: random, Latin hypercube, Sobol, and a full grid.

Latin hypercube: McKay, Beckman, Conover, Technometrics 1979, 21, 239; each range is divided into as many equal strata
as there are samples, and each stratum holds one sample. Sobol: Owen's scrambled sequences, by `scipy.stats.qmc`; they
fill the cube evenly at any count, and most evenly at powers of two.
"""

from __future__ import annotations

import logging
import math

import numpy as np
from jaxtyping import Float

from data.errors import InputError

LOG = logging.getLogger(__name__)
#: uniform: each sample by itself; lhs: Latin hypercube; sobol: scrambled Sobol sequence; grid: all combinations.
METHODS = ("uniform", "lhs", "sobol", "grid")
#: Largest number of dimensions of SciPy's Sobol sequences.
SOBOL_DIMS = 21_201
#: Largest number of samples of a plan, which is held in memory.
MOST = 10**7


def refuse_other_method(method: str) -> None:
    """Refuse a name that is none of `METHODS`.

    Raises:
        InputError: names the methods.
    """
    if method not in METHODS:
        raise InputError(f"no method {method!r}", where="sampling.method", remedy=f"Choose from {', '.join(METHODS)}")


def plan(method: str, count: int, dims: int, seed: int) -> Float[np.ndarray, "sample dim"]:
    """Points of the unit cube.

    The points of `sobol` begin those of any larger count. The points of `lhs` and `grid` belong to their count: those
    of another count are other points.

    Args:
        method: lhs, sobol or grid.
        count: number of points; for `grid` a whole number to the power of `dims`.
        dims: number of parameters, 1 or more.
        seed: seed of the random numbers, 0 or more; `grid` has none.

    Raises:
        InputError: the count does not fit the grid, is too large, or there is no parameter.
    """
    from scipy.stats import qmc

    if dims < 1:
        raise InputError("no parameter is drawn", where="sampling.ranges", remedy="Give a range for each parameter")
    if count > MOST:
        raise InputError(f"count is {count:,}, more than {MOST:,}", where="sampling", remedy="Draw with method=uniform")
    if method == "lhs":
        return np.asarray(qmc.LatinHypercube(dims, rng=np.random.default_rng([seed, 3])).random(count), np.float64)
    if method == "sobol":
        if dims > SOBOL_DIMS:
            raise InputError(f"{dims:,} parameters, at most {SOBOL_DIMS:,}", where="sampling.method")
        power = math.ceil(math.log2(count))
        if 2**power != count:
            LOG.warning(
                "sampling: %s points of a Sobol sequence are less even than a power of two, such as %s or %s",
                f"{count:,}",
                f"{2 ** (power - 1):,}",
                f"{2**power:,}",
            )
        engine = qmc.Sobol(dims, scramble=True, rng=np.random.default_rng([seed, 4]))
        return np.asarray(engine.random_base2(power)[:count], np.float64)
    levels = round(count ** (1 / dims))
    if levels < 2 or levels**dims != count:
        near = sorted(
            {max(2, math.floor(count ** (1 / dims))) ** dims, max(2, levels + (levels**dims < count)) ** dims}
        )
        raise InputError(
            f"{count:,} points are no full grid of {dims} parameters",
            where="sampling.count",
            remedy=f"Give {' or '.join(f'{n:,}' for n in near)}, the same number of values of each parameter",
        )
    axes = np.meshgrid(*[np.linspace(0.0, 1.0, levels)] * dims, indexing="ij")
    return np.stack([axis.ravel() for axis in axes], axis=1)
