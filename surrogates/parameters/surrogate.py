"""The surrogate of numbers or curves as functions of the parameters of a solver, with calibrated intervals."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Float

from data.errors import InputError
from data.grouping import one_key
from data.parameters import ParameterLayout
from data.spec import ErrorKind, SimulationError, Spec, Variable, check
from simulators.adapter import Simulator
from surrogates.learning.box import IN_DOMAIN, OutOfDomainWarning
from surrogates.learning.program_work import CountedProgram
from surrogates.learning.rung import RungColumns, ask_here
from surrogates.learning.step import count_compilations
from surrogates.parameters.facts import ParameterFacts
from surrogates.parameters.network import Perceptrons
from surrogates.trained import TrainedSurrogate, refuse_not_finite

#: Rows per batch, for tables of more than `SMALL_BATCH` rows and for shorter ones.
BATCH = 8192
SMALL_BATCH = 64


class ParameterSurrogate(TrainedSurrogate[Perceptrons, ParameterFacts]):
    """A trained ensemble, which implements `surrogates.trained.Surrogate`.

    Args:
        model: the networks with their weights.
        facts: settings, scales, domain and calibration.
    """

    KIND = "parameters"
    FACTS = ParameterFacts
    PROGRAMS = ("_forward",)

    def __init__(self, model: Perceptrons, facts: ParameterFacts) -> None:
        super().__init__(model, facts)
        graph = self._graph

        def forward(state: Any, features: jax.Array) -> tuple[jax.Array, jax.Array]:
            members = nnx.merge(graph, state)(features)
            return jnp.mean(members, axis=0), jnp.std(members, axis=0)

        self._forward = CountedProgram(forward)

    # Identity

    @property
    def name(self) -> str:
        """A name such as "parameters:drag"."""
        return f"{self.KIND}:{','.join(v.name for v in self.facts.layout.outputs)}"

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the predicted columns: those of the outputs, or of their entries, such as "fraction_0.1_A"."""
        return self.facts.layout.targets

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the columns of a table."""
        return self.facts.layout.columns

    @property
    def stands_on(self) -> Mapping[str, str]:
        """See `TrainedSurrogate.stands_on`."""
        return super().stands_on if self.facts.line is None else {"on": "linear"}

    @cached_property
    def spec(self) -> Spec:
        """The spec of the simulator with a standard deviation of each output, and an interval if it is calibrated."""
        layout, slices = self.facts.layout, self.facts.layout.target_slices
        outputs = []
        for variable in layout.outputs:
            base = variable
            outputs += [base, _about(base, "std", "standard deviation")]
            if all(target in self.facts.conformal for target in layout.targets[slices[variable.name]]):
                outputs += [_about(base, "low", "lower end of the interval"), _about(base, "high", "upper end")]
        outputs.append(Variable(IN_DOMAIN, (), "1", "bool", "whether the request looks like what was learned from"))
        return Spec(
            tuple(layout.inputs),
            tuple(outputs),
            tuple(layout.axes),
            {
                **layout.attrs,
                "surrogate": self.fingerprint[:12],
                **self.stands_on,
            },
        )

    # Prediction

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Predict for one request; `attrs["out_of_domain"]` names quantities outside of the training domain, if any.

        Raises:
            SimulationError: `invalid_input`: a variable is missing, has other units or dims, or is not finite;
                `not_converged`: the prediction is not finite; or that of the simulator on which it stands.
        """
        row = self._row(inputs)
        columns = self.predict_columns(row[None])
        named: dict[str, np.ndarray] = {}
        for kind, values in columns.items():
            suffix = f"_{kind}" if kind else ""
            named |= {f"{name}{suffix}": v for name, v in self.facts.layout.named_outputs(values[0]).items()}
        outside = "; ".join(self.facts.domain.outside(row))
        named[IN_DOMAIN] = np.array(not outside)
        answer = self.spec.answer({v.name: named[v.name] for v in self.spec.outputs})
        refuse_not_finite(answer)
        if not outside:
            return answer
        warnings.warn(f"an answer is an extrapolation: {outside}", OutOfDomainWarning, stacklevel=2)
        return answer.assign_attrs(out_of_domain=outside)

    def request_key(self, inputs: xr.Dataset) -> str:
        """See `simulators.adapter.KeysRequests`."""
        return one_key(self._row(inputs))

    def _row(self, inputs: xr.Dataset) -> Float[np.ndarray, " column"]:
        """The numbers of a request, in the order of `columns`."""
        check(inputs, self.spec.inputs, sizes=self.spec.sizes)
        return self.facts.layout.flat({v.name: inputs[v.name].values for v in self.spec.inputs})

    def predict(self, batch: Float[np.ndarray, "row column"]) -> dict[str, np.ndarray]:
        """Predict for the rows of a table; see `predict_table`."""
        return self.predict_table(batch)

    def predict_table(
        self, table: Float[np.ndarray, "row column"], cheaper: Float[np.ndarray, "row answer"] | None = None
    ) -> dict[str, np.ndarray]:
        """Predict for the rows of a table, in batches of one shape.

        Args:
            table: parameters in the order of `columns`.
            cheaper: for a surrogate that stands on a simulator, the columns of its answers; None to ask it.

        Returns:
            For each target t, in its unit: `t`, `t_std` and, where it is calibrated, the bounds `t_low` and `t_high`
            of the interval, (row,) float64; and `in_domain`, bool.
        """
        columns = self.predict_columns(table, cheaper)
        answer: dict[str, np.ndarray] = {}
        for k, name in enumerate(self.targets):
            for kind, values in columns.items():
                if kind in ("", "std") or name in self.facts.conformal:
                    answer[f"{name}_{kind}" if kind else name] = values[:, k]
        answer[IN_DOMAIN] = self.facts.domain.holds(np.asarray(table, np.float64))
        return answer

    def domain_counts(self, table: Float[np.ndarray, "row column"]) -> dict[str, int]:
        """Counts of rows in the training domain, and of those outside by column; see `Box.counts`."""
        return self.facts.domain.counts(np.asarray(table, np.float64))

    def predict_columns(
        self, table: Float[np.ndarray, "row column"], cheaper: Float[np.ndarray, "row answer"] | None = None
    ) -> dict[str, Float[np.ndarray, "row target"]]:
        """Predict for the rows of a table, all targets in one array.

        Args:
            table: parameters in the order of `columns`.
            cheaper: see `predict_table`.

        Returns:
            "" for the targets, "std" for their standard deviations and, where there is a calibration, "low" and "high"
            for the bounds of the intervals (those of a target without one are not meant to be used); in the units of
            the targets.
        """
        quantities = self.facts.quantities
        mean, std = self.predict_quantities(table, cheaper)
        if not self.facts.conformal:
            values = quantities.outputs(mean)
            return {"": values, "std": quantities.spread(values, std)}
        calibrated = [self.facts.conformal.get(name) for name in self.targets]
        floor = np.array([0.0 if c is None else c.floor for c in calibrated])
        factor = np.array([0.0 if c is None else c.factor for c in calibrated])
        sigma = np.hypot(std, floor)
        values = quantities.outputs(mean)
        return {
            "": values,
            "std": quantities.spread(values, sigma),
            "low": quantities.outputs(mean - factor * sigma),
            "high": quantities.outputs(mean + factor * sigma),
        }

    def ask_rung(self, table: Float[np.ndarray, "row column"] | Sequence[Sequence[float]]) -> RungColumns:
        """The answers for rows of the simulator on which this surrogate stands, computed in this process.

        Args:
            table: parameters in the order of `columns`; there may be no row.

        Raises:
            InputError: it stands on none, or that one cannot be rebuilt.
        """
        if self.facts.on is None:
            raise InputError("the surrogate stands on no other simulator")
        outputs = self.facts.on.variables(self.rung)
        rows = np.asarray(table, np.float64).reshape(-1, len(self.facts.layout.columns))
        requests = requests_of(self.rung, self.facts.layout, rows)
        return RungColumns.of(self.rung, outputs, ask_here(self.rung, requests, [v.name for v in outputs]))

    def predict_quantities(
        self, table: Float[np.ndarray, "row column"], cheaper: Float[np.ndarray, "row answer"] | None = None
    ) -> tuple[Float[np.ndarray, "row target"], Float[np.ndarray, "row target"]]:
        """Mean and standard deviation over the members of the quantities that they learn, before calibration.

        Args:
            table: parameters in the order of `columns`.
            cheaper: see `predict_table`.

        Raises:
            SimulationError: the simulator on which it stands, which is asked, fails for a row.
        """
        table = np.asarray(table, np.float64)
        if self.facts.on is not None and cheaper is None:
            answers = self.ask_rung(table)
            if not answers.ok.all():
                row = int(np.argmin(answers.ok))
                kind, _, message = (answers.reasons[row] or "not_converged: it is not finite").partition(": ")
                raise SimulationError(cast(ErrorKind, kind), f"{answers.simulator.name}, row {row}: {message}")
            cheaper = answers.values
        features = self.facts.seen(table, cheaper)
        size = SMALL_BATCH if len(table) <= SMALL_BATCH else BATCH
        pending = []
        for start in range(0, len(table), size):
            part = features[start : start + size]
            # The last batch is filled with repeated rows, so that it has the shape of the others.
            full = part if len(part) == size else np.resize(part, (size, part.shape[1]))
            pending.append((len(part), self._forward(self._state, full)))
        targets = len(self.targets)
        mean, std = (
            np.concatenate([np.zeros((0, targets)), *(np.asarray(out[k], np.float64)[:n] for n, out in pending)])
            for k in (0, 1)
        )
        mean, std = self.facts.outputs.invert(mean), std * np.array(self.facts.outputs.scale)
        mean = mean + self.facts.first_estimate(table, cheaper)
        quantities = self.facts.quantities
        if quantities.shares:
            mean = quantities.learned(quantities.whole(quantities.outputs(mean)))
        return mean, std

    def compile(self, *, every: bool = False) -> None:
        """Compile for batches of a long table ahead of the first prediction, or for every size of batch."""
        for rows in (SMALL_BATCH, BATCH) if every else (BATCH,):
            self._forward(self._state, np.zeros((rows, self.facts.features), np.float32))[0].block_until_ready()

    @property
    def compilations(self) -> int:
        """Number of shapes that have been compiled."""
        return count_compilations(self._forward)


def requests_of(
    simulator: Simulator, layout: ParameterLayout, table: Float[np.ndarray, "row column"]
) -> list[xr.Dataset]:
    """Requests to a cheaper simulator, which may take fewer inputs.

    Raises:
        InputError: it takes another input, or one in another unit.
    """
    ours = {v.name: v for v in layout.inputs}
    for variable in simulator.spec.inputs:
        mine = ours.get(variable.name)
        if mine is None or (mine.units, mine.dims) != (variable.units, variable.dims):
            says = "lacks it" if mine is None else f"has it in {mine.units} along {' and '.join(mine.dims) or 'no dim'}"
            raise InputError(
                f"{simulator.name} takes {variable.name} in {variable.units}, and the data {says}",
                where="on",
                remedy="Name a simulator or surrogate of the same inputs",
            )
    named = layout.named(np.asarray(table, np.float64))
    rows = [{v.name: named[v.name][row] for v in simulator.spec.inputs} for row in range(len(table))]
    return [simulator.spec.request(row) for row in rows]


def _about(variable: Variable, suffix: str, words: str) -> Variable:
    return replace(variable, name=f"{variable.name}_{suffix}", long_name=f"{words} of {variable.long_name}")
