"""Structural alerts by RDKit's filter catalogues, and Morgan fingerprints, both made in parsing processes.

PAINS are patterns that interfere with assays (Baell and Holloway, J. Med. Chem. 2010, 53, 2719); BRENK are reactive,
toxic or unstable groups (Brenk et al., ChemMedChem 2008, 3, 435); NIH are those of Jadhav et al. 2010 and Doveston et
al. 2015; ZINC, and CHEMBL_*, are those of these collections. Fingerprints are of radius 2 (Rogers and Hahn, J. Chem.
Inf. Model. 2010, 50, 742), folded to 2048 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import numpy as np
from jaxtyping import UInt8
from rdkit import rdBase

from data.errors import InputError
from data.molecules.smiles import parse_smiles
from data.processes.parsing import Lost, each
from data.suggestions import did_you_mean

#: Bits of a fingerprint.
BITS = 2048
RADIUS = 2


def catalogue_names() -> tuple[str, ...]:
    """Names of the catalogues, such as PAINS and BRENK."""
    from rdkit.Chem.FilterCatalog import FilterCatalogParams

    return tuple(FilterCatalogParams.FilterCatalogs.names)


def check_catalogues(names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names as RDKit spells them.

    Args:
        names: names of catalogues in any case.
        where: key of the configuration, for errors.

    Raises:
        InputError: there is no catalogue of a name.
    """
    present = {name.upper(): name for name in catalogue_names()} if names else {}
    for name in names:
        if name.upper() not in present:
            options = sorted(present.values())
            remedy = " ".join(filter(None, [did_you_mean(name, options), f"There are {', '.join(options)}"]))
            raise InputError(f"no catalogue {name!r}", where=where, remedy=remedy)
    return tuple(dict.fromkeys(present[name.upper()] for name in names))


def alerts(smiles: Sequence[str], catalogues: Sequence[str]) -> list[str | None]:
    """Why each molecule is refused, such as "PAINS_A: ene_rhod_A(235)"; None for those without an alert.

    Args:
        smiles: one molecule each.
        catalogues: names that `check_catalogues` returned.

    Returns:
        The first match of the first catalogue that has one. A molecule that RDKit cannot parse is refused too.
    """
    answers = each(partial(first_alert, tuple(catalogues)), smiles)
    return [answer.reason if isinstance(answer, Lost) else answer for answer in answers]


def first_alert(catalogues: tuple[str, ...], text: str) -> str | None:
    """The answer of `alerts` for one molecule, made in this process."""
    with rdBase.BlockLogs():
        molecule = parse_smiles(text)
        if molecule is None:
            return "RDKit cannot read it again"
        for name in catalogues:
            entry = _catalogue(name).GetFirstMatch(molecule)
            if entry is not None:
                group = entry.GetProp("FilterSet") if "FilterSet" in entry.GetPropList() else name
                return f"{group}: {entry.GetDescription()}"
    return None


@cache
def _catalogue(name: str):  # type: ignore[no-untyped-def]
    from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

    return FilterCatalog(FilterCatalogParams(FilterCatalogParams.FilterCatalogs.names[name]))


def fingerprints(smiles: Sequence[str]) -> UInt8[np.ndarray, "molecule bit"]:
    """Morgan fingerprints, 0 or 1; all zero for a molecule that RDKit cannot parse."""
    answers = each(packed_fingerprint, smiles)
    none = bytes(BITS // 8)
    rows = [none if isinstance(answer, Lost) else answer for answer in answers]
    packed = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), BITS // 8)
    return np.unpackbits(packed, axis=1)


def packed_fingerprint(text: str) -> bytes:
    """The bits of one molecule, eight in a byte, made in this process."""
    with rdBase.BlockLogs():
        molecule = parse_smiles(text)
        if molecule is None:
            return bytes(BITS // 8)
        return np.packbits(_generator().GetFingerprintAsNumPy(molecule)).tobytes()


@cache
def _generator():  # type: ignore[no-untyped-def]
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
