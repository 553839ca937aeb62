"""Counts what is read from a file of geometries, frame by frame, into one `Reading`."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.data import covalent_radii

from data.formats.kinds import FORMATS, kind_of
from data.formats.rows import Row
from data.reading_summary import Reading
from data.rejects import Rejects
from data.structures.frame_names import LABELS, FrameKeys

#: Atoms farther apart than this times the sum of their covalent radii are not bound to each other.
BOND = 1.5
#: Frames of more atoms are not checked for bonds.
MOST_ATOMS = 200
LOG = logging.getLogger(__name__)


@dataclass
class FrameTally:
    """Counts the frames of one file; it is used like a `RejectLog`, and passes refused frames on to one.

    Attributes:
        path: the file.
        keys: which entries were labels.
        log: receives every refused frame, too; None to log a warning for each.
        used: number of frames that are used.
        reasons: why frames were left out.
        quantities: quantity -> how it was read -> frames.
        unused: (name, what it looks like) -> frames.
        lacking: label -> name of what looks like it -> frames without the label.
        periodic: directions that repeat -> frames.
        unnamed: "charge" or "spin" -> frames that name none.
        spin_problems: why spins are not certain -> frames.
        fixed: frames with fixed coordinates.
        constraints: other constraints -> frames.
        unbound: frames of three atoms or more, no two of which are near enough for a bond.
    """

    path: Path
    keys: FrameKeys
    log: Rejects | None = None
    used: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    quantities: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unused: Counter[tuple[str, str]] = field(default_factory=Counter)
    lacking: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    periodic: Counter[int] = field(default_factory=Counter)
    unnamed: Counter[str] = field(default_factory=Counter)
    spin_problems: Counter[str] = field(default_factory=Counter)
    fixed: int = 0
    constraints: Counter[str] = field(default_factory=Counter)
    unbound: int = 0

    def add(self, file: Path | str, line: int, text: str, reason: str) -> None:
        """Count a frame that is left out."""
        # The same fault has one reason wherever it stands.
        self.reasons[re.sub(r"\s*\(?\bline \d+\)?:?", "", reason).strip()] += 1
        if self.log is not None:
            self.log.add(file, line, text, reason)
        else:
            LOG.warning("%s, line %d: %s", file, line, reason)

    def refuse(self, row: Row, reason: str) -> None:
        """Leave out a frame that `take` has counted, or would have."""
        text = f"{row.smiles or ''} {row.properties.get('name', '')}".strip()
        self.add(self.path, row.line, text, reason)

    def take(self, row: Row) -> None:
        """Count a frame that is used."""
        self.used += 1
        for quantity, how in row.notes.taken.items():
            self.quantities[quantity][how] += 1
        self.unused.update(row.notes.unused.items())
        for label, names in row.notes.lacking.items():
            self.lacking[label].update(names)
        for name in ("charge", "spin"):
            self.unnamed[name] += name not in row.properties
        if row.notes.spin_problem is not None:
            self.spin_problems[row.notes.spin_problem] += 1
        directions = 0 if "pbc" not in row.properties else int(sum(bool(p) for p in row.properties["pbc"]))
        self.periodic[directions] += 1
        self.fixed += "fixed" in row.properties
        self.unbound += directions == 0 and _unbound(row)
        self.constraints.update(row.properties.get("constraints", ()))

    def reading(self, *, spins: bool, labels: bool = True) -> Reading:
        """The summary of this file.

        Args:
            spins: whether spins are used.
            labels: whether energies, forces and stresses are.
        """
        quantities = {}
        for quantity in (*(LABELS if labels else ()), "charge", *(("spin",) if spins else ())):
            counts = self.quantities.get(quantity, Counter())
            if counts:
                quantities[quantity] = "; ".join(f"{how}, {n:,} of {self.used:,} frames" for how, n in counts.items())
            elif quantity in LABELS[:2]:
                quantities[quantity] = "in none of the frames"
        cells = [f"{n:,} along {d} directions" for d, n in sorted(self.periodic.items(), reverse=True) if d]
        if cells:
            quantities["cell"] = f"Angstrom; frames that repeat: {', '.join(cells)}"
        if self.fixed:
            quantities["constraints"] = f"fixed coordinates in {_frames(self.fixed)}; labels are of the free surface"
        return Reading(
            source=str(self.path),
            format=_format(self.path),
            unit="frames",
            total=self.used + self.reasons.total(),
            used=self.used,
            quantities=quantities,
            left_out=dict(self.reasons),
            unused=self._unused(spins, labels),
            assumed=self._assumed(spins, labels),
        )

    def _unused(self, spins: bool, labels: bool) -> dict[str, str]:
        unused = {}
        for (name, kind), count in self.unused.items():
            asked = {**dict.fromkeys(LABELS, labels), "spin": spins}.get(kind, True)
            if asked and kind in (*LABELS, "charge", "spin"):
                unused[name] = f"looks like {kind}, in {_frames(count)}; {self.keys.prefix}{kind}_key={name} takes it"
            elif asked:
                unused[name] = f"{kind}, in {_frames(count)}"
        for name, count in self.constraints.items():
            unused[name] = f"a constraint, in {_frames(count)}; labels are of the free surface"
        if not spins:
            for how, count in self.quantities.get("spin", Counter()).items():
                unused["spin"] = f"in {_frames(count)} ({how}); a potential does not tell spins apart"
            for problem, count in self.spin_problems.items():
                unused.setdefault("spin", f"in {_frames(count)}; {problem}")
        return unused

    def _assumed(self, spins: bool, labels: bool) -> tuple[str, ...]:
        assumed = []
        if labels and any(how == "eV" or how.startswith("eV, from") for how in self.quantities.get("energy", ())):
            assumed.append("energies and forces are in eV and Angstrom, which the file does not say")
        if self.unnamed["charge"] and (spins or self.quantities.get("charge")):
            assumed.append(f"{_frames(self.unnamed['charge'])} without a charge: taken as neutral")
        if spins and self.unnamed["spin"]:
            assumed.append(f"{_frames(self.unnamed['spin'])} without a spin: taken with 0 or 1 unpaired electrons")
        if self.unbound:
            assumed.append(
                f"positions are in Angstrom; in {_frames(self.unbound)} no two atoms are near enough for a bond, "
                "as if they were in Bohr"
            )
        return tuple(assumed)


def _frames(count: int) -> str:
    return f"{count:,} frame{'' if count == 1 else 's'}"


def _unbound(row: Row) -> bool:
    """Whether no two of three atoms or more are within 1.5 times the sum of their covalent radii."""
    if row.numbers is None or row.positions is None or not 3 <= len(row.numbers) <= MOST_ATOMS:
        return False
    radius = covalent_radii[row.numbers]
    first, second = np.triu_indices(len(radius), 1)
    apart = row.positions[first] - row.positions[second]
    return bool((np.sqrt((apart**2).sum(axis=1)) > BOND * (radius[first] + radius[second])).all())


def _format(path: Path) -> str:
    kind = kind_of(path)
    return FORMATS.get(kind, kind.removeprefix("."))
