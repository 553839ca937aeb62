"""Costs follow from records of earlier runs with the same settings, and from nothing else."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from data.claim import claim
from data.errors import InputError
from data.files import write_json, write_text
from data.progress import follow_progress
from data.store.records import RecordStore
from experiments.agents.check import Check, check
from experiments.agents.composition import Permissions, compose_stage
from experiments.agents.confinement import Root
from experiments.agents.estimates import NO_RECORD
from experiments.agents.row_counts import rows_of
from experiments.application.stage import instantiate
from experiments.cli import STAGES

KINETICS = ["simulator=robertson", "sampling=robertson"]
COSTS = (0.2, 0.4, 0.3, 0.5)


def checked(root: Path, stage: str, *overrides: str) -> Check:
    return check(STAGES, stage, overrides, Root(root), Permissions())


def write_campaign(root: Path, count: int = len(COSTS)) -> None:
    """A finished campaign whose records have costs that are known."""
    composed = compose_stage(STAGES, "simulate", [*KINETICS, "run.dir=earlier"], Root(root), Permissions())
    spec = instantiate(composed.config.simulator).spec
    config = OmegaConf.to_yaml(composed.config, resolve=True)
    with claim(root / "earlier", "simulate") as run_dir, follow_progress(run_dir, "simulate"):
        write_text(run_dir / "config.yaml", config)
        with RecordStore.create(run_dir / "labels.zarr", spec.inputs, (), provenance={"simulator": "r"}) as store:
            for k in range(count):
                store.append(f"{k}", {v.name: 0.1 for v in spec.inputs}, seconds=1.0, threads=1, core_seconds=COSTS[k])


def test_without_an_earlier_record_no_cost_is_stated(tmp_path: Path) -> None:
    estimated = checked(tmp_path, "simulate", *KINETICS, "sampling.count=7")
    assert (estimated.rows.total, estimated.rows.done, estimated.ready) == (7, 0, True)
    assert (estimated.estimates.core_seconds.value, estimated.estimates.core_seconds.basis) == (None, NO_RECORD)
    # What is enforced is a limit, and no estimate.
    assert estimated.estimates.memory.value is None
    assert estimated.estimates.memory.high is not None
    assert not list(tmp_path.iterdir())


def test_the_cost_of_more_requests_is_that_of_the_records_with_the_error_of_their_mean(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    estimated = checked(tmp_path, "simulate", *KINETICS, "sampling.count=100").estimates
    mean, variance, n = np.mean(COSTS), np.var(COSTS, ddof=1), len(COSTS)
    cost = estimated.core_seconds
    assert cost.records == n
    assert cost.value is not None
    assert cost.low is not None
    assert cost.high is not None
    # The processor time of the command beyond its records is that of this test, which is less than that of the records.
    assert cost.value == pytest.approx(100 * mean)
    half = 1.645 * math.sqrt(100 * variance + 100**2 * variance / n)
    assert (cost.high - cost.low) / 2 == pytest.approx(half)
    assert estimated.runs == ("earlier",)
    # Other settings of the simulator have other costs.
    assert checked(tmp_path, "simulate", *KINETICS, "simulator.method=BDF").estimates.core_seconds.value is None


def test_records_of_an_earlier_session_are_not_paid_again(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    estimated = checked(tmp_path, "simulate", *KINETICS, "sampling.count=10", "run.dir=earlier")
    assert (estimated.rows.total, estimated.rows.done, estimated.rows.left) == (10, 4, 6)
    assert estimated.estimates.core_seconds.value == pytest.approx(6 * np.mean(COSTS))


def test_a_stage_of_another_size_costs_between_the_same_and_in_proportion(tmp_path: Path) -> None:
    table = tmp_path / "more.csv"
    table.write_text("smiles\n" + "CCO\n" * 30)
    with claim(tmp_path / "before", "screen") as run_dir, follow_progress(run_dir, "screen"):
        write_text(run_dir / "config.yaml", "stage: screen\nsurrogate: s\ncascade: []\nstandardise: []\n")
        metrics = {"screen/molecules": 10.0, "screen/core_seconds": 2.0, "screen/peak_memory_mb": 300.0}
        write_json(run_dir / "metrics.json", metrics)
    (tmp_path / "s").mkdir()
    estimated = checked(tmp_path, "screen", "surrogate=s", "candidates=more.csv")
    assert estimated.rows.total == 30
    cost = estimated.estimates.core_seconds
    # What the command cost beyond the metric is that of this test, which is less.
    assert (cost.low, cost.value, cost.high) == (2.0, 6.0, 6.0)
    assert estimated.estimates.memory.value == 300.0


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file: x\.csv"):
        checked(tmp_path, "simulate", "inputs=x.csv")


def test_rows_of_a_distillation_are_drawn_or_those_of_a_file_or_unknown(tmp_path: Path) -> None:
    (tmp_path / "few.smi").write_text("C\nCC\nCCC\n")
    asked = ({"sampling": {"count": 7}, "inputs": None}, {"inputs": "dynamics"}, {"inputs": f"{tmp_path}/few.smi"})
    assert [rows_of("distil", one, Root(tmp_path)).total for one in asked] == [7, None, 3]
