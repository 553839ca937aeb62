"""The rungs of a cascade: trained surrogates and simulators, checked against each other before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.spec import Variable
from experiments.campaigns.named_simulator import named_simulator
from experiments.screening.cheaper_answers import check_rung, stands_on_simulator
from experiments.screening.column_units import column_units
from simulators.adapter import DeclaresCost, Simulator
from simulators.chemistry.conformers import ConformerConfig
from simulators.chemistry.from_smiles import SMILES, FromSmiles
from simulators.chemistry.variables import CELL, GEOMETRY
from surrogates.abilities import PredictsTables
from surrogates.family import FAMILIES
from surrogates.saved import load_surrogate, read_card, surrogate_directory


@dataclass(frozen=True)
class CascadeRung:
    """One rung.

    Attributes:
        number: place in the ladder, from 0, the cheapest.
        label: how the user named it.
        model: surrogate of SMILES or simulator of SMILES.
        declared: whether its cost is declared and not measured.
        assumed: what was assumed about it, in a sentence; empty for nothing.
    """

    number: int
    label: str
    model: Any
    declared: bool = False
    assumed: str = ""

    @property
    def learned(self) -> bool:
        """Whether it is a trained surrogate, which answers many molecules at a time."""
        return isinstance(self.model, PredictsTables)

    @property
    def key(self) -> str:
        """The key of the configuration that names it."""
        return f"cascade.{self.number}"

    def refuse(self, problem: str, remedy: str) -> InputError:
        """An error that names this rung."""
        return InputError(f"rung {self.number} ({self.label}) {problem}", where=self.key, remedy=remedy)

    def units(self, name: str) -> str:
        """Unit of an output."""
        return str(self.model.spec.output(name).units)

    def column_units(self, columns: Iterable[str]) -> dict[str, str]:
        """Unit of each column of `kept.parquet` that holds an output of this rung."""
        prefix = f"rung_{self.number}_"
        names = [column.removeprefix(prefix) for column in map(str, columns) if column.startswith(prefix)]
        return {f"{prefix}{name}": unit for name, unit in column_units(names, self.model).items()}


def build_rungs(names: Sequence[str], settings: Mapping[str, Any], conformers: ConformerConfig) -> list[CascadeRung]:
    """The rungs that a command names, cheap to expensive.

    Args:
        names: directories of trained surrogates, or names of configurations of simulators.
        settings: name -> settings of that simulator, such as `file` of `table`.
        conformers: settings of the conformers of simulators of geometries.

    Raises:
        InputError: there are fewer than two rungs, or one of them cannot be a rung; the message names it.
    """
    if len(names) < 2:
        raise InputError(
            f"a cascade has two rungs or more, got {len(names)}",
            where="cascade",
            remedy="Give cascade=[CHEAP,EXPENSIVE]",
        )
    if unknown := sorted(set(map(str, settings)) - set(map(str, names))):
        raise InputError(
            f"no rung is called {unknown[0]!r}", where=f"rungs.{unknown[0]}", remedy=f"Rungs are {', '.join(names)}"
        )
    return [_build(number, str(name), settings.get(name) or {}, conformers) for number, name in enumerate(names)]


def _build(number: int, name: str, settings: Mapping[str, Any], conformers: ConformerConfig) -> CascadeRung:
    path = Path(name).expanduser()
    if path.is_dir() and not (path / "labels.zarr").exists():
        directory = surrogate_directory(name, f"cascade.{number}")
        rung = CascadeRung(number, name, load_surrogate(directory))
        if FAMILIES[read_card(directory)["kind"]].candidates != "molecules":
            inputs = ", ".join(v.name for v in rung.model.spec.inputs)
            raise rung.refuse(f"takes {inputs}, not SMILES", "Name a surrogate of properties of molecules")
        if stands_on_simulator(rung.model):
            try:
                check_rung(rung.model)
            except InputError as error:
                raise rung.refuse(f"cannot ask what it stands on: {error.problem}", error.remedy or "") from error
        return rung
    overrides = [f"simulator.{key}={override_text(value)}" for key, value in settings.items()]
    simulator = named_simulator(name, overrides, key=f"cascade.{number}")
    rung = CascadeRung(number, name, simulator, declared=isinstance(simulator, DeclaresCost))
    return replace(rung, model=of_smiles(rung, simulator, conformers))


def of_smiles(rung: CascadeRung, simulator: Simulator, conformers: ConformerConfig) -> Simulator:
    """A simulator as one of SMILES.

    Raises:
        InputError: it takes neither SMILES nor a geometry, or counts a charge or a spin in another way than conformers.
    """
    inputs = {v.name: v for v in simulator.spec.inputs}
    if set(inputs) == {SMILES.name}:
        return simulator
    usual = {v.name: v for v in (*GEOMETRY, CELL)}
    if not {v.name for v in GEOMETRY} <= set(inputs) <= set(usual):
        raise rung.refuse(f"takes {', '.join(inputs)}, not SMILES or a geometry", "Name a simulator of molecules")
    for name, variable in inputs.items():
        if (variable.units, variable.dims) != (usual[name].units, usual[name].dims):
            raise rung.refuse(
                f"counts {name} in {variable.units}, and conformers have it in {usual[name].units}",
                "Name a simulator with the same convention",
            )
    return FromSmiles(simulator, conformers)


def override_text(value: Any) -> str:
    """A value as an override of Hydra; texts are quoted, so that a path may hold any character."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{override_text(v)}" for key, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(override_text(v) for v in value) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else repr(value)
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def check_rungs(rungs: Sequence[CascadeRung], names: Sequence[str]) -> list[CascadeRung]:
    """The rungs, after all of them were checked to give the same quantities.

    A table whose units are not stated takes those of the first rung, and says so.

    Args:
        rungs: the rungs.
        names: outputs that the objective needs.

    Raises:
        InputError: a rung lacks an output, or has it in another unit; the message names the rung.
    """
    checked: list[CascadeRung] = []
    for rung in rungs:
        outputs: dict[str, Variable] = {v.name: v for v in rung.model.spec.outputs}
        if lacking := [name for name in names if name not in outputs]:
            raise rung.refuse(
                f"does not give {' and '.join(lacking)}; it gives {', '.join(outputs)}",
                f"Choose its outputs with rungs.{rung.label}.outputs=[...], or another objective",
            )
        if not_scalar := [name for name in names if outputs[name].dims]:
            raise rung.refuse(f"gives {not_scalar[0]} as an array", "Choose a scalar output")
        if checked:
            rung = _with_units(rung, checked[0], names)
            for name in names:
                ours, theirs = rung.units(name), checked[0].units(name)
                if ours != theirs:
                    raise rung.refuse(
                        f"gives {name} in {ours}, and rung 0 ({checked[0].label}) in {theirs}",
                        "Give all rungs the same unit",
                    )
        checked.append(rung)
    return checked


def _with_units(rung: CascadeRung, first: CascadeRung, names: Sequence[str]) -> CascadeRung:
    model = rung.model
    if getattr(model, "states_units", True):
        return rung
    units = {name: first.units(name) for name in names if first.units(name) != "1"}
    if not units:
        return rung
    said = ", ".join(f"{name} in {unit}" for name, unit in units.items())
    assumed = f"the table of rung {rung.number} states no units; taken as those of rung 0: {said}"
    return replace(rung, model=model.with_units(units), assumed=assumed)
