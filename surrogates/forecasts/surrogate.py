"""A forecaster, which maps an xarray state to an xarray forecast of any number of steps and members.

It is also a simulator like any other.

from surrogates.forecasts.surrogate import ForecastSurrogate
model = ForecastSurrogate.load("runs/weather/surrogate")
print(model.forecast(state, steps=40))  # dims prediction_timedelta, level, latitude, longitude
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Float

from data.errors import InputError
from data.spec import Coordinate, SimulationError, Spec, Variable, check
from data.sphere.weather_layout import LATITUDE, LEAD, LEVEL, LONGITUDE, TIME, is_amount
from simulators.precision import jit_float32
from surrogates.forecasts.facts import ForecastFacts
from surrogates.forecasts.lead_blend import LeadBlend, LeadBlendModule
from surrogates.forecasts.mixed_forecasters import (
    chunks_of_others,
    folders,
    load_others,
    refuse_beyond_mixture,
    refuse_strangers,
)
from surrogates.forecasts.model import ForecastModel, rollout
from surrogates.forecasts.request_checks import past_states, refuse_beyond, refuse_other_times, whole_number
from surrogates.forecasts.sun import clock
from surrogates.learning.box import IN_DOMAIN, OutOfDomainWarning
from surrogates.saved import Saves
from surrogates.trained import TrainedSurrogate

#: Largest number of values in a chunk of a forecast, and of its steps.
CHUNK_SIZE, CHUNK_STEPS = 64_000_000, 16
MEMBER = "number"


class ForecastSurrogate(TrainedSurrogate[ForecastModel, ForecastFacts]):
    """A trained weather model with its facts; a `simulators.adapter.Simulator`.

    Args:
        model: the networks with their weights.
        facts: settings, layout, scales, bands and scores.
        others: of a mixture, the other trained forecasters, in the order of the facts.

    Raises:
        InputError: a forecaster is another one than the facts name.
    """

    KIND = "forecasts"
    FACTS = ForecastFacts

    def __init__(self, model: ForecastModel, facts: ForecastFacts, others: Sequence[ForecastSurrogate] = ()) -> None:
        super().__init__(model, facts)
        self.others = tuple(others)
        if self.others:
            refuse_strangers(facts.blend, self.others)
        self._compiled: dict[int, Any] = {}

    @property
    def layout(self) -> Any:
        """The layout of its states, a `data.sphere.weather_layout.WeatherLayout`."""
        return self.facts.layout

    @property
    def history(self) -> int:
        """Number of states that a forecast begins with, the present one included."""
        return max([self.model.frames, *(other.history for other in self.others)])

    @cached_property
    def blend(self) -> LeadBlend | None:
        """The simpler forecasts with which its own are blended at each lead; None for none."""
        facts, module = self.facts.blend, self.model.blend
        return None if facts is None or module is None else module.blend(facts, self.layout)

    def with_blend(self, blend: LeadBlend, others: Sequence[ForecastSurrogate] = ()) -> ForecastSurrogate:
        """The same networks with their forecasts blended, with those of other forecasters too in a mixture."""
        facts = replace(self.facts, blend=blend.facts)
        graph, state = nnx.split(self.model)
        model = nnx.merge(graph, state)
        model.blend = nnx.data(LeadBlendModule.of(blend))
        return type(self)(model, facts, others)

    def with_facts(self, **changes: Any) -> Self:
        """See `TrainedSurrogate.with_facts`."""
        copy = type(self)(self.model, replace(self.facts, **changes), self.others)
        copy._compiled = self._compiled
        return copy

    # xarray in, xarray out

    def forecast(self, state: xr.Dataset, steps: int | None = None, *, members: int = 1, seed: int = 0) -> xr.Dataset:
        """A forecast from one state, or from several past ones.

        Args:
            state: the state with the names of WeatherBench 2; along `time`, the present state last, where a history is
                needed.
            steps: number of steps; by default `steps` of the settings.
            members: members of the ensemble of a forecaster with noise; 1 for other forecasters.
            seed: seed of the noise.

        Returns:
            Variables with CF attributes along `prediction_timedelta`, and `number` for several members; the coordinate
            `time` is that of the present state.

        Warns:
            UserWarning: variables have no units, values lie somewhat beyond those of the training, or the training had
                no states of this time of the day or month.

        Raises:
            InputError: a variable is missing, the grid or the units differ, a value is not finite or far from those of
                the training, the hour has no usual state, the history is too short or has gaps, or `steps` or
                `members` is no whole number of 1 or more.
            SimulationError: `not_converged`: the forecast has values that are not finite.
        """
        layout = self.facts.layout
        steps = self.facts.config.steps if steps is None else whole_number(steps, "steps")
        members = whole_number(members, "members")
        self.refuse_members(members)
        past, present = past_states(state, layout, self.history)
        times = np.array([present], "datetime64[s]")
        unlike = refuse_beyond(past, self.facts) + refuse_other_times(times, steps, self.facts)
        for text in unlike:
            warnings.warn(f"{text}: errors may exceed those of the tests", UserWarning, stacklevel=2)
        states = self.forecast_arrays(past[None], times, steps, members=members, seed=seed)[0]
        if not np.isfinite(states).all():
            raise SimulationError("not_converged", "the forecast has values that are not finite")
        lead = (np.arange(1, steps + 1) * layout.step_hours * 3600 * 1e9).astype("timedelta64[ns]")
        coords = {
            LEAD: (LEAD, lead, {"long_name": "lead time"}),
            TIME: ((), present, {"standard_name": "forecast_reference_time"}),
        }
        attrs = {"surrogate": self.fingerprint[:12]}
        if members == 1:
            return layout.with_attrs(**attrs).unstack(states[0], (LEAD,), coords)
        numbers = (MEMBER, np.arange(members), {"standard_name": "realization"})
        return layout.with_attrs(**attrs).unstack(states, (MEMBER, LEAD), {**coords, MEMBER: numbers})

    def refuse_members(self, members: int) -> None:
        """Refuse an ensemble of a deterministic forecaster.

        Raises:
            InputError: there is more than one member, and the forecaster has no noise.
        """
        if members > 1 and not self.facts.config.noise_dims:
            raise InputError(
                f"{members} members of a forecaster without noise would all be the same", where="members",
                remedy="Ask for 1, or train with surrogate.noise_dims above 0",
            )  # fmt: skip

    # Arrays

    def forecast_arrays(
        self,
        history: Float[np.ndarray, "batch history latitude longitude channel"],
        times: np.ndarray,
        steps: int,
        *,
        members: int = 1,
        seed: int = 0,
    ) -> Float[np.ndarray, "batch member lead latitude longitude channel"]:
        """Forecasts of a batch of states at leads 1 to `steps`.

        Where there are several networks, each one runs by itself and the forecast is their mean. At the leads of
        `blend` it is blended.

        Args:
            history: past states, the present one last.
            times: datetime64 of the present states.
            steps: number of steps.
            members: members of the ensemble.
            seed: seed of the noise.
        """
        parts = list(self.chunks(history, times, steps, members=members, seed=seed))
        return np.concatenate(parts, axis=2)

    def chunks(
        self,
        history: Float[np.ndarray, "batch history latitude longitude channel"],
        times: np.ndarray,
        steps: int,
        *,
        members: int = 1,
        seed: int = 0,
        chunk: int | None = None,
        blended: bool = True,
    ) -> Iterator[Float[np.ndarray, "batch member lead latitude longitude channel"]]:
        """Yield the forecasts of `forecast_arrays` a few leads at a time; the state stays on the device between them.

        Without `blended` they are those of the networks alone, as long runs need them.

        Raises:
            InputError: there are several members, and the forecaster has no noise; or a mixture has no weights for what
                is asked.
        """
        self.refuse_members(members)
        batch = len(history)
        blend, first = self.blend if blended else None, (history, times)
        if self.others and self.facts.blend is not None:
            refuse_beyond_mixture(self.facts.blend, steps, blended)
        history = history[:, -self.model.frames :]
        if members > 1:
            history, times = np.repeat(history, members, axis=0), np.repeat(times, members)
        days, seconds = clock(times)
        each = self.model.members * history[:, 0].size
        size = min(steps, chunk or max(1, min(CHUNK_STEPS, CHUNK_SIZE // each)))
        past = jnp.broadcast_to(jnp.asarray(history, jnp.float32), (self.model.members, *history.shape))
        carry = (jnp.copy(past), jnp.asarray(days), jnp.asarray(seconds))
        key = jax.random.key(seed)
        beside = chunks_of_others(self.others, *first, steps, size)
        for number, start in enumerate(range(0, steps, size)):
            # The last chunk runs as many steps as the others, so that no further program is compiled.
            carry, states = self._run(size)(self._state, carry, jax.random.fold_in(key, number))
            leads = np.asarray(states)[: steps - start]
            said = np.moveaxis(leads.reshape(len(leads), batch, members, *leads.shape[2:]), 0, 2)
            if blend is not None and start < blend.steps:
                said = blend.apply(*first, said, start, next(beside))
            yield self._not_negative(said)

    def _not_negative(self, states: Float[np.ndarray, "*lead channel"]) -> Float[np.ndarray, "*lead channel"]:
        """The states with negative values of accumulated quantities, such as precipitation, set to 0."""
        amounts = [k for k, c in enumerate(self.facts.layout.channels) if is_amount(c.variable)]
        if not amounts:
            return states
        states = states.copy()
        states[..., amounts] = np.maximum(states[..., amounts], 0)
        return states

    def _run(self, steps: int) -> Any:
        if steps not in self._compiled:
            self._compiled[steps] = jit_float32(partial(_steps, self._graph, steps), donate_argnums=1)
        return self._compiled[steps]

    # As a simulator

    @property
    def stands_on(self) -> Mapping[str, str]:
        """See `TrainedSurrogate.stands_on`."""
        return {} if self.facts.first is None else {"on": self.facts.first.name}

    @property
    def provenance(self) -> dict[str, Any]:
        """See `TrainedSurrogate.provenance`; that of a mixture has the fingerprints of its other forecasters."""
        blend = self.facts.blend
        others = {} if blend is None else dict(zip(blend.forecasters[1:], blend.others, strict=True))
        return super().provenance | ({"members": others} if others else {})

    @cached_property
    def spec(self) -> Spec:
        """Inputs are state variables; outputs their forecasts of `steps` steps, with bands if these are calibrated.

        Levels are a dim of fixed length, so that all variables on levels must have the same ones.
        """
        layout, config = self.facts.layout, self.facts.config
        axes = layout.coordinates()
        lead = tuple(float(k) * layout.step_hours for k in range(1, config.steps + 1))
        coords = [
            Coordinate(name, tuple(float(v) for v in axes[name].values), axes[name].attrs["units"], name)
            for name in (LATITUDE, LONGITUDE, LEVEL)
            if name in axes
        ]
        coords.append(Coordinate(LEAD, lead, "h", "lead time"))
        if self.history > 1:
            past = tuple(float(k) * layout.step_hours for k in range(1 - self.history, 1))
            coords.append(Coordinate("past", past, "h", "time from the present state"))
        inputs, outputs = [], []
        for name in layout.variables:
            standard = layout.variable(name)
            dims = (*((LEVEL,) if layout.levels(name) else ()), LATITUDE, LONGITUDE)
            before = ("past",) if self.history > 1 else ()
            inputs.append(Variable(name, (*before, *dims), standard.units, "float32", standard.long_name))
            answer = Variable(name, (LEAD, *dims), standard.units, "float32", standard.long_name)
            outputs.append(answer)
            if self.facts.bands is not None and len(self.facts.bands.sigma) >= config.steps:
                outputs += [
                    replace(answer, name=f"{name}_{end}", long_name=f"{text} of {standard.long_name}")
                    for end, text in (("std", "standard deviation"), ("low", "lower end"), ("high", "upper end"))
                ]
        if layout.calendar:
            inputs.append(Variable("seconds_since_1970", (), "s", "float64", "universal time of the present state"))
        outputs.append(Variable(IN_DOMAIN, (), "1", "bool", "whether the request looks like what was learned from"))
        attrs = {**layout.attrs, "surrogate": self.fingerprint[:12], **self.stands_on}
        return Spec(tuple(inputs), tuple(outputs), tuple(coords), attrs)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Answer one request; `attrs["out_of_domain"]` says what is unlike the states of the training, if anything.

        Raises:
            SimulationError: `invalid_input`: a variable is missing, has other units or another grid, is not finite or
                far from the training data, or its hour has no usual state; `not_converged`: the forecast has values
                that are not finite.
        """
        check(inputs, self.spec.inputs, sizes=self.spec.sizes)
        layout, config = self.facts.layout, self.facts.config
        seconds = float(inputs["seconds_since_1970"]) if layout.calendar else 0.0
        present = np.datetime64(round(seconds), "s")
        state = inputs.drop_vars("seconds_since_1970", errors="ignore").assign_coords(layout.coordinates())
        if "past" not in state.dims:
            state = state.expand_dims("past")
        values, times = layout.stack(state), np.array([present])
        try:
            unlike = refuse_beyond(values, self.facts) + refuse_other_times(times, config.steps, self.facts)
        except InputError as error:
            raise SimulationError("invalid_input", str(error)) from error
        mean = self.forecast_arrays(values[None], times, config.steps)[0, 0]
        if not np.isfinite(mean).all():
            raise SimulationError("not_converged", "the forecast has values that are not finite")
        answer = self.spec.answer(self._by_name(mean, (LEAD,)) | {IN_DOMAIN: np.bool_(not unlike)})
        if not unlike:
            return answer
        outside = "; ".join(unlike)
        warnings.warn(f"an answer is an extrapolation: {outside}", OutOfDomainWarning, stacklevel=2)
        return answer.assign_attrs(out_of_domain=outside)

    def _by_name(
        self, mean: Float[np.ndarray, "*row lead latitude longitude channel"], dims: tuple[str, ...]
    ) -> dict[str, np.ndarray]:
        """The forecast by name of the output, with bands where these are calibrated."""
        arrays, bands, steps = {"": mean}, self.facts.bands, self.facts.config.steps
        if bands is not None and len(bands.sigma) >= steps:
            half = bands.half_width(steps)[:, None, None]
            sigma = np.broadcast_to(np.array(bands.sigma)[:steps, None, None], mean.shape)
            arrays |= {"_std": sigma, "_low": self._not_negative(mean - half), "_high": mean + half}
        named: dict[str, np.ndarray] = {}
        for end, array in arrays.items():
            data = self.facts.layout.unstack(array.astype(np.float32), dims)
            named |= {f"{name}{end}": data[name].values for name in self.facts.layout.variables}
        return named

    def predict(self, batch: Any) -> dict[str, np.ndarray]:
        """Outputs for a `ForecastBatch`; frames of the batch after the history are ignored.

        `in_domain` is left out: a batch may hold states of any kind; `simulate` gives it.
        """
        times = np.asarray(batch.days).astype("datetime64[D]").astype("datetime64[s]") + np.asarray(batch.seconds)
        past = np.asarray(batch.frames)[:, : self.history]
        states = self.forecast_arrays(past, times, self.facts.config.steps)[:, 0]
        return self._by_name(states, ("row", LEAD))

    # Storage

    def nested(self) -> Mapping[str, Saves]:
        """The other forecasters of a mixture, by their folder in its directory."""
        return {**super().nested(), **folders(self.facts.blend, self.others)}

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """See `TrainedSurrogate.load`; a mixture is read with its other forecasters."""
        alone = super().load(directory)
        others = load_others(Path(directory), alone.facts.blend)
        return cls(alone.model, alone.facts, others) if others else alone

    def __reduce__(self) -> tuple[Any, ...]:
        """See `TrainedSurrogate.__reduce__`."""
        return _rebuilt, (super().__reduce__(), self.others)


def _rebuilt(alone: tuple[Any, ...], others: Sequence[ForecastSurrogate]) -> ForecastSurrogate:
    make, arguments = alone
    first: ForecastSurrogate = make(*arguments)
    return type(first)(first.model, first.facts, others)


def _steps(graph: Any, steps: int, state: Any, carry: tuple[Array, Array, Array], key: Array) -> tuple[Any, Array]:
    """Some steps of all networks, each from its own state; returns these states and the forecast, their mean."""
    carry, states = rollout(nnx.merge(graph, state), *carry, key, steps)
    return carry, states.mean(axis=1)
