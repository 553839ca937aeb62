"""Labels as differences to a cheaper simulator, which a campaign runs on every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from data.errors import InputError
from data.structures.table import Structures
from simulators.adapter import Simulator
from simulators.campaigns.answers import answer_requests
from simulators.campaigns.config import CampaignConfig
from simulators.structure_requests import refuse_cells, request


@dataclass(frozen=True)
class CampaignBaseline:
    """A simulator that a campaign runs on labelled frames; see `surrogates.learning.task.Baseline`.

    Attributes:
        simulator: gives `energy` (eV) and `forces` (eV/Angstrom).
    """

    simulator: Simulator

    def subtract(
        self, parts: Sequence[Structures], store: Path, *, progress: bool
    ) -> tuple[list[Structures], dict[str, float]]:
        """See `differences`."""
        return differences(self.simulator, parts, store, progress=progress)


def differences(
    baseline: Simulator, parts: Sequence[Structures], store: Path, *, progress: bool = True
) -> tuple[list[Structures], dict[str, float]]:
    """The structures with the energies and forces of a simulator subtracted, and the cost of that simulator.

    Args:
        baseline: gives `energy` (eV) and `forces` (eV/Angstrom).
        parts: tables of structures.
        store: store of the answers of `baseline`; answers in it are not computed again.
        progress: whether to show a progress bar and a table.

    Returns:
        The tables, without the structures for which the baseline failed; and the metrics `baseline/core_seconds`
        (processor time, s), `baseline/frames` and `baseline/failed`.

    Raises:
        InputError: the baseline does not give energies and forces, several processes train together, or it fails on
            every structure of a table.
    """
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
    answers = answer_requests(
        baseline,
        requests,
        store,
        CampaignConfig(give_up_after=None),
        names=("energy", "forces"),
        progress=progress,
        none_answered=True,
    )
    tables, failed, place, ok = [], 0, 0, answers.ok
    for part in parts:
        kept = np.flatnonzero(ok[place : place + len(part)])
        failed += len(part) - len(kept)
        if not len(kept):
            raise InputError(f"{baseline.name} has no answer for any of {len(part)} structures", where=str(store))
        table = part.take(kept)
        energy = answers.column("energy")[place + kept]
        forces = np.concatenate([np.asarray(answers.values[place + m]["forces"], np.float64) for m in kept])
        tables.append(replace(table, energy=table.energy - energy, forces=table.forces - forces))
        place += len(part)
    cost = {"core_seconds": answers.core_seconds, "frames": float(len(requests)), "failed": float(failed)}
    return tables, {f"baseline/{name}": value for name, value in cost.items()}
