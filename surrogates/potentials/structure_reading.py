"""Reads the frames of a file as a table of structures, and reports what was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from data.errors import InputError
from data.formats.rows import Row
from data.molecules.files import read
from data.reading_summary import Reading
from data.rejects import Rejects
from data.structures.frame_names import FrameKeys
from data.structures.frame_reading import FrameTally
from data.structures.structures import Structures
from surrogates.potentials.atom_energies import isolated_energies
from surrogates.potentials.frame_weights import FrameWeights


def read_structures(
    path: Path,
    rejects: Rejects | None,
    keys: FrameKeys | None = None,
    *,
    spins: bool = False,
    labels: bool = True,
    training: bool = False,
    readings: list[Reading] | None = None,
    weights: FrameWeights | None = None,
) -> Structures:
    """The frames of a file; those that cannot be used go to `rejects`.

    Args:
        path: file in a format that `data.molecules.files.read` takes.
        rejects: receives the frames that are left out; None to log a warning for each.
        keys: names of the entries that hold labels, charge and spin.
        spins: whether spins matter; frames whose spin is ambiguous are then left out.
        labels: whether energies and forces are used.
        training: whether a potential is trained on the frames; the reading then reports the use of single atoms.
        readings: receives what was read.
        weights: gives frames their weights in the loss; None for a weight of 1.

    Raises:
        InputError: no frame can be used; or frames lack a label but have an entry that may be it, and no key decides;
            or no frame has the entry that a key names.
    """
    keys = replace(keys or FrameKeys(), labels=labels)
    tally = FrameTally(path, keys, rejects)
    used: list[Row] = []

    def certain() -> Iterator[Row]:
        for row in read(path, rejects=tally, keys=keys):
            if spins and row.notes.spin_problem is not None:
                tally.refuse(row, row.notes.spin_problem)
            else:
                used.append(row)
                yield row if weights is None else weights.weighted(row)

    left_out: set[int] = set()

    def refuse(row: Any, reason: str) -> None:
        left_out.add(id(row))
        tally.refuse(row, reason)

    try:
        table = Structures.from_frames(certain(), str(path), refuse)
    except InputError as error:
        if not tally.reasons:
            raise
        reason, count = tally.reasons.most_common(1)[0]
        raise InputError(
            f"no frame of it can be used; {count:,} of {tally.reasons.total():,}: {reason}",
            where=str(path),
            remedy="See rejects.csv in the run directory",
        ) from error
    for row in used:
        if id(row) not in left_out:
            tally.take(row)
    if readings is not None:
        reading = tally.reading(spins=spins, labels=labels)
        reading = reading if weights is None else weights.said(reading)
        readings.append(with_single_atoms(reading, table) if training else reading)
    if labels:
        refuse_doubtful(tally)
    return table


def with_single_atoms(reading: Reading, table: Structures) -> Reading:
    """The reading of a training file, with a note on how its atoms without neighbours are used."""
    alone = table.alone()
    ions = int((alone & (table.charge != 0)).sum())
    reading = reading.without(["a single ion; the energies of isolated atoms are those of neutral ones"] * ions)
    neutral = table.take(np.flatnonzero(alone & (table.charge == 0)))
    if not len(neutral):
        return reading
    energies = isolated_energies(neutral)
    text = ", ".join(f"{chemical_symbols[z]} {energy:.6g} eV" for z, energy in sorted(energies.items()))
    several = "; of an element with several the lowest" if np.isfinite(neutral.energy).sum() > len(energies) else ""
    how = f"{text or 'no energies'}, from {len(neutral):,} frames, none of which trains the network{several}"
    return replace(reading, quantities={**reading.quantities, "isolated atoms": how})


def isolated_said(
    reading: Reading, energies: Mapping[int, float], elements: Sequence[int], kept_by: str | None = None
) -> Reading:
    """The reading of the file with isolated atoms, with notes on elements that lack an energy and on unused ones.

    Args:
        reading: reading of the file.
        energies: energies of isolated atoms from all files, atomic number -> eV.
        elements: atomic numbers of the training frames.
        kept_by: head that keeps the reference energies that it already has; None if `energies` are used.
    """
    if kept_by is not None:
        why = f"head {kept_by!r} keeps the reference energies that it has"
        return replace(reading, unused={**reading.unused, "isolated atoms": why})
    spare = ", ".join(chemical_symbols[z] for z in sorted(set(energies) - set(elements)))
    if spare:
        why = "their energies of isolated atoms; no training frame has these elements"
        reading = replace(reading, unused={**reading.unused, spare: why})
    lacking = ", ".join(chemical_symbols[z] for z in sorted(set(elements) - set(energies)))
    if lacking:
        text = (
            f"there is no isolated atom of {lacking}: an atom without neighbours gets the mean contribution of its "
            "element to the energies of the training frames (least squares), not the energy of an isolated atom"
        )
        reading = replace(reading, assumed=(*reading.assumed, text))
    return reading


def refuse_doubtful(tally: FrameTally) -> None:
    """Refuse a file whose labels may have another name, and keys that no frame has.

    Raises:
        InputError: the message names the entry that may be the label, and the key that takes or skips it.
    """
    problems, take, leave = [], [], []
    for label, counts in sorted(tally.lacking.items()):
        name, count = counts.most_common(1)[0]
        key = f"{tally.keys.prefix}{label}_key"
        problems.append(f"{count:,} of {tally.used:,} frames have no {label}, which {' or '.join(counts)} may be")
        take.append(f"'{key}=[{label},{name}]'" if tally.quantities.get(label) else f"{key}={name}")
        leave.append(f"{key}={label}")
    if problems:
        raise InputError(
            "; ".join(problems),
            where=str(tally.path),
            remedy=f"Take it by {' '.join(take)}, or skip it by {' '.join(leave)}",
        )
    for label in ("energy", "forces", "stress"):
        chosen = getattr(tally.keys, label)
        if chosen and not tally.quantities.get(label) and tuple(chosen) != (label,):
            like = [name for name, kind in tally.unused if kind == label]
            if tally.keys.inherited and not like:
                continue
            key = f"{tally.keys.prefix}{label}_key"
            raise InputError(
                f"no frame has {' or '.join(chosen)}",
                where=str(tally.path),
                remedy=f"It has {', '.join(like)}, of which {key} names one" if like else f"Leave {key} out",
            )
