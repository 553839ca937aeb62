"""The one interface of the project: what a simulator, and so also a surrogate, takes and gives.

A `Simulator` answers one request, an `xarray.Dataset` that fits `spec.inputs`, with a Dataset that fits `spec.outputs`,
or raises `SimulationError`. Everything else (campaigns, comparison, screening) is written against this.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import xarray as xr

from data.spec import Spec


@runtime_checkable
class Simulator(Protocol):
    """Anything that answers a request: a program, a library, or a surrogate of one.

    Attributes:
        name: short and readable, such as "pyscf:b3lyp/def2-svp".
        spec: what goes in and what comes out.
        fingerprint: hash of the method, its settings and the wrapped package's version: the
            identity of its labels. Threads, memory and the host never enter.
        provenance: JSON-serialisable facts stored beside the labels: at least `simulator`,
            `version` and `settings`.
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
            inputs: fits `spec.inputs` (see `check`).

        Returns:
            A Dataset that fits `spec.outputs`; finite throughout. `attrs["log"]`, where present,
            is a JSON string of how the answer was reached (retries, cycles).

        Raises:
            SimulationError: the request has no answer; the kind says why.
        """
        ...
