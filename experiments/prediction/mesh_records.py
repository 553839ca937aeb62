"""Answers of a surrogate of meshes to every record of a store, in a store of the same layout, mesh by mesh."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.files import atomic_directory, make_directory, remove_directory
from data.meshes.vtk_meshes import mesh_store
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.spec import SimulationError, Variable
from data.store.records import RecordStore
from data.terminal import progress_bar
from experiments.application.run_directory import configuration_checked, rejects_path
from experiments.application.stage import show_readings
from experiments.prediction.array_output import STORE
from experiments.prediction.delivery import Delivered
from experiments.prediction.rows import PARTS
from experiments.prediction.truth import TruthScores
from experiments.prediction.vtk_output import is_collection, records_of, write_meshes
from surrogates.learning.box import IN_DOMAIN, OutOfDomainWarning

#: Answers between folds of the journal of the store into its arrays.
FLUSH_EVERY = 64


def predict_meshes(surrogate: Any, inputs: Path, out: Path, run_dir: Path, settings: Mapping[str, Any]) -> Delivered:
    """Write the answers to all meshes of a store.

    Args:
        surrogate: a surrogate of meshes.
        inputs: a store of `understudy simulate` with meshes, or .vtu files; outputs in it that the surrogate
            predicts are the truth.
        out: .zarr, a store with the mesh, the parameters, the answers with deviations and bounds, and NAME_true; or
            .pvd, the same as files of VTK, with NAME_difference.
        run_dir: directory of the run.
        settings: not used.

    Raises:
        InputError: the store holds no meshes, or lacks an input of the surrogate.
    """
    if out.suffix.lower() != ".zarr" and not is_collection(out):
        raise InputError(
            f"answers on meshes are a store or files of VTK, not {out.name!r}",
            where="out",
            remedy="Write out=NAME.zarr or out=NAME.pvd",
        )
    began = time.perf_counter()
    with ExitStack() as stack:
        path = stack.enter_context(mesh_store(inputs))
        if not (path / "store.json").is_file():
            raise InputError(
                "is no store of meshes",
                where=str(inputs),
                remedy="Give one that `understudy simulate` made, or .vtu files of triangles",
            )
        source = stack.enter_context(RecordStore.open(path))
        variables = {*source.inputs, *source.outputs}
        asked, spec = [v.name for v in surrogate.spec.inputs], surrogate.spec
        if lacking := [name for name in asked if name not in variables]:
            raise InputError(
                f"no variable {' and no '.join(lacking)} in it", where=str(inputs),
                remedy=f"It has {', '.join(sorted(variables))}; make it with simulator.fields=true",
            )  # fmt: skip
        learned = [*surrogate.facts.layout.fields, *surrogate.facts.layout.scalars]
        truths = {v.name: replace(v, name=f"{v.name}_true") for v in learned if v.name in variables}
        answers = stack.enter_context(_answers(run_dir / PARTS / STORE, surrogate, list(truths.values())))
        earlier, count = len(answers), len(source)
        with progress_bar("meshes", count) as bar:
            bar.advance(earlier)
            for number, (_, record) in enumerate(source.records(None)):
                if number < earlier:
                    continue
                values, status, message = _answer(surrogate, record, asked)
                if status == "ok":
                    values |= {true.name: record[name] for name, true in truths.items()}
                answers.append(str(number), values, status=status, message=message)
                bar.advance(1)
        answers.flush()
        scores, counted = _summary(answers, truths, run_dir, inputs)
    if not counted["answered"]:
        remove_directory(run_dir / PARTS)
        raise InputError("no mesh of it can be used", where=str(inputs), remedy=f"See {run_dir / 'rejects.csv'}")
    configuration_checked(run_dir)
    if is_collection(out):
        with RecordStore.open(run_dir / PARTS / STORE) as store:
            write_meshes(out, records_of(store))
    else:
        with atomic_directory(out) as temporary:
            shutil.copytree(run_dir / PARTS / STORE, temporary, dirs_exist_ok=True)
    seconds = time.perf_counter() - began
    metrics = {f"predict/{k}": float(v) for k, v in counted.items()} | {"predict/seconds": seconds}
    said: dict[str, object] = {
        "meshes": f"{count:,}" + (f" ({earlier:,} before)" if earlier else ""),
        "without an answer": f"{count - counted['answered']:,}",
        "outside the training domain": f"{counted['out_of_domain']:,}",
        "rate": f"{(count - earlier) / seconds:,.1f} meshes/s over {seconds:.1f} s",
    }
    for name, score in scores.items():
        metrics |= {f"predict/{name}/{key}": value for key, value in score.metrics().items()}
        said |= {f"{name}: {key}": f"{value:.6g}" for key, value in score.metrics().items()}
    return Delivered(metrics, said, scores, {v.name: v.units for v in (*spec.outputs, *truths.values())})


@contextmanager
def _answers(path: Path, surrogate: Any, truths: list[Variable]) -> Iterator[RecordStore]:
    """The store of answers under way.

    Raises:
        InputError: it holds the answers of another surrogate.
    """
    make_directory(path.parent)
    if (path / "store.json").is_file():
        store = RecordStore.open(path, "a", flush_every=FLUSH_EVERY)
        if store.attrs.get("fingerprint") != surrogate.fingerprint:
            store.close()
            raise InputError(
                "the directory holds the answers of another surrogate", where=str(path), remedy="Name another out"
            )
    else:
        outputs = [*surrogate.spec.outputs, *truths]
        provenance = {**surrogate.provenance, "fingerprint": surrogate.fingerprint}
        store = RecordStore.create(
            path, surrogate.spec.inputs, outputs, coords=surrogate.spec.coords, provenance=provenance,
            flush_every=FLUSH_EVERY,
        )  # fmt: skip
    with store:
        yield store


def _answer(surrogate: Any, record: Mapping[str, Any], asked: list[str]) -> tuple[dict[str, Any], str, str]:
    """The mesh and the answer to it, or why there is none."""
    if str(record.get("status", "ok")) != "ok":
        return {}, str(record["status"]), "the simulator has no answer, and its mesh is not used"
    request = {name: record[name] for name in asked}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutOfDomainWarning)
            answer = surrogate.simulate(surrogate.spec.request(request))
    except SimulationError as error:
        return request, error.kind, error.message
    return {**request, **{str(name): array.values for name, array in answer.items()}}, "ok", ""


def _summary(
    answers: RecordStore, truths: Mapping[str, Variable], run_dir: Path, inputs: Path
) -> tuple[dict[str, TruthScores], dict[str, int]]:
    """Scores of each output whose truth is known, and counts; the meshes without an answer go to rejects.csv."""
    scores = {name: TruthScores(variable.units) for name, variable in truths.items()}
    counted = {"meshes": 0, "answered": 0, "out_of_domain": 0}
    left_out: dict[str, int] = {}
    with RejectLog(rejects_path(run_dir)) as rejects:
        for number, (_, record) in enumerate(answers.records(None)):
            counted["meshes"] += 1
            if str(record["status"]) != "ok":
                reason = str(record["message"])
                rejects.add(inputs, number, "", reason)
                left_out[str(record["status"])] = left_out.get(str(record["status"]), 0) + 1
                continue
            counted["answered"] += 1
            counted["out_of_domain"] += not bool(record.get(IN_DOMAIN, True))
            for name, score in scores.items():
                bounds = [record[f"{name}{end}"] for end in ("_low", "_high") if f"{name}{end}" in record]
                score.add(*(np.asarray(v, float).ravel() for v in (record[f"{name}_true"], record[name], *bounds)))
    show_readings(
        [Reading(str(inputs), "store of a campaign, meshes", "meshes", counted["meshes"], counted["answered"],
                 left_out=left_out)],
        run_dir,
    )  # fmt: skip
    return scores, counted
