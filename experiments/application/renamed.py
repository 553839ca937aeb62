"""Old names of keys, classes and commands in configurations and in the files of a run, with their present names.

A run directory of an earlier version resumes, has its page made, and serves as the simulator of a re-check, because its
`config.yaml` is read with these tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data.errors import InputError, UsageError
from surrogates import family

#: First words of keys of a configuration -> the present word.
KEYS = {"dear": "expensive", "surrogate": "model"}
#: Group -> earlier name of a choice -> the present name.
CHOICES = {
    "data": {"table": "properties", "structures": "potentials", "windows": "forecasts"},
    "model": {
        "mesh": "meshgraphnet",
        "parametric": "mlp",
        "weather_conv": "latlon_conv",
        "weather_mesh": "icosahedral_mesh",
        "weather_sfno": "sfno",
    },
    "train": {"graph": "properties", "forces": "potentials", "parametric": "parameters", "weather": "forecasts"},
}
#: Settings of the loss of fields and of forecasts.
_UNROLLED = ("unroll", "unroll_from", "unroll_full")
_FORECASTS = (
    *_UNROLLED,
    "draws",
    "input_noise",
    "level_weights",
    "variable_weights",
    "zonal_weight",
    "spectral_weight",
)
_ENERGY_FORCES = (
    *("energy_weight", "forces_weight", "stress_weight"),
    *("final_energy_weight", "final_forces_weight", "final_from", "final_ramp"),
)
#: Kind of a model -> earlier key of it -> the present key, which is in a group.
GROUPED: Mapping[str, Mapping[str, str]] = {
    "potentials": {name: f"loss.{name}" for name in _ENERGY_FORCES},
    "fields": {
        **{name: f"loss.{name}" for name in (*_UNROLLED, "cut_gradient", "noise", "symmetry")},
        "loss": "loss.kind",
    },
    "forecasts": {
        **{name: f"loss.{name}" for name in _FORECASTS},
        "adjust_days": "climate.days",
        "adjust_runs": "climate.runs",
    },
}
#: Earlier key of `model.network` -> the present key.
NETWORK = {"dtype": "precision"}
#: Words in names of metrics, of costs and of stores of labels -> the present word.
RESULTS = {"dear": "expensive"}
#: Dotted paths of classes in `_target_` -> the present path.
TARGETS = {
    "experiments.stages.windows.Campaign": "experiments.forecasting.campaign_states.CampaignStates",
    "experiments.weather.drift.Drift": "experiments.forecasting.drift.Drift",
    "experiments.windows.Campaign": "experiments.forecasting.campaign_states.CampaignStates",
    "simulators.atmosphere.core.states.Analysis": "simulators.atmosphere.core.initial_states.Analysis",
    "simulators.atmosphere.core.states.Windows": "simulators.atmosphere.core.initial_states.Windows",
    "simulators.fluids.exponax.Exponax": "simulators.fluids.spectral.exponax.Exponax",
    "simulators.fluids.foam_body.Body": "simulators.fluids.openfoam.body.BodyInChannel",
    "simulators.fluids.foam_cases.Cavity": "simulators.fluids.openfoam.cases.Cavity",
    "simulators.fluids.foam_directory.Directory": "simulators.fluids.openfoam.directory.Directory",
    "simulators.fluids.initial.FourierSeries": "simulators.fluids.spectral.initial.FourierSeries",
    "simulators.fluids.initial.MaternField": "simulators.fluids.spectral.initial.MaternField",
    "simulators.fluids.ngsolve.NGSolveFlow": "simulators.fluids.ngsolve.flow.NGSolveFlow",
    "simulators.fluids.openfoam.body.Body": "simulators.fluids.openfoam.body.BodyInChannel",
    "simulators.fluids.openfoam.OpenFOAM": "simulators.fluids.openfoam.simulator.OpenFOAM",
    "simulators.quantum.ase_calculator.ASECalculator": "simulators.chemistry.ase_calculator.ASECalculator",
    "simulators.quantum.pyscf.PySCF": "simulators.chemistry.pyscf.PySCF",
    "simulators.quantum.xtb.XTB": "simulators.chemistry.xtb.XTB",
    "simulators.table.Table": "simulators.label_table.LabelTable",
    "simulators.weather.core_states.Analysis": "simulators.atmosphere.core.initial_states.Analysis",
    "simulators.weather.core_states.Windows": "simulators.atmosphere.core.initial_states.Windows",
    "simulators.weather.dycore.DynamicalCore": "simulators.atmosphere.core.dycore.DynamicalCore",
    "simulators.weather.reanalysis.Reanalysis": "simulators.atmosphere.reanalysis.reanalysis.Reanalysis",
    "simulators.weather.shallow_water.ShallowWater": "simulators.atmosphere.shallow_water.simulator.ShallowWater",
}


def present_targets(node: Any) -> Any:
    """A plain configuration whose `_target_`s are the present paths of their classes."""
    if isinstance(node, Mapping):
        present = {key: present_targets(value) for key, value in node.items()}
        if isinstance(name := present.get("_target_"), str):
            present["_target_"] = TARGETS.get(name, name)
        return present
    if isinstance(node, list):
        return [present_targets(item) for item in node]
    return node


def present_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The plain configuration of a run of any version, with the present names of keys, kinds, stages and classes.

    `surrogate` is a mapping only where it holds the settings of a network to train. In other stages it is the directory
    of a trained surrogate, and keeps its name.
    """
    plain = present_targets(config)
    present = {KEYS.get(key, key) if isinstance(value, dict) else key: value for key, value in plain.items()}
    if isinstance(model := present.get("model"), dict) and isinstance(kind := model.get("kind"), str):
        present["model"] = _in_groups({**model, "kind": family.RENAMED.get(kind, kind)})
        if model.get("repulsion") is True:
            # Where runs of before had a repulsion, it ended at the sum of the radii.
            present["model"].setdefault("repulsion_reach", 1.0)
        if present["model"].get("kind") == "potentials":
            # Networks of before saw all distances.
            present["model"].setdefault("distance_floor", 0.0)
    if present.get("stage") == "pipeline" and "explore" in present:
        present["stage"] = "active"
    return present


def first_words(argument: str) -> set[str]:
    """First words of the key, and of the package if a group is chosen, of an argument such as `simulator@a.b=xtb`."""
    left = argument.partition("=")[0].lstrip("+~")
    return {part.partition(".")[0] for part in left.split("@")}


def present_argument(argument: str) -> str:
    """An argument of the command with the present names of its group, key and choice."""
    left, sign, value = argument.partition("=")
    parts = [part.split(".") for part in left.lstrip("+~").split("@")]
    group, *package = [".".join([KEYS.get(first, first), *rest]) for first, *rest in parts]
    signs = left[: len(left) - len(left.lstrip("+~"))]
    return f"{signs}{'@'.join([group, *package])}{sign}{CHOICES.get(group, {}).get(value, value)}"


def renamed_key(key: str, arguments: Sequence[str] = ()) -> InputError | None:
    """The error for a key or a group that has another name now, None for any other key.

    Args:
        key: key or group, such as `surrogate.ensemble` or `simulator@dear.simulator`.
        arguments: arguments of the command, which the message repeats with their present names.
    """
    old = first_words(key) & set(KEYS)
    if not old:
        return None
    present = [present_argument(argument) for argument in arguments if old & first_words(argument)]
    remedy = f"Write {' '.join(present) or present_argument(key)}{'' if present else ' in the file that has it'}"
    return UsageError(f"this key is called {present_argument(key)} now", where=key, key=key, remedy=remedy)


def refuse_renamed(config: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Refuse an old name of a key that a file of the user or a `+` has added beside the present one.

    A `surrogate` that is no mapping is the directory of a trained one, beside which `grow` and `prune` take a `model`.

    Raises:
        InputError: the configuration has such a key; the message names the present one.
    """
    for key, present in KEYS.items():
        if isinstance(config.get(key), Mapping) and present in config:
            raise renamed_key(key, arguments) or AssertionError(key)


def _in_groups(model: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model, in which those that have moved into a group are there."""
    present = dict(model)
    if isinstance(network := present.get("network"), Mapping):
        present["network"] = {NETWORK.get(key, key): value for key, value in network.items()}
    groups: dict[str, dict[str, Any]] = {}
    for key, place in GROUPED.get(model["kind"], {}).items():
        group, _, name = place.partition(".")
        # A key may have the name of its group, which is a mapping.
        if key in present and not (key == group and isinstance(present[key], Mapping)):
            groups.setdefault(group, {})[name] = present.pop(key)
    for group, entries in groups.items():
        present[group] = {**present.get(group, {}), **entries}
    return present


def refuse_moved(stage: str, arguments: Sequence[str]) -> None:
    """Refuse a choice that has become a command of its own.

    Raises:
        InputError: the arguments have such a choice; the message names the command.
    """
    if stage == "pipeline" and "experiment=molecules/active" in arguments:
        raise InputError(
            "active learning is a command of its own",
            where="experiment=molecules/active",
            remedy="Write understudy active start=... with the same settings",
        )
