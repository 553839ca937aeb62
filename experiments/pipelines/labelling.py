"""Labels molecules in a simulation campaign over SMILES, and collects its records as aligned arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.costs import core_seconds
from data.spec import dataset
from data.splits import canonical
from data.store.records import RecordStore
from simulators.adapter import Simulator
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.campaigns.summary import CampaignSummary


@dataclass(frozen=True)
class Labels:
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

    def take(self, names: Sequence[str]) -> Labels:
        """The labels of those SMILES in `names` that have one, in the order of `names`."""
        where = {s: i for i, s in enumerate(self.smiles)}
        rows = [where[s] for s in names if s in where]
        return Labels(
            [self.smiles[i] for i in rows],
            {t: v[rows] for t, v in self.values.items()},
            self.units,
            self.fingerprint,
            self.core_seconds,
            self.seconds[rows],
            self.failed,
        )


def label(
    simulator: Simulator,
    smiles: Sequence[str],
    targets: Sequence[str],
    store: Path,
    config: CampaignConfig,
    *,
    key: str = "campaign",
) -> tuple[Labels, CampaignSummary]:
    """Simulate each of `smiles`, or take its record from the store, and collect `targets`.

    Requests are canonical SMILES, so that a molecule is simulated once however it is written. `key` is the key of
    `config` in the configuration, for messages.

    Raises:
        KeyError: a target is not among the simulator's outputs.
    """
    units = {t: simulator.spec.output(t).units for t in targets}
    variables = simulator.spec.inputs
    asked = dict(zip(smiles, canonical(smiles), strict=True))
    molecules = set(asked.values())
    requests = (dataset(variables, {"smiles": s}) for s in dict.fromkeys(asked.values()))
    summary = run_campaign(simulator, requests, store, config, total=len(molecules), key=key)
    answers: dict[str, tuple[list[float], float]] = {}
    failed: dict[str, tuple[str, str]] = {}
    with RecordStore.open(store) as records:
        names = records.column("smiles")
        status, message = records.column("status"), records.column("message")
        seconds = records.column("seconds")
        costs = core_seconds(records.facts(), str(store))
        columns = [records.column(t) for t in targets]
    core = 0.0
    for i, name in enumerate(names):
        if name not in molecules:
            continue
        core += float(np.nan_to_num(costs[i]))
        if status[i] == "ok":
            answers[name] = ([float(c[i]) for c in columns], float(seconds[i]))
            # This record is a retry of a simulation that failed before.
            failed.pop(name, None)
        else:
            failed[name] = (str(status[i]), str(message[i]))
    kept = [s for s in asked if asked[s] in answers]
    table = np.array([answers[asked[s]][0] for s in kept]).reshape(len(kept), len(targets))
    return (
        Labels(
            kept,
            {t: table[:, k] for k, t in enumerate(targets)},
            units,
            simulator.fingerprint,
            core,
            np.array([answers[asked[s]][1] for s in kept]),
            [(s, *failed[asked[s]]) for s in asked if asked[s] in failed],
        ),
        summary,
    )
