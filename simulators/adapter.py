"""The protocol of simulators and surrogates.

A `Simulator` answers a request, an `xarray.Dataset` that fits `spec.inputs`, with a Dataset that fits `spec.outputs`,
or raises `SimulationError`. Everything else (campaigns, comparison, screening) uses this protocol.

Further abilities are optional. Each has a protocol of its own, which `isinstance` tells from the methods that a
simulator has, so that no caller needs to know its class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import xarray as xr

from data.reading_summary import Reading
from data.spec import SimulationError, Spec

if TYPE_CHECKING:  # workers of campaigns need neither plans of samples nor what reads settings
    from simulators.requests import DrawSettings


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


@runtime_checkable
class DrawsRequests(Protocol):
    """A simulator that draws random requests to itself.

    A simulator whose inputs are all numbers does not need it: see `simulators.requests.draw_numbers`.
    """

    def draw(self, settings: DrawSettings, seed: int) -> Iterator[xr.Dataset]:
        """Requests `settings.start` to `settings.count` - 1 of the infinite series that `seed` determines.

        Request i depends only on the seed and i, so that a larger count extends a smaller one.

        Args:
            settings: initial states, shapes and ranges to draw from, and the number of requests.
            seed: seed of the series, 0 or more.

        Raises:
            InputError: a setting is missing, or is set and not used by this simulator; raised by the first request.
        """
        ...


@runtime_checkable
class HasResolutions(Protocol):
    """A simulator that has coarser and finer versions of itself: the rungs of a ladder of cost and error."""

    def at(self, *, points: int | None = None, dt: float | None = None) -> Self:
        """A copy with another resolution and the same saved times.

        Args:
            points: resolution in space in the simulator's own measure, such as grid points along each side or the
                truncation of a spectral core; None: unchanged.
            dt: time step in the simulator's unit of time; None: the simulator chooses one.

        Raises:
            InputError: the simulator refuses the resolution.
        """
        ...


@runtime_checkable
class MakesMeshes(Simulator, Protocol):
    """A solver that makes the mesh of a request without solving on it, as surrogates of meshes take it."""

    def mesh(self, inputs: xr.Dataset) -> xr.Dataset:
        """The mesh of a request: `nodes`, `elements` and `boundary`, as `data.meshes.mesh_samples` describes them.

        Raises:
            SimulationError: the request does not fit, or its mesh cannot be made.
        """
        ...


@runtime_checkable
class KeysRequests(Simulator, Protocol):
    """A surrogate that says under which key its training counts the inputs of a request among those it learned from."""

    def request_key(self, inputs: xr.Dataset) -> str:
        """The key of the inputs of a request: that of a training sample with the same inputs.

        Raises:
            SimulationError: the request does not fit.
        """
        ...


@runtime_checkable
class AdvancesStates(Protocol):
    """A simulator of trajectories on a grid, whose step JAX compiles and differentiates: networks can learn in it."""

    def advance(self, state: Any, parameters: Mapping[str, Any], parts: int = 1) -> Any:
        """The state after one of `parts` equal parts of the time between saved states.

        It is a pure function of JAX arrays, in float32.

        Args:
            state: (channel, *space) on any grid of the domain with the same number of points along each side. The
                simulator interpolates to and from a grid of its own, and drops what its grid cannot hold.
            parameters: numbers of the request, by the names of the inputs of the Spec.
            parts: number of parts; a simulator may refuse parts that are no multiple of its time step.

        Returns:
            The later state, on the grid of `state`.

        Raises:
            InputError: the simulator computes in another precision, or has no such parts.
        """
        ...


@runtime_checkable
class ReadsFiles(Protocol):
    """A simulator that reads files of its user, and reports what it reads of them."""

    def reading(self) -> Reading | None:
        """A report of what is read; None if there are no such files."""
        ...


@runtime_checkable
class HoldsRequests(Protocol):
    """A simulator that answers a finite number of requests, of which it has a list, such as finished cases."""

    def requests(self) -> Sequence[xr.Dataset]:
        """All requests that it can answer."""
        ...


@runtime_checkable
class DeclaresCost(Protocol):
    """A simulator that declares the cost of an answer, which counts in place of the measured one.

    Attributes:
        declared_cost_s: cost of one answer, core-seconds.
    """

    @property
    def declared_cost_s(self) -> float: ...


@runtime_checkable
class AnswersMany(Protocol):
    """A simulator that answers many requests together at a smaller cost than one by one."""

    def simulate_many(self, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
        """Answer requests, in their order.

        Args:
            inputs: requests as `Simulator.simulate` takes them.

        Returns:
            The answer to each request, or the error that `simulate` would raise for it.
        """
        ...


@runtime_checkable
class AnswersHere(Protocol):
    """A simulator that answers sooner than a campaign could note the answer.

    A training that stands on it asks it in its own process, without a store.

    Attributes:
        answers_here: true.
    """

    answers_here: ClassVar[bool]


def answer_each(simulator: Simulator, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
    """The answers to requests or their errors: together where the simulator can, else one after the other."""
    if isinstance(simulator, AnswersMany):
        return simulator.simulate_many(inputs)
    answers: list[xr.Dataset | SimulationError] = []
    for request in inputs:
        try:
            answers.append(simulator.simulate(request))
        except SimulationError as error:
            answers.append(error)
    return answers
