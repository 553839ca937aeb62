"""What a stage imports, in a fresh interpreter: nothing of the sciences and kinds that it does not use."""

from __future__ import annotations

import json
import subprocess
import sys

from experiments.cli import STAGES
from surrogates.family import FAMILIES

#: Solvers and their packages, which a stage loads only if a configuration chooses one.
SOLVERS = ("simulators.fluids", "simulators.atmosphere", "simulators.kinetics")
PACKAGES = ("ngsolve", "exponax", "dinosaur", "pyscf", "tblite", "cantera", "diffrax", "mlflow", "matplotlib")
KINDS = tuple(f"surrogates.{kind}" for kind in FAMILIES)


def loaded_after(*steps: str) -> list[set[str]]:
    """Names of all modules that an interpreter has after each step."""
    code = "import json, sys\nsteps = []\n" + "".join(f"{step}\nsteps.append(sorted(sys.modules))\n" for step in steps)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}print(json.dumps(steps))"], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    return [set(names) for names in json.loads(done.stdout)]


def of(modules: set[str], *names: str) -> set[str]:
    """Those of `names` that are loaded, as packages or modules."""
    return {name for name in names if any(m == name or m.startswith(f"{name}.") for m in modules)}


def test_no_stage_loads_a_solver_and_simulate_loads_no_network() -> None:
    stages = [name for name in STAGES if name != "simulate"]
    simulate, every = loaded_after(
        "import experiments.stages.simulate", "".join(f"import experiments.stages.{name}; " for name in stages)
    )
    assert not of(simulate, *KINDS, *PACKAGES, "jax", "flax", "orbax")
    assert not of(every, *SOLVERS, *(set(PACKAGES) - {"mlflow", "matplotlib"}))


def test_the_screen_of_molecules_loads_no_solver_and_no_other_kind() -> None:
    stage, molecules = loaded_after(
        "import experiments.stages.screen", "from surrogates.family import FAMILIES; FAMILIES['properties'].surrogate"
    )
    assert not of(molecules, *SOLVERS, *PACKAGES)
    assert not of(stage, *KINDS)
    assert of(molecules, *KINDS) == {"surrogates.properties"}


def test_training_and_evaluation_load_their_kind_alone() -> None:
    kinds = list(FAMILIES)
    first, *after = loaded_after(
        "import experiments.stages.train, experiments.stages.evaluate; from surrogates.family import FAMILIES",
        *(f"FAMILIES[{kind!r}].task; FAMILIES[{kind!r}].surrogate" for kind in kinds),
    )
    assert not of(first, *KINDS)
    for k, modules in enumerate(after):
        assert of(modules, *KINDS) == {f"surrogates.{kind}" for kind in kinds[: k + 1]}
    assert not of(after[-1], *SOLVERS, "ngsolve", "pyscf", "tblite", "cantera", "mlflow")
