"""Any ASE calculator as a simulator: its energy, forces, stress, dipole and charges.

A calculator is a class of the `ase` package, or one of a few of other packages (`OTHERS`), named by its dotted path; or
any object that Python code provides.
Hjorth Larsen et al., J. Phys.: Condens. Matter 2017, 29, 273002.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from ase.calculators.calculator import (
    CalculatorSetupError,
    FileIOCalculator,
    PropertyNotImplementedError,
    SCFError,
)
from ase.calculators.genericfileio import GenericFileIOCalculator
from ase.stress import voigt_6_to_full_3x3_stress
from ase.units import Debye

from data.errors import InputError
from data.spec import SimulationError, Spec, content_hash
from simulators.chemistry.variables import Geometry, answer, spec
from simulators.workers.scratch import scratch

SUPPORTED = ("energy", "forces", "stress", "dipole", "dipole_moment", "mulliken_charges")
#: Output -> the property that ASE computes for it.
PROPERTIES = {
    "energy": "energy",
    "forces": "forces",
    "stress": "stress",
    "dipole": "dipole",
    "dipole_moment": "dipole",
    "mulliken_charges": "charges",
}
#: Calculators of other packages that a configuration may name -> parameters that it may give them: such as neither name
#: a file, which may hold code, nor a charge or a spin, which a request states.
OTHERS: Mapping[str, frozenset[str]] = {
    "tblite.ase.TBLite": frozenset(
        {"method", "accuracy", "electronic_temperature", "guess", "max_iterations", "mixer_damping", "verbosity"}
    ),
    "dftd3.ase.DFTD3": frozenset({"method", "damping"}),
    "dftd4.ase.DFTD4": frozenset({"method"}),
}
#: Modules of `ase.calculators` that run programs for molecules and ignore a cell.
MOLECULAR = frozenset(
    {"acemolecule", "demon", "demonnano", "gamess_us", "gaussian", "mopac", "orca", "psi4", "qchem", "turbomole"}
)
#: Parameters of calculators that name the program to run.
RUNS = frozenset({"command", "profile", "binary", "executable", "program"})
#: Modules of force fields, which have no electrons and therefore ignore charge and spin.
WITHOUT_ELECTRONS = frozenset(
    {
        "acn",
        "dftd3",
        "eam",
        "emt",
        "ff",
        "harmonic",
        "h2morse",
        "kim",
        "lj",
        "morse",
        "tersoff",
        "tip3p",
        "tip4p",
    }
)


@dataclass(frozen=True)
class ASECalculator:
    """A simulator around an ASE calculator, of molecules and, if the calculator is periodic, of slabs and crystals.

    Attributes:
        calculator: dotted path of a class under `ase.calculators`, such as "ase.calculators.emt.EMT", or one of
            `OTHERS`.
        parameters: keyword arguments of the calculator, JSON-serialisable.
        outputs: names from `SUPPORTED` that the calculator implements.
        make: picklable function that makes a calculator, for use from Python; `calculator` is then only a name, and
            `parameters` identify the settings.
    """

    calculator: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("energy", "forces")
    make: Callable[[], Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", tuple(self.outputs))
        object.__setattr__(self, "parameters", dict(self.parameters))
        spec(self.outputs, SUPPORTED, periodic=self.periodic)
        if self.make is None:
            self._class()

    def _class(self) -> Callable[..., Any]:
        # A configuration may only name classes of ASE and of a list: it must not cause the import of other code.
        module, _, name = self.calculator.rpartition(".")
        others = OTHERS.get(self.calculator)
        if others is None and not module.startswith("ase.calculators."):
            raise InputError(
                f"{self.calculator!r} is neither a class under ase.calculators nor one of {', '.join(OTHERS)}",
                where="simulator.calculator",
                remedy="From Python, give ASECalculator(make=...) for another calculator",
            )
        unlisted = [] if others is None else [key for key in self.parameters if key not in others]
        if unlisted:
            raise InputError(
                f"a configuration does not give this parameter to {name}",
                where=f"simulator.parameters.{unlisted[0]}",
                remedy=f"It may give {', '.join(sorted(others or ()))}",
            )
        try:
            cls = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise InputError(
                f"no calculator {self.calculator!r}: {error}",
                where="simulator.calculator",
                remedy="See ase.calculators",
            ) from error
        if not (inspect.isclass(cls) and issubclass(cls, GetPropertiesMixin)):
            raise InputError(
                f"{self.calculator!r} is no calculator", where="simulator.calculator", remedy="See ase.calculators"
            )
        commands = [key for key in self.parameters if key in RUNS]
        if commands:
            raise InputError(
                "a configuration does not say which program is run",
                where=f"simulator.parameters.{commands[0]}",
                remedy="Say it in the configuration of ASE itself (`ase info`, or the variable ASE_<NAME>_COMMAND)",
            )
        return cls

    @property
    def module(self) -> str:
        """The module of the calculator, such as "emt"; empty for a calculator from `make`."""
        return self.calculator.removeprefix("ase.calculators.").split(".")[0] if self.make is None else ""

    @property
    def _other(self) -> bool:
        return self.make is None and self.calculator in OTHERS

    @property
    def periodic(self) -> bool:
        """Whether cells are passed to the calculator; the programs in `MOLECULAR` would ignore them."""
        return self.module not in MOLECULAR

    @property
    def name(self) -> str:
        """Such as "ase:EMT"."""
        return f"ase:{self.calculator.rpartition('.')[2]}"

    @cached_property
    def spec(self) -> Spec:
        """The input is a geometry, with a cell if the calculator is periodic; the outputs are the chosen ones."""
        return spec(self.outputs, SUPPORTED, periodic=self.periodic)

    @property
    def provenance(self) -> dict[str, Any]:
        """Class, version of ASE and settings."""
        settings = {"calculator": self.calculator, "parameters": self.parameters, "outputs": self.outputs}
        if self.periodic:
            # Older records, for which cells were ignored, must have another fingerprint.
            settings["cells"] = "repeated"
        return {
            "simulator": self.name,
            "version": f"ase {version('ase')}" + (f", {self.module} {version(self.module)}" if self._other else ""),
            "settings": json.loads(json.dumps(settings)),
        }

    @property
    def fingerprint(self) -> str:
        """Hash of the provenance."""
        return content_hash(self.provenance)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """One single-point calculation; see `simulators.adapter.Simulator`.

        Total charge and unpaired electrons are passed as initial charge and magnetic moment of the first atom, the
        convention of ASE; force fields, which ignore both, refuse ions and open shells.
        """
        geometry = Geometry.read(inputs, periodic=self.periodic)
        if self.module in WITHOUT_ELECTRONS and (geometry.charge or geometry.spin > 1):
            raise SimulationError(
                "invalid_input",
                f"{self.name} knows no electrons, and so no charge ({geometry.charge:+d}) and no spin "
                f"({geometry.spin} unpaired electrons)",
            )
        if "stress" in self.outputs:
            # Some calculators divide by the volume of a box that does not repeat.
            assert geometry.volume > 0
        charges, moments = np.zeros(len(geometry.numbers)), np.zeros(len(geometry.numbers))
        charges[0], moments[0] = geometry.charge, geometry.spin
        atoms = Atoms(
            geometry.numbers,
            geometry.positions,
            charges=charges,
            magmoms=moments,
            cell=geometry.cell,
            pbc=geometry.periodic,
        )
        try:
            atoms.calc = self.make() if self.make is not None else self._class()(**self.parameters)
            with _directory(atoms.calc):
                values = {output: self._value(atoms, output) for output in self.outputs}
        except SCFError as error:
            raise SimulationError("not_converged", str(error)) from error
        except FileNotFoundError as error:
            raise SimulationError("missing_component", f"{self.name} needs a program: {error}") from error
        except (CalculatorSetupError, PropertyNotImplementedError, NotImplementedError, KeyError) as error:
            raise SimulationError("invalid_input", f"{self.name}: {type(error).__name__}: {error}") from error
        return answer(self.spec, values)

    def _value(self, atoms: Atoms, output: str) -> Any:
        value = np.asarray(atoms.calc.get_property(PROPERTIES[output], atoms), np.float64)
        if output in ("dipole", "dipole_moment"):
            value = value / Debye  # ASE's dipoles are in e Angstrom
        if output == "stress" and value.shape == (6,):
            value = voigt_6_to_full_3x3_stress(value)
        return np.linalg.norm(value) if output == "dipole_moment" else value


@contextmanager
def _directory(calculator: Any) -> Iterator[None]:
    """Give a calculator that runs a program a temporary directory, unless its settings name one.

    In the working directory, two workers would overwrite each other's files.
    """
    runs = isinstance(calculator, FileIOCalculator | GenericFileIOCalculator)
    if not runs or Path(calculator.directory) != Path("."):
        yield
        return
    with scratch() as folder:
        calculator.directory = folder
        yield
