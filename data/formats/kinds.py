"""Kinds of files of molecules, by their suffixes."""

from __future__ import annotations

from pathlib import Path

from data.errors import InputError
from data.formats.headers import DELIMITERS

SMILES_SUFFIXES = (".smi", ".smiles", ".ism", ".txt")
SDF_SUFFIXES = (".sdf", ".sd")
XYZ_SUFFIXES = (".xyz", ".extxyz")
PARQUET_SUFFIXES = (".parquet", ".pq")
_BINARY = (".db", *PARQUET_SUFFIXES)
#: Names of the formats that are not tables.
FORMATS = (
    dict.fromkeys(SMILES_SUFFIXES, "list of SMILES")
    | dict.fromkeys(SDF_SUFFIXES, "SDF")
    | dict.fromkeys(XYZ_SUFFIXES, "extended XYZ")
    | {".db": "ASE database"}
)
_KINDS = (*SMILES_SUFFIXES, *DELIMITERS, *SDF_SUFFIXES, *XYZ_SUFFIXES, *_BINARY)


def kind_of(path: Path) -> str:
    """The kind of a file, as its suffix without .gz.

    Raises:
        InputError: `read` does not know this kind.
    """
    suffixes = [s.lower() for s in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] == ".gz"
    kind = suffixes[-2] if compressed and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    if kind not in _KINDS or (compressed and kind in _BINARY):
        raise InputError(
            f"cannot tell the kind of file from its name {path.name!r}",
            where=str(path),
            remedy=f"Use one of {' '.join(_KINDS)}; all but {' '.join(_BINARY)} also with .gz",
        )
    return kind
