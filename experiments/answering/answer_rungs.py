"""The rungs of a cascade for answers, from the names that a user or a card gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.settings import build
from experiments.campaigns.named_simulator import named_simulator
from experiments.screening.cascade.rungs import override_text
from simulators.adapter import MakesMeshes, Simulator
from simulators.mesh_first import MeshFirst, takes_mesh
from surrogates.saved import CARD, load_surrogate, surrogate_directory


def is_surrogate(label: str) -> bool:
    """Whether a name of a rung is the directory of a trained surrogate, or of the run that trained it."""
    path = Path(label).expanduser()
    return any((folder / CARD).is_file() for folder in (path, path / "surrogate"))


def build_answer_rungs(
    labels: Sequence[str], settings: Mapping[str, Any], conformers: Mapping[str, Any]
) -> list[Simulator]:
    """The rungs, from cheap to expensive.

    Where a rung takes SMILES, those that take geometries get conformers. Where the last rung makes meshes, those that
    take meshes get them from it.

    Args:
        labels: directories of surrogates, names of configurations of simulators, or runs of `understudy simulate`.
        settings: name -> settings of that simulator, such as `file` of `frames`.
        conformers: keys of `simulators.chemistry.conformers.ConformerConfig`.

    Raises:
        InputError: there are fewer than two, or one of them cannot be built; the message names it.
    """
    if len(labels) < 2:
        raise InputError(
            f"a cascade has two rungs or more, got {len(labels)}",
            where="cascade",
            remedy="Give cascade=[CHEAP,EXPENSIVE]",
        )
    if unknown := sorted(set(map(str, settings)) - set(labels)):
        remedy = f"Rungs are {', '.join(labels)}"
        raise InputError(f"no rung is called {unknown[0]!r}", where=f"rungs.{unknown[0]}", remedy=remedy)
    rungs = [_rung(number, label, settings.get(label) or {}) for number, label in enumerate(labels)]
    if any("smiles" in {v.name for v in rung.spec.inputs} for rung in rungs):
        # Imported here, because few cascades make geometries.
        from simulators.chemistry.conformers import ConformerConfig
        from simulators.chemistry.from_smiles import FromSmiles

        config = build(ConformerConfig, conformers, where="conformers")
        rungs = [
            FromSmiles(rung, config) if "positions" in {v.name for v in rung.spec.inputs} else rung for rung in rungs
        ]
    last = rungs[-1]
    if isinstance(last, MakesMeshes) and not takes_mesh(last):
        rungs = [MeshFirst(rung, last) if takes_mesh(rung) else rung for rung in rungs]
    return rungs


def _rung(number: int, label: str, settings: Mapping[str, Any]) -> Simulator:
    key = f"cascade.{number}"
    if not is_surrogate(label):
        return named_simulator(label, [f"simulator.{k}={override_text(v)}" for k, v in settings.items()], key=key)
    if settings:
        raise InputError("a trained surrogate has no settings", where=f"rungs.{label}", remedy="Leave them out")
    surrogate: Simulator = load_surrogate(surrogate_directory(label, key))
    return surrogate
