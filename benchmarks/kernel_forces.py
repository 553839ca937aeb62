"""A kernel model of the forces of one molecule, which learns from tens of frames in a second.

Forces are minus the gradient of a Gaussian process of the inverse distances of all pairs of atoms, with Matern's kernel
of order 5/2 (Chmiela et al., Sci. Adv. 2017, 3, e1603015, without symmetries). It is used where hundreds of trainings
are compared, and has no part in the package.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve

from data.structures.structures import Structures

#: Length of the kernel, 1/Angstrom, and noise over the mean variance of a force component.
LENGTH, NOISE = 10.0, 1e-8


@dataclass(frozen=True)
class InverseDistances:
    """Inverse distances (M, D), 1/Angstrom, and their derivatives by positions (M, D, C), 1/Angstrom^2."""

    value: Float[np.ndarray, "M D"]
    slope: Float[np.ndarray, "M D C"]

    @staticmethod
    def of(frames: Structures) -> InverseDistances:
        """Of frames of one molecule."""
        x = frames.positions.reshape(len(frames), -1, 3)
        i, j = np.triu_indices(x.shape[1], 1)
        along = x[:, i] - x[:, j]
        value = 1.0 / np.linalg.norm(along, axis=-1)
        gradient = -along * value[..., None] ** 3
        slope = np.zeros((*value.shape, x.shape[1], 3))
        pairs = np.arange(len(i))
        slope[:, pairs, i], slope[:, pairs, j] = gradient, -gradient
        return InverseDistances(value, slope.reshape(*value.shape, -1))

    def take(self, rows: np.ndarray) -> InverseDistances:
        """Some of the frames."""
        return InverseDistances(self.value[rows], self.slope[rows])


@dataclass(frozen=True)
class KernelForces:
    """A fitted model.

    Attributes:
        value: inverse distances of the training frames.
        weight: their weights in the space of inverse distances.
        shift: mean difference of labelled and predicted energies, eV.
    """

    value: Float[np.ndarray, "N D"]
    weight: Float[np.ndarray, "N D"]
    shift: float = 0.0

    @staticmethod
    def fit(table: InverseDistances, forces: Float[np.ndarray, "N C"], energy: Float[np.ndarray, " N"]) -> KernelForces:
        """Fit forces (eV/Angstrom); energies (eV) set only the constant."""
        count, size = forces.shape
        delta = table.value[:, None] - table.value[None]
        s = np.sqrt(5.0) * np.linalg.norm(delta, axis=-1) / LENGTH
        decay = np.exp(-s)
        flat = table.slope.transpose(0, 2, 1).reshape(count * size, -1)
        gram = (flat @ flat.T).reshape(count, size, count, size) * (decay * (1 + s))[:, None, :, None]
        left = np.einsum("idc,ijd->ijc", table.slope, delta, optimize=True)
        right = np.einsum("jdc,ijd->ijc", table.slope, delta, optimize=True)
        gram -= (5.0 / LENGTH**2) * np.einsum("ij,ija,ijb->iajb", decay, left, right, optimize=True)
        matrix = gram.reshape(count * size, count * size)
        matrix[np.diag_indices_from(matrix)] += NOISE * np.trace(matrix) / len(matrix)
        alpha = cho_solve(cho_factor(matrix, lower=True, overwrite_a=True), forces.ravel()).reshape(count, size)
        model = KernelForces(table.value, np.einsum("jdc,jc->jd", table.slope, alpha))
        return KernelForces(model.value, model.weight, float((energy - model.predict(table)[0]).mean()))

    def predict(self, table: InverseDistances) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "M C"]]:
        """Energies (eV) and forces (eV/Angstrom)."""
        energy, forces = [], []
        for value, slope in zip(table.value, table.slope, strict=True):
            delta = value - self.value
            s = np.sqrt(5.0) * np.linalg.norm(delta, axis=-1) / LENGTH
            decay, along = np.exp(-s), (delta * self.weight).sum(axis=-1)
            energy.append(self.shift - float((decay * (1 + s) * along).sum()))
            pull = (decay * (1 + s)) @ self.weight - (5.0 / LENGTH**2) * (decay * along) @ delta
            forces.append(slope.T @ pull)
        return np.array(energy), np.array(forces)
