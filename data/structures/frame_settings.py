"""Settings that name the entries of a frame which hold its labels, charge and spin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data.settings import names
from data.structures.frame_names import FrameKeys


@dataclass(frozen=True)
class KeySettings:
    """The names of the entries of a frame that hold its labels, charge and spin.

    Attributes:
        energy_key, forces_key, stress_key: a name or a list of names, of which the first that a frame has is used;
            None for the usual name.
        charge_key, spin_key: the only name to use; None for all common names.
        spin_convention: meaning of an entry called spin: the number of "unpaired" electrons, or the "multiplicity".
    """

    energy_key: Any = None
    forces_key: Any = None
    stress_key: Any = None
    charge_key: str | None = None
    spin_key: str | None = None
    spin_convention: str = "unpaired"

    def keys(self, prefix: str) -> FrameKeys:
        """The keys for the readers; `prefix` precedes each key in error messages.

        Raises:
            InputError: a name is invalid, see `FrameKeys`.
        """
        return FrameKeys(
            energy=tuple(names(self.energy_key)),
            forces=tuple(names(self.forces_key)),
            stress=tuple(names(self.stress_key)),
            charge=self.charge_key,
            spin=self.spin_key,
            spin_convention=self.spin_convention,
            prefix=prefix,
        )
