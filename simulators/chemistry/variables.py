"""Names, dims and units of the inputs and outputs of all quantum chemistry simulators."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int

from data.errors import InputError
from data.spec import SimulationError, Spec, Variable, check, dataset
from data.structures.neighbours import periodic_pairs

#: Smallest valid distance of two atoms, Angstrom; a smaller one means wrong units or a faulty file.
CLOSEST = 0.3
#: Up to this many atoms all distances are computed at once.
FEW_ATOMS = 200
#: Reason for which simulators of molecules refuse a frame with a cell.
ISOLATED_ONLY = (
    'only isolated molecules can be computed: take its cell away (pbc="F F F"), or use simulator=ase, '
    "or simulator=xtb with simulator.periodic=true"
)

GEOMETRY = (
    Variable("numbers", ("atom",), "1", "int32", "atomic number"),
    Variable("positions", ("atom", "axis"), "Angstrom", "float64", "position"),
    Variable("charge", (), "e", "int32", "total charge"),
    Variable("spin", (), "1", "int32", "number of unpaired electrons"),
)

#: Input of periodic simulators; simulators without it compute isolated molecules only.
CELL = Variable("cell", ("axis", "axis_2"), "Angstrom", "float64", "lattice vectors, zeros where nothing repeats")

OUTPUTS: Mapping[str, Variable] = {
    v.name: v
    for v in (
        Variable("energy", (), "eV", "float64", "total energy"),
        Variable("forces", ("atom", "axis"), "eV/Angstrom", "float64", "force"),
        Variable("stress", ("axis", "axis_2"), "eV/Angstrom^3", "float64", "stress, positive under tension"),
        Variable("dipole", ("axis",), "Debye", "float64", "dipole moment vector"),
        Variable("dipole_moment", (), "Debye", "float64", "dipole moment"),
        Variable("orbital_energies", ("orbital",), "eV", "float64", "orbital energy"),
        Variable("homo", (), "eV", "float64", "energy of the highest occupied orbital"),
        Variable("lumo", (), "eV", "float64", "energy of the lowest unoccupied orbital"),
        Variable("gap", (), "eV", "float64", "HOMO-LUMO gap"),
        Variable("mulliken_charges", ("atom",), "e", "float64", "Mulliken charge"),
        Variable("hirshfeld_charges", ("atom",), "e", "float64", "Hirshfeld charge"),
        Variable("partial_charges", ("atom",), "e", "float64", "partial charge of a potential"),
        Variable("magnetic_moments", ("atom",), "mu_B", "float64", "magnitude of the magnetic moment"),
        Variable("polarizability", ("axis", "axis_2"), "Angstrom^3", "float64", "static polarizability"),
        Variable("relaxed_positions", ("atom", "axis"), "Angstrom", "float64", "position after relaxation"),
    )
}


@dataclass(frozen=True)
class Geometry:
    """A molecule, slab or crystal.

    Attributes:
        numbers: atomic numbers.
        positions: positions of the atoms, Angstrom.
        charge: total charge, e.
        spin: number of unpaired electrons.
        cell: lattice vectors, Angstrom, zeros where nothing repeats; None for an isolated molecule.
    """

    numbers: Int[np.ndarray, " atom"]
    positions: Float[np.ndarray, "atom 3"]
    charge: int = 0
    spin: int = 0
    cell: Float[np.ndarray, "3 3"] | None = None

    @property
    def electrons(self) -> int:
        """Number of electrons, including those that a core potential may replace."""
        return int(self.numbers.sum()) - self.charge

    @property
    def periodic(self) -> Bool[np.ndarray, " 3"]:
        """Whether it is periodic along each lattice vector."""
        return np.zeros(3, bool) if self.cell is None else np.asarray(np.any(self.cell != 0, axis=1))

    @property
    def volume(self) -> float:
        """Volume of the cell, Angstrom^3.

        Raises:
            SimulationError: `invalid_input`: it does not repeat along three directions, so that it has no stress.
        """
        if self.cell is None or not self.periodic.all():
            raise SimulationError("invalid_input", "a stress needs a cell that repeats along three directions")
        return float(abs(np.linalg.det(self.cell)))

    def dataset(self) -> xr.Dataset:
        """The request that `Geometry.read` reads; it has a cell only if the geometry is periodic."""
        variables = (*GEOMETRY, CELL) if self.periodic.any() else GEOMETRY
        return dataset(variables, {v.name: getattr(self, v.name) for v in variables})

    @staticmethod
    def read(inputs: xr.Dataset, *, periodic: bool = False) -> Geometry:
        """Read the geometry of a request; absent charge, spin and cell are 0.

        Args:
            inputs: the request.
            periodic: whether the simulator supports periodic cells.

        Raises:
            SimulationError: `invalid_input`: no atoms, an unknown element, overlapping atoms, a spin that the number of
                electrons forbids, a degenerate cell, or a cell that the simulator does not support.
        """
        check(inputs, (*GEOMETRY, CELL), optional=("charge", "spin", "cell"))
        numbers = np.asarray(inputs["numbers"].values, np.int32)
        positions = np.asarray(inputs["positions"].values, np.float64)
        geometry = Geometry(
            numbers,
            positions,
            int(inputs["charge"]) if "charge" in inputs else 0,
            int(inputs["spin"]) if "spin" in inputs else 0,
            np.asarray(inputs["cell"].values, np.float64) if "cell" in inputs and inputs["cell"].values.any() else None,
        )
        if not len(numbers):
            raise SimulationError("invalid_input", "the molecule has no atoms")
        if len(positions) != len(numbers):
            raise SimulationError("invalid_input", f"{len(numbers)} numbers but {len(positions)} positions")
        if numbers.min() < 1 or numbers.max() >= len(chemical_symbols):
            raise SimulationError(
                "invalid_input", f"unknown elements in atomic numbers {sorted(set(numbers.tolist()))}"
            )
        repeats = geometry.periodic
        if repeats.any() and not periodic:
            raise SimulationError("invalid_input", f"it repeats along {repeats.sum()} directions; {ISOLATED_ONLY}")
        if geometry.cell is not None and np.linalg.matrix_rank(geometry.cell[repeats]) < repeats.sum():
            raise SimulationError("invalid_input", "its cell has lattice vectors that do not span it")
        if (nearest := _shortest(geometry)) < CLOSEST:
            raise SimulationError("invalid_input", f"two atoms are {nearest:.3f} Angstrom apart; are the units right?")
        electrons, spin = geometry.electrons, geometry.spin
        # Bands of a crystal may be partially filled, so that the parity of its electrons does not restrict its spin.
        if electrons < 0 or spin < 0 or spin > electrons or ((electrons - spin) % 2 and not repeats.any()):
            raise SimulationError(
                "invalid_input",
                f"{electrons} electrons (charge {geometry.charge:+d}) cannot have {spin} unpaired ones",
            )
        return geometry


def _shortest(geometry: Geometry) -> float:
    """The smallest distance between atoms, including periodic images, Angstrom; values above 1 are returned as 1."""
    if geometry.cell is not None:
        return float(periodic_pairs(geometry.positions, geometry.cell, 1.0).distance.min(initial=1.0))
    if len(geometry.positions) > FEW_ATOMS:
        # A worker of small molecules does not import SciPy for this.
        from scipy.spatial.distance import pdist

        return float(pdist(geometry.positions).min(initial=1.0))
    first, second = np.triu_indices(len(geometry.positions), 1)
    apart = geometry.positions[first] - geometry.positions[second]
    return float(np.sqrt(np.einsum("ij,ij->i", apart, apart)).min(initial=1.0))


def refuse_choice(chosen: Sequence[str], supported: Collection[str], what: str) -> None:
    """Refuse a choice of names unless each can be chosen and occurs once, and there is one.

    Args:
        chosen: the names.
        supported: names that can be chosen.
        what: key of the choice in the settings of the simulator, such as "outputs".

    Raises:
        InputError: names what is unknown, and what can be chosen.
    """
    unknown = [name for name in chosen if name not in supported]
    if unknown or not chosen or len(set(chosen)) < len(chosen):
        problem = f"{what} {unknown} cannot be computed" if unknown else f"{what} must be distinct, got {list(chosen)}"
        raise InputError(problem, where=f"simulator.{what}", remedy=f"Choose from {', '.join(supported)}")


def spec(outputs: Iterable[str], supported: Iterable[str], *, periodic: bool = False) -> Spec:
    """The Spec of a simulator of geometries with the chosen outputs.

    Args:
        outputs: names of the chosen outputs.
        supported: names of the outputs that the simulator can compute.
        periodic: whether it supports periodic cells.

    Raises:
        InputError: an output is not supported or repeated, or there is none.
    """
    chosen, supported = list(outputs), [name for name in supported if periodic or name != "stress"]
    refuse_choice(chosen, supported, "outputs")
    return Spec((*GEOMETRY, CELL) if periodic else GEOMETRY, tuple(OUTPUTS[name] for name in chosen))


def frontier(
    energies: Float[np.ndarray, " orbital"], occupied: Bool[np.ndarray, " orbital"]
) -> dict[str, float | np.ndarray]:
    """HOMO, LUMO, gap and all orbital energies, in the unit of `energies`, ascending.

    Raises:
        SimulationError: `invalid_input` if all orbitals are occupied or none is.
    """
    order = np.argsort(energies, kind="stable")
    energies, occupied = energies[order], occupied[order]
    if not occupied.any() or occupied.all():
        raise SimulationError(
            "invalid_input",
            "no gap: the basis has no empty orbital, or the system no electron; ask for simulator.outputs=[energy]",
        )
    homo, lumo = float(energies[occupied].max()), float(energies[~occupied].min())
    return {"homo": homo, "lumo": lumo, "gap": lumo - homo, "orbital_energies": energies}


def answer(spec: Spec, values: Mapping[str, Any]) -> xr.Dataset:
    """The outputs of a Spec as a Dataset.

    Raises:
        SimulationError: `not_converged` if a value is not finite.
    """
    outputs = dataset(spec.outputs, values)
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array.values).all():
            raise SimulationError("not_converged", f"{name} is not finite")
    check(outputs, spec.outputs)
    return outputs
