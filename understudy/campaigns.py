"""Simulators, those of the package and your own, over many requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from data.store.records import RecordStore
from experiments.campaigns.named_simulator import named_simulator
from simulators.adapter import Simulator
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.campaigns.summary import CampaignSummary


def simulator(name: str, *overrides: str) -> Simulator:
    """A simulator of the package, or the one that an earlier run used.

    Args:
        name: of its configuration, such as "xtb", "pyscf", "ngsolve" or "burgers"; or the directory of a run of
            `understudy simulate`.
        *overrides: settings such as `"simulator.basis=def2-tzvp"`.

    Raises:
        InputError: there is no such simulator, or it has no such setting.
    """
    return named_simulator(name, overrides, key="name")


def records(store: str | Path) -> xr.Dataset:
    """All finished records of a store, also while another process appends to it.

    Args:
        store: what `understudy simulate` or a `Campaign` wrote.

    Returns:
        Inputs, outputs, status and cost of each request along the dimension `sample`, with units.

    Raises:
        InputError: there is no store.
        CorruptStoreError: a file of it is damaged.
    """
    return RecordStore.open(store).dataset()


@dataclass(frozen=True)
class Campaign:
    """A simulator over many requests, each in a process with limits of time and memory, in a store that survives kills.

    ```python
    campaign = understudy.Campaign(understudy.simulator("xtb"), "labels.zarr", timeout_s=60)
    campaign.run(requests)
    campaign.records()
    ```

    Attributes:
        simulator: `understudy.simulator(NAME)`, a surrogate, or an object of your own with the four members of
            `understudy.Simulator`. It is sent to the processes by pickle, so its class lives in a module.
        store: directory of the records. The same store again adds what it does not hold yet.
        workers: processes; None: one for each core.
        threads: of each process.
        timeout_s: wall seconds after which a simulation is killed; None: no limit.
        memory_mb: resident memory above which a process is killed (10^6 bytes); None: no limit.
        retries: more tries for what may pass on a second one.
    """

    simulator: Simulator
    store: str | Path
    workers: int | None = None
    threads: int = 1
    timeout_s: float | None = 3600.0
    memory_mb: int | None = 4000
    retries: int = 1
    _config: CampaignConfig = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = ("workers", "threads", "timeout_s", "memory_mb", "retries")
        settings: dict[str, Any] = {name: getattr(self, name) for name in names}
        object.__setattr__(self, "_config", CampaignConfig(**settings))

    def run(self, requests: Iterable[xr.Dataset], *, progress: bool = True) -> CampaignSummary:
        """Answer every request that the store does not hold yet.

        Args:
            requests: Datasets that `simulator.spec.request({...})` makes; they may be millions, and are read as
                processes come free.
            progress: whether to show a bar and a closing table.

        Returns:
            How many were answered, failed and were there before, and what they cost.

        Raises:
            InputError: the store holds another simulator's records, or every request failed.
            SimulationError: `missing_component`: a program or a package is absent.
        """
        return run_campaign(self.simulator, requests, Path(self.store), self._config, progress=progress)

    def records(self) -> xr.Dataset:
        """The finished records; see `understudy.records`."""
        return records(self.store)
