"""What one round sends to the simulator, on disk: written before the first calculation, read by a resumed run."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.checksums import verify
from data.errors import CorruptStoreError
from data.files import listed_path
from data.structures import Structures

#: Why a frame is labelled.
INITIAL, CHOSEN, AUDIT = 0, 1, 2


@dataclass(frozen=True)
class Batch:
    """Frames to label, and what the surrogate thought of them.

    Attributes:
        frames: with the energies (eV) and forces (eV/Angstrom) that the surrogate predicted; NaN in the first
            round, which has none.
        role: `INITIAL`, `CHOSEN` or `AUDIT`, of each.
        uncertainty: of each, eV/Angstrom; NaN in the first round.
        explored: frames that were looked at.
        uncertain_share: of the explored frames, those whose expected error is above the goal; NaN where it is
            not known yet what the uncertainty means.
        lost_share: of the walkers, stopped before their time.
    """

    frames: Structures
    role: np.ndarray
    uncertainty: Float[np.ndarray, " m"]
    explored: int = 0
    uncertain_share: float = float("nan")
    lost_share: float = 0.0

    def save(self, path: Path) -> None:
        """Write every digit: a frame is found again in the store of labels by its bytes."""
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
        """What `save` wrote.

        Raises:
            CorruptStoreError: it is not what was written.
        """
        verify(path, remedy="Remove this round and those after it, and run again")
        try:
            with np.load(path, allow_pickle=False) as archive:
                inner = archive["atom_start"][1:-1]
                numbers, positions, forces = (np.split(archive[k], inner) for k in ("numbers", "positions", "forces"))
                # Rounds of older versions, of neutral molecules in their lowest spin, hold no more than that.
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
