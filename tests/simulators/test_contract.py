"""What every simulator promises; the tests of a new one call `simulator_contract.assert_promises` themselves."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from simulator_contract import assert_promises

from data.spec import dataset
from simulators.atmosphere.core.dycore import DynamicalCore
from simulators.atmosphere.shallow_water.simulator import ShallowWater
from simulators.chemistry.ase_calculator import ASECalculator
from simulators.chemistry.from_smiles import FromSmiles
from simulators.chemistry.pyscf import PySCF
from simulators.chemistry.variables import Geometry
from simulators.chemistry.xtb import XTB
from simulators.fluids.ngsolve.flow import NGSolveFlow
from simulators.fluids.openfoam.body import BodyInChannel
from simulators.fluids.openfoam.simulator import OpenFOAM
from simulators.fluids.spectral.exponax import Exponax
from simulators.testing import Misbehaving, request

WATER = Geometry(
    np.array([8, 1, 1], np.int32), np.array([[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]])
).dataset()
ARGON = Geometry(np.array([18, 18], np.int32), np.array([[0, 0, 0], [0, 0, 3.8]])).dataset()
SMILES = dataset(FromSmiles(XTB()).spec.inputs, {"smiles": "CO"})

ROUND = NGSolveFlow(varied=("aspect", "angle")).with_mesh(0.4, 2)
AN_ELLIPSE = {"aspect": 1.5, "angle": 0.3}
BODY = OpenFOAM(BodyInChannel(cells=8))
A_BODY = {"reynolds": 10.0, "body_width": 0.1, "body_height": 0.1, "body_x": 0.2, "body_y": 0.2}
BURGERS = Exponax("burgers", 32, dt=0.05, varied=("viscosity",))
CORE = DynamicalCore(5, 3, days=0.5, save_hours=12)
SHALLOW = ShallowWater(5, days=0.5, save_hours=12)
A_JET = {"jet_speed": 20.0, "bump_latitude": 45.0, "bump_longitude": 0.0, "bump_height": 10.0}
#: A simulator, one of another identity, a request that it answers, and one that it must refuse.
TABLE = [
    (PySCF(method="hf", basis="sto-3g"), PySCF(method="pbe", basis="sto-3g"), WATER, WATER.drop_vars("positions")),
    (XTB(), XTB(method="GFN1-xTB"), WATER, WATER.assign(charge=np.int32(20))),
    (
        ASECalculator("ase.calculators.lj.LennardJones"),
        ASECalculator("ase.calculators.lj.LennardJones", {"sigma": 3.4}),
        ARGON,
        ARGON.assign(positions=ARGON.positions * np.nan),
    ),
    (
        FromSmiles(XTB()),
        FromSmiles(XTB(accuracy=0.1)),
        SMILES,
        dataset(FromSmiles(XTB()).spec.inputs, {"smiles": "C("}),
    ),
    (
        BURGERS,
        Exponax("burgers", 32, dt=0.025, varied=("viscosity",)),
        BURGERS.spec.request({"initial": np.ones((1, 32)), "viscosity": 0.1}),
        BURGERS.spec.request({"initial": np.full((1, 32), np.nan), "viscosity": 0.1}),
    ),
    (
        ROUND,
        ROUND.with_mesh(0.4, 3),
        ROUND.spec.request(AN_ELLIPSE),
        ROUND.spec.request(AN_ELLIPSE | {"aspect": 50.0}),
    ),
    (
        BODY,
        OpenFOAM(BodyInChannel(cells=9)),
        BODY.spec.request(A_BODY),
        BODY.spec.request(A_BODY | {"body_y": 0.01}),
    ),
    (CORE, DynamicalCore(5, 3, days=1, save_hours=12), CORE.spec.request({"seed": 1}), CORE.spec.request({"seed": -1})),
    (
        SHALLOW,
        ShallowWater(5, days=0.5, save_hours=12, diffusion_order=2),
        SHALLOW.spec.request(A_JET),
        SHALLOW.spec.request(A_JET | {"jet_speed": 5000.0}),
    ),
    (Misbehaving("."), Misbehaving(".", version=2), request(2.0), request(2.0, "not_converged")),
]
NAMES = [row[0].name for row in TABLE]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("simulator", "other", "good", "bad"), TABLE, ids=NAMES)
def test_a_simulator_keeps_its_promises(simulator, other, good, bad) -> None:  # type: ignore[no-untyped-def]
    if isinstance(simulator, OpenFOAM) and shutil.which("simpleFoam") is None:
        pytest.skip("OpenFOAM is not installed; `make openfoam` installs it")
    assert_promises(simulator, other, good, bad)
