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
    """The minimum of the energy nearby.

    Args:
        mol: PySCF molecule to start from; it is not changed.
        surface: asked at each step. Its molecule is the same object, moved.
        max_steps: steps after which it counts as not converged.

    Returns:
        The molecule at the last geometry that was asked for, and how many were; an atom needs none.

    Raises:
        SimulationError: `not_converged`, or what `surface` raises, with the step at which it did.
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
    """geomeTRIC without its reports, and without its configuring the logging of the whole process.

    That would close the handlers that others have installed.
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
