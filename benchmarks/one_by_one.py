"""A simulator that hides that it answers many requests together, to compare campaigns with and without that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import xarray as xr

from data.spec import Spec
from simulators.adapter import Simulator


@dataclass(frozen=True)
class OneByOne:
    """Answers as `simulator` does, one request at a time.

    Attributes:
        simulator: the simulator.
    """

    simulator: Simulator

    @property
    def name(self) -> str:
        """That of the simulator."""
        return self.simulator.name

    @property
    def spec(self) -> Spec:
        """That of the simulator."""
        return self.simulator.spec

    @property
    def fingerprint(self) -> str:
        """That of the simulator, whose answers these are."""
        return self.simulator.fingerprint

    @property
    def provenance(self) -> dict[str, Any]:
        """That of the simulator."""
        return self.simulator.provenance

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """The answer of the simulator."""
        return self.simulator.simulate(inputs)
