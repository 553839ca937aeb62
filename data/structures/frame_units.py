"""Converts the units that a database of geometries names in its metadata to eV and Angstrom.

SchNetPack (Schuett et al., J. Chem. Theory Comput. 2019, 15, 448) writes `_distance_unit` and `_property_unit_dict`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ase import units

from data.errors import InputError

_KNOWN = {
    "ev": 1.0,
    "mev": 1e-3,
    "ha": units.Hartree,
    "hartree": units.Hartree,
    "hartrees": units.Hartree,
    "ry": units.Rydberg,
    "rydberg": units.Rydberg,
    "kcal": units.kcal,
    "kj": units.kJ,
    "mol": units.mol,
    "ang": 1.0,
    "angstrom": 1.0,
    "a": 1.0,
    "å": 1.0,
    "bohr": units.Bohr,
    "a0": units.Bohr,
    "nm": units.nm,
    "pa": units.Pascal,
    "gpa": units.GPa,
    "kbar": 1e8 * units.Pascal,
    "1": 1.0,
}

#: Largest relative difference of the factors of two spellings of one unit.
SAME_UNIT = 1e-4


def factor(unit: str) -> float | None:
    """The factor from `unit` ("kcal/mol/Ang", "Hartree/Bohr^2") to eV and Angstrom.

    It is None where a part of the unit is not known.
    """
    text = unit.strip().replace("**", "^")
    result = 1.0
    for position, part in enumerate(text.split("/")):
        matched = re.fullmatch(r"\(?\s*([^\s^()]+?)(?:\^?(\d))?\s*\)?", part.strip())
        name = None if matched is None else matched[1].lower()
        if matched is not None and name not in _KNOWN:
            name = f"{name}{matched[2] or ''}"  # a0
            power = 1
        else:
            power = int(matched[2] or 1) if matched is not None else 1
        if name not in _KNOWN:
            return None
        value = _KNOWN[str(name)] ** power
        result = result * value if position == 0 else result / value
    return result


@dataclass(frozen=True)
class FrameUnits:
    """Units of one database.

    Attributes:
        distance: unit of positions and cells; None where the metadata does not name it, which means Angstrom.
        properties: unit of each entry, by name; entries without one are in eV and Angstrom.
    """

    distance: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of_metadata(metadata: Mapping[str, Any], where: str) -> FrameUnits:
        """What SchNetPack's metadata of an ASE database says.

        Raises:
            InputError: the unit of distances is not known.
        """
        distance = metadata.get("_distance_unit")
        units_of = metadata.get("_property_unit_dict") or {}
        frame_units = FrameUnits(
            None if distance is None else str(distance), {str(k): str(v) for k, v in dict(units_of).items()}
        )
        if frame_units.distance is not None and factor(frame_units.distance) is None:
            raise InputError(
                f"its metadata gives distances in {frame_units.distance!r}, a unit that is not known",
                where=where,
                remedy="Convert the database to Angstrom",
            )
        return frame_units

    @property
    def length(self) -> float:
        """Angstrom of one unit of distance."""
        return 1.0 if self.distance is None else float(factor(self.distance) or 1.0)

    def of(self, name: str, usual: str, where: str, declared: str | None = None) -> tuple[float, str]:
        """The factor that converts the entry `name` to the unit `usual`, and a phrase that says so.

        Args:
            name: entry of the file.
            usual: unit that is used here.
            where: the file, for messages.
            declared: unit that the settings name; None for none.

        Raises:
            InputError: the metadata names a unit that is not known, or another one than the settings.
        """
        unit = self.properties.get(name)
        if unit is None and declared is None:
            return 1.0, usual
        said = unit is not None
        scale = factor(unit) if unit is not None else factor(str(declared))
        if scale is None:
            raise InputError(
                f"its metadata gives {name} in {unit!r}, a unit that is not known",
                where=where,
                remedy=f"Convert the database to {usual}",
            )
        if said and declared is not None and abs((factor(declared) or 0.0) / scale - 1) > SAME_UNIT:
            raise InputError(
                f"says that {name} is in {unit}, and the settings say {declared}",
                where=where,
                remedy="Leave the unit out",
            )
        if scale == 1.0:
            return scale, f"{usual}, as {'the file says' if said else 'given'}"
        return scale, f"{usual}, converted from {unit or declared}"
