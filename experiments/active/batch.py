"""The frames that a round labels. They are saved before the first calculation, so that a resumed run reads them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.checksums import verify
from data.errors import CorruptStoreError
from data.files import listed_path
from data.structures.structures import Structures

#: Why a frame is labelled.
INITIAL, CHOSEN, AUDIT = 0, 1, 2


@dataclass(frozen=True)
class Batch:
    """Frames to label, with the predictions of the surrogate.

    Attributes:
        frames: geometries with the energies (eV) and forces (eV/Angstrom) that the surrogate predicted; these are NaN
            in the first round, which has no surrogate.
        role: why each frame is labelled: `INITIAL`, `CHOSEN` or `AUDIT`.
        uncertainty: uncertainty of each frame, eV/Angstrom; NaN in the first round.
        explored: number of frames that the dynamics visited.
        uncertain_share: share of the explored frames whose expected error is above the goal; NaN until an audit
            calibrates the uncertainty.
        lost_share: share of the walkers that were stopped early.
    """

    frames: Structures
    role: np.ndarray
    uncertainty: Float[np.ndarray, " m"]
    explored: int = 0
    uncertain_share: float = float("nan")
    lost_share: float = 0.0

    def save(self, path: Path) -> None:
        """Write the batch with every digit, because a frame is looked up in the store of labels by its bytes."""
        with listed_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                atom_start=self.frames.atom_start,
                numbers=self.frames.numbers,
                positions=self.frames.positions,
                energy=self.frames.energy,
                forces=self.frames.forces,
                role=self.role,
                uncertainty=self.uncertainty,
                charge=self.frames.charge,
                spin=self.frames.spin,
                lattice=self.frames.lattice,
                fixed=self.frames.fixed,
                facts=np.array([self.explored, self.uncertain_share, self.lost_share]),
            )

    @staticmethod
    def load(path: Path) -> Batch:
        """Read a batch that `save` wrote.

        Raises:
            CorruptStoreError: the file differs from what was written.
        """
        verify(path, remedy="Remove this round and those after it, and run again")
        try:
            with np.load(path, allow_pickle=False) as archive:
                inner = archive["atom_start"][1:-1]
                numbers, positions, forces = (np.split(archive[k], inner) for k in ("numbers", "positions", "forces"))
                # Older versions labelled neutral molecules in their lowest spin alone, and saved no other arrays.
                frames = Structures.from_arrays(
                    numbers,
                    positions,
                    archive["energy"],
                    forces,
                    charge=archive.get("charge"),
                    lattice=list(archive["lattice"]) if "lattice" in archive else None,
                    spin=archive["spin"].tolist() if "spin" in archive else None,
                    fixed=np.split(archive["fixed"], inner) if "fixed" in archive else None,
                )
                explored, uncertain, lost = archive["facts"].tolist()
                return Batch(frames, archive["role"], archive["uncertainty"], int(explored), uncertain, lost)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise CorruptStoreError(
                f"not readable: {error}", where=str(path), remedy="Remove this round and those after it, and run again"
            ) from error
