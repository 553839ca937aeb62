"""Trains and scores surrogates that predict numbers from numbers, on stores of a campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from data.errors import InputError
from data.fields.physics import refuse_other_boundary
from data.parameter_files import is_table, read_parameter_file
from data.parameters import ParameterLayout, ParameterTable, read_parameters
from data.plain import to_plain
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import MISSING, build, names
from data.spec import content_hash
from surrogates.learning.learned_from import Hashes
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.overlap import Overlap
from surrogates.learning.rung import FittedRung, Rung
from surrogates.learning.sample_parts import PartedData, read_samples, say_other_labels, score_apart
from surrogates.learning.sample_task import SampleParts, SampleSets, SampleTask, target_columns
from surrogates.parameters.calibration import calibrate_intervals
from surrogates.parameters.cheaper_answers import columns_of, with_answers, with_own_answers
from surrogates.parameters.fit import fit_parameter_surrogate
from surrogates.parameters.network import ParameterConfig
from surrogates.parameters.scores import score_parameters
from surrogates.parameters.surrogate import ParameterSurrogate


@dataclass(frozen=True)
class ParameterData(PartedData):
    """The training data; the keys of `data` in task=fluids/drag, besides those of `PartedData`.

    Attributes:
        target: output to learn, or a list of outputs.
        inputs: variables from which it is predicted; None for the inputs of the store. A table needs them.
        units: unit of each column of a table; a store states them itself.
    """

    parts: list[Any] = field(default_factory=lambda: [0.6, 0.1, 0.15, 0.15])
    target: Any = MISSING
    inputs: list[str] | None = None
    units: dict[str, str] | None = None


@dataclass(frozen=True)
class ParameterTask(SampleTask[ParameterTable, ParameterSurrogate]):
    """A training on rows of numbers; see `SampleTask`.

    Attributes:
        linear: whether a line is fitted first, and the networks learn what it leaves.
        on: the cheaper simulator or surrogate whose answers are inputs; None for none.
    """

    data: ParameterData
    config: ParameterConfig
    training: TrainConfig
    linear: bool = False
    on: Rung | None = None

    KIND = "parameters"
    DATA = ParameterData
    FITTED_RUNGS = frozenset({"linear"})
    RUNG_OUTPUTS = ()
    EVALUATED_WITH = frozenset({"data.test", "data.target"})

    @classmethod
    def of(cls, settings: Mapping[str, Any], on: Rung | FittedRung | None = None) -> Self:
        """The task that settings describe; see `Task.of`."""
        if isinstance(on, FittedRung):
            return replace(super().of(settings), linear=True)
        return replace(super().of(settings), on=on)

    @staticmethod
    def model_settings(node: Mapping[str, Any]) -> ParameterConfig:
        """The settings of the surrogate; see `Task.model_settings`."""
        return build(ParameterConfig, {str(k): v for k, v in node.items() if k != "kind"}, where="model")

    def read_file(self, path: Path) -> tuple[ParameterTable, list[tuple[int, str]]]:
        """The records of a store, and (row, reason) of each record that was left out."""
        return _read(names(self.data.target, "data.target"), self.data.inputs, path, self.data.units)

    def split(
        self, data: SampleSets[ParameterTable], run_dir: Path, *, progress: bool = True
    ) -> SampleParts[ParameterTable]:
        """Split the samples, of which those that the cheaper simulator does not answer are left out."""
        if (on := self.on) is not None:
            data = data.answered(lambda samples, name: with_answers(on, samples, run_dir / name, progress=progress))
        return super().split(data, run_dir, progress=progress)

    def refuse_other(self, samples: ParameterTable, other: ParameterTable, name: str) -> None:
        """Refuse records with other inputs, units or physics."""
        _refuse_other(samples.layout, other, name)

    def network_hash(self) -> str:
        """Hash of the settings of the surrogate."""
        settings = to_plain(self.config)
        return content_hash([settings, "linear"] if self.linear else settings)

    def fit_samples(
        self, train: ParameterTable, valid: ParameterTable | None, run_dir: Path, **options: Any
    ) -> tuple[ParameterSurrogate, FitResult]:
        """See `surrogates.parameters.fit.fit_parameter_surrogate`."""
        on = None if self.on is None else columns_of(self.on, train)
        return fit_parameter_surrogate(
            train, valid, self.config, self.training, run_dir, linear=self.linear, on=on, **options
        )

    def calibrate_samples(self, surrogate: ParameterSurrogate, samples: ParameterTable) -> ParameterSurrogate:
        """See `surrogates.parameters.calibration.calibrate_intervals`."""
        return calibrate_intervals(surrogate, samples)

    def label_costs(self, samples: ParameterTable) -> dict[str, float]:
        """The number of failures, and the processor time of all labels with that of the failures, in s."""
        return {
            "train/failed": float(sum(samples.failed.values())),
            "train/label_core_seconds": float(samples.seconds.sum() + samples.failed_seconds),
            **samples.cheaper_costs,
        }

    @staticmethod
    def score_samples(surrogate: ParameterSurrogate, samples: ParameterTable, prefix: str) -> dict[str, float]:
        """See `score_parameters`."""
        return score_parameters(surrogate, samples, prefix)

    @classmethod
    def evaluate(
        cls,
        surrogate: ParameterSurrogate,
        files: Sequence[Path],
        settings: Mapping[str, Any],
        rejects: RejectLog | None,
        readings: list[Reading],
        *,
        learned: Hashes | None = None,
    ) -> dict[str, float]:
        """Scores on stores; the setting `target` names the outputs to compare with. See `Task.evaluate`."""
        outputs = [v.name for v in surrogate.facts.layout.outputs]
        columns = target_columns(outputs, names(settings.get("target"), "data.target"))
        inputs = [v.name for v in surrogate.facts.layout.inputs]
        metrics: dict[str, float] = {}
        for path in files:
            layout = surrogate.facts.layout
            units = {v.name: v.units for v in (*layout.inputs, *layout.outputs)}
            units |= {column: units[name] for name, column in columns.items()}
            read = partial(_read, list(columns.values()), inputs, units=units)
            table = read_samples(path, read, rejects, readings)
            _refuse_other(surrogate.facts.layout, table, str(path))
            say_other_labels(readings, table.fingerprint, surrogate.labels_fingerprint)
            if surrogate.facts.on is not None:
                table = with_own_answers(surrogate, table, path, rejects)
                metrics |= {f"test/{path.stem}/{k.replace('/', '_')}": v for k, v in table.cheaper_costs.items()}
            overlap = Overlap.among(learned, table.input_keys())
            overlap.note(readings)
            metrics |= score_apart(overlap, partial(score_parameters, surrogate), table, f"test/{path.stem}")
        return metrics


def _read(
    targets: list[str], inputs: list[str] | None, path: Path, units: Mapping[str, str] | None = None
) -> tuple[ParameterTable, list[tuple[int, str]]]:
    """The samples of a store, or of a table, whose units are those of `units`."""
    if is_table(path):
        named = {*targets, *(inputs or ())}
        return read_parameter_file(path, targets, inputs, {n: u for n, u in (units or {}).items() if n in named})
    return read_parameters(path, targets, inputs)


def _refuse_other(layout: ParameterLayout, table: ParameterTable, where: str) -> None:
    """Refuse records that a surrogate of this layout cannot answer; their outputs may have other names.

    Raises:
        InputError: the inputs, the units, the positions of curves or the boundary conditions differ.
    """
    if (table.layout.columns, table.layout.units) != (layout.columns, layout.units):
        raise InputError(
            f"its inputs are {', '.join(table.layout.columns)}",
            where=where,
            remedy=f"The surrogate takes {', '.join(layout.columns)}",
        )
    refuse_other_boundary(table.layout.attrs, layout.attrs, where)
    for ours, theirs in zip(layout.outputs, table.layout.outputs, strict=True):
        if ours.units != theirs.units:
            raise InputError(
                f"{theirs.name} is in {theirs.units}, the surrogate gives {ours.name} in {ours.units}",
                where=where,
                remedy=f"Convert it to {ours.units}",
            )
        if (mine := layout.positions(ours)) != (their := table.layout.positions(theirs)):
            raise InputError(
                f"{theirs.name} lies along {_shown(their)}, the surrogate gives it along {_shown(mine)}",
                where=where,
                remedy="Give a store of the simulator that it learned from, with the same saved positions",
            )


def _shown(positions: Mapping[str, tuple[Any, ...]]) -> str:
    """Dims with their first and last positions, for people."""
    return ", ".join(f"{dim} of {len(v)}, {v[0]} to {v[-1]}" for dim, v in positions.items()) or "no dim"
