"""Learned surrogates for expensive scientific simulators.

```python
import understudy

run = understudy.train("task=molecules/properties", "data.file=labels.csv", "data.target=gap", "run.dir=runs/gap")
surrogate = run.surrogate()
answer = surrogate.simulate(surrogate.spec.request({"smiles": "CCO"}))
```

The names in `__all__` are the public interface, which keeps its meaning within a major version. The packages that it
stands on (`data`, `simulators`, `surrogates`, `experiments`) may change with any version.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data.errors import CorruptStoreError, InputError
    from data.spec import SimulationError, Spec, Variable
    from simulators.adapter import Simulator
    from surrogates.cascade.cascade_calculator import CascadeCalculator
    from surrogates.potentials.calculator import PotentialCalculator
    from surrogates.potentials.lammps import LammpsForces, lammps_session
    from surrogates.trained import Surrogate
    from understudy.campaigns import Campaign, records, simulator
    from understudy.fluids import SolverComparison, comparison, fields
    from understudy.loading import load
    from understudy.motion import dynamics, relax, structures
    from understudy.stages import (
        Run,
        active,
        calibrate,
        distil,
        evaluate,
        forecast,
        grow,
        pipeline,
        predict,
        prepare,
        prune,
        report,
        screen,
        simulate,
        train,
        windows,
    )

#: Public name -> the module that defines it; imported when it is first asked for, so that `import understudy` is quick.
_MODULES = {
    "Campaign": "understudy.campaigns",
    "CascadeCalculator": "surrogates.cascade.cascade_calculator",
    "CorruptStoreError": "data.errors",
    "InputError": "data.errors",
    "LammpsForces": "surrogates.potentials.lammps",
    "PotentialCalculator": "surrogates.potentials.calculator",
    "Run": "understudy.stages",
    "SimulationError": "data.spec",
    "Simulator": "simulators.adapter",
    "SolverComparison": "understudy.fluids",
    "Spec": "data.spec",
    "Surrogate": "surrogates.trained",
    "Variable": "data.spec",
    "active": "understudy.stages",
    "calibrate": "understudy.stages",
    "comparison": "understudy.fluids",
    "dynamics": "understudy.motion",
    "distil": "understudy.stages",
    "evaluate": "understudy.stages",
    "fields": "understudy.fluids",
    "forecast": "understudy.stages",
    "grow": "understudy.stages",
    "lammps_session": "surrogates.potentials.lammps",
    "load": "understudy.loading",
    "pipeline": "understudy.stages",
    "predict": "understudy.stages",
    "prepare": "understudy.stages",
    "prune": "understudy.stages",
    "records": "understudy.campaigns",
    "relax": "understudy.motion",
    "report": "understudy.stages",
    "screen": "understudy.stages",
    "simulate": "understudy.stages",
    "simulator": "understudy.campaigns",
    "structures": "understudy.motion",
    "train": "understudy.stages",
    "windows": "understudy.stages",
}

__all__ = [
    "Campaign",
    "CascadeCalculator",
    "CorruptStoreError",
    "InputError",
    "LammpsForces",
    "PotentialCalculator",
    "Run",
    "SimulationError",
    "Simulator",
    "SolverComparison",
    "Spec",
    "Surrogate",
    "Variable",
    "active",
    "calibrate",
    "comparison",
    "distil",
    "dynamics",
    "evaluate",
    "fields",
    "forecast",
    "grow",
    "lammps_session",
    "load",
    "pipeline",
    "predict",
    "prepare",
    "prune",
    "records",
    "relax",
    "report",
    "screen",
    "simulate",
    "simulator",
    "structures",
    "train",
    "windows",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'understudy' has no attribute {name!r}; it has {', '.join(__all__)}")
    from understudy.own_packages import shadowed

    problem = shadowed()
    if problem is not None:
        raise ImportError(f"understudy: {problem}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
