"""A trained surrogate as StableHLO programs with a card, for programs without this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.spec import Spec
from data.terminal import show_pairs
from surrogates.saved import load_surrogate, read_card, surrogate_directory
from surrogates.stablehlo import write_programs

#: Kind of surrogate -> the module whose function `programs` makes its programs.
MODULES: Mapping[str, str] = {
    kind: f"surrogates.{kind}.programs" for kind in ("potentials", "properties", "fields", "meshes", "parameters")
}


def export_surrogate(name: str | None, out: Path, sizes: Sequence[int], batch: int) -> None:
    """Write the programs of a surrogate to a directory.

    Args:
        name: directory of the surrogate, or of the run that made it.
        out: directory of the programs.
        sizes: numbers of atoms of a molecule or nodes of a mesh, one program each; empty where the surrogate itself
            has its sizes.
        batch: molecules, meshes, rows or samples of a batch.

    Raises:
        InputError: no program can be made of this surrogate; the message says why.
    """
    directory = surrogate_directory(name, "surrogate")
    kind = str(read_card(directory)["kind"])
    if kind not in MODULES:
        raise InputError(
            f"a surrogate of {kind} is not exported",
            where="surrogate",
            remedy=f"Kinds that are: {', '.join(MODULES)}; others answer through understudy.load(DIR)",
        )
    surrogate: Any = load_surrogate(directory)
    programs, card = import_module(MODULES[kind]).programs(surrogate, tuple(sizes), batch)
    spec: Spec = surrogate.spec
    identity = {
        "kind": kind,
        "surrogate": surrogate.fingerprint,
        "labels_fingerprint": surrogate.labels_fingerprint,
        "scores": dict(surrogate.scores),
        "outputs_of_the_surrogate": {v.name: v.units for v in spec.outputs},
    }
    size = write_programs(out, programs, {**identity, **card})
    show_pairs(
        "Export",
        {
            "programs": ", ".join(program.name for program in programs),
            "batch": f"{batch:,}",
            "size": f"{size / 1e6:,.2f} MB",
            "left out": "intervals and the domain",
            "directory": out,
        },
    )
