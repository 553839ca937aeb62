"""One request to a simulator, in a process that is killed at a limit of time."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from data.errors import InputError
from data.spec import SimulationError
from experiments.agents.composition import Permissions, compose_stage
from experiments.agents.confinement import Root, capped
from experiments.agents.failures import REMEDIES, shown
from experiments.application.choices import options
from experiments.application.stage import instantiate
from experiments.application.targets import runs_program
from experiments.campaigns.named_simulator import named_simulator
from simulators.adapter import Simulator
from simulators.campaigns.config import CampaignConfig
from simulators.campaigns.crew import Crew
from simulators.campaigns.slot import Job
from simulators.chemistry.conformers import ConformerConfig
from simulators.chemistry.from_smiles import FromSmiles
from simulators.workers.worker import WorkerAnswer, request_values

#: Largest wall time of a request (s), and memory of its process (10^6 bytes).
MOST_SECONDS, MEMORY_MB = 50.0, 4000


@dataclass(frozen=True)
class SingleAnswer:
    """The answer of a simulator to one request.

    Attributes:
        simulator, fingerprint: name, and identity of its method, settings and version.
        status: "ok" or the kind of failure.
        message: of a failure; it comes from the simulator.
        remedy: what to try after a failure.
        values: outputs; of a long array its shape and first entries.
        units: unit of each output.
        simulation_seconds, simulation_core_seconds: wall and processor time of the simulation, s.
    """

    simulator: str
    fingerprint: str
    status: str
    message: str
    remedy: str
    values: dict[str, Any]
    units: dict[str, str]
    simulation_seconds: float
    simulation_core_seconds: float


def chosen_simulator(
    stages: Mapping[str, Any], name: str, settings: Sequence[str], root: Root, permissions: Permissions
) -> Simulator:
    """A packaged simulator, or that of a run of `simulate` below the root, with settings.

    Args:
        stages: see `compose_stage`.
        name: name of a configuration, or directory of a run.
        settings: such as "simulator.method=Radau".
        root: the folder of all runs.
        permissions: what is allowed.

    Raises:
        InputError: there is none, or a setting is refused.
    """
    if name in options("simulator"):
        composed = compose_stage(stages, "simulate", [f"simulator={name}", *settings], root, permissions)
        if missing := [key for key in composed.missing if key.startswith("simulator.")]:
            raise InputError("a value is needed", where=missing[0], remedy=f"Give {missing[0]}=... in settings")
        simulator: Simulator = instantiate(composed.config.simulator)
        return simulator
    place = root.inside(name, "simulator")
    if not place.exists():
        raise InputError(
            f"no simulator {capped(name)!r}", where="simulator",
            remedy=f"There are {', '.join(options('simulator'))}, and runs of simulate below the root",
        )  # fmt: skip
    if settings:
        raise InputError("the settings are those of the run", where="settings", remedy="Leave them out")
    from experiments.application.yaml_files import read_yaml

    file = place / "config.yaml" if place.is_dir() else place
    try:
        plain = {"simulator": read_yaml(file, remedy="Name a run of simulate").get("simulator")}
    except OSError as error:
        raise InputError("no config.yaml in it", where="simulator", remedy="Name a run of simulate") from error
    for program in permissions.refused:
        if runs_program(program, plain):
            raise InputError(f"a simulator of {program} runs programs, which is not allowed", where="simulator")
    root.refuse_outside(plain, network=permissions.network)
    return named_simulator(str(place), (), key="simulator")


def request_of(simulator: Simulator, inputs: Mapping[str, Any]) -> tuple[Simulator, xr.Dataset]:
    """A request, and the simulator that takes it: of geometries, that of their SMILES if one is given.

    Raises:
        InputError: an input is missing or unknown, or has another shape.
    """
    names = [v.name for v in simulator.spec.inputs]
    if "smiles" in inputs and "smiles" not in names and "positions" in names:
        simulator = FromSmiles(simulator, ConformerConfig())
        names = ["smiles"]
    if set(inputs) != set(names):
        raise InputError(
            f"{simulator.name} takes {', '.join(names)}, got {capped(', '.join(inputs) or 'nothing')}", where="inputs"
        )
    try:
        return simulator, simulator.spec.request(inputs)
    except SimulationError as error:
        raise InputError(error.message, where="inputs") from error
    except (TypeError, ValueError) as error:
        raise InputError(
            capped(str(error)), where="inputs", remedy="Give numbers in the units of the inputs"
        ) from error


def simulate_one(simulator: Simulator, request: xr.Dataset, seconds: float) -> SingleAnswer:
    """Answer a request in a process of its own, which is killed after some seconds.

    Args:
        simulator: the simulator.
        request: fits its spec.
        seconds: limit of wall time, at most `MOST_SECONDS`.

    Raises:
        InputError: the limit is out of range, or the simulator cannot be loaded.
    """
    ((job, answer),) = answered(simulator, [request], seconds)
    values = {name: shown(value) for name, value in answer.values.items()}
    units = {v.name: v.units for v in simulator.spec.outputs}
    status = answer.status
    return SingleAnswer(
        simulator.name,
        simulator.fingerprint,
        status,
        capped(answer.message),
        "" if status == "ok" else REMEDIES.get(status, ""),
        values if status == "ok" else {},
        {name: units[name] for name in values if name in units},
        job.seconds,
        job.core_seconds,
    )


def answered(simulator: Simulator, requests: Sequence[xr.Dataset], seconds: float) -> list[tuple[Job, WorkerAnswer]]:
    """Requests with their costs and answers, one after the other in a killable process; see `simulate_one`."""
    if not 0 < seconds <= MOST_SECONDS:
        raise InputError(f"must be above 0 and at most {MOST_SECONDS:g}, got {seconds:g}", where="timeout_s")
    config = CampaignConfig(workers=1, timeout_s=seconds, memory_mb=MEMORY_MB, retries=0)
    answers: dict[str, tuple[Job, WorkerAnswer]] = {}
    crew = Crew(
        pickle.dumps(simulator, protocol=5), config, lambda job, answer: answers.update({job.key: (job, answer)})
    )
    jobs = iter([Job(str(place), request_values(request)) for place, request in enumerate(requests)])
    try:
        while crew.feed(jobs):
            crew.collect()
    except SimulationError as error:
        raise InputError(f"{error.kind}: {capped(error.message)}", where="simulator") from error
    finally:
        crew.kill()
    return [answers[str(place)] for place in range(len(requests))]
