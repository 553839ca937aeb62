"""Pools of frames whose labels are known, and evenly weighted test sets, for `benchmarks.active_pools`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Int

from benchmarks.common import data_file
from data.spec import SimulationError, Spec, content_hash

if TYPE_CHECKING:
    from data.structures.structures import Structures
    from simulators.adapter import Simulator

#: What is known of each frame.
OUTPUTS = ("energy", "forces")
TASKS = ("ethanol", "torsion", "transfer")


@dataclass(frozen=True)
class PoolTask:
    """What frames can be chosen, and how the surrogate is tested.

    Attributes:
        pool: labelled frames to choose from.
        test: labelled frames of the test, which count evenly.
        region: region of each test frame, such as one temperature or one step of a reaction.
        regions: names of the regions.
        simulator: gives the labels of the pool.
        temperature_kelvin: temperature by which energies are divided, K.
    """

    pool: Structures
    test: Structures
    region: Int[np.ndarray, " T"]
    regions: tuple[str, ...]
    simulator: Simulator
    temperature_kelvin: float


@dataclass(frozen=True)
class PoolLabels:
    """A simulator that knows the labels of the frames of a pool, and of no other.

    Attributes:
        pool: labelled frames.
        source: what the labels are, for their fingerprint.
    """

    pool: Structures = field(repr=False)
    source: str

    @property
    def name(self) -> str:
        return f"labels:{self.source}"

    @property
    def spec(self) -> Spec:
        from simulators.chemistry.variables import spec

        return spec(OUTPUTS, OUTPUTS)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the frames and their labels."""
        from surrogates.potentials.training_frames import fingerprint

        return content_hash([self.source, fingerprint(self.pool)])

    @property
    def provenance(self) -> dict[str, Any]:
        return {"simulator": self.name, "version": "1", "settings": {}, "fingerprint": self.fingerprint}

    @cached_property
    def _rows(self) -> dict[bytes, int]:
        from experiments.active.frame_pool import frame_bytes

        return {key: row for row, key in enumerate(frame_bytes(self.pool))}

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """The label of a frame of the pool."""
        from simulators.chemistry.variables import Geometry, answer

        geometry = Geometry.read(inputs)
        key = geometry.numbers.astype(self.pool.numbers.dtype).tobytes() + geometry.positions.tobytes()
        if key not in self._rows:
            raise SimulationError("invalid_input", "the frame is none of the pool")
        row = self._rows[key]
        atoms = slice(self.pool.atom_start[row], self.pool.atom_start[row + 1])
        return answer(self.spec, {"energy": float(self.pool.energy[row]), "forces": self.pool.forces[atoms]})


def pool_task(name: str, data: Path, folder: Path) -> PoolTask:
    """One of `TASKS`.

    Args:
        name: "ethanol" (thermal frames at 500 K, tested on the same), "torsion" (3BPA, most of the pool at 300 K,
            tested evenly at 300, 600 and 1200 K) or "transfer" (proton transfer in malonaldehyde, GFN2-xTB).
        data: folder of real data.
        folder: keeps frames that are computed.
    """
    return {"ethanol": _ethanol, "torsion": _torsion, "transfer": _transfer}[name](data, folder)


def _ethanol(data: Path, _: Path) -> PoolTask:
    pool = _frames(data, "rmd17_ethanol_train.xyz")
    test = _frames(data, "rmd17_ethanol_test_MD.xyz").take(np.arange(0, 1000, 4))
    return PoolTask(pool, test, np.zeros(len(test), int), ("500 K",), PoolLabels(pool, "ethanol"), 500.0)


def _torsion(data: Path, _: Path) -> PoolTask:
    from data.structures.structures import Structures

    cold, mixed = _frames(data, "3bpa_train_300K.xyz"), _frames(data, "3bpa_train_mixedT.xyz")
    # The file has as many frames of each temperature, which their energies tell apart.
    region = np.argsort(np.argsort(mixed.energy)) * 3 // len(mixed)
    test = np.arange(len(mixed)) % 2 == 1
    pool = Structures.concatenate([cold, mixed.take(np.flatnonzero(~test))])
    rows = np.flatnonzero(test)
    return PoolTask(
        pool, mixed.take(rows), region[rows], ("300 K", "600 K", "1200 K"), PoolLabels(pool, "3bpa"), 1200.0
    )


def _transfer(_: Path, folder: Path) -> PoolTask:
    from benchmarks.proton_transfer import STEPS, labelled_frames

    pool, test, region = labelled_frames(folder)
    names = tuple(f"{low:+.1f} to {high:+.1f} A" for low, high in STEPS)
    return PoolTask(pool, test, region, names, PoolLabels(pool, "malonaldehyde"), 300.0)


def _frames(data: Path, name: str) -> Structures:
    """Frames of a file without their cells, which repeat nothing."""
    from surrogates.potentials.structure_reading import read_structures

    return read_structures(data_file(data, name), None)
