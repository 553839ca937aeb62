"""Properties of a converged PySCF calculation, in the units of `variables.OUTPUTS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ase.units import Bohr, Debye
from jaxtyping import Float

from data.spec import SimulationError

#: Strength of the finite field, atomic units: large compared with the SCF's noise, and within the linear regime.
FIELD = 2e-3


def density_matrix(method: Any, mf: Any) -> Float[np.ndarray, "ao ao"]:
    """Spin-summed one-particle density matrix in atomic orbitals.

    Args:
        method: the mean field, or the correlated method on it, whose density is the unrelaxed one.
        mf: the mean field.
    """
    matrix = _in_memory(mf.make_rdm1() if method is mf else method.make_rdm1(ao_repr=True))
    return matrix.sum(axis=0) if matrix.ndim == 3 else matrix


def _in_memory(array: Any) -> np.ndarray:
    """Copy a matrix to a NumPy array; with gpu4pyscf it is a CuPy array on the GPU."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


def dipole(method: Any, mf: Any) -> Float[np.ndarray, " 3"]:
    """Dipole moment vector, Debye; for an ion relative to the centre of nuclear charge."""
    mol = mf.mol
    charges, positions = mol.atom_charges(), mol.atom_coords()
    centre = charges @ positions / charges.sum()
    with mol.with_common_orig(centre):
        integrals = mol.intor_symmetric("int1e_r", comp=3)
    electrons = np.einsum("xij,ji->x", integrals, density_matrix(method, mf))
    nuclei = charges @ (positions - centre)
    return (nuclei - electrons) * Bohr / Debye


def orbitals(mf: Any) -> tuple[np.ndarray, np.ndarray]:
    """Energies (Hartree) and whether each is occupied; both spins of an unrestricted reference."""
    energies, occupations = np.asarray(mf.mo_energy), np.asarray(mf.mo_occ)
    return energies.reshape(-1), occupations.reshape(-1) > 0.5


def mulliken_charges(method: Any, mf: Any) -> Float[np.ndarray, " atom"]:
    """Charges of Mulliken 1955, e: nuclear charge minus the populations of the atom's basis functions."""
    mol = mf.mol
    populations = np.einsum("ij,ji->i", density_matrix(method, mf), mol.intor_symmetric("int1e_ovlp"))
    slices = mol.aoslice_by_atom()[:, 2:]
    return mol.atom_charges() - np.array([populations[a:b].sum() for a, b in slices])


def hirshfeld_charges(method: Any, mf: Any) -> Float[np.ndarray, " atom"]:
    """Charges of Hirshfeld, Theor. Chim. Acta 1977, 44, 129, e: the density is partitioned in proportion to free atoms.

    The free atoms are spherically averaged, in the same basis; the integrals are done on a grid of level 3.
    """
    from pyscf import dft

    mol = mf.mol
    grids = dft.gen_grid.Grids(mol)
    grids.level = 3
    grids.build()
    molecule = density_matrix(method, mf)
    atoms = _free_atoms(mf)
    slices = mol.aoslice_by_atom()[:, 2:]
    populations = np.zeros(mol.natm)
    for first in range(0, len(grids.weights), 20_000):
        points, weights = grids.coords[first : first + 20_000], grids.weights[first : first + 20_000]
        values = dft.numint.eval_ao(mol, points)
        density = np.einsum("gi,ij,gj->g", values, molecule, values, optimize=True)
        free = np.array(
            [
                np.einsum("gi,ij,gj->g", values[:, a:b], d, values[:, a:b], optimize=True)
                for (a, b), d in zip(slices, atoms, strict=True)
            ]
        ).clip(min=0)
        total = free.sum(axis=0)
        share = np.divide(free, total, out=np.zeros_like(free), where=total > 1e-15)
        populations += share @ (density * weights)
    charges = mol.atom_charges() - populations
    # The integration error of the electrons is distributed evenly, so that charges sum to the total charge.
    return charges - (charges.sum() - mol.charge) / mol.natm


def _free_atoms(mf: Any) -> list[np.ndarray]:
    from pyscf.scf import atom_hf

    mol = mf.mol
    atoms = atom_hf.get_atm_nrhf(mol)
    matrices = []
    for atom in range(mol.natm):
        symbol = mol.atom_symbol(atom)
        key = symbol if symbol in atoms else mol.atom_pure_symbol(atom)
        _, _, coefficients, occupations = atoms[key]
        matrices.append((coefficients * occupations) @ coefficients.T)
    return matrices


def polarizability(mf: Any, rerun: Callable[[Any], Any]) -> Float[np.ndarray, "3 3"]:
    """Static polarizability, Angstrom^3, from dipoles in six finite fields (central differences).

    Cohen and Roothaan, J. Chem. Phys. 1965, 43, S34.

    Args:
        mf: a converged mean field, on the CPU or a GPU; it is not changed.
        rerun: function that converges a mean field from its current density matrix.
    """
    mol = mf.mol
    with mol.with_common_orig((0, 0, 0)):
        integrals = mol.intor_symmetric("int1e_r", comp=3)
    bare = mf.get_hcore()
    columns = []
    for axis in range(3):
        moments = []
        for sign in (1, -1):
            field = mf.copy()
            # A field F adds F.r for each electron; the nuclei only shift the energy.
            dressed = np.asarray(_in_memory(bare) + sign * FIELD * integrals[axis], like=bare)
            field.get_hcore = lambda *args, h=dressed: h
            field = rerun(field)
            if not field.converged:
                raise SimulationError("not_converged", f"SCF in a field along axis {axis} did not converge")
            moments.append(-np.einsum("xij,ji->x", integrals, density_matrix(field, field)))
        columns.append((moments[0] - moments[1]) / (2 * FIELD))
    tensor = np.array(columns) * Bohr**3
    return 0.5 * (tensor + tensor.T)
