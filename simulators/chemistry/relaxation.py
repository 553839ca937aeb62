"""Relaxation of a geometry on any energy surface, by geomeTRIC.

Wang and Song, J. Chem. Phys. 2016, 144, 214108.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from data.spec import SimulationError

#: Energy (Hartree) and its gradient (Hartree/Bohr, one row an atom) of a PySCF molecule.
Surface = Callable[[Any], tuple[float, np.ndarray]]


def relax(mol: Any, surface: Surface, max_steps: int) -> tuple[Any, int]:
    """Relax a molecule to a nearby minimum of the energy.

    Args:
        mol: PySCF molecule from which to start; it is not changed.
        surface: energy surface, called at each step with the same moved molecule object.
        max_steps: number of steps after which the relaxation counts as not converged.

    Returns:
        The molecule at the last evaluated geometry, and the number of evaluations, which is 0 for an atom.

    Raises:
        SimulationError: `not_converged`, or the error of `surface` with the step at which it occurred.
    """
    from geometric.errors import Error
    from pyscf.geomopt import geometric_solver
    from pyscf.geomopt.addons import as_pyscf_method

    if mol.natm == 1:
        return mol, 0
    steps = 0

    def counted(moved: Any) -> tuple[float, np.ndarray]:
        nonlocal steps
        steps += 1
        return surface(moved)

    try:
        with _quiet_geometric():
            converged, relaxed = geometric_solver.kernel(as_pyscf_method(mol, counted), maxsteps=max_steps)
    except SimulationError as error:
        message = f"at step {steps} of the relaxation: {error.message}"
        raise SimulationError(error.kind, message, {**error.details, "relaxation_steps": steps}) from error
    except Error as error:
        what = " ".join(str(error).split()) or type(error).__name__
        message = f"at step {steps} of the relaxation geomeTRIC gave up: {what}"
        raise SimulationError("not_converged", message, {"relaxation_steps": steps}) from error
    if not converged:
        raise SimulationError("not_converged", f"the geometry did not relax in {max_steps} steps")
    relaxed.verbose = 0
    return relaxed, steps


@contextlib.contextmanager
def _quiet_geometric() -> Iterator[None]:
    """Run geomeTRIC without its output, and without its configuration of the logging of the whole process.

    That configuration would close the handlers of other packages.
    """
    import logging.config

    configure, log = logging.config.fileConfig, logging.getLogger("geometric")
    silence, propagate = logging.NullHandler(), log.propagate
    logging.config.fileConfig = lambda *args, **kwargs: None
    log.addHandler(silence)
    log.propagate = False
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.config.fileConfig = configure
        log.removeHandler(silence)
        log.propagate = propagate
