"""`understudy simulate`: run a simulator over the molecules of a file, into a resumable store."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import xarray as xr
from omegaconf import MISSING, DictConfig

from data.errors import InputError
from data.molecules import Row, read
from data.rejects import RejectLog
from experiments.stage import StageSettings, application, build, existing_file, instantiate, write_json
from simulators.base import Simulator, dataset
from simulators.campaign import CampaignConfig, run_campaign
from simulators.quantum.conformers import ConformerConfig
from simulators.quantum.smiles import FromSmiles

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SimulateSettings(StageSettings):
    """The keys of `understudy simulate`.

    Raises:
        ValueError: the limit is below 1.
    """

    inputs: str = MISSING
    smiles: str = "smiles"
    limit: int | None = None
    out: str = MISSING
    simulator: Any = MISSING
    campaign: Any = MISSING
    conformers: Any = MISSING

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be 1 or more, got {self.limit}")


def requests(rows: Iterator[Row], simulator: Simulator) -> Iterator[xr.Dataset]:
    """What a simulator takes, from the rows of a file: SMILES, or a geometry with charge and spin."""
    variables = simulator.spec.inputs
    wants_smiles = any(v.name == "smiles" for v in variables)
    for row in rows:
        if (row.smiles if wants_smiles else row.positions) is None:
            LOG.warning("line %d has no %s and is passed over", row.line, "SMILES" if wants_smiles else "geometry")
        elif wants_smiles:
            yield dataset(variables, {"smiles": row.smiles})
        else:
            charge, spin = row.properties.get("charge", 0), row.properties.get("spin", 0)
            yield dataset(
                variables, {"numbers": row.numbers, "positions": row.positions, "charge": charge, "spin": spin}
            )


def simulate(config: DictConfig, run_dir: Path) -> None:
    """Simulate each molecule of `config.inputs` that is not in the store yet."""
    settings = build(SimulateSettings, config, where="")
    path = existing_file(settings.inputs, "inputs")
    simulator = instantiate(config.simulator)
    campaign = build(CampaignConfig, config.campaign, where="campaign")
    conformers = build(ConformerConfig, config.conformers, where="conformers")
    with RejectLog(run_dir / "rejects.csv") as rejects:
        rows = read(path, smiles_column=settings.smiles, rejects=rejects)
        head = next(rows, None)
        if head is None:
            raise InputError("no row of it can be read", where=str(path), remedy=f"See {run_dir / 'rejects.csv'}")
        if head.positions is None:
            simulator = FromSmiles(simulator, conformers)
        first = islice(chain([head], rows), settings.limit)
        result = run_campaign(simulator, requests(first, simulator), Path(settings.out), campaign)
    write_json(run_dir / "metrics.json", result.metrics())


main = application("simulate", simulate)
