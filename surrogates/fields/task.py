"""Trains and scores surrogates of fields on stores of a campaign or on files of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from data.errors import InputError
from data.fields.field_reading import read_fields
from data.fields.files import REMEDY, holds_arrays
from data.fields.samples import Fields
from data.plain import to_plain
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.spec import content_hash
from simulators.adapter import AdvancesStates
from surrogates.fields.calibration import calibrate_intervals
from surrogates.fields.cheaper_answers import rung_of_fields, with_answers
from surrogates.fields.facts import FieldConfig, FieldSettings
from surrogates.fields.fit import fit_field_surrogate
from surrogates.fields.networks.architectures import ARCHITECTURES
from surrogates.fields.scores import score_fields
from surrogates.fields.surrogate import FieldSurrogate
from surrogates.learning.learned_from import Hashes
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.nn.registry import settings_of_surrogate
from surrogates.learning.overlap import Overlap
from surrogates.learning.rung import FittedRung, Rung
from surrogates.learning.sample_parts import PartedData, read_samples, say_other_labels, score_apart
from surrogates.learning.sample_task import SampleParts, SampleSets, SampleTask


@dataclass(frozen=True)
class FieldData(PartedData):
    """The training data; the keys of `data` in task=fluids/..., besides those of `PartedData`.

    The file may also be a Zarr or NetCDF file with a dim `sample`, or a file of PyTorch tensors. The files of `test`
    may have other grids.

    Attributes:
        output: variable to learn; None if there is only one.
        inputs: variables from which it is predicted; None for the inputs of the store.
        periodic: whether the domain is periodic; None to take it from the attributes of the file.
        dims: names of the axes of unnamed arrays, for all arrays or by name; required if an array has more than two
            axes.
    """

    parts: list[Any] = field(default_factory=lambda: [0.8, 0.05, 0.05, 0.1])
    output: str | None = None
    inputs: list[str] | None = None
    periodic: bool | None = None
    dims: Any = None


@dataclass(frozen=True)
class FieldTask(SampleTask[Fields, FieldSurrogate]):
    """A training on fields or trajectories; see `SampleTask`.

    Attributes:
        on: the cheaper surrogate of the same field whose answers are inputs, or a solver of the same trajectories on a
            coarser grid, whose steps the network corrects; None for none.
    """

    data: FieldData
    config: FieldConfig
    training: TrainConfig
    on: Rung | None = None

    KIND = "fields"
    DATA = FieldData
    FITTED_RUNGS = frozenset({"coarse"})
    RUNG_OUTPUTS = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any], on: Rung | FittedRung | None = None) -> Self:
        """The task that settings describe; see `Task.of`."""
        task = super().of(settings)
        if isinstance(on, FittedRung):
            return replace(task, config=replace(task.config, coarse="darcy"))
        if on is not None and not isinstance(on.simulator, AdvancesStates):
            rung_of_fields(on)
        return replace(task, on=on)

    @classmethod
    def unused_rung(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """See `Task.unused_rung`."""
        if unused := super().unused_rung(settings):
            return unused
        if Path(str(settings["on"])).expanduser().is_dir():
            return {"rung": "all of the field of on=DIR is used"}
        return dict.fromkeys(("rung.outputs", "rung.store", "rung.conformers"), "the solver is stepped in the training")

    def network_hash(self) -> str:
        """Hash of the settings of the surrogate, and of the solver whose steps it corrects."""
        if self.on is None or not isinstance(self.on.simulator, AdvancesStates):
            return super().network_hash()
        return content_hash([to_plain(self.config), self.on.simulator.fingerprint])

    def split(self, data: SampleSets[Fields], run_dir: Path, *, progress: bool = True) -> SampleParts[Fields]:
        """Split the samples, with the answers of the cheaper surrogate."""
        if self.on is not None and not isinstance(self.on.simulator, AdvancesStates):
            others = {name: with_answers(self.on, other) for name, other in data.others.items()}
            data = SampleSets(with_answers(self.on, data.samples), others)
        return super().split(data, run_dir, progress=progress)

    @staticmethod
    def model_settings(node: Mapping[str, Any]) -> FieldConfig:
        """The settings of the surrogate; see `Task.model_settings`."""
        return settings_of_surrogate(FieldSettings, FieldConfig, node, ARCHITECTURES)

    def read_file(self, path: Path) -> tuple[Fields, list[tuple[int, str]]]:
        """The samples of a file, and (row, reason) of each sample that was left out."""
        return _read(self.data, path)

    def refuse_other(self, samples: Fields, other: Fields, name: str) -> None:
        """Refuse fields with other variables or physics; they may have another grid."""
        other.refuse_other(samples.layout, name, same_grid=False)

    def least(self, samples: Fields) -> int:
        """A trajectory has several steps to learn from, so that one is enough; of fields two are needed."""
        return 1 if samples.layout.evolves else 2

    def fit_samples(
        self, train: Fields, valid: Fields | None, run_dir: Path, **options: Any
    ) -> tuple[FieldSurrogate, FitResult]:
        """See `surrogates.fields.fit.fit_field_surrogate`."""
        return fit_field_surrogate(train, valid, self.config, self.training, run_dir, on=self.on, **options)

    def calibrate_samples(self, surrogate: FieldSurrogate, samples: Fields) -> FieldSurrogate:
        """See `surrogates.fields.calibration.calibrate_intervals`."""
        return calibrate_intervals(surrogate, samples)

    def label_costs(self, samples: Fields) -> dict[str, float]:
        """`train/label_core_seconds`, if the file records the cost of all labels; and that of the cheaper surrogate."""
        all_timed = np.isfinite(samples.seconds).all()
        labels = {"train/label_core_seconds": float(samples.seconds.sum())} if all_timed else {}
        return {**labels, **samples.cheaper_costs}

    @staticmethod
    def score_samples(surrogate: FieldSurrogate, samples: Fields, prefix: str) -> dict[str, float]:
        """See `score_fields`."""
        return score_fields(surrogate, samples, prefix)

    @classmethod
    def evaluate(
        cls,
        surrogate: FieldSurrogate,
        files: Sequence[Path],
        settings: Mapping[str, Any],
        rejects: RejectLog | None,
        readings: list[Reading],
        *,
        learned: Hashes | None = None,
    ) -> dict[str, float]:
        """Scores on files of samples; the setting `dims` names the axes of unnamed arrays. See `Task.evaluate`."""
        layout = surrogate.facts.layout
        inputs = [v.name for v in (layout.initial, *layout.static, *layout.parameters) if v is not None]
        data = FieldData(file="", output=layout.output.name, inputs=inputs, dims=settings.get("dims"))
        metrics: dict[str, float] = {}
        for path in files:
            fields = read_samples(path, partial(_read, data), rejects, readings)
            if not fields.layout.attrs.get("boundary_conditions"):
                # A file without this attribute is assumed to have the boundary of the training data.
                fields = replace(fields, layout=replace(fields.layout, periodic=layout.periodic))
            fields.refuse_other(layout, str(path), same_grid=False)
            if (path / "store.json").is_file():
                say_other_labels(readings, fields.fingerprint, surrogate.labels_fingerprint)
            overlap = Overlap.among(learned, fields.input_keys())
            overlap.note(readings)
            metrics |= score_apart(overlap, partial(score_fields, surrogate), fields, f"test/{path.stem}")
        return metrics


def _read(data: FieldData, path: Path) -> tuple[Fields, list[tuple[int, str]]]:
    dims = data.dims
    if dims is not None and not isinstance(dims, list | dict):
        raise InputError(f"must be a list of dims, got {dims!r}", where="data.dims", remedy=REMEDY)
    # Stores and files that name their dims need none, even if other files of the same command do.
    needed = holds_arrays(path)
    return read_fields(
        path,
        output=data.output,
        inputs=data.inputs,
        periodic=data.periodic,
        dims=dims if needed else None,
    )
