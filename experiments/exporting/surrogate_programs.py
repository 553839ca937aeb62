"""A trained surrogate as StableHLO programs with a card, for programs without this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from data.plain import to_plain
from data.spec import Spec
from data.terminal import show_pairs
from surrogates.learning.label_source import read_label_sources
from surrogates.saved import load_surrogate, read_card, surrogate_directory
from surrogates.stablehlo import Program, any_number, write_programs

MIXTURE = "mixture"


def export_surrogate(name: str | None, out: Path, sizes: Sequence[int], batch: int) -> None:
    """Write the programs of a surrogate to a directory.

    Args:
        name: directory of the surrogate, or of the run that made it.
        out: directory of the programs.
        sizes: numbers of atoms of a molecule or nodes of a mesh, one program each; empty where the surrogate itself
            has its sizes.
        batch: molecules, meshes, rows or samples of a batch; 0 for any number of them.

    Raises:
        InputError: no program can be made of this surrogate; the message says why.
    """
    directory = surrogate_directory(name, "surrogate")
    kind = str(read_card(directory)["kind"])
    surrogate: Any = load_surrogate(directory)
    size: Any = batch or any_number()
    programs, card = (mixture_programs if kind == MIXTURE else programs_of)(surrogate, tuple(sizes), size)
    written = write_programs(out, programs, {**identity_of(surrogate, directory), **card})
    show_pairs(
        "Export",
        {
            "programs": ", ".join(program.name for program in programs),
            "batch": f"{batch:,}" if batch else "any number",
            "size": f"{written / 1e6:,.2f} MB",
            "left out": "intervals and the domain",
            "directory": out,
        },
    )


def identity_of(surrogate: Any, directory: Path) -> dict[str, Any]:
    """What the card of an export says of a surrogate: its identity, its labels, its precision and its scores."""
    spec: Spec = surrogate.spec
    return {
        "kind": surrogate.KIND,
        "surrogate": surrogate.fingerprint,
        "labels_fingerprint": surrogate.labels_fingerprint,
        "labels": read_label_sources(directory),
        "precision": precision_of(surrogate),
        "scores": dict(surrogate.scores),
        "outputs_of_the_surrogate": {v.name: v.units for v in spec.outputs},
    }


def programs_of(surrogate: Any, sizes: tuple[int, ...], batch: Any) -> tuple[list[Program], dict[str, Any]]:
    """The programs of a surrogate of one network or ensemble, and what the card says of them.

    Raises:
        InputError: no program can be made of it.
    """
    answer: tuple[list[Program], dict[str, Any]]
    answer = import_module(f"surrogates.{surrogate.KIND}.programs").programs(surrogate, sizes, batch)
    return answer


def mixture_programs(mixture: Any, sizes: tuple[int, ...], batch: Any) -> tuple[list[Program], dict[str, Any]]:
    """The programs of each expert of a mixture, and the table that says which of them takes a molecule.

    An expert takes molecules of its elements and charges alone. Among those that could, the gate decides: the greatest
    of `inputs @ kernel + bias`, where `inputs` are log(1 + n) of the atoms of each element and of all atoms, and the
    charge. Where its probability, a softmax over these experts, is below `certain`, the mixture itself takes the expert
    whose training data are nearest, which no program can say.

    Raises:
        InputError: no program can be made of an expert.
    """
    experts: dict[str, Any] = {}
    programs: list[Program] = []
    for expert, facts in zip(mixture.experts, mixture.facts.experts, strict=True):
        mine, card = programs_of(expert, sizes, batch)
        named = [replace(program, name=f"{facts.name}-{program.name}") for program in mine]
        programs += named
        experts[facts.name] = {
            "programs": [program.name for program in named],
            "elements": [chemical_symbols[z] for z in facts.elements],
            "charges_e": list(facts.charges),
            "surrogate": facts.fingerprint,
            "labels_fingerprint": facts.labels_fingerprint,
            "precision": precision_of(expert),
            **card,
        }
    gate = {
        "elements": [chemical_symbols[z] for z in mixture.facts.elements],
        "kernel": np.asarray(mixture.model.kernel[...], float).tolist(),
        "bias": np.asarray(mixture.model.bias[...], float).tolist(),
        "certain": mixture.facts.config.certain,
    }
    return programs, {"experts": experts, "gate": gate}


def precision_of(surrogate: Any) -> dict[str, str]:
    """The precision of arrays, of the products that mix channels, and of all others, as the settings declare them."""
    config = to_plain(surrogate.facts.config)
    mixing = config.get("precision") or config.get("network", {}).get("precision", "float32")
    return {"arrays": "float32", "mixing_products": mixing, "other_products": "float32"}
