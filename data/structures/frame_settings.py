"""Settings that name the entries of a frame which hold its labels, charge and spin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from data.errors import InputError
from data.settings import names
from data.structures.frame_names import FrameKeys
from data.structures.frame_units import factor


@dataclass(frozen=True)
class LabelUnits:
    """Units of labels, such as "kcal/mol" and "kcal/mol/Angstrom"; None: as the file says, or else eV and Angstrom."""

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None

    def as_mapping(self, prefix: str) -> dict[str, str]:
        """The units that are set, by label.

        Raises:
            InputError: one is not known.
        """
        units = {n: u for n in ("energy", "forces", "stress") if (u := getattr(self, n)) is not None}
        for name, unit in units.items():
            if factor(unit) is None:
                raise InputError(
                    f"no unit {unit!r} is known",
                    where=f"{prefix}units.{name}",
                    remedy="Write it with eV, meV, Hartree, Rydberg, kcal, kJ, mol, Angstrom, Bohr, nm, GPa or kbar",
                )
        return units


@dataclass(frozen=True)
class KeySettings:
    """The names of the entries of a frame that hold its labels, charge and spin, and the units of the labels.

    Attributes:
        energy_key, forces_key, stress_key: a name or a list of names, of which the first that a frame has is used;
            None for the usual name.
        charge_key, spin_key: the only name to use; None for all common names.
        spin_convention: meaning of an entry called spin: the number of "unpaired" electrons, or the "multiplicity".
        units: units of the labels, where the file does not say them and they are not eV and Angstrom.
    """

    energy_key: Any = None
    forces_key: Any = None
    stress_key: Any = None
    charge_key: str | None = None
    spin_key: str | None = None
    spin_convention: str = "unpaired"
    units: LabelUnits = field(default_factory=LabelUnits)

    def keys(self, prefix: str) -> FrameKeys:
        """The keys for the readers; `prefix` precedes each key in error messages.

        Raises:
            InputError: a name is invalid, see `FrameKeys`, or a unit is not known.
        """
        return FrameKeys(
            energy=tuple(names(self.energy_key, f"{prefix}energy_key")),
            forces=tuple(names(self.forces_key, f"{prefix}forces_key")),
            stress=tuple(names(self.stress_key, f"{prefix}stress_key")),
            charge=self.charge_key,
            spin=self.spin_key,
            spin_convention=self.spin_convention,
            units=self.units.as_mapping(prefix),
            prefix=prefix,
        )
