"""GFN1-xTB and GFN2-xTB through tblite: semiempirical labels in milliseconds.

GFN2-xTB: Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 2019, 15, 1652; GFN1-xTB: Grimme, Bannwarth,
Shushkov, J. Chem. Theory Comput. 2017, 13, 1989.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr
from ase.units import Bohr, Debye, Hartree

from data.errors import InputError
from data.spec import SimulationError, Spec, content_hash
from simulators.chemistry.variables import Geometry, answer, frontier, spec

METHODS = ("GFN2-xTB", "GFN1-xTB")
SUPPORTED = (
    "energy",
    "forces",
    "stress",
    "dipole",
    "dipole_moment",
    "orbital_energies",
    "homo",
    "lumo",
    "gap",
    "mulliken_charges",
)


@dataclass(frozen=True)
class XTB:
    """An extended tight-binding simulator.

    Attributes:
        method: one of `METHODS`.
        outputs: names from `SUPPORTED`.
        accuracy: factor on tblite's convergence thresholds; smaller is tighter.
        electronic_temperature: temperature of the Fermi distribution over orbitals, K.
        max_iterations: number of cycles after which a calculation counts as not converged.
        solvent: name of the solvent for ALPB implicit solvation (Ehlert et al., JCTC 2021, 17, 4250), or None.
        periodic: whether frames with a cell are computed, with the Gamma point alone: cells have to be large, or to be
            repeated, until the answer no longer changes. A stress needs a cell that repeats along three directions.
    """

    method: str = "GFN2-xTB"
    outputs: tuple[str, ...] = ("energy", "gap", "dipole_moment")
    accuracy: float = 1.0
    electronic_temperature: float = 300.0
    max_iterations: int = 250
    solvent: str | None = None
    periodic: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", tuple(self.outputs))
        if self.method not in METHODS:
            raise InputError(
                f"no method {self.method!r}", where="simulator.method", remedy=f"Choose from {list(METHODS)}"
            )
        spec(self.outputs, SUPPORTED, periodic=self.periodic)
        if self.periodic and self.solvent is not None:
            raise InputError(
                "a solvent surrounds molecules, not cells", where="simulator.solvent", remedy="Set periodic=false"
            )
        if not (0 < self.accuracy < math.inf and 0 <= self.electronic_temperature < math.inf):
            raise InputError(
                "accuracy must be above 0 and electronic_temperature 0 or more, both finite; got "
                f"{self.accuracy} and {self.electronic_temperature}",
                where="simulator",
            )
        if self.max_iterations < 1:
            raise InputError(f"must be 1 or more, got {self.max_iterations}", where="simulator.max_iterations")

    @property
    def name(self) -> str:
        """Such as "xtb:GFN2-xTB"."""
        return f"xtb:{self.method}"

    @cached_property
    def spec(self) -> Spec:
        """The input is a geometry, with a cell if cells are computed; the outputs are the chosen ones."""
        return spec(self.outputs, SUPPORTED, periodic=self.periodic)

    @property
    def provenance(self) -> dict[str, Any]:
        """Program, version and settings."""
        settings = json.loads(json.dumps(asdict(self)))
        if not self.periodic:
            # Labels of before there were cells keep their fingerprint.
            del settings["periodic"]
        return {"simulator": self.name, "version": f"tblite {version('tblite')}", "settings": settings}

    @property
    def fingerprint(self) -> str:
        """Hash of the provenance."""
        return content_hash(self.provenance)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """One single-point calculation; see `simulators.adapter.Simulator`."""
        from tblite.exceptions import TBLiteRuntimeError, TBLiteTypeError, TBLiteValueError
        from tblite.interface import Calculator

        geometry = Geometry.read(inputs, periodic=self.periodic)
        volume = geometry.volume if "stress" in self.outputs else 1.0
        cell = {} if geometry.cell is None else {"lattice": geometry.cell / Bohr, "periodic": geometry.periodic}
        try:
            calculator = Calculator(
                self.method,
                geometry.numbers,
                geometry.positions / Bohr,
                float(geometry.charge),
                geometry.spin,
                **cell,
            )
            calculator.set("verbosity", 0)
            calculator.set("accuracy", self.accuracy)
            calculator.set("max-iter", self.max_iterations)
            # tblite takes the temperature as an energy, kT in Hartree.
            calculator.set("temperature", self.electronic_temperature * 3.166808578545117e-06)
            if self.solvent is not None:
                calculator.add("alpb-solvation", self.solvent)
        except (TBLiteRuntimeError, TBLiteTypeError, TBLiteValueError) as error:
            raise SimulationError("invalid_input", _line(error)) from error
        try:
            result = calculator.singlepoint()
        except TBLiteRuntimeError as error:
            raise SimulationError("not_converged", _line(error)) from error
        values: dict[str, Any] = {"energy": float(result.get("energy")) * Hartree}
        if "forces" in self.outputs:
            values["forces"] = -np.asarray(result.get("gradient")) * Hartree / Bohr
        if "stress" in self.outputs:
            # tblite's virial is the derivative of the energy with respect to the strain.
            values["stress"] = np.asarray(result.get("virial")) * Hartree / volume
        dipole = np.asarray(result.get("dipole")) * Bohr / Debye
        values |= {"dipole": dipole, "dipole_moment": float(np.linalg.norm(dipole))}
        if "mulliken_charges" in self.outputs:
            values["mulliken_charges"] = np.asarray(result.get("charges"))
        if {"homo", "lumo", "gap", "orbital_energies"} & set(self.outputs):
            energies = np.asarray(result.get("orbital-energies")).reshape(-1) * Hartree
            # Filled orbitals are counted, as a Fermi distribution makes occupations fractional.
            electrons = round(float(np.sum(result.get("orbital-occupations"))))
            filled = np.arange(len(energies)) < (electrons + geometry.spin) // 2
            values |= frontier(np.sort(energies), filled)
        return answer(self.spec, values)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
