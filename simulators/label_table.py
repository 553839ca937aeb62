"""A table of labels as a simulator: molecules whose labels are known already are answered from it, at a declared cost.

Methods that decide which molecules to simulate can so be tried on a public table, where every answer is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.errors import InputError
from data.identity import molecule_key, molecule_keys
from data.molecules.files import read
from data.molecules.tally import TableTally
from data.spec import SimulationError, Spec, Variable, check, content_hash, dataset
from simulators.label_file import check_label_file, digest_of_file

SMILES = Variable("smiles", (), "1", "str", "SMILES")


@dataclass(frozen=True)
class TableLabels:
    """The labels of a table, one entry for each molecule.

    Attributes:
        rows: key of a molecule (`data.identity.molecule_keys`) -> row of `values`.
        values: mean of the labels of each molecule in each output; NaN where it has none.
        used: number of rows of the table that were read.
        left_out: number of rows that could not be read.
        repeated: number of molecules with several rows.
        differing: number of molecules of which two rows have different labels.
    """

    rows: dict[str, int]
    values: Float[np.ndarray, "molecule output"]
    used: int
    left_out: int
    repeated: int
    differing: int


@dataclass(frozen=True)
class LabelTable:
    """A simulator that looks molecules up in a table; see `simulators.adapter.Simulator`.

    Molecules are the same if their canonical SMILES are (`data.identity`). A molecule with several rows has the mean of
    their labels; the provenance holds how many there are. Rows that cannot be read are left out and logged.

    Attributes:
        file: .csv, .tsv, .smi or .parquet file with a column of SMILES.
        outputs: columns of labels, which are the names of the outputs.
        cost_s: declared cost of one answer in core-seconds, which campaigns and screens count in place of the measured
            one.
        units: unit of each output; empty if they are not known, which the Spec states as "1".
        smiles: column that holds SMILES.

    Raises:
        InputError: no output is named, one is named twice, the number of units is another, or the cost is no finite
            number of 0 or more.
    """

    file: str
    outputs: tuple[str, ...]
    cost_s: float = 0.0
    units: tuple[str, ...] = ()
    smiles: str = "smiles"

    def __post_init__(self) -> None:
        for name in ("outputs", "units"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value or ()))
        if not self.outputs or len(set(self.outputs)) < len(self.outputs):
            problem = "a column is named twice" if self.outputs else "no column is named"
            raise InputError(problem, where="simulator.outputs", remedy="Give simulator.outputs=[COLUMN]")
        if "smiles" in self.outputs:
            raise InputError("an output cannot be called smiles", where="simulator.outputs", remedy="Rename the column")
        if self.units and len(self.units) != len(self.outputs):
            raise InputError(
                f"{len(self.units)} units for {len(self.outputs)} outputs",
                where="simulator.units",
                remedy="Give one unit for each output, in the same order, or none",
            )
        check_label_file(self.file, self.cost_s)

    @property
    def name(self) -> str:
        """Such as "table:gap"."""
        return f"table:{','.join(self.outputs)}"

    @cached_property
    def spec(self) -> Spec:
        """The input is a SMILES; the outputs are the named columns."""
        units = self.units or ("1",) * len(self.outputs)
        outputs = (
            Variable(name, (), unit, "float64", name.replace("_", " "))
            for name, unit in zip(self.outputs, units, strict=True)
        )
        return Spec((SMILES,), tuple(outputs))

    @property
    def declared_cost_s(self) -> float:
        """Declared cost of one answer, core-seconds."""
        return self.cost_s

    @property
    def states_units(self) -> bool:
        """Whether the units of the outputs are known."""
        return bool(self.units)

    def with_units(self, units: Mapping[str, str]) -> LabelTable:
        """A copy with these units of some outputs, and "1" for the others."""
        return replace(self, units=tuple(units.get(name, "1") for name in self.outputs))

    @property
    def provenance(self) -> dict[str, Any]:
        """Name and digest of the file, settings, the declared cost, and what was read of the table."""
        labels = self.labels
        settings = {"outputs": list(self.outputs), "units": list(self.units), "smiles": self.smiles}
        return {
            "simulator": self.name,
            "version": self._digest,
            "settings": {"file": Path(self.file).name, **settings},
            "declared_cost_core_seconds": self.cost_s,
            "rows": {
                "used": labels.used,
                "left_out": labels.left_out,
                "molecules": len(labels.rows),
                "molecules_with_several_rows": labels.repeated,
                "molecules_with_differing_labels": labels.differing,
            },
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the bytes of the file, the outputs, their units and the column of SMILES; not of the cost."""
        return content_hash(["table", self._digest, list(self.outputs), list(self.units), self.smiles])

    @cached_property
    def _digest(self) -> str:
        return digest_of_file(self.file)

    @cached_property
    def labels(self) -> TableLabels:
        """The labels of the table, which are read once and travel with a pickled simulator."""
        tally = TableTally()
        path = Path(self.file).expanduser()
        rows = list(read(path, smiles_column=self.smiles, columns=list(self.outputs), tally=tally))
        rows = [row for row in rows if row.smiles is not None]
        if not rows:
            raise InputError("none of its rows has a molecule", where=str(path), remedy="Check simulator.smiles")
        keys = molecule_keys([str(row.smiles) for row in rows])
        order: dict[str, int] = {}
        place = np.array([order.setdefault(key, len(order)) for key in keys])
        table = np.array([[row.properties[name] for name in self.outputs] for row in rows], np.float64)
        has_label = np.isfinite(table)
        total = np.zeros((len(order), len(self.outputs)))
        count = np.zeros_like(total)
        np.add.at(total, place, np.where(has_label, table, 0.0))
        np.add.at(count, place, has_label)
        mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        differs = has_label & (np.abs(table - mean[place]) > 1e-12 * np.abs(mean[place]))
        sizes = np.bincount(place, minlength=len(order))
        return TableLabels(
            order,
            mean,
            len(rows),
            tally.left_out.total(),
            int((sizes > 1).sum()),
            len(np.unique(place[differs.any(axis=1)])),
        )

    def __getstate__(self) -> dict[str, Any]:
        """The settings and the labels, so that the processes of a campaign need not read the file again."""
        return {**self.__dict__, "labels": self.labels}

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """The labels of one molecule.

        Raises:
            SimulationError: `invalid_input`: the molecule is not in the table, or lacks one of the labels.
        """
        check(inputs, self.spec.inputs)
        smiles = str(inputs["smiles"].item())
        # The table may hold a spelling that another program calls canonical, so that both are brought to one key.
        row = self.labels.rows.get(molecule_key(smiles))
        if row is None:
            raise SimulationError("invalid_input", f"{smiles!r} is not in the table {Path(self.file).name}")
        values = self.labels.values[row]
        if not np.isfinite(values).all():
            lacking = [name for name, value in zip(self.outputs, values, strict=True) if not np.isfinite(value)]
            raise SimulationError(
                "invalid_input", f"{smiles!r} has no {' and no '.join(lacking)} in {Path(self.file).name}"
            )
        return dataset(self.spec.outputs, dict(zip(self.outputs, values, strict=True)))
