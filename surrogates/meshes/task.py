"""Trains and scores surrogates of flows on unstructured meshes, on stores of a campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from data.meshes.mesh_samples import MeshSamples
from data.meshes.vtk_meshes import read_mesh_files
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import build
from surrogates.learning.learned_from import Hashes
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.overlap import Overlap
from surrogates.learning.rung import FittedRung, Rung
from surrogates.learning.sample_parts import PartedData, read_samples, say_other_labels, score_apart
from surrogates.learning.sample_task import SampleParts, SampleSets, SampleTask
from surrogates.meshes.calibration import calibrate_intervals
from surrogates.meshes.cheaper_answers import asked, asked_of_own
from surrogates.meshes.facts import MeshConfig
from surrogates.meshes.fit import fit_mesh_surrogate
from surrogates.meshes.network import MeshNetworkConfig
from surrogates.meshes.scores import score_meshes
from surrogates.meshes.surrogate import MeshSurrogate


@dataclass(frozen=True)
class MeshData(PartedData):
    """The training data; the keys of `data` in task=fluids/meshes, besides those of `PartedData`.

    The records of the store contain their meshes; the meshes of `test` may be finer or coarser.

    Attributes:
        fields: outputs at the vertices to learn; None for all.
        scalars: scalar outputs to learn, such as drag.
        parameters: inputs that the mesh does not determine, such as a Reynolds number; None for all numbers.
    """

    fields: list[str] | None = None
    scalars: list[str] = field(default_factory=list)
    parameters: list[str] | None = field(default_factory=list)


@dataclass(frozen=True)
class MeshTask(SampleTask[MeshSamples, MeshSurrogate]):
    """A training on records that contain their meshes; see `SampleTask`.

    Attributes:
        on: the cheaper method, which takes the same meshes, and whose answers are inputs; None for none.
    """

    data: MeshData
    config: MeshConfig
    training: TrainConfig
    on: Rung | None = None

    KIND = "meshes"
    DATA = MeshData
    RUNG_OUTPUTS = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any], on: Rung | FittedRung | None = None) -> Self:
        """The task that settings describe; see `Task.of`."""
        assert not isinstance(on, FittedRung)  # this kind has none
        return replace(super().of(settings), on=on)

    def split(self, data: SampleSets[MeshSamples], run_dir: Path, *, progress: bool = True) -> SampleParts[MeshSamples]:
        """Split the samples, of which those that the cheaper method does not answer are left out."""
        if (on := self.on) is not None:
            data = data.answered(lambda samples, name: asked(on, samples, run_dir / name, progress=progress))
        return super().split(data, run_dir, progress=progress)

    @staticmethod
    def model_settings(node: Mapping[str, Any]) -> MeshConfig:
        """The settings of the surrogate; see `Task.model_settings`."""
        network = build(MeshNetworkConfig, node["network"], where="model.network")
        outer = {str(k): v for k, v in node.items() if k not in ("kind", "network")}
        settings = build(MeshConfig, outer, where="model")
        return MeshConfig(network, settings.ensemble, settings.buckets, settings.scalar_weight)

    def read_file(self, path: Path) -> tuple[MeshSamples, list[tuple[int, str]]]:
        """The records of a store, and (row, reason) of each record that was left out."""
        return _read(self.data, path)

    def refuse_other(self, samples: MeshSamples, other: MeshSamples, name: str) -> None:
        """Refuse records with other variables or physics; their meshes may be finer or coarser."""
        other.refuse_other(samples.layout, name)

    def fit_samples(
        self, train: MeshSamples, valid: MeshSamples | None, run_dir: Path, **options: Any
    ) -> tuple[MeshSurrogate, FitResult]:
        """See `surrogates.meshes.fit.fit_mesh_surrogate`."""
        return fit_mesh_surrogate(train, valid, self.config, self.training, run_dir, on=self.on, **options)

    def calibrate_samples(self, surrogate: MeshSurrogate, samples: MeshSamples) -> MeshSurrogate:
        """See `surrogates.meshes.calibration.calibrate_intervals`."""
        return calibrate_intervals(surrogate, samples)

    def label_costs(self, samples: MeshSamples) -> dict[str, float]:
        """The number of failures, and the processor time of all labels with that of the failures, in s."""
        return {
            "train/failed": float(samples.failed),
            "train/label_core_seconds": float(samples.seconds.sum() + samples.failed_seconds),
            **samples.cheaper_costs,
        }

    @staticmethod
    def score_samples(surrogate: MeshSurrogate, samples: MeshSamples, prefix: str) -> dict[str, float]:
        """See `score_meshes`."""
        return score_meshes(surrogate, samples, prefix)

    @classmethod
    def evaluate(
        cls,
        surrogate: MeshSurrogate,
        files: Sequence[Path],
        settings: Mapping[str, Any],
        rejects: RejectLog | None,
        readings: list[Reading],
        *,
        learned: Hashes | None = None,
    ) -> dict[str, float]:
        """Scores on stores of a campaign; see `Task.evaluate`."""
        layout = surrogate.facts.layout
        data = MeshData(
            file="",
            fields=[v.name for v in layout.fields],
            scalars=[v.name for v in layout.scalars],
            parameters=[v.name for v in layout.parameters],
        )
        metrics: dict[str, float] = {}
        for path in files:
            samples = read_samples(path, partial(_read, data), rejects, readings)
            samples.refuse_other(layout, str(path))
            say_other_labels(readings, samples.fingerprint, surrogate.labels_fingerprint)
            if surrogate.facts.on is not None:
                samples = asked_of_own(surrogate.rung, samples, path, rejects)
                metrics |= {f"test/{path.stem}/{k.replace('/', '_')}": v for k, v in samples.cheaper_costs.items()}
            overlap = Overlap.among(learned, samples.input_keys())
            overlap.note(readings)
            metrics |= score_apart(overlap, partial(score_meshes, surrogate), samples, f"test/{path.stem}")
        return metrics


def _read(data: MeshData, path: Path) -> tuple[MeshSamples, list[tuple[int, str]]]:
    return read_mesh_files(path, data.fields, data.scalars, data.parameters)
