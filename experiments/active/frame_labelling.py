"""Labels frames with energies and forces from a simulation campaign, and collects its records as a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from data.errors import InputError
from data.structures.structures import Structures
from simulators.adapter import Simulator
from simulators.campaigns.answers import answer_requests
from simulators.campaigns.config import CampaignConfig
from simulators.structure_requests import request

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
    answers = answer_requests(
        simulator, requests, store, config, names=("numbers", "positions", *NEEDED), progress=progress,
        none_answered=True,
    )  # fmt: skip
    rows = np.flatnonzero(answers.ok)
    failed = tuple((s, m) for s, m in zip(answers.status, answers.message, strict=True) if s != "ok")
    good = [answers.values[i] for i in rows]
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
    return Labelled(table, rows, failed, answers.core_seconds)
