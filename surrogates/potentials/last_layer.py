"""Error bars of a single network from the posterior of its last layer, and distances to the training data.

The energy is linear in the weights w of the output layer: E = phi . w, F = -(d phi / dx) w. With Gaussian errors of
the labels the posterior of w is Gaussian with precision sum phi phi^T / s_E^2 + sum (d phi/dx)(d phi/dx)^T / s_F^2 + C,
where the last term comes from the distribution of the initial weights (Bigi et al. 2024, arXiv:2403.02251). The sum
over components of forces is estimated from random directions v, because d phi/dx . v has the same second moment
(Hutchinson 1990, doi:10.1080/03610919008812866). The variance of an energy is exact; that of a force is estimated from
a committee of output layers drawn from the posterior (Kellner and Ceriotti 2024, arXiv:2402.16621), which share one
network.

The distance of an atom to the training data is the Mahalanobis distance in the space of inputs to the output layer; the
distance of a structure is the largest of its atoms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data.structures.batches import StructureBatch, StructureBatches, System
from simulators.precision import jit_float32
from surrogates.potentials.energy import EnergyModel, evaluate

#: Number of random directions for the forces of each frame.
DIRECTIONS = 4
#: Ridge on the diagonal of the covariance of features, over the mean square of a feature, so that it is invertible.
RIDGE = 1e-5


@dataclass(frozen=True)
class LastLayer:
    """Posterior of the C weights of the output layer, and the metric of the distance to the training data.

    Attributes:
        covariance: posterior covariance of the weights.
        deviations: K draws from the posterior, less its mean.
        whitening: the matrix W of the distance |W f| of an atom with features f; the factor 1 / sqrt(C) is included.
    """

    covariance: Float[np.ndarray, "C C"]
    deviations: Float[np.ndarray, "K C"]
    whitening: Float[np.ndarray, "C C"]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays to save; empty arrays are left out, because they cannot be stored."""
        named = {"covariance": self.covariance, "deviations": self.deviations, "whitening": self.whitening}
        return {name: value.astype(np.float32) for name, value in named.items() if value.size}

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray]) -> LastLayer:
        """The last layer that `arrays` described."""
        none = np.zeros((0, len(arrays["whitening"])), np.float32)
        return LastLayer(arrays["covariance"], arrays.get("deviations", none), arrays["whitening"])

    @staticmethod
    def empty(features: int, committee: int) -> LastLayer:
        """A last layer of zeros with the shapes of a fitted one, into which a saved one is read."""
        square = np.zeros((features, features), np.float32)
        return LastLayer(square, np.zeros((committee, features), np.float32), square)

    def scale_deviations(self, factor: float) -> LastLayer:
        """A copy whose standard deviations are multiplied by `factor`."""
        return LastLayer(self.covariance * factor**2, self.deviations * factor, self.whitening)


def fit_last_layer(model: EnergyModel, batches: StructureBatches, committee: int, seed: int = 0) -> LastLayer:
    """Fit the posterior of the output layer of the model's first member to the training structures.

    Args:
        model: the trained model.
        batches: training structures, with energies above the reference energies; they are read once.
        committee: K, the number of draws.
        seed: seed of the random directions and of the draws.
    """
    graph, state = nnx.split(model)
    key = jax.random.key(seed)
    total: dict[str, np.ndarray] = {}
    for number, batch in enumerate(batches.epoch(0)):
        sums = _compiled_moments(graph, state, batch, jax.random.fold_in(key, number))
        for name, value in sums.items():
            total[name] = total.get(name, np.float64(0.0)) + np.asarray(value, np.float64)
    c = len(total["atoms"])
    precision = c * np.eye(c)
    for label in ("energy", "forces"):
        if total[f"{label}_count"] > 0:
            noise = max(total[f"{label}_error"] / total[f"{label}_count"], 1e-12)
            precision += total[label] / noise
    covariance = _inverse(precision)
    second = total["atoms"] / max(total["atoms_count"], 1.0)
    second += RIDGE * np.trace(second) / c * np.eye(c)
    draws = np.random.default_rng(seed).normal(size=(committee, c))
    return LastLayer(covariance, draws @ _root(covariance), _root(_inverse(second)) / np.sqrt(c))


def sensitivity(model: EnergyModel, system: System) -> Float[Array, "M C"]:
    """phi: derivatives of the energy with respect to the weights of the output layer, eV."""
    return model.last_layer(system)[1].sum(axis=1)


def distance(model: EnergyModel, whitening: Float[Array, "C C"], system: System) -> Float[Array, " M"]:
    """Distance of each molecule to the training data, the largest of its atoms; about 1 for typical atoms."""
    _, last = model.last_layer(system)
    far = jnp.sqrt(jnp.sum(((last / model.scale) @ whitening.T) ** 2, axis=-1))
    return jnp.max(jnp.where(system.numbers > 0, far, 0.0), axis=-1)


def spread(
    model: EnergyModel, covariance: Float[Array, "C C"], deviations: Float[Array, "K C"], system: System
) -> tuple[Float[Array, " M"], Float[Array, "M N 3"]]:
    """Standard deviations of energies (eV) and of forces (eV/Angstrom)."""
    phi, pull = jax.vjp(lambda x: sensitivity(model, system._replace(positions=x)), system.positions)
    variance = jnp.einsum("mc,cd,md->m", phi, covariance, phi)
    forces = jax.vmap(lambda w: pull(jnp.broadcast_to(w, phi.shape))[0])(deviations)
    return jnp.sqrt(jnp.maximum(variance, 0.0)), jnp.sqrt(jnp.mean(forces**2, axis=0))


def _moments(graph: nnx.GraphDef, state: nnx.State, batch: StructureBatch, key: Array) -> dict[str, Array]:
    """Sums over a batch: second moments of phi, of its derivatives and of atomic features, and squared errors."""
    model: EnergyModel = nnx.merge(graph, state)
    system = jax.tree.map(jnp.asarray, batch.system)
    phi = sensitivity(model, system) * batch.energy_known[:, None]
    mask = batch.forces_known[..., None]

    def along(k: Array) -> Array:
        v = jax.random.normal(k, system.positions.shape, system.positions.dtype) * mask
        return jax.jvp(lambda x: sensitivity(model, system._replace(positions=x)), (system.positions,), (v,))[1]

    slopes = jax.lax.map(along, jax.random.split(key, DIRECTIONS))
    _, last = model.last_layer(system)
    last = last / model.scale
    energy, forces = evaluate(model, batch)
    return {
        "energy": phi.T @ phi,
        "energy_error": jnp.sum(((energy.mean(axis=0) - batch.energy) * batch.energy_known) ** 2),
        "energy_count": batch.energy_known.sum(),
        "forces": jnp.einsum("dmc,dme->ce", slopes, slopes) / DIRECTIONS,
        "forces_error": jnp.sum(((forces.mean(axis=0) - batch.forces) * mask) ** 2),
        "forces_count": 3.0 * batch.forces_known.sum(),
        "atoms": jnp.einsum("mnc,mne->ce", last, last),
        "atoms_count": jnp.sum(system.numbers > 0).astype(last.dtype),
    }


#: Compiled once for the networks and shapes that are alike, whichever training asks.
_compiled_moments = jit_float32(_moments, static_argnums=0)


def _inverse(matrix: Float[np.ndarray, "C C"]) -> Float[np.ndarray, "C C"]:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors / np.maximum(values, 1e-12 * values.max())) @ vectors.T


def _root(matrix: Float[np.ndarray, "C C"]) -> Float[np.ndarray, "C C"]:
    """The symmetric square root R with R R = matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
