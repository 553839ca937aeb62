"""Finds energies, forces, stresses, charges and spins of a geometry under the names that other programs use.

Names of certain meaning are accepted in any spelling. An entry that only looks like a label is never used: it is
reported, so that the reader can say how to use it, or refuse the frame where ignoring it would change the system (an
ion computed as neutral, a triplet as a singlet).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from data.errors import InputError
from data.plain import OMIT_DEFAULT, UNWRITTEN

#: The usual names of labels, in the order of the tables.
LABELS = ("energy", "forces", "stress")
CONVENTIONS = ("unpaired", "multiplicity")
#: Names without case and separators that say the total charge of a frame, e.
CHARGE_NAMES = frozenset(
    {"charge", "totalcharge", "totcharge", "chargetotal", "netcharge", "molecularcharge", "moleculecharge"}
    | {"molcharge", "systemcharge", "formalcharge", "totalformalcharge", "pubchemtotalcharge"}
)
#: Likewise for the number of unpaired electrons.
UNPAIRED_NAMES = frozenset(
    {"spin", "unpaired", "nunpaired", "numunpaired", "uhf", "unpairedelectrons", "nunpairedelectrons"}
    | {"numunpairedelectrons", "numberofunpairedelectrons"}
)
#: Likewise for the multiplicity, 2 S + 1, which is one more.
MULTIPLICITY_NAMES = frozenset({"multiplicity", "spinmultiplicity", "mult", "spinmult", "molecularmultiplicity"})
#: Likewise for a total magnetic moment in Bohr magnetons, which is their number where it is an integer.
MOMENT_NAMES = frozenset({"magmom", "totalmagmom", "totalmagneticmoment", "totalmagnetization"})
ELECTRON_NAMES = frozenset({"nelectrons", "nelectron", "numelectrons", "numberofelectrons", "nelec", "electrons"})
#: Largest distance from an integer at which a sum of atomic charges or moments is rounded to it.
ROUNDING = 0.05

_NOT_A_LABEL = re.compile(r"weight|std|uncert|error|unit|kinetic|count|mask|file|path|name|method|type")
_LIKE = {
    "energy": re.compile(r"energ|(^|[^a-z])(etot|toten|e0|u0|e)($|[^a-z])"),
    "forces": re.compile(r"force|grad|(^|[^a-z])f($|[^a-z])"),
    "stress": re.compile(r"stress|virial"),
}
_LIKE_CHARGE = re.compile(r"charge|chrg|^q$|^qtot$|^ion$")
_LIKE_SPIN = re.compile(r"spin|mult($|i)|unpaired|uhf|magmom|magnet|^2s$|^s$")


@dataclass(frozen=True)
class FrameKeys:
    """The names of the entries of a frame that are its labels, from a configuration.

    Attributes:
        energy, forces, stress: names to take, the first that a frame has; empty for the usual name, in any case.
            A stress whose name says virial is minus the virial (eV) over the volume.
        charge, spin: the only name to take; None for all names of known meaning.
        spin_convention: what an entry called spin counts: "unpaired" electrons, or the "multiplicity" 2 S + 1 as
            in OMol25.
        units: "energy", "forces" or "stress" -> the unit of the labels; empty for those that the file says, or else
            eV and Angstrom. Where one is given, every label of a frame needs one.
        labels: whether labels are used; without them their units need not be known.
        prefix: prefix of the keys in the configuration, for messages.
        inherited: whether a training chose them, so that a file may lack them.

    Raises:
        InputError: the convention is unknown, or gradients are named as forces.
    """

    energy: tuple[str, ...] = ()
    forces: tuple[str, ...] = ()
    stress: tuple[str, ...] = ()
    charge: str | None = None
    spin: str | None = None
    spin_convention: str = "unpaired"
    units: Mapping[str, str] = field(default_factory=dict, metadata=OMIT_DEFAULT)
    labels: bool = field(default=True, metadata=UNWRITTEN)
    prefix: str = field(default="data.", metadata=UNWRITTEN)
    inherited: bool = field(default=False, metadata=UNWRITTEN)

    def __post_init__(self) -> None:
        if self.spin_convention not in CONVENTIONS:
            raise InputError(
                f"no convention {self.spin_convention!r}",
                where=f"{self.prefix}spin_convention",
                remedy=f"Choose from {', '.join(CONVENTIONS)}",
            )
        for name in self.forces:
            if "grad" in name.lower():
                raise InputError(
                    f"{name!r} seems to hold gradients, which are minus the forces",
                    where=f"{self.prefix}forces_key",
                    remedy="Write the forces, under a name that says so",
                )

    def after(self, trained: FrameKeys | None) -> FrameKeys:
        """These keys, completed by those of a training, whose labels had those names."""
        if trained is None:
            return self
        usual = FrameKeys()
        names = ("energy", "forces", "stress", "charge", "spin", "spin_convention", "units")
        chosen = {n: getattr(self, n) for n in names if getattr(self, n) != getattr(usual, n)}
        return replace(trained, **chosen, prefix=self.prefix, inherited=True)

    def label(self, label: str) -> tuple[str, ...]:
        """The names that are taken as one of `LABELS`."""
        chosen: tuple[str, ...] = getattr(self, label)
        return chosen or (label,)


def plain_name(name: object) -> str:
    """A name without case and separators."""
    return re.sub(r"[\s_\-.:()\[\]]", "", str(name).lower())


def scalar(value: Any) -> float | None:
    """A number, or an array or text of exactly one, as a finite float; None if it is neither."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, str) and "_" in value):
        return None
    try:
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind in "bcOSV":
            return None
        number = float(array.reshape(()).item())
    except (TypeError, ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None


def find_label(fields: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The entry of `fields` that is the first of `names`: so spelled, or in another case."""
    for name in names:
        if name in fields:
            return name
        spelled = next((key for key in reversed(list(fields)) if str(key).lower() == name.lower()), None)
        if spelled is not None:
            return spelled
    return None


def look_alikes(label: str, fields: Mapping[str, Any], atoms: int) -> Iterator[str]:
    """Names of entries that could be a label (one of `LABELS`) by their name and shape."""
    for name, value in fields.items():
        lower = str(name).lower()
        if not _LIKE[label].search(lower) or _NOT_A_LABEL.search(lower):
            continue
        if label == "energy":
            if scalar(value) is not None:
                yield str(name)
            continue
        try:
            shape = np.shape(np.asarray(value, np.float64))
        except (TypeError, ValueError):
            continue
        if shape == (atoms, 3) if label == "forces" else shape in ((6,), (9,), (3, 3)):
            yield str(name)


def total_charge(
    fields: Mapping[str, Any], numbers: np.ndarray, keys: FrameKeys
) -> tuple[int | None, str | None, str | None]:
    """The total charge that a frame states and the name of its entry, or why it is not certain.

    Args:
        fields: all entries of the frame, those of its atoms included.
        numbers: atomic numbers.
        keys: see `FrameKeys`.

    Returns:
        Charge and name, None where none is named; and the problem, None where there is none.
    """
    atoms = len(numbers)
    named: dict[str, int] = {}
    for name, value in fields.items():
        if (keys.charge is None and plain_name(name) in CHARGE_NAMES) or name == keys.charge:
            if atoms > 1 and _per_atom(value, atoms) and keys.charge is None:
                continue
            number = scalar(value)
            if number is None or not number.is_integer():
                return None, None, f"{name}: {value!r} is not an integer"
            named[str(name)] = int(number)
    if len(set(named.values())) > 1:
        return None, None, f"{' but '.join(f'{name} is {q:+d}' for name, q in named.items())}"
    if named:
        name, charge = next(iter(named.items()))
        return charge, name, None
    if keys.charge is not None:
        return None, None, None
    remedy = f"write charge= into the frame, or name the entry by {keys.prefix}charge_key"
    for name, value in fields.items():
        lower, flat = str(name).lower(), plain_name(name)
        number = scalar(value)
        if flat in ELECTRON_NAMES and number is not None and number != numbers.sum():
            return None, None, f"{name} is {number:g}, and neutral atoms have {numbers.sum()} electrons: {remedy}"
        if not _LIKE_CHARGE.search(lower):
            continue
        if _per_atom(value, atoms) and (atoms > 1 or flat == "initialcharges"):
            total = float(np.sum(np.asarray(value, np.float64)))
            if lower == "initial_charges" and abs(total - round(total)) <= ROUNDING:
                return round(total), f"the sum of {name}", None
            if lower == "initial_charges" or (round(total) != 0 and abs(total - round(total)) <= ROUNDING):
                return None, None, f"{name} of the atoms add up to {total:+.2f}, and no total charge is named: {remedy}"
        elif number is not None and number != 0 and number.is_integer():
            return None, None, f"{name} is {number:g} and may be its total charge: {remedy}"
    return None, None, None


def ignored_entries(
    fields: Mapping[str, Any], numbers: np.ndarray, charge: int, keys: FrameKeys, used: Mapping[str, str | None]
) -> dict[str, str]:
    """Entries that look like a charge or a spin and are not used: name -> what each looks like.

    Args:
        fields: all entries of the frame, those of its atoms included.
        numbers: atomic numbers.
        charge: the charge that is used, e.
        keys: see `FrameKeys`.
        used: for "charge" and "spin" how `total_charge` and `unpaired_electrons` name what they took; None for
            nothing, and where no key said so they have looked at everything themselves.
    """
    like = {"charge": _LIKE_CHARGE, "spin": _LIKE_SPIN}
    same = {"charge": CHARGE_NAMES, "spin": UNPAIRED_NAMES | MULTIPLICITY_NAMES | MOMENT_NAMES}
    chosen = {"charge": keys.charge, "spin": keys.spin}
    taken = {kind: str(how).partition(",")[0].removeprefix("the sum of ") for kind, how in used.items()}
    unused: dict[str, str] = {}
    for name, value in fields.items():
        lower, flat, number = str(name).lower(), plain_name(name), scalar(value)
        for kind in used:
            looked = (used[kind] is None and chosen[kind] is None) or name == taken[kind]
            if looked or _NOT_A_LABEL.search(lower) or not like[kind].search(lower):
                continue
            if number is not None:
                # Other names of known meaning say the same as the one that is taken, unless a key chose among them.
                if chosen[kind] is not None or flat not in same[kind]:
                    unused[str(name)] = kind
            elif kind == "charge" and _per_atom(value, len(numbers)):
                total = float(np.sum(np.asarray(value, np.float64)))
                if abs(total - round(total)) <= ROUNDING and round(total) != charge:
                    unused[str(name)] = f"charges of atoms that do not add up to {charge:+d}"
        if used["charge"] is not None and flat in ELECTRON_NAMES and number not in (None, numbers.sum() - charge):
            unused[str(name)] = f"a number of electrons that a charge of {charge:+d} does not give"
    return unused


def unpaired_electrons(
    fields: Mapping[str, Any], numbers: np.ndarray, charge: int, periodic: bool, keys: FrameKeys
) -> tuple[int | None, str | None, str | None]:
    """The number of unpaired electrons that a frame states and how, or why it is not certain.

    Args:
        fields: all entries of the frame, those of its atoms included.
        numbers: atomic numbers.
        charge: of the whole frame, e.
        periodic: whether it repeats; the electrons of a cell need not be even or odd.
        keys: see `FrameKeys`.

    Returns:
        Number and how it was understood, None where none is named; and the problem, None where there is none. A
        number that the electrons cannot have comes with its problem.
    """
    named: dict[str, int] = {}
    how: dict[str, str] = {}
    for name, value in fields.items():
        flat = plain_name(name)
        if keys.spin is not None and name != keys.spin:
            continue
        number = scalar(value)
        multiplicity = flat in MULTIPLICITY_NAMES
        multiplicity |= keys.spin_convention == "multiplicity" and (flat == "spin" or name == keys.spin)
        if multiplicity or flat in UNPAIRED_NAMES or name == keys.spin:
            if number is None or not number.is_integer() or number < int(multiplicity):
                return None, None, f"{name}: {value!r} is no {'multiplicity' if multiplicity else 'count of electrons'}"
            named[str(name)] = int(number) - int(multiplicity)
            how[str(name)] = f"{name}, read as {'multiplicity' if multiplicity else 'unpaired electrons'}"
        elif flat in MOMENT_NAMES and number is not None and not periodic and abs(number - round(number)) <= ROUNDING:
            named[str(name)] = abs(round(number))
            how[str(name)] = f"{name}, Bohr magnetons"
    if len(set(named.values())) > 1:
        said = " but ".join(f"{name} means {count}" for name, count in named.items())
        return None, None, f"{said} unpaired electrons"
    remedy = f"write spin= (unpaired electrons), or name the entry by {keys.prefix}spin_key"
    if named:
        name, count = next(iter(named.items()))
        electrons = int(numbers.sum()) - charge
        if not periodic and ((electrons - count) % 2 or count > electrons):
            hint = f"; where {name} is the multiplicity 2S+1, set {keys.prefix}spin_convention=multiplicity"
            problem = f"{name} means {count} unpaired electrons, which {electrons} electrons cannot have"
            return (
                count,
                how[name],
                problem + (hint if keys.spin_convention == "unpaired" and "spin" in name.lower() else ""),
            )
        return count, how[name], None
    if keys.spin is not None:
        return None, None, None
    for name, value in fields.items():
        flat = plain_name(name)
        if not _LIKE_SPIN.search(str(name).lower()) or _NOT_A_LABEL.search(str(name).lower()):
            continue
        if flat == "initialmagmoms" and np.asarray(value).dtype.kind in "iuf":
            from_moments = _of_moments(str(name), np.asarray(value, np.float64), periodic, remedy)
            if from_moments != (None, None, None):
                return from_moments
            continue
        number = scalar(value)
        if number and flat not in MOMENT_NAMES and flat != "magmoms":
            return None, None, f"{name} is {number:g} and may be its spin: {remedy}"
    return None, None, None


def _of_moments(
    name: str, moments: np.ndarray, periodic: bool, remedy: str
) -> tuple[int | None, str | None, str | None]:
    """Unpaired electrons from the magnetic moments that atoms begin with, Bohr magnetons."""
    if not moments.any():
        return None, None, None
    if moments.ndim != 1 or periodic:
        what = "of a cell that repeats" if periodic else "that are vectors"
        return None, None, f"{name} {what} cannot be handed to a simulator here: {remedy}"
    total = abs(float(moments.sum()))
    if abs(total - float(np.abs(moments).sum())) > ROUNDING:
        return None, None, f"{name} have opposite signs, which a number of unpaired electrons does not say: {remedy}"
    if abs(total - round(total)) > ROUNDING:
        return None, None, f"{name} add up to {total:.2f}, no number of electrons: {remedy}"
    return round(total), f"the sum of {name}", None


def _per_atom(value: Any, atoms: int) -> bool:
    array = np.asarray(value)
    return array.ndim == 1 and len(array) == atoms and array.dtype.kind in "iuf"
