"""Labels molecules in a simulation campaign over SMILES, and collects its records as aligned arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.spec import dataset
from data.splits import canonical
from simulators.adapter import Simulator
from simulators.campaigns.answers import answer_requests
from simulators.campaigns.config import CampaignConfig
from simulators.campaigns.summary import CampaignSummary


@dataclass(frozen=True)
class SimulatedLabels:
    """Successful simulations, in the order of the request.

    Attributes:
        smiles: SMILES of each molecule, as requested.
        values: each target as an array (molecule,), in the unit of `units`.
        units: unit of each target.
        fingerprint: fingerprint of the simulator.
        core_seconds: processor time of every requested record, failures included, s.
        seconds: wall time of each molecule, s.
        failed: (smiles, kind, message) of each molecule without a label.
    """

    smiles: list[str]
    values: dict[str, Float[np.ndarray, " molecule"]]
    units: dict[str, str]
    fingerprint: str
    core_seconds: float
    seconds: Float[np.ndarray, " molecule"]
    failed: list[tuple[str, str, str]]

    def take(self, names: Sequence[str]) -> SimulatedLabels:
        """The labels of those SMILES in `names` that have one, in the order of `names`."""
        where = {s: i for i, s in enumerate(self.smiles)}
        rows = [where[s] for s in names if s in where]
        return SimulatedLabels(
            [self.smiles[i] for i in rows],
            {t: v[rows] for t, v in self.values.items()},
            self.units,
            self.fingerprint,
            self.core_seconds,
            self.seconds[rows],
            self.failed,
        )

    def only(self, targets: Sequence[str]) -> SimulatedLabels:
        """The labels of these targets alone."""
        return replace(self, values={t: self.values[t] for t in targets}, units={t: self.units[t] for t in targets})

    def joined(self, other: SimulatedLabels) -> SimulatedLabels:
        """These labels and those of another campaign of the same simulator, of targets that both have."""
        both = [t for t in self.values if t in other.values]
        return SimulatedLabels(
            self.smiles + other.smiles,
            {t: np.concatenate([self.values[t], other.values[t]]) for t in both},
            {t: self.units[t] for t in both},
            self.fingerprint,
            self.core_seconds + other.core_seconds,
            np.concatenate([self.seconds, other.seconds]),
            self.failed + other.failed,
        )


def label(
    simulator: Simulator,
    smiles: Sequence[str],
    targets: Sequence[str],
    store: Path,
    config: CampaignConfig,
    *,
    key: str = "campaign",
) -> tuple[SimulatedLabels, CampaignSummary]:
    """Simulate each of `smiles`, or take its record from the store, and collect `targets`.

    Requests are canonical SMILES, so that a molecule is simulated once however it is written. `key` is the key of
    `config` in the configuration, for messages.

    Raises:
        KeyError: a target is not among the simulator's outputs.
    """
    units = {t: simulator.spec.output(t).units for t in targets}
    variables = simulator.spec.inputs
    asked = dict(zip(smiles, canonical(smiles), strict=True))
    molecules = list(dict.fromkeys(asked.values()))
    requests = (dataset(variables, {"smiles": s}) for s in molecules)
    answers = answer_requests(simulator, requests, store, config, names=targets, total=len(molecules), key=key)
    place = {molecule: i for i, molecule in enumerate(molecules)}
    ok = answers.ok
    kept = [s for s in asked if ok[place[asked[s]]]]
    rows = np.array([place[asked[s]] for s in kept], np.int64)
    failed = [(s, place[asked[s]]) for s in asked if not ok[place[asked[s]]]]
    return (
        SimulatedLabels(
            kept,
            {t: answers.column(t)[rows] for t in targets},
            units,
            simulator.fingerprint,
            answers.core_seconds,
            answers.seconds[rows],
            [(s, answers.status[i], answers.message[i]) for s, i in failed],
        ),
        answers.summary,
    )
