"""Students of trajectories and of numbers learn drawn requests, and may take several steps of their teacher in one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from composed_stages import run_stage
from hydra import compose, initialize_config_dir
from small_fields import layout

from data.errors import InputError
from data.fields.field_reading import read_fields
from data.json_files import read_plain
from data.spec import input_hash
from data.store.records import RecordStore
from experiments.application.choices import CONF
from experiments.application.stage import instantiate
from experiments.campaigns.sampled import draw_requests
from experiments.distillation.sample_teachers import coarser
from experiments.pages.page import write_report
from experiments.stages.distil import distil
from experiments.stages.train import train
from simulators.adapter import Simulator
from simulators.workers.worker import request_values
from surrogates.fields.surrogate import FieldSurrogate
from surrogates.learning.field_metrics import relative_l2
from surrogates.parameters.surrogate import ParameterSurrogate
from surrogates.saved import load_surrogate

SOLVER = ["simulator=burgers", "simulator.points=32", "simulator.steps=4", "sampling=burgers"]
NETWORK = ["model=fno", "model.network.width=8", "model.network.layers=1", "model.network.modes=[6]"]
RECIPE = ["train.epochs=8", "train.batch_size=16", "train.learning_rate=5e-3", "train.mlflow=false"]
PARTS = ["data.parts=[18,3,10,9]", "data.seed=2"]


def drawn(*overrides: str) -> tuple[Simulator, list[xr.Dataset]]:
    """A simulator and the requests that it draws."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("simulate", list(overrides))
    simulator: Simulator = instantiate(config.simulator)
    return simulator, list(draw_requests(config.sampling, simulator)[0])


def stored(path: Path, simulator: Simulator, requests: list[xr.Dataset]) -> None:
    """The store of a campaign, computed in this process."""
    spec, facts = simulator.spec, {"seconds": 1.0, "core_seconds": 1.0, "threads": 1, "attempts": 1, "log": "{}"}
    attrs = {**spec.attrs, "fingerprint": simulator.fingerprint}
    with RecordStore.create(
        path, spec.inputs, spec.outputs, coords=spec.coords, provenance=simulator.provenance, attrs=attrs
    ) as records:
        for request in requests:
            values = {**request_values(request), **request_values(simulator.simulate(request))}
            records.append(input_hash(request), values, status="ok", message="", **facts)


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of 40 trajectories, a teacher of steps, and a student that takes two of these in one.

    The teacher has its initial weights: what a student learns of it is not what the labels say.
    """
    folder = tmp_path_factory.mktemp("lesson")
    stored(folder / "labels.zarr", *drawn(*SOLVER, "sampling.count=40"))
    labels = [f"data.file={folder}/labels.zarr", *PARTS]
    untrained = [*RECIPE, "train.max_seconds=0"]
    run_stage(train, "train", folder / "teacher", "task=fluids/trajectories", *labels, *NETWORK, *untrained)
    asking = [f"data.train={folder}/labels.zarr", *PARTS, "sampling.count=120", "lessons.every=2", "weights.labels=0"]
    run_stage(distil, "distil", folder / "student", *asked(folder), *asking)
    return folder


def asked(folder: Path) -> list[str]:
    return [f"teacher={folder}/teacher", *SOLVER, "train=fields", *NETWORK, *RECIPE]


def test_a_student_of_trajectories_takes_several_steps_in_one_and_is_scored_on_labels_at_its_times(
    lesson: Path,
) -> None:
    teacher, student = (load_surrogate(lesson / name / "surrogate") for name in ("teacher", "student"))
    assert isinstance(teacher, FieldSurrogate)
    assert isinstance(student, FieldSurrogate)
    assert student.facts.layout.axis("time").values == teacher.facts.layout.axis("time").values[::2]
    metrics = read_plain(lesson / "student" / "metrics.json", dict[str, float], remedy="")
    # The drawn series begins with the requests of the labels, of which the training part is learned with its labels.
    counts = {name: metrics[f"distil/{name}"] for name in ("read", "held_out", "repeated")}
    assert counts == {"read": 120, "held_out": 22, "repeated": 0}
    assert metrics["distil/answered"] + metrics["distil/outside_domain"] == 98
    assert metrics["distil/labels"] == 18
    # The labels are those that the teacher learned, so that both are of one level.
    assert metrics["distil/same_level"] == 1.0
    assert student.taught_by is not None
    assert student.taught_by.weights == {"labels": 0.0, "answers": 1.0}
    assert student.taught_by.fingerprint == teacher.fingerprint
    assert student.taught_by.calibrated_on == "labels"
    assert student.facts.bands is not None
    # The errors are those of the labels at every other time.
    fields, _ = read_fields(lesson / "labels.zarr")
    split = read_plain(lesson / "teacher" / "split.json", dict[str, list[int]], remedy="")
    tested = fields.take(np.array(split["test"]))
    truth = np.moveaxis(tested.states, -1, 2)[:, 2::2]
    coarse = replace(tested, states=tested.states[:, ::2], layout=coarser(tested.layout, 2))
    answers = teacher.predict_fields(tested).mean[:, 2::2], student.predict_fields(coarse).mean[:, 1:]
    for who, answer in zip(("teacher", "student"), answers, strict=True):
        expected = float(relative_l2(np.moveaxis(answer, -1, 2), truth))
        assert metrics[f"{who}/test/relative_l2"] == pytest.approx(expected, rel=1e-4)
    assert "alone/test/relative_l2" in metrics
    assert metrics["error_over_teacher/test/relative_l2"] > 0
    # It follows its teacher, wherever that goes.
    assert metrics["agreement/relative_l2"] < 0.5
    assert "same network, labels alone" in write_report(lesson / "student").read_text()


def test_answers_alone_calibrate_and_a_request_is_answered_by_the_student(lesson: Path, tmp_path: Path) -> None:
    arguments = [*asked(lesson), "sampling.count=100", "train.max_seconds=0"]
    metrics = run_stage(distil, "distil", tmp_path / "free", *arguments)
    assert metrics["distil/learned"] < metrics["distil/answered"]
    assert 0 <= metrics["agreement/points_in_band"] <= 1
    student = load_surrogate(tmp_path / "free" / "surrogate")
    assert student.taught_by is not None
    assert student.taught_by.calibrated_on == "answers of the teacher"
    _, (request,) = drawn(*SOLVER, "sampling.count=1", "sampling.seed=9")
    answer = student.simulate(request)
    assert answer["u"].shape == (5, 1, 32)
    assert (answer["u_low"] <= answer["u_high"]).all()
    with pytest.raises(InputError, match="of which 3 at a time do not give the last"):
        run_stage(distil, "distil", tmp_path / "none", *arguments, "lessons.every=3")
    without = [text for text in arguments if not text.startswith(("teacher=", "sampling"))]
    with pytest.raises(InputError, match="teaches by its labels"):
        run_stage(distil, "distil", tmp_path / "none", *without, f"inputs={lesson}/labels.zarr")


def test_coarser_times_begin_with_the_first_state_wherever_the_output_begins() -> None:
    plain = layout(times=7)
    assert coarser(plain, 3).axis("time").values == (0.0, 3.0, 6.0)
    # An output that begins after its initial state has its first time one step later.
    assert coarser(replace(plain, lead=1), 7).axis("time").values == (6.0,)
    assert coarser(plain, 3).axis("x") == plain.axis("x")


def test_numbers_that_a_simulator_draws_teach_a_student_of_numbers(tmp_path: Path) -> None:
    robertson = ["simulator=robertson", "sampling=robertson"]
    simulator, requests = drawn(*robertson, "sampling.count=60")
    names = [variable.name for variable in simulator.spec.inputs]
    table = pd.DataFrame([{name: float(request[name]) for name in names} for request in requests])
    table["y"] = np.log10(table.rate_1) + 2 * table.initial_c
    table.to_csv(tmp_path / "labels.csv", index=False)
    network = ["model=mlp", "model.width=16", "model.layers=1", "model.ensemble=2", "train.mlflow=false"]
    labels = [f"data.file={tmp_path}/labels.csv", "data.target=y", f"data.inputs=[{','.join(names)}]"]
    recipe = ["train.epochs=30", "train.learning_rate=1e-2"]
    run_stage(train, "train", tmp_path / "teacher", "task=fluids/drag", *labels, *network, *recipe)
    asking = [f"teacher={tmp_path}/teacher", *robertson, "train=parameters", *network, *recipe, "model.ensemble=1"]
    metrics = run_stage(distil, "distil", tmp_path / "student", *asking, "sampling.count=300", "sampling.seed=3")
    student = load_surrogate(tmp_path / "student" / "surrogate")
    assert isinstance(student, ParameterSurrogate)
    assert student.taught_by is not None
    assert student.taught_by.name == "parameters:y"
    assert metrics["distil/read"] == 300
    assert metrics["agreement/coverage_90"] > 0.6
    assert metrics["agreement/mae"] < 0.2 * np.ptp(table.y)
