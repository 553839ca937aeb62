"""The protocol of simulators and surrogates.

A `Simulator` answers a request, an `xarray.Dataset` that fits `spec.inputs`, with a Dataset that fits `spec.outputs`,
or raises `SimulationError`. Everything else (campaigns, comparison, screening) uses this protocol.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import xarray as xr

from data.spec import Spec


@runtime_checkable
class Simulator(Protocol):
    """An object that answers requests: an adapter of a program or library, or a surrogate of one.

    Attributes:
        name: short readable name, such as "pyscf:b3lyp/def2-svp".
        spec: inputs and outputs with dims, units and coordinates.
        fingerprint: hash of the method, its settings and the version of the wrapped package, which identifies the
            labels; independent of threads, memory and host.
        provenance: JSON-serialisable facts that are stored with the labels: at least `simulator`, `version` and
            `settings`.
    """

    @property
    def name(self) -> str: ...

    @property
    def spec(self) -> Spec: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def provenance(self) -> dict[str, Any]: ...

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Answer one request.

        Args:
            inputs: request that fits `spec.inputs` (see `data.spec.check`).

        Returns:
            A Dataset that fits `spec.outputs`; all values are finite. `attrs["log"]`, if present, is a JSON string with
            facts about the computation (retries, cycles).

        Raises:
            SimulationError: the request has no answer; the kind states the reason.
        """
        ...
