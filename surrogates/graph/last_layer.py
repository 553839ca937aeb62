"""Error bars of a single network from the posterior of its last layer, and how far a structure is from training.

The energy is linear in the weights w of the output layer: E = phi . w, F = -(d phi / dx) w. With Gaussian errors of
the labels the posterior of w is Gaussian with precision sum phi phi^T / s_E^2 + sum (d phi/dx)(d phi/dx)^T / s_F^2 + C,
the last term from the distribution of the first weights (Bigi et al. 2024, arXiv:2403.02251). The sum over
components of forces is estimated from random directions v, whose (d phi/dx . v) have the same second moment
(Hutchinson 1990, doi:10.1080/03610919008812866). Energies have an exact variance; forces that of a committee of
output layers drawn from the posterior (Kellner and Ceriotti 2024, arXiv:2402.16621), which share one network.

The distance to training is that of Mahalanobis in the space of what enters the output layer, atom by atom: a
structure is as far as its farthest atom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data.structure_batches import StructureBatch, StructureBatches, System
from surrogates.graph.energy import EnergyModel, evaluate

#: Random directions for the forces of each frame.
DIRECTIONS = 4
#: Part of the mean square of a feature that is added to its own, so that the covariance has an inverse.
RIDGE = 1e-5


@dataclass(frozen=True)
class LastLayer:
    """What was learned of the output layer, beyond its weights.

    Attributes:
        covariance: of its weights.
        deviations: K draws from that distribution, less its mean.
        whitening: W of the distance |W f| / sqrt(C) of an atom's f.
    """

    covariance: Float[np.ndarray, "C C"]
    deviations: Float[np.ndarray, "K C"]
    whitening: Float[np.ndarray, "C C"]

    def arrays(self) -> dict[str, np.ndarray]:
        """What is saved; without a committee no draws, because an array without elements cannot be."""
        named = {"covariance": self.covariance, "deviations": self.deviations, "whitening": self.whitening}
        return {name: value.astype(np.float32) for name, value in named.items() if value.size}

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray]) -> LastLayer:
        """What `arrays` described."""
        none = np.zeros((0, len(arrays["whitening"])), np.float32)
        return LastLayer(arrays["covariance"], arrays.get("deviations", none), arrays["whitening"])

    @staticmethod
    def empty(features: int, committee: int) -> LastLayer:
        """Of the shapes of one that was fitted, to read a saved one into."""
        square = np.zeros((features, features), np.float32)
        return LastLayer(square, np.zeros((committee, features), np.float32), square)

    def scaled(self, factor: float) -> LastLayer:
        """With standard deviations multiplied by `factor`."""
        return LastLayer(self.covariance * factor**2, self.deviations * factor, self.whitening)


def fit_last_layer(model: EnergyModel, batches: StructureBatches, committee: int, seed: int = 0) -> LastLayer:
    """Learn the posterior from training structures, in the model's first member.

    Args:
        model: trained.
        batches: with labels above the references; one pass.
        committee: draws, K.
        seed: of directions and draws.
    """
    graph, state = nnx.split(model)
    step = jax.jit(partial(_moments, graph))
    key = jax.random.key(seed)
    total: dict[str, np.ndarray] = {}
    for number, batch in enumerate(batches.epoch(0)):
        found = step(state, batch, jax.random.fold_in(key, number))
        for name, value in found.items():
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
    """phi: derivatives of the energy by the weights of the output layer, eV."""
    return model.last_layer(system)[1].sum(axis=1)


def distance(model: EnergyModel, whitening: Float[Array, "C C"], system: System) -> Float[Array, " M"]:
    """How far the farthest atom of each molecule is from training; about 1 in the midst of it."""
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
    """Sums over a batch: second moments of phi, of its derivatives, of atoms' features, and squared errors."""
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


def _inverse(matrix: Float[np.ndarray, "C C"]) -> Float[np.ndarray, "C C"]:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors / np.maximum(values, 1e-12 * values.max())) @ vectors.T


def _root(matrix: Float[np.ndarray, "C C"]) -> Float[np.ndarray, "C C"]:
    """The symmetric root: R with R R = matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
