"""Reads trajectories of ASE and the vasprun.xml of VASP, whose units their formats fix: eV and Angstrom."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import ase.io
import ase.io.vasp
import numpy as np

from data.errors import DAMAGED, InputError
from data.formats.damage import parsing
from data.formats.rows import Bad, Row
from data.formats.text_files import open_lines
from data.structures.frame_names import FrameKeys
from data.structures.frame_rows import USUAL_UNITS, row_of_atoms
from data.structures.frame_units import FrameUnits

UNITS = FrameUnits(properties=USUAL_UNITS)
#: Bytes of the head of a trajectory, whose last numbers are the count of frames and where their places are listed.
_HEAD = 48
#: Shape and type of an array of a frame.
_ARRAY = re.compile(rb'"ndarray"\s*:\s*\[\s*\[([-\d,\s]*)\]\s*,\s*"(\w+)"')
_VASPRUN = "cannot be read as a vasprun.xml"


def read_trajectory(path: Path, columns: Sequence[str], keys: FrameKeys) -> Iterator[Row | Bad]:
    """The frames of a trajectory of ASE (.traj), numbered from 1.

    Raises:
        InputError: the file is no trajectory, or a frame of it is damaged.
    """
    _refuse_sizes(path)
    with parsing(path):
        frames = ase.io.iread(str(path), index=":", format="traj")
    number = 0
    while True:
        number += 1
        with parsing(f"{path}, frame {number}"):
            atoms = next(frames, None)
        if atoms is None:
            return
        yield row_of_atoms(number, "", atoms, {}, columns, keys, UNITS, str(path))


def _refuse_sizes(path: Path) -> None:
    """Refuse a trajectory that states sizes beyond its own; `ase.io.ulm` allocates what it states.

    Raises:
        InputError: the file is damaged.
    """
    size = path.stat().st_size
    damaged = InputError("states sizes beyond its own", where=str(path), remedy=DAMAGED)
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if len(head) < _HEAD or not head.startswith(b"- of Ulm"):
            return
        count, start = (int(n) for n in np.frombuffer(head[-16:], "<i8"))
        if not (0 <= count <= size and 0 <= start <= size - 8 * count):
            raise damaged
        file.seek(start)
        for place in np.frombuffer(file.read(8 * count), "<i8").tolist():
            if not 0 <= place <= size - 8:
                raise damaged
            file.seek(place)
            length = int.from_bytes(file.read(8), "little", signed=True)
            if not 0 <= length <= size - place - 8:
                raise damaged
            for shape, kind in _ARRAY.findall(file.read(length)):
                entries = math.prod(int(n) for n in shape.split(b",") if n.strip())
                width = int(re.sub(rb"\D", b"", kind) or b"8") // 8
                if not 0 <= entries * max(1, width) <= size:
                    raise damaged


def read_vasprun(path: Path, columns: Sequence[str], keys: FrameKeys) -> Iterator[Row | Bad]:
    """The ionic steps of a vasprun.xml, numbered from 1.

    `energy` is the energy extrapolated to zero smearing, as ASE reads it. The forces are the derivative of
    `free_energy`, which `energy_key=free_energy` takes. A step whose electronic cycle used all of its NELM iterations
    is left out, because it did not converge.

    Raises:
        InputError: the file is none of VASP, or is damaged before its first step.
    """
    with parsing(path, _VASPRUN), open_lines(path) as (stream, _):
        lengths, most = _electronic_steps(stream)
    with open_lines(path) as (stream, _), parsing(path, _VASPRUN):
        frames = list(ase.io.vasp.read_vasp_xml(stream, index=slice(None)))
    units = FrameUnits(properties={**USUAL_UNITS, "free_energy": "eV"})
    for number, atoms in enumerate(frames, 1):
        text = str(atoms.symbols)
        if most is not None and number <= len(lengths) and lengths[number - 1] >= most:
            yield Bad(number, text, f"its electronic cycle used all {most} iterations (NELM): it did not converge")
            continue
        yield row_of_atoms(number, text, atoms, {}, columns, keys, units, str(path))


def _electronic_steps(stream: BinaryIO) -> tuple[list[int], int | None]:
    """How many electronic iterations each ionic step took, and the most that were allowed; None where unsaid."""
    lengths: list[int] = []
    most = None
    try:
        for _, element in ET.iterparse(stream, events=["end"]):
            if element.tag == "i" and element.attrib.get("name", "").upper() == "NELM" and element.text:
                most = int(element.text)
            elif element.tag == "calculation":
                lengths.append(len(element.findall("scstep")))
                element.clear()
    except ET.ParseError:
        if not lengths:
            raise
    return lengths, most
