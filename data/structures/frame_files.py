"""Reads frames of every format of geometries, in order, with a reason for each that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from data.errors import InputError
from data.formats.kinds import DEEPMD, FORMATS, NPZ, SDF_SUFFIXES, STORE, TRAJECTORY, VASPRUN, XYZ_SUFFIXES, kind_of
from data.formats.rows import Bad, Row
from data.structures.array_frames import read_deepmd, read_npz_frames
from data.structures.ase_database import read_ase_db
from data.structures.ase_frames import read_trajectory, read_vasprun
from data.structures.files import USUAL, read_extxyz, read_sdf
from data.structures.frame_names import FrameKeys
from data.structures.store_frames import read_store

Reader = Callable[[Path, Sequence[str], FrameKeys], Iterator[Row | Bad]]
#: Kind of file -> its reader.
READERS: Mapping[str, Reader] = {
    **dict.fromkeys(SDF_SUFFIXES, read_sdf),
    **dict.fromkeys(XYZ_SUFFIXES, read_extxyz),
    ".db": read_ase_db,
    TRAJECTORY: read_trajectory,
    NPZ: read_npz_frames,
    VASPRUN: read_vasprun,
    DEEPMD: read_deepmd,
    STORE: read_store,
}


def read_frames(path: Path, columns: Sequence[str] = (), keys: FrameKeys = USUAL) -> Iterator[Row | Bad]:
    """The frames of a file, or of the directory of a store.

    Args:
        path: .sdf, .xyz, .extxyz, vasprun.xml (each also compressed), .db, .traj, .npz, or the directory of a store or
            of systems of DeePMD-kit.
        columns: requested numbers.
        keys: which entries are labels, charge and spin.

    Raises:
        InputError: the file holds no geometries, or cannot be read.
    """
    kind = kind_of(path)
    if kind not in READERS:
        raise InputError(
            f"a {FORMATS.get(kind, f'{kind[1:]} file')} holds no geometries",
            where=str(path),
            remedy="Give .extxyz, .xyz, .sdf, .db, .traj, .npz, a vasprun.xml, or the directory of a store or of a "
            "system of DeePMD-kit",
        )
    return READERS[kind](path, columns, keys)
