"""Rebuilds simulators from the descriptions that stores and surrogates keep of them.

The description names no class: its `simulator` is looked up in a table of this package, and its settings are arguments
of that class, so that nothing from a file is executed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from data.errors import InputError
from data.plain import from_plain
from data.plain_leaves import PlainError
from simulators.adapter import Simulator

#: Module and class of the simulators that can be rebuilt, by the beginning of their names.
KINDS: Mapping[str, tuple[str, str]] = {
    "xtb:": ("simulators.chemistry.xtb", "XTB"),
    "pyscf:": ("simulators.chemistry.pyscf", "PySCF"),
    "descriptors": ("simulators.chemistry.descriptors", "Descriptors"),
    "so3lr": ("simulators.chemistry.teachers.so3lr", "SO3LR"),
    "admet-ai": ("simulators.chemistry.teachers.admet", "ADMET"),
    "chgnet:": ("simulators.chemistry.teachers.chgnet", "CHGNet"),
    "ngsolve:": ("simulators.fluids.ngsolve.flow", "NGSolveFlow"),
    "ngsolve-mesh:": ("simulators.fluids.ngsolve.mesh_flow", "NGSolveMeshFlow"),
    "exponax:": ("simulators.fluids.spectral.exponax", "Exponax"),
    "dinosaur:T": ("simulators.atmosphere.core.dycore", "DynamicalCore"),
    "dinosaur:shallow-water": ("simulators.atmosphere.shallow_water.simulator", "ShallowWater"),
}


def describe(simulator: Simulator) -> dict[str, Any]:
    """The description of a simulator from which `rebuild` makes an equal one: name, fingerprint and provenance."""
    return {"name": simulator.name, "fingerprint": simulator.fingerprint, **simulator.provenance}


def rebuild(description: Mapping[str, Any], *, where: str = "", remedy: str = "") -> Simulator:
    """The simulator of a description by `describe`, or of the attributes of a store.

    Args:
        description: at least `simulator`, `version`, `settings` and `fingerprint`.
        where: what holds the description, for errors.
        remedy: what to do about a simulator that cannot be rebuilt, for errors.

    Raises:
        InputError: the simulator is not one of `KINDS`, or the installed one has other settings or another version.
    """
    name = str(description.get("simulator"))
    kind = next((row for start, row in KINDS.items() if name.startswith(start)), None)
    if kind is None:
        raise InputError(
            f"the simulator {name} cannot be rebuilt from its name",
            where=where,
            remedy=remedy or f"Simulators that can be rebuilt: {', '.join(k.rstrip(':') for k in KINDS)}",
        )
    try:
        kind_class, settings = getattr(importlib.import_module(kind[0]), kind[1]), description["settings"]
        # Settings that hold settings, such as the channel of a flow, are rebuilt by the hints of the class.
        nested = any(isinstance(value, Mapping) for value in settings.values())
        simulator: Simulator = from_plain(kind_class, settings) if nested else kind_class(**settings)
        if "conformers" in description:
            simulator = _of_smiles(simulator, description["conformers"])
    except (TypeError, KeyError, PlainError) as error:
        raise InputError(
            f"the settings of {name} are not those of the installed version", where=where, remedy=remedy
        ) from error
    if simulator.fingerprint != description["fingerprint"]:
        raise InputError(
            f"it is of {name} by {description.get('version')}, and {simulator.provenance['version']} is installed",
            where=where,
            remedy=remedy or "Install that version",
        )
    return simulator


def _of_smiles(simulator: Simulator, settings: Mapping[str, Any]) -> Simulator:
    """A simulator of SMILES, with the settings of its conformers; other entries are versions of methods."""
    smiles = importlib.import_module("simulators.chemistry.from_smiles")
    config = smiles.ConformerConfig
    wrapped: Simulator = smiles.from_smiles(simulator, config(**{f.name: settings[f.name] for f in fields(config)}))
    return wrapped
