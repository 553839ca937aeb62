"""Teachers of fields and of numbers: what they answer for drawn requests, as samples that a student learns from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import xarray as xr
from jaxtyping import Bool

from data.errors import InputError
from data.fields.layout import Layout
from data.fields.samples import Fields
from data.parameters import ParameterTable
from experiments.distillation.settings import DistilRequest
from surrogates.fields.scores import score_answer, score_fields
from surrogates.fields.surrogate import FieldAnswer, FieldSurrogate
from surrogates.fields.task import FieldData, FieldTask
from surrogates.learning.sample_parts import Samples
from surrogates.parameters.scores import score_parameters
from surrogates.parameters.surrogate import ParameterSurrogate
from surrogates.parameters.task import ParameterData, ParameterTask

S = TypeVar("S", bound=Samples)


class SampleTeacher(ABC, Generic[S]):
    """A trained surrogate of samples as a teacher."""

    #: Word for a sample.
    ITEM: str

    @abstractmethod
    def task(self, file: str | None, request: DistilRequest) -> Any:
        """The training of a student (`surrogates.learning.sample_task.SampleTask`) on labels in a file."""

    @abstractmethod
    def of_requests(self, requests: Iterable[xr.Dataset]) -> S:
        """Samples of requests, without outputs.

        Raises:
            InputError: they are not those of the teacher.
        """

    @abstractmethod
    def kept(self, samples: S) -> S:
        """The samples with the outputs that a student has: of trajectories a part of the times."""

    @abstractmethod
    def answered(self, samples: S) -> tuple[S, Bool[np.ndarray, " sample"]]:
        """Samples with the answers of the teacher as outputs, and whether each lies in its domain and is finite."""

    @abstractmethod
    def joined(self, first: S, second: S) -> S:
        """The samples of both, with the fingerprint of the first."""

    @abstractmethod
    def score(self, samples: S, prefix: str) -> dict[str, float]:
        """Scores of the teacher on labelled samples with the outputs that a student has."""

    @abstractmethod
    def timed(self, student: Any, samples: S) -> dict[str, Callable[[], Any]]:
        """Functions with which teacher and student answer for samples."""


@dataclass(frozen=True)
class FieldTeacher(SampleTeacher[Fields]):
    """A surrogate of fields or trajectories as a teacher; of these a student may take several steps in one.

    Attributes:
        surrogate: the surrogate.
        every: number of its steps that are one of the student; 1 for outputs that do not evolve.
    """

    surrogate: FieldSurrogate
    every: int = 1

    ITEM = "trajectory"

    def __post_init__(self) -> None:
        layout = self.surrogate.facts.layout
        steps = len(layout.axis("time").values) - 1 + layout.lead if layout.evolves else 1
        if self.every > 1 and steps % self.every:
            raise InputError(
                f"the teacher makes {steps} steps, of which {self.every} at a time do not give the last",
                where="lessons.every",
                remedy="Give a divisor of that, or 1",
            )

    def task(self, file: str | None, request: DistilRequest) -> FieldTask:
        """See `SampleTeacher`."""
        layout = self.surrogate.facts.layout
        inputs = [v.name for v in (layout.initial, *layout.static, *layout.parameters) if v is not None]
        data = FieldData(
            file=file or "",
            parts=request.data.parts,
            test=request.data.test,
            seed=request.data.seed,
            output=layout.output.name,
            inputs=inputs,
        )
        return FieldTask(data, FieldTask.model_settings(request.model), request.training)

    def of_requests(self, requests: Iterable[xr.Dataset]) -> Fields:
        """See `SampleTeacher`."""
        layout = self.surrogate.facts.layout
        states, static, numbers = [], [], []
        for request in requests:
            lacking = [v.name for v in self.surrogate.spec.inputs if v.name not in request]
            if lacking:
                raise InputError(
                    f"what is drawn has no {' and no '.join(lacking)}, which the teacher needs",
                    where="simulator",
                    remedy="Name the simulator that the teacher stands in for, and its sampling",
                )
            fields = [request[v.name].transpose(*layout.space).values for v in layout.static]
            static.append(np.stack(fields, -1) if fields else np.zeros((*layout.points, 0)))
            numbers.append([float(request[v.name]) for v in layout.parameters])
            if layout.initial is not None:
                array = request[layout.initial.name]
                array = array if "channel" in array.dims else array.expand_dims("channel")
                states.append(array.transpose(*layout.space, "channel").values)
            else:
                states.append(np.zeros((*layout.points, layout.channels)))
        count = len(states)
        return Fields(
            layout,
            np.asarray(states, np.float32)[:, None],
            np.asarray(static, np.float32),
            np.asarray(numbers, np.float64).reshape(count, len(layout.parameters)),
            self.surrogate.fingerprint,
            np.full(count, np.nan),
        )

    def kept(self, samples: Fields) -> Fields:
        """See `SampleTeacher`."""
        if self.every == 1:
            return samples
        return replace(samples, states=samples.states[:, :: self.every], layout=coarser(samples.layout, self.every))

    def answered(self, samples: Fields) -> tuple[Fields, Bool[np.ndarray, " sample"]]:
        """See `SampleTeacher`."""
        layout = self.surrogate.facts.layout
        samples.refuse_other(layout, "inputs")
        initial = samples.states[:, 0] if layout.evolves else None
        answer = self.surrogate.predict_arrays(initial, samples.static, samples.parameters)
        states = answer.mean.astype(samples.states.dtype)
        if layout.evolves:
            states[:, 0] = samples.states[:, 0]
        inside = np.isfinite(states).all(axis=tuple(range(1, states.ndim)))
        if answer.in_domain is not None:
            inside &= answer.in_domain
        said = replace(
            samples, layout=layout, states=states, fingerprint=self.surrogate.fingerprint, reading=None, cheaper=None
        )
        return self.kept(said), inside

    def joined(self, first: Fields, second: Fields) -> Fields:
        """See `SampleTeacher`."""
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(first, name), getattr(second, name)])
            for name in ("states", "static", "parameters", "seconds")
        }
        return replace(first, **columns)

    def score(self, samples: Fields, prefix: str) -> dict[str, float]:
        """See `SampleTeacher`."""
        if self.every == 1:
            return score_fields(self.surrogate, samples, prefix)
        steps = self.every * (samples.states.shape[1] - 1)
        answer = self.surrogate.predict_arrays(samples.states[:, 0], samples.static, samples.parameters, steps=steps)
        picked = FieldAnswer(answer.mean[:, :: self.every], answer.std[:, :: self.every], answer.outside)
        return score_answer(picked, samples, prefix)

    def timed(self, student: FieldSurrogate, samples: Fields) -> dict[str, Callable[[], Any]]:
        """See `SampleTeacher`."""
        initial = samples.states[:, 0] if samples.layout.evolves else None

        def answer(surrogate: FieldSurrogate) -> Callable[[], Any]:
            return lambda: surrogate.predict_arrays(initial, samples.static, samples.parameters)

        return {"teacher": answer(self.surrogate), "student": answer(student)}


def coarser(layout: Layout, every: int) -> Layout:
    """The layout of trajectories of which every so manieth state is kept, the first among them."""
    time = layout.axis("time")
    # Where the output begins after the initial state, that is the first of the states and has no time.
    values = time.values[every - 1 :: every] if layout.lead else time.values[::every]
    axes = tuple(replace(axis, values=values) if axis.name == "time" else axis for axis in layout.axes)
    return replace(layout, axes=axes)


@dataclass(frozen=True)
class ParameterTeacher(SampleTeacher[ParameterTable]):
    """A surrogate of numbers as a teacher.

    Attributes:
        surrogate: the surrogate.
    """

    surrogate: ParameterSurrogate

    ITEM = "sample"

    def task(self, file: str | None, request: DistilRequest) -> ParameterTask:
        """See `SampleTeacher`."""
        layout = self.surrogate.facts.layout
        units = {v.name: v.units for v in (*layout.inputs, *layout.outputs)}
        data = ParameterData(
            file=file or "",
            parts=request.data.parts,
            test=request.data.test,
            seed=request.data.seed,
            target=[v.name for v in layout.outputs],
            inputs=[v.name for v in layout.inputs],
            units=None if file is None or Path(file).is_dir() else units,
        )
        return ParameterTask(data, ParameterTask.model_settings(request.model), request.training)

    def of_requests(self, requests: Iterable[xr.Dataset]) -> ParameterTable:
        """See `SampleTeacher`."""
        layout, rows = self.surrogate.facts.layout, []
        for request in requests:
            lacking = [v.name for v in layout.inputs if v.name not in request]
            if lacking:
                raise InputError(
                    f"what is drawn has no {' and no '.join(lacking)}, which the teacher needs",
                    where="simulator",
                    remedy="Name the simulator that the teacher stands in for, and its sampling",
                )
            rows.append(layout.flat({v.name: request[v.name].values for v in layout.inputs}))
        return ParameterTable(
            layout,
            np.stack(rows),
            np.full((len(rows), len(layout.targets)), np.nan),
            self.surrogate.fingerprint,
            np.full(len(rows), np.nan),
            {},
        )

    def kept(self, samples: ParameterTable) -> ParameterTable:
        """See `SampleTeacher`."""
        return samples

    def answered(self, samples: ParameterTable) -> tuple[ParameterTable, Bool[np.ndarray, " sample"]]:
        """See `SampleTeacher`."""
        values = self.surrogate.predict_columns(samples.values)[""]
        inside = self.surrogate.facts.domain.holds(samples.values) & np.isfinite(values).all(axis=1)
        said = replace(
            samples,
            layout=self.surrogate.facts.layout,
            labels=np.asarray(values, np.float64),
            fingerprint=self.surrogate.fingerprint,
            failed={},
        )
        return said, inside

    def joined(self, first: ParameterTable, second: ParameterTable) -> ParameterTable:
        """See `SampleTeacher`."""
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(first, name), getattr(second, name)])
            for name in ("values", "labels", "seconds")
        }
        return replace(first, **columns)

    def score(self, samples: ParameterTable, prefix: str) -> dict[str, float]:
        """See `SampleTeacher`."""
        return score_parameters(self.surrogate, samples, prefix)

    def timed(self, student: ParameterSurrogate, samples: ParameterTable) -> dict[str, Callable[[], Any]]:
        """See `SampleTeacher`."""
        return {
            "teacher": lambda: self.surrogate.predict_columns(samples.values),
            "student": lambda: student.predict_columns(samples.values),
        }
