"""PySCF as a simulator: Hartree-Fock, density functionals, MP2, CCSD and CCSD(T) with any basis.

Sun et al., J. Chem. Phys. 2020, 153, 024109. The simulator supports density fitting, D3(BJ) and D4 dispersion, implicit
solvent, relaxation of the geometry (`simulators.chemistry.relaxation`), and GPUs by gpu4pyscf.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
import xarray as xr
from ase.data import chemical_symbols
from ase.units import Bohr, Hartree

from data.errors import InputError
from data.extras import install_command
from data.spec import SimulationError, Spec, content_hash
from simulators.chemistry import core_potentials
from simulators.chemistry import pyscf_properties as properties
from simulators.chemistry.dispersion import is_corrected
from simulators.chemistry.grid_cache import CachedNumInt
from simulators.chemistry.relaxation import relax
from simulators.chemistry.scf import ConvergenceRecord, LadderConfig, converge
from simulators.chemistry.variables import OUTPUTS, Geometry, answer, frontier, spec

CORRELATED = ("mp2", "ccsd", "ccsd(t)")
SOLVENT_MODELS = ("IEF-PCM", "C-PCM", "COSMO", "SS(V)PE", "SMD", "ddCOSMO")
#: Outputs that a correlated method takes from its Hartree-Fock reference.
REFERENCE = ("orbital_energies", "homo", "lumo", "gap")


@dataclass(frozen=True)
class PySCF:
    """An ab initio or density functional simulator.

    Attributes:
        method: "hf", "mp2", "ccsd", "ccsd(t)", or any functional that PySCF knows ("b3lyp", "wb97x-d3bj").
        basis: name of a basis in PySCF, or a mapping of elements to names ("default" for the rest). The effective core
            potentials that belong to it are used (`simulators.chemistry.core_potentials`).
        ecp: core potentials that override those of the basis: a name, for the elements that it covers, or a mapping of
            elements to names.
        outputs: names from `variables.OUTPUTS`; dipoles and charges of correlated methods are those of the
            unrelaxed density, orbital energies those of the Hartree-Fock reference.
        density_fit: whether to use density fitting (Dunlap, Connolly, Sabin 1979), which is faster; its error is about
            1e-5 Hartree per atom.
        auxiliary_basis: auxiliary basis of the density fitting; None: PySCF's choice for the basis, see
            `core_potentials.auxiliary`.
        relativity: "x2c" for the spin-free exact two-component Hamiltonian, for energies and orbitals; None:
            nonrelativistic.
        dispersion: "d3bj", "d3zero", "d4" or None; the functional's name may imply a correction.
        solvent: name from PySCF's table ("water"), or None for vacuum.
        solvent_model: one of `SOLVENT_MODELS`.
        grid: level of the integration grid, 0 to 9.
        grid_points: radial shells and angular points per atom, in place of `grid`.
        optimize: whether to relax the geometry first; the output `relaxed_positions` holds the relaxed one.
        max_steps: largest number of steps of the relaxation.
        tolerance: convergence threshold of the SCF energy, Hartree.
        max_cycles: largest number of cycles for each rung of the SCF ladder.
        check_stability: whether to follow internal instabilities to a lower solution, which is recorded in the log.
        frozen_core: whether to exclude core orbitals from the correlation.
        device: "cpu", or "gpu" for gpu4pyscf: the SCF, its gradients and its response to electric fields run on the
            GPU, correlation and properties of the density on the CPU.
        keep_orbitals: whether to cache the basis functions on the grid between cycles, in at most a quarter of
            `memory_mb`; the answer is the same.
        memory_mb: memory for which PySCF plans its algorithms, 10^6 bytes; it is not enforced.
    """

    method: str = "b3lyp"
    basis: str | Mapping[str, str] = "def2-svp"
    ecp: str | Mapping[str, str] | None = None
    outputs: tuple[str, ...] = ("energy", "gap", "dipole_moment")
    density_fit: bool = True
    auxiliary_basis: str | None = None
    relativity: str | None = None
    dispersion: str | None = None
    solvent: str | None = None
    solvent_model: str = "IEF-PCM"
    grid: int = 3
    grid_points: tuple[int, int] | None = None
    optimize: bool = False
    max_steps: int = 100
    tolerance: float = 1e-9
    max_cycles: int = 50
    check_stability: bool = False
    frozen_core: bool = False
    device: str = "cpu"
    keep_orbitals: bool = True
    memory_mb: int = 4000

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "method", self.method.lower())
        set_(self, "basis", core_potentials.normalise_choice(self.basis, "simulator.basis"))
        set_(self, "ecp", None if self.ecp is None else core_potentials.normalise_choice(self.ecp, "simulator.ecp"))
        set_(self, "outputs", tuple(self.outputs))
        set_(self, "grid_points", None if self.grid_points is None else tuple(self.grid_points))
        # Molecules alone, so that there is no stress.
        spec(self.outputs, OUTPUTS)
        self._check_choices()

    def _check_choices(self) -> None:
        def refuse(problem: str, where: str, remedy: str) -> None:
            raise InputError(problem, where=f"simulator.{where}", remedy=remedy)

        if self.device not in ("cpu", "gpu"):
            refuse(f"no device {self.device!r}", "device", "Choose cpu or gpu")
        if self.solvent_model not in SOLVENT_MODELS:
            refuse(f"no model {self.solvent_model!r}", "solvent_model", f"Choose from {list(SOLVENT_MODELS)}")
        if self.solvent is not None and self.solvent not in _solvents():
            refuse(f"no solvent {self.solvent!r}", "solvent", "See pyscf.solvent.smd.solvent_db, such as water")
        if self.grid_points is not None and len(self.grid_points) != 2:
            refuse(f"{self.grid_points} is not a pair", "grid_points", "Give [radial, angular], such as [50,302]")
        if self.dispersion is not None and self.dispersion not in ("d3bj", "d3zero", "d4"):
            refuse(f"no dispersion {self.dispersion!r}", "dispersion", "Choose d3bj, d3zero or d4")
        if self.relativity not in (None, "x2c"):
            refuse(f"no Hamiltonian {self.relativity!r}", "relativity", "Choose x2c, or null for none")
        if self.relativity is not None and (self.device == "gpu" or self.solvent is not None):
            refuse("is not offered on a GPU or in a solvent", "relativity", "Set device=cpu and solvent=null")
        if self.relativity is not None and ({"forces", "polarizability"} & set(self.outputs) or self.optimize):
            refuse("gives no forces, relaxation or polarizability here", "relativity", "Leave them out of outputs")
        if self.auxiliary_basis is not None and not self.density_fit:
            refuse("nothing is fitted", "auxiliary_basis", "Leave it out, or set density_fit=true")
        if "relaxed_positions" in self.outputs and not self.optimize:
            refuse("relaxed_positions without relaxation", "outputs", "Set simulator.optimize=true")
        if self.method == "ccsd(t)" and self.optimize:
            refuse("ccsd(t) has no relaxation here", "optimize", "Relax with ccsd or mp2 first")
        if self.device == "gpu" and self.check_stability:
            refuse("gpu4pyscf has no stability analysis", "check_stability", "Set device=cpu")
        if self.device == "gpu" and self.method in CORRELATED and self.optimize:
            refuse(f"{self.method} is not relaxed on a GPU", "optimize", "Set device=cpu")
        if self.method in CORRELATED:
            derivative = "forces" in self.outputs or self.optimize
            if derivative and self.density_fit:
                refuse(f"{self.method} has no gradients with density fitting", "density_fit", "Set density_fit=false")
            if (self.solvent or self.dispersion) is not None:
                refuse(f"{self.method} takes no solvent or dispersion", "method", "Use hf or a functional")
            if "polarizability" in self.outputs:
                refuse(f"{self.method} has no polarizability here", "outputs", "Use hf or a functional")
            density = {"dipole", "dipole_moment", "mulliken_charges", "hirshfeld_charges"} & set(self.outputs)
            if self.method == "ccsd(t)" and density:
                refuse(f"ccsd(t) gives no density for {sorted(density)}", "outputs", "Use ccsd")
            return
        if self.frozen_core:
            refuse(f"{self.method} correlates no core", "frozen_core", f"Leave it out, or use one of {CORRELATED}")
        if self.method != "hf":
            from pyscf.dft import libxc

            try:
                libxc.parse_xc(self.method.split("-d3")[0].split("-d4")[0])
            except (KeyError, ValueError) as error:
                refuse(f"PySCF knows no functional {self.method!r} ({error})", "method", "See pyscf.dft.libxc.XC_CODES")
        try:
            is_corrected(self.method, self.dispersion)
        except ValueError as error:
            where = "method" if self.dispersion is None else "dispersion"
            refuse(f"no dispersion correction of {self.method}: {error}", where, "Choose another method or correction")

    @property
    def name(self) -> str:
        """Such as "pyscf:b3lyp/def2-svp"."""
        return f"pyscf:{self.method}/{core_potentials.label(self.basis)}"

    @cached_property
    def spec(self) -> Spec:
        """The input is a geometry; the outputs are the chosen ones."""
        return spec(self.outputs, OUTPUTS)

    @property
    def provenance(self) -> dict[str, Any]:
        """Program, version and settings that affect the answer."""
        settings = {k: v for k, v in asdict(self).items() if k not in ("device", "keep_orbitals", "memory_mb")}
        if self.ecp is None:
            del settings["ecp"]
        if self.relativity is None:
            del settings["relativity"]
        if isinstance(self.basis, str) and core_potentials.had_missing_potentials(self.basis):
            # Older labels of such a basis lack its potentials, and must have another fingerprint.
            settings["ecp"] = self.ecp or "of the basis"
        return {
            "simulator": self.name,
            "version": _version(self.method not in CORRELATED and is_corrected(self.method, self.dispersion)),
            "settings": json.loads(json.dumps(settings)),
        }

    @property
    def fingerprint(self) -> str:
        """Hash of the provenance."""
        return content_hash(self.provenance)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Solve for one geometry; see `simulators.adapter.Simulator`. The log records the convergence of the SCF."""
        geometry = Geometry.read(inputs)
        if self.method == "ccsd(t)" and geometry.spin and "forces" in self.outputs:
            # Those of PySCF 2.14 are not the gradient of its energy (github.com/pyscf/pyscf/issues/3305).
            raise SimulationError("invalid_input", "ccsd(t) has no forces for unpaired electrons; use ccsd")
        mol, guess = self._molecule(geometry), None
        log: dict[str, Any] = {}
        if self.optimize:
            mol, guess, log = self._relax(mol)
        record = ConvergenceRecord()
        mf = converge(self._mean_field(mol), self._ladder(), record, guess)
        values = self._values(mf)
        outputs = answer(self.spec, {k: v for k, v in values.items() if k in self.outputs})
        outputs.attrs["log"] = json.dumps({**record.as_json(), **log, **_cores(mol)})
        return outputs

    def _relax(self, mol: Any) -> tuple[Any, Any, dict[str, Any]]:
        """The relaxed molecule, its density matrix, and for the log the steps and the SCFs that needed remedies.

        Every step uses the same ladder of remedies and starts from the density of the previous step.
        """
        density: Any = None
        step = 0
        rescued: list[dict[str, Any]] = []

        def surface(moved: Any) -> tuple[float, np.ndarray]:
            nonlocal density, step
            step, record = step + 1, ConvergenceRecord()
            mf = converge(self._mean_field(moved), self._ladder(), record, density)
            density = mf.make_rdm1()
            if len(record.rungs) > 1:
                rescued.append({"step": step, **record.as_json()})
            method = self._correlated(mf) if self.method in CORRELATED else mf
            return float(method.e_tot), self._gradient(method)

        relaxed, steps = relax(mol, surface, self.max_steps)
        return relaxed, density, {"relaxation_steps": steps} | ({"relaxation_rescues": rescued} if rescued else {})

    def _ladder(self) -> LadderConfig:
        return LadderConfig(self.tolerance, self.max_cycles, self.check_stability)

    def _molecule(self, geometry: Geometry) -> Any:
        from pyscf import gto

        symbols = [chemical_symbols[z] for z in geometry.numbers]
        potentials = core_potentials.core_potentials(self.basis, self.ecp, symbols)
        if self.relativity is None:
            core_potentials.refuse_nonrelativistic(self.basis, potentials, symbols)
        elif potentials:
            raise SimulationError(
                "invalid_input",
                f"core potentials of {', '.join(sorted(potentials))} hold their relativity, which X2C adds again; "
                "take an all-electron basis, such as ano-rcc, or simulator.relativity=null",
            )
        try:
            return gto.M(
                atom=list(zip(symbols, geometry.positions.tolist(), strict=True)),
                unit="Angstrom",
                basis=core_potentials.basis_by_element(self.basis, symbols),
                ecp=potentials,
                charge=geometry.charge,
                spin=geometry.spin,
                verbose=0,
                max_memory=self.memory_mb,
            )
        except (KeyError, RuntimeError, ValueError, AssertionError) as error:
            named, problem = core_potentials.label(self.basis), " ".join(str(error).split())
            raise SimulationError("invalid_input", f"basis {named!r}: {problem}") from error

    def _mean_field(self, mol: Any) -> Any:
        from pyscf import dft, scf

        restricted = mol.spin == 0
        if self.method in ("hf", *CORRELATED):
            mf = scf.RHF(mol) if restricted else scf.UHF(mol)
        else:
            mf = dft.RKS(mol, xc=self.method) if restricted else dft.UKS(mol, xc=self.method)
            mf.grids.level = self.grid
            if self.grid_points is not None:
                mf.grids.atom_grid = self.grid_points
            if self.keep_orbitals and self.device == "cpu":
                mf._numint = CachedNumInt(self.memory_mb / 4)
        if self.relativity is not None:
            mf = mf.x2c()
        if self.density_fit:
            if self.auxiliary_basis is not None:
                self._check_auxiliary(mol)
            mf = mf.density_fit(auxbasis=self.auxiliary_basis or core_potentials.auxiliary(mol))
        if self.dispersion is not None:
            mf.disp = self.dispersion
        if self.solvent is not None:
            mf = self._solvated(mf)
        if self.device == "gpu":
            if find_spec("gpu4pyscf") is None:
                raise SimulationError(
                    "missing_component",
                    f"gpu4pyscf is not installed. Install it with `{install_command('gpu')}`, or set device=cpu",
                )
            mf = mf.to_gpu()
        return mf

    def _check_auxiliary(self, mol: Any) -> None:
        from pyscf import df

        try:
            df.addons.make_auxmol(mol, self.auxiliary_basis)
        except (KeyError, RuntimeError, ValueError, AssertionError) as error:
            problem = f"auxiliary basis {self.auxiliary_basis!r}: {' '.join(str(error).split())}"
            raise SimulationError("invalid_input", problem) from error

    def _solvated(self, mf: Any) -> Any:
        if self.solvent_model == "SMD":
            mf = mf.SMD()
            mf.with_solvent.solvent = self.solvent
            return mf
        mf = mf.ddCOSMO() if self.solvent_model == "ddCOSMO" else mf.PCM()
        if self.solvent_model != "ddCOSMO":
            mf.with_solvent.method = self.solvent_model
        mf.with_solvent.eps = _solvents()[str(self.solvent)][5]
        return mf

    def _correlated(self, mf: Any) -> Any:
        """Run the post-Hartree-Fock method on `mf`; its `e_tot` is the total energy, Hartree."""
        from pyscf import cc, mp

        method = mp.MP2(mf) if self.method == "mp2" else cc.CCSD(mf)
        if self.frozen_core:
            method.set_frozen()
        method.kernel()
        if self.method != "mp2" and not method.converged:
            raise SimulationError("not_converged", "the coupled-cluster equations did not converge")
        return method

    def _values(self, mf: Any) -> dict[str, Any]:
        requested, correlated = set(self.outputs), self.method in CORRELATED
        mf = self._on_cpu(mf) if correlated else mf
        method = self._correlated(mf) if correlated else mf
        energy = float(method.e_tot) + (float(method.ccsd_t()) if self.method == "ccsd(t)" else 0.0)
        values: dict[str, Any] = {"energy": energy * Hartree}
        if "forces" in requested:
            values["forces"] = -self._gradient(method) * Hartree / Bohr
        if "polarizability" in requested:
            values["polarizability"] = properties.polarizability(
                mf, lambda field: converge(field, LadderConfig(min(self.tolerance, 1e-10)), ConvergenceRecord())
            )
        # The other outputs cost only a few matrix products.
        mf, method = (mf, method) if correlated else (self._on_cpu(mf),) * 2
        if {"dipole", "dipole_moment"} & requested:
            moment = properties.dipole(method, mf)
            values |= {"dipole": moment, "dipole_moment": float(np.linalg.norm(moment))}
        if requested & set(REFERENCE):
            energies, occupied = properties.orbitals(mf)
            values |= frontier(energies * Hartree, occupied)
        if "mulliken_charges" in requested:
            values["mulliken_charges"] = properties.mulliken_charges(method, mf)
        if "hirshfeld_charges" in requested:
            values["hirshfeld_charges"] = properties.hirshfeld_charges(method, mf)
        if "relaxed_positions" in requested:
            values["relaxed_positions"] = mf.mol.atom_coords() * Bohr
        return values

    def _on_cpu(self, mf: Any) -> Any:
        return mf.to_cpu() if self.device == "gpu" else mf

    def _gradient(self, method: Any) -> np.ndarray:
        """Nuclear gradient, Hartree/Bohr."""
        if self.method == "ccsd(t)":
            from pyscf.cc import ccsd_t_lambda
            from pyscf.grad import ccsd_t

            integrals = method.ao2mo()
            converged, l1, l2 = ccsd_t_lambda.kernel(method, integrals, method.t1, method.t2, verbose=0)
            if not converged:
                raise SimulationError("not_converged", "the Lambda equations of CCSD(T) did not converge")
            return np.asarray(ccsd_t.Gradients(method).kernel(method.t1, method.t2, l1, l2, eris=integrals))
        gradients = method.nuc_grad_method()
        if hasattr(gradients, "grid_response"):
            # Without the response of the grid, the forces would not be the gradient of the energy.
            gradients.grid_response = True
        return np.asarray(gradients.kernel())


def _cores(mol: Any) -> dict[str, Any]:
    """For the log: number of electrons that the effective core potential of each element replaces."""
    cores = {symbol: int(potential[0]) for symbol, potential in sorted(mol._ecp.items())}
    return {"core_electrons": cores} if cores else {}


def _solvents() -> dict[str, list[float]]:
    from pyscf.solvent.smd import solvent_db

    return solvent_db


def _version(dispersion: bool) -> str:
    versions = [f"pyscf {version('pyscf')}"]
    if dispersion:
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"pyscf-dispersion {version('pyscf-dispersion')}")
    return ", ".join(versions)
