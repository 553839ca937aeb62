"""A coarse solver that steps the state, and whose answer the network corrects, so that gradients run through both.

The state advances by the solver on its coarse grid, and the network adds what that grid misses; it is trained through
several steps of both (solver in the loop: Um et al. 2020, arXiv:2007.00016; Kochkov et al. 2021, arXiv:2102.01010).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data.errors import InputError
from data.fields.layout import Layout
from data.fields.physics import refuse_other_physics
from data.fields.samples import Fields
from data.plain import to_plain
from simulators.adapter import AdvancesStates, Simulator
from simulators.precision import jit_float32
from simulators.rebuild import describe, rebuild
from surrogates.fields.units import FieldUnits

#: Training states whose steps are compared with the solver's, to find the size of its error.
COMPARED = 64
#: Errors of the solver below this share of the change in a step are rounding.
ROUNDING = 1e-4


@dataclass(frozen=True)
class CoarseStep:
    """The step of a coarse solver on normalised states.

    Attributes:
        fingerprint: fingerprint of the solver.
        simulator: the solver.
        units: the units of states and parameters inside of the network.
        names: names of the parameters, in the order of the samples.
        parts: number of corrections in a saved step.
    """

    fingerprint: str
    simulator: AdvancesStates = field(compare=False, repr=False)
    units: FieldUnits
    names: tuple[str, ...]
    parts: int

    def __call__(
        self, state: Float[Array, "batch *space channel"], parameters: Float[Array, "batch parameter"]
    ) -> Float[Array, "batch *space channel"]:
        """The states that the solver reaches in one part of a saved step, on the grid of `state`."""
        physical = jnp.moveaxis(self.units.states.back(state, jnp), -1, 1)
        numbers = self.units.traced_numbers_back(parameters)
        named = {name: numbers[:, k] for k, name in enumerate(self.names)}
        # The stages of a step are computed again for the gradient: storing them costs more memory than they are worth.
        advance = jax.checkpoint(lambda u, p: self.simulator.advance(u, p, self.parts))
        later = jax.vmap(advance)(physical, named)
        stepped: Float[Array, "batch *space channel"] = self.units.states.to(jnp.moveaxis(later, 1, -1), jnp)
        return stepped

    def alone(self, fields: Fields) -> Float[np.ndarray, "sample time *space channel"]:
        """What the solver answers without corrections, in the units of the samples; not finite where it blows up.

        Args:
            fields: samples in their units, whose states at later times are ignored.
        """
        inner = self.units.apply(fields)

        @jit_float32
        def run(state: Array, parameters: Array) -> Array:
            def step(u: Array, _: None) -> tuple[Array, Array]:
                later = jax.lax.fori_loop(0, self.parts, lambda _, v: self(v, parameters), u)
                return later, later

            return jax.lax.scan(step, state, None, length=fields.states.shape[1] - 1)[1]

        later = np.moveaxis(np.asarray(run(inner.states[:, 0], inner.parameters)), 0, 1)
        states: Float[np.ndarray, "sample time *space channel"] = self.units.states.back(later)
        return np.concatenate([fields.states[:, :1], states], axis=1)

    def error_scale(self, fields: Fields) -> tuple[float, ...]:
        """Root mean square by channel of what one step of the solver misses, shared by the corrections in a step.

        Args:
            fields: training samples in the units of the network.
        """
        times = fields.states.shape[1] - 1
        rows = np.unique(np.linspace(0, len(fields) * times - 1, COMPARED).round().astype(int))
        # Filled with repeated rows, so that there is one program.
        sample, time = np.divmod(np.resize(rows, COMPARED), times)
        start, end = fields.states[sample, time], fields.states[sample, time + 1]

        @jit_float32
        def reached(state: Array, parameters: Array) -> Array:
            return jax.lax.fori_loop(0, self.parts, lambda _, u: self(u, parameters), state)

        answer = np.asarray(reached(start, fields.parameters[sample]))
        if not np.isfinite(answer).all():
            raise InputError(
                f"{self.simulator.name} blows up within a step from states of the samples",  # type: ignore[attr-defined]
                where="on",
                remedy="Give it a shorter time step, such as rung.settings=[simulator.dt=...]",
            )
        axes = tuple(range(answer.ndim - 1))
        missed = np.sqrt(np.mean(np.square(end - answer, dtype=np.float64), axis=axes)) / self.parts
        change = np.sqrt(np.mean(np.square(end - start, dtype=np.float64), axis=axes)) / self.parts
        least = np.where(change > 0, ROUNDING * change, 1.0)
        return tuple(float(v) for v in np.maximum(missed, least))


@dataclass(frozen=True)
class CoarseSolver:
    """What is saved of the coarse solver with a surrogate.

    Attributes:
        simulator: description by `simulators.rebuild.describe`, with the fingerprint, from which it is rebuilt.
    """

    simulator: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not self.simulator.get("fingerprint"):
            raise ValueError("simulator must have a fingerprint")

    @staticmethod
    def of(simulator: Simulator, layout: Layout) -> CoarseSolver:
        """The description of a solver for samples of this layout.

        Raises:
            InputError: it answers another question than the samples, or cannot be rebuilt from its description.
        """
        refuse_unfit(simulator, layout)
        description = to_plain(describe(simulator))
        rebuild(description, where="on")
        return CoarseSolver(description)

    @property
    def name(self) -> str:
        """Name of the solver."""
        return str(self.simulator["name"])

    def attrs(self) -> dict[str, str]:
        """What the Spec says of it."""
        return {"on": self.name, "on_fingerprint": str(self.simulator["fingerprint"])}

    def step(self, units: FieldUnits, layout: Layout, parts: int) -> CoarseStep:
        """The step of the solver, which is rebuilt from its description.

        Raises:
            InputError: another version of it is installed.
        """
        simulator = rebuild(self.simulator, where="surrogate", remedy="Install the version that it learned with")
        assert isinstance(simulator, AdvancesStates)
        names = tuple(v.name for v in layout.parameters)
        return CoarseStep(str(self.simulator["fingerprint"]), simulator, units, names, parts)


def refuse_unfit(simulator: Simulator, layout: Layout) -> None:
    """Refuse a solver that does not answer the question of samples of this layout, on whatever grid.

    Raises:
        InputError: it names what differs.
    """
    remedy = "Name the solver of the samples with fewer points: on=SIMULATOR rung.settings=[simulator.points=...]"
    if not layout.evolves or layout.static or len(set(layout.points)) != 1:
        raise InputError(
            f"{simulator.name} steps states of trajectories on a cubic grid, and these samples are none, or have input "
            "fields beside the initial state",
            where="on",
            remedy="Train without it",
        )
    spec = simulator.spec
    axes = {c.name: c for c in spec.coords}
    numbers = sorted(v.name for v in spec.inputs if not v.dims)
    components = len(axes["channel"].values) if "channel" in axes else 1
    output = spec.outputs[0]
    space = tuple(d for d in output.dims if d not in ("time", "channel"))
    for what, mine, theirs in (
        ("parameters", ", ".join(numbers) or "none", ", ".join(sorted(v.name for v in layout.parameters)) or "none"),
        ("number of components", components, layout.channels),
        ("dims", ", ".join(space), ", ".join(layout.space)),
        ("unit", output.units, layout.output.units),
        *(
            [("equation", spec.attrs["equation"], layout.attrs["equation"])]
            if "equation" in spec.attrs and "equation" in layout.attrs
            else []
        ),
    ):
        if mine != theirs:
            raise InputError(
                f"the {what} of {simulator.name}: {mine}; of the samples: {theirs}", where="on", remedy=remedy
            )
    solved = replace(
        layout,
        axes=tuple(a if a.name == "channel" else axes[a.name] for a in layout.axes),
        attrs={k: str(v) for k, v in spec.attrs.items() if k == "boundary_conditions"},
    )
    try:
        refuse_other_physics(solved, layout, "on")
    except InputError as error:
        raise InputError(
            f"{simulator.name} answers another question than the samples: {error.problem}", where="on", remedy=remedy
        ) from error
