"""Optional abilities of simulators; code above simulators and surrogates asks for an ability and not for a class."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import simulators
from data.errors import InputError
from data.spec import check, input_hash
from simulators.adapter import DrawsRequests, HasResolutions, ReadsFiles
from simulators.atmosphere.core.dycore import DynamicalCore
from simulators.atmosphere.shallow_water.simulator import ShallowWater
from simulators.chemistry.xtb import XTB
from simulators.fluids.ngsolve.flow import NGSolveFlow
from simulators.fluids.openfoam.body import BodyInChannel
from simulators.fluids.openfoam.simulator import OpenFOAM
from simulators.fluids.shapes import Channel, ShapeRanges
from simulators.fluids.spectral.exponax import Exponax
from simulators.fluids.spectral.initial import FourierSeries
from simulators.rebuild import describe, rebuild
from simulators.requests import DrawSettings, Range, draw_numbers

BURGERS = Exponax("burgers", 16, dt=0.25, save_dt=0.5, steps=2, varied=("viscosity",))
CORE = DynamicalCore(5, 3, days=1, save_hours=12)
VISCOSITY = {"viscosity": Range(0.01, 0.1, log=True)}
DRAWN = [
    (BURGERS, DrawSettings(4, FourierSeries(), ranges=VISCOSITY)),
    (NGSolveFlow(), DrawSettings(4, shapes=ShapeRanges())),
    (NGSolveFlow(varied=("reynolds",)), DrawSettings(4, ranges={"reynolds": Range(1.0, 9.0)})),
    (CORE, DrawSettings(4)),
]


@pytest.mark.parametrize(("simulator", "settings"), DRAWN, ids=[f"{s.name}-{i}" for i, (s, _) in enumerate(DRAWN)])
def test_a_request_depends_on_the_seed_and_its_index_alone(simulator: DrawsRequests, settings: DrawSettings) -> None:
    assert isinstance(simulator, DrawsRequests)
    requests = list(simulator.draw(settings, 3))
    for request in requests:
        check(request, simulator.spec.inputs, sizes=simulator.spec.sizes)  # type: ignore[attr-defined]
    keys = [input_hash(request) for request in requests]
    assert len(set(keys)) == 4
    assert [input_hash(r) for r in simulator.draw(replace(settings, count=2), 3)] == keys[:2]
    assert [input_hash(r) for r in simulator.draw(replace(settings, start=2), 3)] == keys[2:]
    assert not set(keys) & {input_hash(r) for r in simulator.draw(settings, 4)}


def test_settings_that_a_simulator_does_not_use_are_refused() -> None:
    for simulator, settings, message in (
        (BURGERS, DrawSettings(1), "starts from a field"),
        (BURGERS, DrawSettings(1, FourierSeries(), ShapeRanges(), VISCOSITY), "takes no bodies"),
        (BURGERS, DrawSettings(1, FourierSeries()), "Give those of .'viscosity'"),
        (CORE, DrawSettings(1, ranges=VISCOSITY), "starts from states"),
        (CORE, DrawSettings(1, FourierSeries()), "starts from rest"),
        (NGSolveFlow(), DrawSettings(1, FourierSeries(), ShapeRanges()), "starts from rest"),
        (NGSolveFlow(), DrawSettings(1, shapes=ShapeRanges(), ranges=VISCOSITY), "gives the ranges of bodies"),
    ):
        with pytest.raises(InputError, match=message):
            next(simulator.draw(settings, 0))
    shallow = ShallowWater(5, days=0.5, save_hours=12)
    with pytest.raises(InputError, match="takes numbers alone"):
        next(draw_numbers(shallow.name, shallow.spec, DrawSettings(1, FourierSeries()), 0))


@pytest.mark.parametrize("simulator", [BURGERS, CORE], ids=lambda s: s.name)
def test_a_coarser_version_answers_the_same_question_at_the_same_times(simulator: HasResolutions) -> None:
    assert isinstance(simulator, HasResolutions)
    coarse, same = simulator.at(points=8), simulator.at()
    assert type(coarse) is type(simulator)
    assert coarse.fingerprint != simulator.fingerprint == same.fingerprint  # type: ignore[attr-defined]
    specs = [x.spec for x in (simulator, coarse)]  # type: ignore[attr-defined]
    assert specs[0].inputs == specs[1].inputs
    assert specs[0].outputs == specs[1].outputs
    assert specs[0].coordinate("time") == specs[1].coordinate("time")


def test_a_coarse_grid_keeps_what_it_resolves() -> None:
    """A wave of number 2 is the same on 16 and on 8 points, where diffusion is solved exactly."""
    fine = Exponax("diffusion", 16, save_dt=0.1, steps=1)
    coarse = fine.at(points=8)
    starts = [np.sin(4 * np.pi * np.arange(n) / n)[None].astype(np.float32) for n in (16, 8)]
    answers = [
        s.simulate(s.spec.request({"initial": u}))["u"].values for s, u in zip((fine, coarse), starts, strict=True)
    ]
    assert np.allclose(answers[0][..., ::2], answers[1], atol=1e-6)
    decay = np.exp(-0.01 * (4 * np.pi) ** 2 * 0.1)
    assert np.allclose(answers[1][-1], decay * answers[1][0], atol=1e-6)


def test_abilities_are_told_from_methods() -> None:
    assert isinstance(OpenFOAM(BodyInChannel(cells=8)), ReadsFiles)
    assert not isinstance(NGSolveFlow(), HasResolutions)
    assert not isinstance(XTB(), DrawsRequests | HasResolutions | ReadsFiles)


@pytest.mark.parametrize("simulator", [XTB(accuracy=0.1), CORE, ShallowWater(5, days=0.5, save_hours=12), BURGERS])
def test_a_described_simulator_is_rebuilt(simulator: XTB | DynamicalCore | ShallowWater | Exponax) -> None:
    again = rebuild(describe(simulator))
    assert (type(again), again.fingerprint) == (type(simulator), simulator.fingerprint)
    with pytest.raises(InputError, match=r"is of .* by 0\.0, and .* is installed"):
        rebuild({**describe(simulator), "version": "0.0", "fingerprint": "0"})
    with pytest.raises(InputError, match="cannot be rebuilt"):
        rebuild({**describe(simulator), "simulator": "os:system"})
    with pytest.raises(InputError, match="settings of"):
        rebuild({**describe(simulator), "settings": {"colour": "red"}})


def test_a_simulator_whose_settings_hold_settings_is_rebuilt_from_json() -> None:
    flow = NGSolveFlow(channel=Channel(length=2.0), order=2, varied=("aspect",))
    description = json.loads(json.dumps(describe(flow)))
    assert rebuild(description) == flow
    description["settings"]["channel"]["length"] = "long"
    with pytest.raises(InputError, match="not those of the installed version"):
        rebuild(description)


@pytest.mark.parametrize(
    ("package", "above"),
    [("simulators", ("surrogates", "experiments", "understudy")), ("surrogates", ("experiments", "understudy"))],
)
def test_no_code_above_asks_for_the_class_of_a_simulator_or_of_a_surrogate(
    package: str, above: tuple[str, ...]
) -> None:
    root = Path(simulators.__file__).parents[1]
    files = [p for folder in above for p in (root / folder).rglob("*.py")]
    assert len(files) > 50
    offences = []
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = {
            alias.asname or alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}.")
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                for name in [n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name) and n.id in modules]:
                    cls = getattr(importlib.import_module(str(modules[name])), name)
                    if inspect.isclass(cls) and hasattr(cls, "simulate") and not getattr(cls, "_is_protocol", False):
                        offences.append(f"{path.relative_to(root)}:{node.lineno} isinstance of {name}")
    assert not offences
