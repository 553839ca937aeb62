"""Robust convergence of self-consistent fields by a ladder of remedies; each is tried only if the previous one failed.

Plain DIIS (Pulay 1982), then damping with a level shift (Saunders and Hillier 1973), then second-order
optimisation (Sun, Yang, Chan 2017, Chem. Phys. Lett. 683, 291), then the same from better guesses.
Every rung is recorded, so that a store shows which labels needed a remedy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data.spec import SimulationError


@dataclass(frozen=True)
class LadderConfig:
    """How far to go for convergence.

    Attributes:
        tolerance: change of the energy between cycles at convergence, Hartree.
        max_cycles: largest number of cycles of each rung.
        check_stability: whether to follow internal instabilities to a lower solution.
        max_descents: largest number of such descents.
    """

    tolerance: float = 1e-9
    max_cycles: int = 50
    check_stability: bool = False
    max_descents: int = 3


@dataclass
class ConvergenceRecord:
    """A record of the rungs and descents; `as_json` goes into the log of the sample."""

    rungs: list[dict[str, Any]] = field(default_factory=list)
    stability: list[dict[str, Any]] = field(default_factory=list)

    def add(self, rung: str, mf: Any) -> None:
        """Record the result of a rung."""
        self.rungs.append(
            {
                "rung": rung,
                "converged": bool(mf.converged),
                "cycles": int(getattr(mf, "cycles", -1)),
                "energy_hartree": float(mf.e_tot),
            }
        )

    def as_json(self) -> dict[str, Any]:
        """A plain dict."""
        log: dict[str, Any] = {"scf": self.rungs}
        if self.stability:
            log["stability"] = self.stability
        return log


def converge(mf: Any, config: LadderConfig, record: ConvergenceRecord, guess: Any = None) -> Any:
    """Bring a PySCF mean field to convergence.

    Args:
        mf: a mean field that is configured but has not been run.
        config: settings of the ladder.
        record: record to which the rungs are added, also if this raises.
        guess: density matrix to start from; None: that of `mf` if it has orbitals, else PySCF's default.

    Returns:
        The converged mean field, possibly another object than `mf`, but of the same class. A second-order solver is
        never returned: it copies parts of the mean field, so that later changes (an electric field) have no effect.

    Raises:
        SimulationError: `not_converged` after the last rung, or if no stable solution is found.
    """
    mf.conv_tol, mf.max_cycle = config.tolerance, config.max_cycles
    mf.kernel(dm0=guess)
    record.add("diis", mf)
    rungs: list[tuple[str, Callable[[Any], Any]]] = [
        ("damping and level shift", _damped),
        ("second order", lambda m: _second_order(m, dm0=m.make_rdm1())),
        (
            "second order from atomic potentials",
            lambda m: _second_order(m, dm0=m.get_init_guess(key="vsap" if hasattr(m, "grids") else "huckel")),
        ),
        ("second order from Hueckel orbitals", lambda m: _second_order(m, dm0=m.get_init_guess(key="huckel"))),
    ]
    for name, rung in rungs:
        if mf.converged:
            break
        mf = rung(mf)
        record.add(name, mf)
    if not mf.converged:
        last = record.rungs[-1]
        raise SimulationError(
            "not_converged",
            f"SCF not converged to {config.tolerance:g} Hartree after {len(record.rungs)} remedies, "
            f"the last: {last['rung']}, {last['energy_hartree']:.6f} Hartree",
            record.as_json(),
        )
    return _descend(mf, config, record) if config.check_stability else mf


def _damped(mf: Any) -> Any:
    start = mf.make_rdm1()
    damp, shift, first = mf.damp, mf.level_shift, mf.diis_start_cycle
    mf.damp, mf.level_shift, mf.diis_start_cycle = 0.5, 0.3, 6
    mf.max_cycle *= 3
    try:
        mf.kernel(start)
    finally:
        mf.max_cycle //= 3
        mf.damp, mf.level_shift, mf.diis_start_cycle = damp, shift, first
    return mf


def _second_order(mf: Any, **start: Any) -> Any:
    newton = mf.newton()
    newton.conv_tol, newton.max_cycle = mf.conv_tol, mf.max_cycle
    cycles = 0

    def count(state: dict[str, Any]) -> None:
        nonlocal cycles
        cycles = state["imacro"] + 1

    newton.callback = count
    newton.kernel(**start)
    plain = newton.undo_soscf()
    plain.callback, plain.cycles = None, cycles
    return plain


def _descend(mf: Any, config: LadderConfig, record: ConvergenceRecord) -> Any:
    """Follow internal instabilities (Seeger and Pople 1977) to lower energies until the solution is stable."""
    for _ in range(config.max_descents + 1):
        orbitals, _, stable, _ = mf.stability(internal=True, external=False, return_status=True)
        record.stability.append({"stable": bool(stable), "energy_hartree": float(mf.e_tot)})
        if stable:
            return mf
        mf = _second_order(mf, mo_coeff=np.asarray(orbitals), mo_occ=mf.mo_occ)
        record.add("descent from a saddle point", mf)
        if not mf.converged:
            break
    raise SimulationError(
        "not_converged",
        f"no internally stable wavefunction found in {config.max_descents} descents",
        record.as_json(),
    )
