"""A simulator of molecules that knows what no graph shows; a module of its own, so that workers import little."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from rdkit import Chem

from data.spec import SimulationError, Spec, Variable, content_hash, dataset

SMILES = Variable("smiles", (), "1", "str", "SMILES")
OUTPUTS = (
    Variable("hidden", (), "eV", "float64", "a number that no graph shows"),
    Variable("charges", ("atom",), "e", "float64", "one number an atom"),
    Variable("count", (), "1", "int64", "no number of use"),
)


def hidden(smiles: str) -> float:
    """A number that no network can learn from the graph: it depends on a hash."""
    return int(content_hash(smiles)[:8], 16) / 16**8 * 4.0 - 2.0


@dataclass(frozen=True)
class Cheap:
    """A simulator that knows the number that no graph shows, in another scale."""

    shift: float = 0.0
    fails: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list, compare=False)

    name = "cheap"

    @cached_property
    def spec(self) -> Spec:
        return Spec((SMILES,), OUTPUTS)

    @property
    def provenance(self) -> dict[str, Any]:
        return {"simulator": self.name, "version": "1", "settings": {"shift": self.shift}}

    @property
    def fingerprint(self) -> str:
        return content_hash(self.provenance)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        smiles = str(inputs["smiles"].item())
        self.asked.append(smiles)
        if smiles in self.fails:
            raise SimulationError("not_converged", f"no answer for {smiles}")
        charges = np.linspace(-1.0, 1.0, Chem.MolFromSmiles(smiles).GetNumAtoms() + 1)
        return dataset(OUTPUTS, {"hidden": 3.0 * hidden(smiles) + self.shift, "charges": charges, "count": 1})
