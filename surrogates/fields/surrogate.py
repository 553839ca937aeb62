"""The surrogate of a solver of fields: it answers the same requests with calibrated bands."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Bool, Float

from data.errors import InputError
from data.fields.samples import Fields
from data.spec import SimulationError, Spec, Variable, check
from surrogates.fields.facts import FieldFacts
from surrogates.fields.loss import SYMMETRIES
from surrogates.fields.model import FieldModel, rollout
from surrogates.fields.training_domain import domain_columns
from surrogates.learning.box import IN_DOMAIN, UNKNOWN, OutOfDomainWarning
from surrogates.learning.program_work import CountedProgram
from surrogates.trained import TrainedSurrogate

#: Largest number of values of one batch of predictions.
ANSWER_SIZE = 16_000_000


class FieldAnswer(NamedTuple):
    """Predictions for samples, with channels last, in the units of the output.

    Attributes:
        mean: mean over the members.
        std: standard deviation over the members; 0 for a single member.
        outside: for each sample the quantities outside of the training domain, such as "nu = 3 outside [0.1, 1]"; None
            if the surrogate has no domain.
    """

    mean: Float[np.ndarray, "sample time *space channel"]
    std: Float[np.ndarray, "sample time *space channel"]
    outside: list[list[str]] | None = None

    @property
    def in_domain(self) -> Bool[np.ndarray, " sample"] | None:
        """Whether each sample lies in the training domain; None if the surrogate has no domain."""
        return None if self.outside is None else np.array([not said for said in self.outside])


class FieldSurrogate(TrainedSurrogate[FieldModel, FieldFacts]):
    """A trained ensemble on grids, which implements `simulators.adapter.Simulator`.

    Args:
        model: the networks with their weights.
        facts: settings, scales, domain and calibration.
    """

    KIND = "fields"
    FACTS = FieldFacts

    def __init__(self, model: FieldModel, facts: FieldFacts) -> None:
        super().__init__(model, facts)
        self._compiled: dict[int, Callable[..., tuple[Array, Array]]] = {}

    @property
    def stands_on(self) -> Mapping[str, str]:
        """See `TrainedSurrogate.stands_on`."""
        if self.facts.solver is not None:
            return self.facts.solver.attrs()
        return super().stands_on if self.facts.coarse is None else {"on": "coarse"}

    @cached_property
    def spec(self) -> Spec:
        """The spec of the simulator; a calibrated surrogate adds a standard deviation and a band."""
        layout = self.facts.layout
        inputs = [v for v in (layout.initial, *layout.static, *layout.parameters) if v is not None]
        output = Variable(**asdict(layout.output))
        outputs = [output]
        if self.facts.bands is not None:
            outputs += [
                replace(output, name=f"{output.name}_std", long_name=f"standard deviation of {output.long_name}"),
                replace(output, name=f"{output.name}_low", long_name=f"lower end of the band of {output.long_name}"),
                replace(output, name=f"{output.name}_high", long_name=f"upper end of the band of {output.long_name}"),
            ]
        if self.facts.domain is not None:
            outputs.append(Variable(IN_DOMAIN, (), "1", "bool", "whether the request looks like what was learned from"))
        return Spec(
            tuple(inputs),
            tuple(outputs),
            tuple(layout.axes),
            {**layout.attrs, "surrogate": self.fingerprint[:12], **self.stands_on},
        )

    @property
    def sample_inputs(self) -> list[str]:
        """Names of the inputs of a sample: the initial field, other fields, and numbers."""
        return [v.name for v in self.spec.inputs]

    # Prediction

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Predict for one request; `attrs["out_of_domain"]` names quantities outside of the training domain, if any.

        Raises:
            SimulationError: `invalid_input`: a variable is missing, has other units, lies on another grid or is not
                finite, or a parameter has a sign that training did not contain, such as a viscosity of -1;
                `not_converged`: the prediction is not finite.
        """
        check(inputs, self.spec.inputs, sizes=self.spec.sizes)
        layout = self.facts.layout
        space = layout.space
        initial = None
        if layout.initial is not None:
            array = inputs[layout.initial.name]
            if "channel" not in array.dims:
                array = array.expand_dims("channel")
            initial = array.transpose(*space, "channel").values[None]
        static = [inputs[v.name].transpose(*space).values for v in layout.static]
        fields = np.stack(static, -1)[None] if static else np.zeros((1, *layout.points, 0))
        numbers = np.array([[float(inputs[v.name]) for v in layout.parameters]])
        domain = self.facts.domain
        if domain is not None and (wrong := domain.of_other_sign(numbers[0])):
            raise SimulationError("invalid_input", "; ".join(wrong))
        answer = self.predict_arrays(initial, fields, numbers)
        if not np.isfinite(answer.mean).all():
            raise SimulationError(
                "not_converged", "the rollout is not finite; the state lies outside of the training domain"
            )
        names = {v.name for v in self.spec.outputs}
        named = {name: values for name, values in self._by_name(answer).items() if name in names}
        arrays: dict[str, Any] = {name: self._to_output_dims(values[0]) for name, values in named.items()}
        if answer.outside is None:
            return self.spec.answer(arrays).assign_attrs(out_of_domain=UNKNOWN)
        outside = "; ".join(answer.outside[0])
        whole = self.spec.answer(arrays | {IN_DOMAIN: np.bool_(not outside)})
        if not outside:
            return whole
        warnings.warn(f"an answer is an extrapolation: {outside}", OutOfDomainWarning, stacklevel=2)
        return whole.assign_attrs(out_of_domain=outside)

    def _to_output_dims(self, values: Float[np.ndarray, "time *space channel"]) -> np.ndarray:
        """The prediction for one sample, transposed to the dims of the output."""
        layout = self.facts.layout
        array = xr.DataArray(values[layout.lead :], dims=("time", *layout.space, "channel"))
        for dim in ("time", "channel"):
            if dim not in layout.output.dims:
                array = array.isel({dim: 0})
        return array.transpose(*layout.output.dims).values

    def predict(self, batch: Any) -> dict[str, np.ndarray]:
        """Predict for a `data.fields.batches.FieldBatch`, of which the first frame is used.

        The outputs include `in_domain`, bool, if the surrogate has a domain.
        """
        answer = self.predict_arrays(batch.frames[:, 0], batch.static, batch.parameters)
        outputs = {
            name: np.stack([self._to_output_dims(v) for v in values]) for name, values in self._by_name(answer).items()
        }
        return outputs if answer.in_domain is None else outputs | {IN_DOMAIN: answer.in_domain}

    def _by_name(self, answer: FieldAnswer) -> dict[str, np.ndarray]:
        """The prediction by name of the output; without calibration the mean and the spread of the members alone."""
        name, bands = self.facts.layout.output.name, self.facts.bands
        if bands is None:
            return {name: answer.mean, f"{name}_std": answer.std}
        half = bands.half_width(answer.std)
        return {
            name: answer.mean,
            f"{name}_std": bands.sigma(answer.std),
            f"{name}_low": answer.mean - half,
            f"{name}_high": answer.mean + half,
        }

    def predict_fields(self, fields: Fields, *, steps: int | None = None) -> FieldAnswer:
        """Predict for a table of samples on any grid.

        Args:
            fields: the samples, whose states at later times are ignored.
            steps: number of steps of a trajectory; by default that of the samples.

        Raises:
            InputError: the samples have another layout than those of training.
        """
        fields.refuse_other(self.facts.layout, "these samples", same_grid=False)
        steps = fields.states.shape[1] - 1 if steps is None else steps
        return self.predict_arrays(
            fields.states[:, 0], fields.static, fields.parameters, steps=steps, cheaper=fields.cheaper
        )

    def predict_arrays(
        self,
        initial: Float[np.ndarray, "sample *space channel"] | None,
        static: Float[np.ndarray, "sample *space static"],
        parameters: Float[np.ndarray, "sample parameter"],
        *,
        steps: int | None = None,
        batch: int | None = None,
        cheaper: Float[np.ndarray, "sample *space channel"] | None = None,
    ) -> FieldAnswer:
        """Predict for arrays in the units of the samples, in batches of one shape.

        Args:
            initial: states at the first time; None for outputs that do not evolve.
            static, parameters: static fields and parameters.
            steps: number of steps of a trajectory; by default that of training.
            batch: samples per batch; by default as many as `ANSWER_SIZE` allows.
            cheaper: for a surrogate that stands on another one, the answers of that one; None to ask it.
        """
        layout, units = self.facts.layout, self.facts.units
        outside = self.outside(initial, static, parameters)
        first: float | np.ndarray = 0.0
        if self.facts.on is not None:
            if cheaper is None:
                cheaper = self._ask_rung(static, parameters)
            flat = self.facts.on.scale.apply(cheaper.reshape(-1, layout.channels))
            first = self.facts.on.line.apply(flat).reshape(cheaper.shape)[:, None]
            static = np.concatenate([static, cheaper], axis=-1)
        static = self.facts.network_static(static)
        if initial is None:
            initial = np.zeros((*static.shape[:-1], layout.channels), np.float32)
        if units is None:
            initial, static, parameters = (np.asarray(a, np.float32) for a in (initial, static, parameters))
        else:
            initial = units.states.to(initial) if layout.evolves else np.asarray(initial, np.float32)
            static, parameters = units.static.to(static), units.numbers(parameters)
        if steps is None:
            steps = len(layout.axis("time").values) - 1 + layout.lead if layout.evolves else 0
        members = self.facts.config.ensemble
        each = max(1, members * (steps + 1) * int(np.prod(initial.shape[1:])))
        size = min(len(initial), batch or max(1, ANSWER_SIZE // each))
        means, stds = [], []
        for start in range(0, len(initial), size):
            rows = np.arange(start, min(start + size, len(initial)))
            # The last batch is filled with repeated rows, so that it has the shape of the others.
            full = np.resize(rows, size)
            mean, std = self._run(steps)(self._state, initial[full], static[full], parameters[full])
            centre, spread = np.asarray(mean)[: len(rows)], np.asarray(std)[: len(rows)]
            means.append(centre if units is None else units.states.back(centre))
            stds.append(spread if units is None else units.states.back_spread(spread))
        return FieldAnswer(np.concatenate(means) + first, np.concatenate(stds), outside)

    def _ask_rung(
        self, static: Float[np.ndarray, "sample *space static"], parameters: Float[np.ndarray, "sample parameter"]
    ) -> Float[np.ndarray, "sample *space channel"]:
        """The answers of the surrogate on which this one stands."""
        rung: Any = self.rung
        answers: Float[np.ndarray, "sample *space channel"] = rung.predict_arrays(None, static, parameters).mean[:, 0]
        return answers

    def outside(
        self,
        initial: Float[np.ndarray, "sample *space channel"] | None,
        static: Float[np.ndarray, "sample *space static"],
        parameters: Float[np.ndarray, "sample parameter"],
    ) -> list[list[str]] | None:
        """The quantities of each sample outside of the training domain; None if the surrogate has no domain."""
        domain = self.facts.domain
        if domain is None:
            return None
        rows = domain_columns(self.facts.layout, initial, static, parameters)
        return [[] if good else domain.outside(row) for good, row in zip(domain.holds(rows), rows, strict=True)]

    def predict_traced(
        self,
        initial: Float[Array, "sample *space channel"],
        static: Float[Array, "sample *space static"],
        parameters: Float[Array, "sample parameter"],
        steps: int,
    ) -> Float[Array, "sample time *space channel"]:
        """The mean prediction in float32, to be called in a compiled function; for timing and gradients.

        `static` includes the answer of a coarse solver, as `FieldFacts.network_static` returns it.

        Raises:
            InputError: the surrogate stands on another one, which no compiled function can ask.
        """
        if self.facts.on is not None:
            raise InputError(f"the surrogate stands on {self.facts.on.name}", remedy="Use predict_arrays")
        units = self.facts.units
        if units is not None:
            initial = units.states.to(initial, jnp) if self.facts.layout.evolves else initial
            static, parameters = units.static.to(static, jnp), units.traced_numbers(parameters)
        mean, _ = _answer(self._graph, steps, self.facts, self._state, initial, static, parameters)
        return mean if units is None else units.states.back(mean, jnp)

    def _run(self, steps: int) -> Callable[..., tuple[Array, Array]]:
        if steps not in self._compiled:
            self._compiled[steps] = CountedProgram(partial(_answer, self._graph, steps, self.facts))
        return self._compiled[steps]

    def _with_programs_of(self, other: Self) -> Self:
        if self.facts.config is other.facts.config and self.facts.layout is other.facts.layout:
            self._compiled = other._compiled
        return self


def _answer(
    graph: Any, steps: int, facts: FieldFacts, state: Any, initial: Array, static: Array, parameters: Array
) -> tuple[Array, Array]:
    """Mean and standard deviation over the members; averaged over the symmetries if the settings ask for it."""
    model = nnx.merge(graph, state)
    elements = _group(facts.config.loss.symmetry) if facts.config.average_symmetry else [(False, False, False)]
    answers = []
    for element in elements:
        turned = (_act(initial, element), _act(static, element))
        if facts.layout.evolves:
            answer = rollout(model, *turned, parameters, steps)
        else:
            answer = model(jnp.broadcast_to(turned[0], (model.members, *initial.shape)), turned[1], parameters)
            answer = answer[:, :, None]
        answers.append(_act_back(answer, element))
    members = sum(answers[1:], answers[0]) / len(answers)
    return members.mean(axis=0), members.std(axis=0)


def _group(symmetry: str) -> list[tuple[bool, bool, bool]]:
    """The elements of a symmetry group, as (transpose, flip the first axis, flip the second axis)."""
    assert symmetry in SYMMETRIES
    flips = [(False, False)] if symmetry != "square" else [(a, b) for a in (False, True) for b in (False, True)]
    swaps = [False] if symmetry == "none" else [False, True]
    return [(swap, *flip) for swap in swaps for flip in flips]


def _act(values: Array, element: tuple[bool, bool, bool]) -> Array:
    swap, first, second = element
    values = jnp.flip(values, 1) if first else values
    values = jnp.flip(values, 2) if second else values
    return jnp.swapaxes(values, 1, 2) if swap else values


def _act_back(values: Array, element: tuple[bool, bool, bool]) -> Array:
    """The inverse of `_act`, on arrays of (member, sample, time, *space, channel)."""
    swap, first, second = element
    values = jnp.swapaxes(values, 3, 4) if swap else values
    values = jnp.flip(values, 3) if first else values
    return jnp.flip(values, 4) if second else values
