"""Labels as differences to a cheaper simulator, which a campaign runs on every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from data.costs import core_seconds
from data.errors import InputError
from data.spec import input_hash
from data.store.records import RecordStore
from data.structures.table import Structures
from simulators.adapter import Simulator
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from surrogates.potentials.baseline import refuse_cells, request


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
    keys = [input_hash(one) for one in requests]
    run_campaign(
        baseline,
        requests,
        store,
        CampaignConfig(give_up_after=None),
        total=len(requests),
        progress=progress,
        none_answered=True,
    )
    answers: dict[str, tuple[float, np.ndarray]] = {}
    with RecordStore.open(store) as records:
        spent = float(np.nansum(core_seconds(records.facts(), str(store))))
        for key, record in records.records():
            answers[key] = (float(record["energy"]), np.asarray(record["forces"], np.float64))
    tables, failed, place = [], 0, 0
    for part in parts:
        mine = keys[place : place + len(part)]
        place += len(part)
        kept = np.array([m for m, key in enumerate(mine) if key in answers], np.int64)
        failed += len(part) - len(kept)
        if not len(kept):
            raise InputError(f"{baseline.name} has no answer for any of {len(part)} structures", where=str(store))
        table = part.take(kept)
        energy = np.array([answers[mine[m]][0] for m in kept])
        forces = np.concatenate([answers[mine[m]][1] for m in kept])
        tables.append(replace(table, energy=table.energy - energy, forces=table.forces - forces))
    cost = {"core_seconds": spent, "frames": float(len(requests)), "failed": float(failed)}
    return tables, {f"baseline/{name}": value for name, value in cost.items()}
