"""A ladder for bodies in a channel: numbers, then their mesh, then the solver, as `understudy calibrate` makes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from benchmarks.faults.small_surrogates import meshes, parameters
from data.errors import InputError
from data.meshes.mesh_samples import read_meshes
from data.parameters import read_parameters
from experiments.answering.answer_rungs import build_answer_rungs
from experiments.answering.cascade_calibration import LadderSettings, calibrate_cascade
from experiments.answering.labelled_requests import read_labels, without_learned
from experiments.answering.saved_cascade import SavedCascade
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.fluids.ngsolve.flow import NGSolveFlow
from simulators.fluids.shapes import ShapeRanges, draw_bodies
from simulators.mesh_first import MeshFirst
from surrogates.cascade.risk_calibration import Risk
from surrogates.learning.box import Box
from surrogates.learning.learned_from import hash_keys, save_hashes
from surrogates.learning.normalise import Standardise
from surrogates.meshes.facts import MeshScale
from surrogates.parameters.facts import InputScale

ng = pytest.importorskip("ngsolve", reason="needs the optional package ngsolve")

CAMPAIGN = CampaignConfig(workers=1, give_up_after=None)
FLOW = NGSolveFlow(maxh=0.2, body_maxh=0.05, order=2)
#: The same on the command line.
SETTINGS = {"ngsolve": {"maxh": 0.2, "body_maxh": 0.05, "order": 2}, "ngsolve_mesh": {"order": 1}}
LABELS, FRESH = 16, 6


def test_a_rung_of_meshes_answers_bodies_and_keeps_the_promise(tmp_path: Path) -> None:
    bodies = list(draw_bodies(FLOW, ShapeRanges(), LABELS + FRESH, 0))
    run_campaign(FLOW, bodies[:LABELS], tmp_path / "fresh.zarr", CAMPAIGN, progress=False)
    ladder = LadderSettings(("ngsolve_mesh", "ngsolve"), {"drag": 1.0}, Risk(0.2), SETTINGS, drop=False)
    card = calibrate_cascade(ladder, tmp_path / "fresh.zarr", tmp_path / "out", CAMPAIGN, progress=False)
    assert [rung.label for rung in card.rungs] == ["ngsolve_mesh", "ngsolve"]
    assert card.rungs[0].failed == 0
    cascade = SavedCascade(str(tmp_path / "out"))
    assert isinstance(cascade.rungs[0], MeshFirst)
    answers = cascade.simulate_many(bodies[LABELS:])
    for body, answer in zip(bodies[LABELS:], answers, strict=True):
        assert isinstance(answer, xr.Dataset)
        # Order 1 on these meshes is off by a tenth of the drag, which is about 6.
        assert int(answer["rung"]) == 0
        assert 0 < abs(float(answer["drag"]) - float(FLOW.simulate(body)["drag"])) < 1.0
        assert np.isclose(float(answer["drag_high"]) - float(answer["drag"]), 1.0)


def test_a_rung_of_meshes_needs_a_last_rung_that_makes_them(tmp_path: Path) -> None:
    mesh, solver = build_answer_rungs(["ngsolve_mesh", "ngsolve"], SETTINGS, {})
    assert isinstance(mesh, MeshFirst)
    assert mesh.solver == solver == FLOW
    alone = build_answer_rungs(["ngsolve_mesh", "ngsolve_mesh"], {}, {})
    assert not any(isinstance(rung, MeshFirst) for rung in alone)
    reynolds = {**SETTINGS, "ngsolve_mesh": {"varied": ["reynolds"]}}
    with pytest.raises(InputError, match="takes reynolds in 1, and ngsolve:P2/P1 does not"):
        build_answer_rungs(["ngsolve_mesh", "ngsolve"], reynolds, {})


def test_bodies_that_networks_have_learned_from_are_left_out(tmp_path: Path) -> None:
    solver = replace(FLOW, fields=True)
    run_campaign(
        solver, list(draw_bodies(solver, ShapeRanges(), 8, 1)), tmp_path / "labels.zarr", CAMPAIGN, progress=False
    )
    on_meshes, _ = read_meshes(tmp_path / "labels.zarr", scalars=["drag"])
    numbers, _ = read_parameters(tmp_path / "labels.zarr", ["drag"])
    one, count = ((0.0, 1.0),), len(numbers.layout.columns)
    mesh = meshes().with_facts(
        layout=on_meshes.layout, scale=MeshScale((), one * len(on_meshes.layout.channels), one, 0.5), conformal={}
    )
    shape = parameters().with_facts(
        layout=numbers.layout, conformal={}, outputs=Standardise(("drag",), (6.0,), (1.0,)),
        inputs=InputScale((0.0,) * count, (1.0,) * count, (False,) * count, (False,) * count, 0),
        domain=Box(numbers.layout.columns, (-9.0,) * count, (9.0,) * count),
    )  # fmt: skip
    for surrogate, name, keys in (
        (mesh, "mesh", on_meshes.input_keys()[:3]),
        (shape, "shape", numbers.input_keys()[2:4]),
    ):
        surrogate.save(tmp_path / name)
        save_hashes(tmp_path / name, hash_keys(keys))
    labels = [str(tmp_path / "shape"), str(tmp_path / "mesh"), "ngsolve"]
    rungs = [shape, MeshFirst(mesh, solver), solver]
    labelled = read_labels(tmp_path / "labels.zarr", solver, "ngsolve", ["drag"])
    fresh = without_learned(labelled, labels, rungs)
    assert (fresh.seen, fresh.keys, fresh.unknown) == (4, labelled.keys[4:], ())
