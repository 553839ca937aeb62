"""What a stage imports, in a fresh interpreter: nothing of the sciences and kinds that it does not use."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from experiments.cli import STAGES
from surrogates.family import FAMILIES

#: Solvers and their packages, which a stage loads only if a configuration chooses one.
SOLVERS = ("simulators.fluids", "simulators.atmosphere", "simulators.kinetics")
PACKAGES = ("ngsolve", "exponax", "dinosaur", "pyscf", "tblite", "cantera", "diffrax", "mlflow", "matplotlib")
KINDS = tuple(f"surrogates.{kind}" for kind in FAMILIES)


#: What one interpreter imports, step by step; a name says which modules it has after the step. What a later step must
#: not load is not loaded by the steps before it either. The screen of molecules, and all stages together, are imported
#: in forks, because the steps after them must not find what they load.
STEPS = """
import json, os, sys

def note(name):
    print(json.dumps([name, sorted(sys.modules)]), flush=True)

def apart(name, code):
    child = os.fork()
    if not child:
        exec(code, {})
        note(name)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

import experiments.stages.simulate
note("simulate")
apart("run", RUN)
apart("arrays", ARRAYS)
apart("dask", ARRAYS + LAZY)
import experiments.stages.screen
note("screen")
apart("molecules", "from surrogates.family import FAMILIES; FAMILIES['properties'].surrogate")
import experiments.stages.train, experiments.stages.evaluate
note("train")
apart("stages", "import " + ", ".join(f"experiments.stages.{name}" for name in sys.argv[1:]))
from surrogates.family import FAMILIES
for kind in FAMILIES:
    FAMILIES[kind].task, FAMILIES[kind].surrogate
    note(kind)
"""

#: What each run does with its directory, which of several processes the first one does alone.
RUN = """
import pathlib, tempfile
from omegaconf import OmegaConf
from experiments.application.run_directory import run_directory
from experiments.application.stage import first_rejects
with tempfile.TemporaryDirectory() as place:
    path = pathlib.Path(place) / "run"
    with run_directory(OmegaConf.create({"stage": "simulate"}), path, "simulate"), first_rejects(path) as rejects:
        assert rejects is not None
    assert (path / "config.yaml").is_file()
"""
ARRAYS = """
import data.spec
import xarray as xr
xr.Variable((), 0.0)
"""
#: Arrays of a dask that is imported later are what they would be.
LAZY = """
import dask.array
a = xr.DataArray(dask.array.ones(4, chunks=2))
assert a.chunks == ((2, 2),) and isinstance((a + 1).data, dask.array.Array) and float(a.sum()) == 4
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Names of all modules that an interpreter has after each step."""
    named = f"RUN, ARRAYS, LAZY = {RUN!r}, {ARRAYS!r}, {LAZY!r}\n"
    done = subprocess.run([sys.executable, "-c", named + STEPS, *STAGES], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return {name: set(modules) for name, modules in map(json.loads, done.stdout.splitlines())}


def of(modules: set[str], *names: str) -> set[str]:
    """Those of `names` that are loaded, as packages or modules."""
    return {name for name in names if any(m == name or m.startswith(f"{name}.") for m in modules)}


def test_no_stage_loads_a_solver_and_simulate_loads_no_network(loaded: dict[str, set[str]]) -> None:
    assert not of(loaded["simulate"], *KINDS, *PACKAGES, "jax", "flax", "orbax")
    assert not of(loaded["run"], "jax")
    assert {f"experiments.stages.{name}" for name in STAGES} <= loaded["stages"]
    assert not of(loaded["stages"], *SOLVERS, *(set(PACKAGES) - {"mlflow", "matplotlib"}))


def test_arrays_of_xarray_load_no_dask_unless_it_is_used(loaded: dict[str, set[str]]) -> None:
    assert "xarray" in loaded["arrays"]
    assert not of(loaded["arrays"], "dask")
    assert of(loaded["dask"], "dask") == {"dask"}


def test_the_screen_of_molecules_loads_no_solver_and_no_other_kind(loaded: dict[str, set[str]]) -> None:
    assert not of(loaded["molecules"], *SOLVERS, *PACKAGES)
    assert not of(loaded["screen"], *KINDS)
    assert of(loaded["molecules"], *KINDS) == {"surrogates.properties"}


def test_training_and_evaluation_load_their_kind_alone(loaded: dict[str, set[str]]) -> None:
    assert not of(loaded["train"], *KINDS)
    kinds = list(FAMILIES)
    for k, kind in enumerate(kinds):
        assert of(loaded[kind], *KINDS) == {f"surrogates.{name}" for name in kinds[: k + 1]}
    assert not of(loaded[kinds[-1]], *SOLVERS, "ngsolve", "pyscf", "tblite", "cantera", "mlflow")
