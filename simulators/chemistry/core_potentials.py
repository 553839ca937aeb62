"""Effective core potentials that belong to a basis set, element by element.

A valence basis without its potential gives plausible but wrong energies, because the core electrons occupy functions
that cannot describe them (the energy of silver hydride is seven times too low). The potential of a basis is therefore
taken from wherever PySCF has it, and an element whose basis needs a potential that PySCF lacks is refused. A basis is
recognised as a valence basis by its steepest s function: in every all-electron basis of PySCF its exponent is above Z^2
(about Z^2 / 2 fits the 1s orbital of a hydrogen-like ion, and STO-3G has at least 1.8 Z^2), in valence bases below.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ase.data import atomic_numbers, chemical_symbols

from data.errors import InputError
from data.spec import SimulationError

#: One name for all elements, or a mapping of elements to names; "default" applies to elements that are not named.
Choice = str | Mapping[str, str]
DEFAULT = "default"
#: Atomic number of the heaviest element for which def2 bases are all-electron.
KRYPTON = 36
#: Atomic number of the heaviest element whose relativistic and nonrelativistic bases differ little.
ARGON = 18
#: Pattern in the names of all-electron bases that were contracted for a relativistic Hamiltonian.
RELATIVISTIC = re.compile(r"x2c|anorcc|dyall|sarc|zora|dkh?[23]?$")
#: Exceptions of PySCF for a name or an element that is not in its tables.
UNKNOWN = (RuntimeError, KeyError, IndexError, ValueError, TypeError, AssertionError, OSError)
#: A basis whose largest s exponent is below this multiple of Z^2 describes only the valence shell.
STEEPEST = 1.0


def normalise_choice(choice: Any, where: str) -> str | dict[str, str]:
    """Check a choice of names and capitalise its element symbols, such as "Ag".

    Raises:
        InputError: the choice is neither a name nor a mapping of names, or a key is no element.
    """
    if isinstance(choice, str) and choice.strip():
        return choice
    if not isinstance(choice, Mapping) or not choice:
        raise InputError(
            f"{choice!r} is neither a name nor a mapping of elements to names",
            where=where,
            remedy=f"Give a name, or {where}={{Ag:def2-svp,default:6-31g*}}",
        )
    names: dict[str, str] = {}
    for key, name in choice.items():
        symbol = DEFAULT if str(key).lower() == DEFAULT else str(key).capitalize()
        if (symbol != DEFAULT and symbol not in chemical_symbols[1:]) or not isinstance(name, str):
            raise InputError(
                f"{key!r}: {name!r} is not an element and a name", where=where, remedy="Keys are symbols, such as Ag"
            )
        names[symbol] = name
    return names


def label(choice: Choice) -> str:
    """A choice as one line of text: "def2-svp", or "Ag=lanl2dz,H=6-31g"."""
    return choice if isinstance(choice, str) else ",".join(f"{key}={name}" for key, name in sorted(choice.items()))


def name_for_element(choice: Choice | None, symbol: str) -> str | None:
    """The name that a choice contains for an element; None if it contains none."""
    if choice is None or isinstance(choice, str):
        return choice
    return choice.get(symbol, choice.get(DEFAULT))


def basis_by_element(basis: Choice, symbols: Sequence[str]) -> str | dict[str, str]:
    """The basis in the form of PySCF.

    Raises:
        SimulationError: `invalid_input`; a mapping names no basis for one of the elements.
    """
    if isinstance(basis, str):
        return basis
    lacking = sorted({s for s in symbols if name_for_element(basis, s) is None})
    if lacking:
        raise SimulationError(
            "invalid_input", f"simulator.basis names none for {', '.join(lacking)}; add it, or a default"
        )
    return {symbol: str(name_for_element(basis, symbol)) for symbol in set(symbols)}


def core_potentials(basis: Choice, ecp: Choice | None, symbols: Sequence[str]) -> dict[str, str]:
    """The name in PySCF of the potential of each element that has one.

    Args:
        basis: orbital basis.
        ecp: potentials that override those of the basis; a single name applies to the elements that it covers.
        symbols: elements of the molecule.

    Raises:
        SimulationError: `invalid_input`; a named potential does not exist, or an element's basis needs one and
            neither the basis nor `ecp` has it.
    """
    potentials: dict[str, str] = {}
    for symbol in sorted(set(symbols)):
        orbital, asked = str(name_for_element(basis, symbol)), name_for_element(ecp, symbol)
        if asked is not None and has_potential(asked, symbol):
            potentials[symbol] = asked
            continue
        if isinstance(ecp, Mapping) and symbol in ecp:
            raise SimulationError("invalid_input", f"PySCF has no effective core potential {asked!r} for {symbol}")
        if (belonging := potential_of(orbital, symbol)) is not None:
            potentials[symbol] = belonging
        elif needs_potential(orbital, symbol):
            raise SimulationError(
                "invalid_input",
                f"basis {orbital!r} describes the valence electrons of {symbol} alone, and PySCF has no effective core "
                f"potential for it; name one with simulator.ecp={{{symbol}:NAME}}, or another basis, such as def2-svp",
            )
    return potentials


@lru_cache(maxsize=4096)
def potential_of(basis: str, symbol: str) -> str | None:
    """The name in PySCF of the potential that belongs to a basis; None if there is none."""
    return next((name for name in _sources(basis) if has_potential(name, symbol)), None)


@lru_cache(maxsize=4096)
def has_potential(name: str, symbol: str) -> bool:
    """Whether PySCF has an effective core potential of that name for an element."""
    from pyscf.gto.basis import load_ecp

    with warnings.catch_warnings():
        # PySCF warns and recommends another package if a name has no potential.
        warnings.simplefilter("ignore")
        try:
            return bool(load_ecp(name, symbol))
        except UNKNOWN:
            return False


@lru_cache(maxsize=4096)
def needs_potential(basis: str, symbol: str) -> bool:
    """Whether a basis describes only the valence electrons of an element; False for a basis unknown to PySCF."""
    from pyscf import gto

    number, plain = atomic_numbers[symbol], _plain(basis)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            shells = gto.format_basis({symbol: basis})[symbol]
        except UNKNOWN:
            return False
    if "def2" in plain:
        return number > KRYPTON
    if re.match(r"(aug)?ccpw?c?v.zpp|ccecp|bfd", plain):
        return True
    steepest = [row[0] for shell in shells if shell[0] == 0 for row in shell[1:] if isinstance(row, (list, tuple))]
    # Hydrogen and helium have no core.
    return number > 2 and bool(steepest) and max(steepest) < STEEPEST * number**2


def refuse_nonrelativistic(basis: Choice, potentials: Mapping[str, str], symbols: Sequence[str]) -> None:
    """Refuse relativistic all-electron bases in a nonrelativistic calculation.

    Args:
        basis: orbital basis.
        potentials: potentials from `core_potentials`, which include the relativistic effects of their cores.
        symbols: elements of the molecule.

    Raises:
        SimulationError: `invalid_input`; an element beyond argon has such a basis.
    """
    for symbol in sorted(set(symbols) - set(potentials)):
        name = str(name_for_element(basis, symbol))
        if atomic_numbers[symbol] > ARGON and RELATIVISTIC.search(_plain(name)):
            raise SimulationError(
                "invalid_input",
                f"basis {name!r} of {symbol} was made for a relativistic Hamiltonian, and there is none; set "
                "simulator.relativity=x2c, or take a basis with core potentials, such as def2-svp",
            )


@lru_cache(maxsize=64)
def had_missing_potentials(basis: str) -> bool:
    """Whether older versions of this package, which knew only the potentials of def2, omitted those of a basis."""
    if basis.lower().startswith("def2"):
        return False
    return any(potential_of(basis, symbol) is not None for symbol in chemical_symbols[1:104])


def _plain(basis: str) -> str:
    """Normalise a name as PySCF does, and remove its markers for truncated or uncontracted bases."""
    return re.sub(r"[-_ ]", "", basis.split("@")[0].lower()).removeprefix("unc")


def _sources(basis: str) -> list[str]:
    """Names under which PySCF may have the potentials of a basis, the most likely first."""
    plain = _plain(basis)
    sources = [basis.split("@")[0], plain]
    if "def2" in plain:
        sources.append("def2-svp")
    if named := re.fullmatch(r"(aug)?ccpw?c?v(.)zpp", plain):
        # All sizes of the family share one potential.
        sources.append(f"cc-pv{named[2]}z-pp")
    if named := re.match(r"ccecp(he|reg)?", plain):
        sources.append(named[0])
    if plain.startswith("bfdv"):
        sources.append("bfd")
    return sources


def auxiliary(mol: Any) -> dict[str, Any] | None:
    """Auxiliary basis for density fitting if an atom beyond krypton is treated with all electrons; else None.

    The default of PySCF for such atoms fits only the valence electrons that a core potential leaves: the energy of
    silver hydride in 3-21G is 3,700 eV too low. Even-tempered functions derived from the orbital basis fit every shell.

    Args:
        mol: a `pyscf.gto.Mole` with its potentials.
    """
    from pyscf import df

    heavy = {
        mol.atom_symbol(i)
        for i in range(mol.natm)
        if mol.atom_nelec_core(i) == 0 and atomic_numbers[mol.atom_pure_symbol(i)] > KRYPTON
    }
    if not heavy:
        return None
    derived = df.addons.aug_etb(mol)
    return {**df.addons.make_auxbasis(mol), **{symbol: derived[symbol] for symbol in heavy}}
