"""Delta-learning: the surrogate learns differences to a cheaper simulator, whose answers are added at prediction time.

The network need not learn what a semi-empirical method already describes (Ramakrishnan et al. 2015,
doi:10.1021/acs.jctc.5b00099).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.structures.structures import Structures
from simulators.adapter import Simulator
from simulators.structure_requests import refuse_cells, request
from surrogates.learning.rung import Rung


def baseline_answers(
    baseline: Simulator, structures: Structures
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "A 3"]]:
    """Energies (eV) and forces (eV/Angstrom) of a simulator, one structure after the other, in this process.

    Raises:
        SimulationError: the simulator fails for one of the structures.
    """
    energy, forces = np.zeros(len(structures)), np.zeros_like(structures.positions)
    for m in range(len(structures)):
        atoms = slice(structures.atom_start[m], structures.atom_start[m + 1])
        answer = baseline.simulate(request(baseline, structures, m))
        energy[m], forces[atoms] = float(answer["energy"]), answer["forces"].values
    return energy, forces


def differences(
    rung: Rung, parts: Sequence[Structures], store: Path, *, progress: bool = True
) -> tuple[list[Structures], dict[str, float]]:
    """The structures with the energies and forces of a simulator subtracted, and the cost of that simulator.

    Args:
        rung: a simulator that gives `energy` (eV) and `forces` (eV/Angstrom), and how it is asked.
        parts: tables of structures.
        store: store of its answers; answers in it are not computed again.
        progress: whether to show a progress bar and a table.

    Returns:
        The tables, without the structures for which the baseline failed; and the metrics `baseline/core_seconds`
        (processor time, s), `baseline/frames` and `baseline/failed`.

    Raises:
        InputError: the baseline does not give energies and forces, several processes train together, or it fails on
            every structure of a table.
    """
    baseline = rung.simulator
    outputs = {v.name for v in baseline.spec.outputs}
    if not {"energy", "forces"} <= outputs:
        raise InputError(
            f"{baseline.name} gives {', '.join(sorted(outputs))}",
            where="baseline.outputs",
            remedy="Give baseline.outputs=[energy,forces]",
        )
    if jax.process_count() > 1:
        raise InputError(
            "differences are computed by one process",
            where="devices.distributed",
            remedy="Train in one process, on any number of devices",
        )
    for part in parts:
        refuse_cells(baseline, part, "baseline")
    requests = [request(baseline, part, m) for part in parts for m in range(len(part))]
    answers = rung.ask(requests, ("energy", "forces"), store, progress=progress)
    tables, failed, place, ok = [], 0, 0, answers.ok
    for part in parts:
        kept = np.flatnonzero(ok[place : place + len(part)])
        failed += len(part) - len(kept)
        if not len(kept):
            raise InputError(f"{baseline.name} has no answer for any of {len(part)} structures", where=str(store))
        table = part.take(kept)
        energy = np.array([float(answers.values[place + m]["energy"]) for m in kept.tolist()])
        forces = np.concatenate([np.asarray(answers.values[place + m]["forces"], np.float64) for m in kept.tolist()])
        tables.append(replace(table, energy=table.energy - energy, forces=table.forces - forces))
        place += len(part)
    cost = {"core_seconds": answers.core_seconds, "frames": float(len(requests)), "failed": float(failed)}
    return tables, {f"baseline/{name}": value for name, value in cost.items()}
