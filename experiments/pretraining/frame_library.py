"""Writes the geometries of many molecules to files, molecule by molecule, so that a stopped run goes on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from data.files import write_json
from data.formats.rows import Row, atomic_text
from data.json_files import read_plain
from data.molecules.writing import write_extxyz
from simulators.chemistry.thermal_frames import ThermalConfig, thermal_frames_foreign

LOG = logging.getLogger(__name__)
#: Molecules of one file; a stopped run repeats at most these.
MOLECULES = 100


def write_frames(smiles: Sequence[str], config: ThermalConfig, folder: Path, name: str) -> tuple[Path, int]:
    """Geometries of molecules in thermal motion as `<folder>/<name>.extxyz`.

    A molecule without geometries is logged with the reason. Files of parts that exist are kept.

    Args:
        smiles: the molecules.
        config: how geometries are drawn.
        folder: directory that this process has claimed.
        name: name of the file.

    Returns:
        The file and the number of its frames.
    """
    whole, count = folder / f"{name}.extxyz", folder / f"{name}.json"
    if not count.is_file():
        parts = []
        total = 0
        for start in range(0, len(smiles), MOLECULES):
            part = folder / f"{name}-{start // MOLECULES:05d}.extxyz"
            if not part.is_file():
                write_extxyz(part, _rows(smiles[start : start + MOLECULES], config))
            parts.append(part)
        with atomic_text(whole) as file:
            for part in parts:
                text = part.read_text(encoding="utf-8")
                total += text.count("Properties=")
                file.write(text)
        write_json(count, {"frames": total})
        for part in parts:
            part.unlink()
    return whole, read_plain(count, dict[str, int], remedy="Remove it, and the frames are written anew")["frames"]


def _rows(smiles: Sequence[str], config: ThermalConfig) -> list[Row]:
    rows = []
    for text, geometries in zip(smiles, thermal_frames_foreign(smiles, config), strict=True):
        if isinstance(geometries, str):
            LOG.warning("%s is left out: %s", text, geometries)
            continue
        rows += [Row(0, text, geometry.numbers, geometry.positions) for geometry in geometries]
    return rows
