"""Labels frames with energies and forces from a simulation campaign, and collects its records as a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from data.costs import core_seconds
from data.errors import InputError
from data.spec import input_hash
from data.store.records import RecordStore
from data.structures.table import Structures
from simulators.adapter import Simulator
from simulators.campaigns.campaign import AGAIN, CampaignConfig, run_campaign
from surrogates.potentials.baseline import request

NEEDED = ("energy", "forces")


@dataclass(frozen=True)
class Labelled:
    """Frames with the energies and forces of the simulator.

    Attributes:
        structures: frames whose calculation succeeded, in the order of the request, with energies (eV) and forces
            (eV/Angstrom).
        rows: indices of these frames among those requested.
        failed: (kind, message) of each failed calculation.
        core_seconds: processor time of every requested calculation, s; failed ones and those of earlier runs count.
    """

    structures: Structures
    rows: Int[np.ndarray, " m"]
    failed: tuple[tuple[str, str], ...]
    core_seconds: float


def refuse_unfit(simulator: Simulator) -> None:
    """Refuse a simulator that does not give energies and forces of geometries.

    Raises:
        InputError: an output is missing, or the simulator does not take geometries.
    """
    outputs = {v.name for v in simulator.spec.outputs}
    missing = [name for name in NEEDED if name not in outputs]
    if missing:
        raise InputError(
            f"{simulator.name} does not give {missing}", where="simulator.outputs", remedy="Give [energy,forces]"
        )
    if not {"numbers", "positions"} <= {v.name for v in simulator.spec.inputs}:
        raise InputError(f"{simulator.name} does not take geometries", where="simulator")


def label(
    simulator: Simulator, frames: Structures, store: Path, config: CampaignConfig, *, progress: bool = True
) -> Labelled:
    """Simulate each frame with its charge, spin and cell, or take its answer from the store.

    Args:
        simulator: gives energies and forces of geometries; see `refuse_unfit`.
        frames: geometries to label; their own energies and forces are not used.
        store: records of this simulator by content; created if absent.
        config: settings of the campaign.
        progress: whether to show the campaign's progress bar and table.
    """
    if not len(frames):
        return Labelled(frames, np.zeros(0, np.int64), (), 0.0)
    requests = [request(simulator, frames, m) for m in range(len(frames))]
    # The caller decides what a batch without any answer means.
    run_campaign(simulator, requests, store, config, progress=progress, none_answered=True)
    keys = [input_hash(one) for one in requests]
    batch_keys = set(keys)
    latest: dict[str, dict[str, object]] = {}
    total = 0.0
    with RecordStore.open(store) as records:
        costs = core_seconds(records.facts(), str(store))
        for cost, (key, values) in zip(costs, records.records(status=None), strict=True):
            # A retry of a failed calculation is stored after it, under a key that begins with the same hash.
            first = key.split(AGAIN)[0]
            if first in batch_keys:
                latest[first] = values
                total += float(np.nan_to_num(cost))
    answers = [latest[key] for key in keys]
    rows = np.array([i for i, answer in enumerate(answers) if answer["status"] == "ok"], np.int64)
    failed = tuple((str(a["status"]), str(a["message"])) for a in answers if a["status"] != "ok")
    good = [answers[i] for i in rows]
    table = Structures.from_arrays(
        [np.asarray(a["numbers"]) for a in good],
        [np.asarray(a["positions"]) for a in good],
        [float(np.asarray(a["energy"])) for a in good],
        [np.asarray(a["forces"]) for a in good],
        charge=frames.charge[rows].tolist(),
        lattice=list(frames.lattice[rows]),
        spin=frames.spin[rows].tolist(),
        fixed=np.split(frames.take(rows).fixed, frames.take(rows).atom_start[1:-1]) if len(rows) else None,
    )
    return Labelled(table, rows, failed, total)
