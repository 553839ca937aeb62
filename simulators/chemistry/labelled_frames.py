"""Frames with labels as a simulator: geometries whose energies and forces are known, at a declared cost.

It is for geometries what `simulators.label_table` is for molecules: methods that decide which frames to compute can be
tried on a public set, where every answer is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.grouping import one_key
from data.molecules.files import read
from data.spec import SimulationError, Spec, content_hash
from data.structures.frame_names import FrameKeys
from data.structures.frame_reading import FrameTally
from data.structures.structures import Structures
from simulators.chemistry.variables import Geometry, answer, spec
from simulators.label_file import check_label_file, digest_of_file

SUPPORTED = ("energy", "forces")
#: Positions are the same if they round to the same multiple of this, Angstrom; files hold eight decimals or more.
SAME_POSITION = 1e-6


@dataclass(frozen=True)
class FrameLabels:
    """The labels of a file.

    Attributes:
        rows: key of a frame -> its place; of several equal frames, that of the first.
        energy: eV; NaN where it is not known.
        forces: of each frame, eV/Angstrom; NaN where they are not known.
        left_out: number of frames that could not be read.
        repeated: number of frames that are equal to an earlier one.
    """

    rows: dict[str, int]
    energy: Float[np.ndarray, " frame"]
    forces: tuple[Float[np.ndarray, "atom 3"], ...]
    left_out: int
    repeated: int


@dataclass(frozen=True)
class LabelledFrames:
    """A simulator that looks geometries up in a file; see `simulators.adapter.Simulator`.

    A request is that of another simulator of molecules: atomic numbers, positions, charge and spin, and a cell. Atoms
    are in the order of the file, and positions agree within `SAME_POSITION`. Frames that cannot be read are left out
    and logged.

    Attributes:
        file: file of frames with energies (eV) and forces (eV/Angstrom), in a format that `understudy train` reads.
        outputs: energy, forces or both.
        cost_s: declared cost of one answer, core-seconds, which counts in place of the measured one.

    Raises:
        InputError: there is no such file, an output is unknown, or the cost is no finite number of 0 or more.
    """

    file: str
    outputs: tuple[str, ...] = SUPPORTED
    cost_s: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", tuple(self.outputs))
        spec(self.outputs, SUPPORTED)
        check_label_file(self.file, self.cost_s)

    @property
    def name(self) -> str:
        """Such as "frames:energy,forces"."""
        return f"frames:{','.join(self.outputs)}"

    @cached_property
    def spec(self) -> Spec:
        """Geometries with charge, spin and cell; the chosen outputs."""
        return spec(self.outputs, SUPPORTED, periodic=True)

    @property
    def declared_cost_s(self) -> float:
        """Declared cost of one answer, core-seconds."""
        return self.cost_s

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the bytes of the file and the outputs; not of the cost."""
        return content_hash(["frames", self._digest, list(self.outputs)])

    @property
    def provenance(self) -> dict[str, Any]:
        """Name and digest of the file, settings, the declared cost, and what was read."""
        labels = self.labels
        return {
            "simulator": self.name,
            "version": self._digest,
            "settings": {"file": Path(self.file).name, "outputs": list(self.outputs)},
            "declared_cost_core_seconds": self.cost_s,
            "frames": {"used": len(labels.energy), "left_out": labels.left_out, "repeated": labels.repeated},
        }

    @cached_property
    def _digest(self) -> str:
        return digest_of_file(self.file)

    @cached_property
    def labels(self) -> FrameLabels:
        """The labels of the file, which are read once and travel with a pickled simulator."""
        path, keys = Path(self.file).expanduser(), FrameKeys(prefix="simulator.")
        tally = FrameTally(path, keys)

        def refuse(row: Any, reason: str) -> None:
            tally.refuse(row, reason)

        table = Structures.from_frames(read(path, rejects=tally, keys=keys), str(path), refuse)
        rows: dict[str, int] = {}
        forces = []
        for row in range(len(table)):
            atoms = slice(table.atom_start[row], table.atom_start[row + 1])
            key = _key(
                Geometry(
                    table.numbers[atoms],
                    table.positions[atoms],
                    int(table.charge[row]),
                    int(table.spins[row]),
                    table.lattice[row],
                )
            )
            rows.setdefault(key, row)
            forces.append(table.forces[atoms])
        left_out = tally.reasons.total()
        return FrameLabels(rows, table.energy, tuple(forces), left_out, len(table) - len(rows))

    def __getstate__(self) -> dict[str, Any]:
        """The settings and the labels, so that the processes of a campaign need not read the file again."""
        return {**self.__dict__, "labels": self.labels}

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """The labels of one frame.

        Raises:
            SimulationError: `invalid_input`: the frame is not in the file, or lacks one of the labels.
        """
        row = self.labels.rows.get(_key(Geometry.read(inputs, periodic=True)))
        if row is None:
            raise SimulationError("invalid_input", f"the geometry is not in {Path(self.file).name}")
        values = {"energy": self.labels.energy[row], "forces": self.labels.forces[row]}
        for name in self.outputs:
            if not np.isfinite(values[name]).all():
                raise SimulationError("invalid_input", f"frame {row + 1} of {Path(self.file).name} has no {name}")
        return answer(self.spec, {name: values[name] for name in self.outputs})


def _key(geometry: Geometry) -> str:
    cell = np.zeros((3, 3)) if geometry.cell is None else geometry.cell
    return one_key(
        geometry.numbers,
        np.round(geometry.positions / SAME_POSITION),
        np.array([geometry.charge, geometry.spin]),
        np.round(cell / SAME_POSITION),
    )
