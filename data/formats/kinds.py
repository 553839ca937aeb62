"""Kinds of files of molecules, by their suffixes; a store or a DeePMD system is a directory, known by what it holds."""

from __future__ import annotations

from pathlib import Path

from data.errors import InputError
from data.formats.headers import DELIMITERS
from data.formats.text_files import COMPRESSIONS

SMILES_SUFFIXES = (".smi", ".smiles", ".ism", ".txt")
SDF_SUFFIXES = (".sdf", ".sd")
XYZ_SUFFIXES = (".xyz", ".extxyz")
PARQUET_SUFFIXES = (".parquet", ".pq")
#: The kinds of directories: records of a campaign, and systems of DeePMD-kit.
STORE, DEEPMD = "store", "deepmd"
TRAJECTORY, NPZ, VASPRUN = ".traj", ".npz", ".xml"
#: Kinds of which every row is a geometry with its own labels, charge and spin.
FRAME_KINDS = (*XYZ_SUFFIXES, ".db", TRAJECTORY, NPZ, VASPRUN, DEEPMD)
_BINARY = (".db", TRAJECTORY, NPZ, *PARQUET_SUFFIXES)
#: Names of the formats that are not tables.
FORMATS = (
    dict.fromkeys(SMILES_SUFFIXES, "list of SMILES")
    | dict.fromkeys(SDF_SUFFIXES, "SDF")
    | dict.fromkeys(XYZ_SUFFIXES, "extended XYZ")
    | {".db": "ASE database", TRAJECTORY: "trajectory of ASE", NPZ: "NumPy arrays", VASPRUN: "vasprun.xml of VASP"}
    | {STORE: "store of simulations", DEEPMD: "systems of DeePMD-kit"}
)
_KINDS = (*SMILES_SUFFIXES, *DELIMITERS, *SDF_SUFFIXES, *XYZ_SUFFIXES, VASPRUN, *_BINARY)


def kind_of(path: Path) -> str:
    """The kind of a file, as its suffix without .gz, .bz2 or .zst; `STORE` or `DEEPMD` for a directory.

    Raises:
        InputError: `read` does not know this kind.
    """
    if path.is_dir():
        if (path / "store.json").is_file():
            return STORE
        if (path / "type.raw").is_file() or next(path.glob("**/type.raw"), None) is not None:
            return DEEPMD
    suffixes = [s.lower() for s in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
    kind = suffixes[-2] if compressed and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    if kind not in _KINDS or (compressed and kind in _BINARY):
        raise InputError(
            f"cannot tell the kind of file from its name {path.name!r}",
            where=str(path),
            remedy=f"Use one of {' '.join(_KINDS)}; all but {' '.join(_BINARY)} also with "
            f"{', '.join(COMPRESSIONS)}; or the directory of a store or of a system of DeePMD-kit",
        )
    return kind
