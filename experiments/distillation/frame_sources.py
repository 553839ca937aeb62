"""Where frames for a teacher come from: files, geometries of SMILES, its own dynamics, and trees around these."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data.errors import InputError
from data.formats.kinds import FRAME_KINDS, SDF_SUFFIXES, STORE, kind_of
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import existing_file
from data.structures.structures import Structures
from data.terminal import progress_bar
from experiments.active.exploration import explore
from experiments.application.stage_costs import Ledger
from experiments.distillation.frame_files import kept_frames
from experiments.distillation.frame_teachers import FrameTeacher, SimulatorOfFrames, SurrogateOfFrames
from experiments.distillation.molecule_lessons import drawn_rows
from experiments.distillation.settings import DistilRequest, LessonConfig
from experiments.screening.candidate_chunks import printable
from simulators.chemistry.conformers import ConformerConfig, embed_each
from simulators.chemistry.variables import Geometry
from surrogates.potentials.joined import one_member
from surrogates.potentials.structure_reading import read_structures

#: Word in place of a file: the frames are those of the teacher's own dynamics.
DYNAMICS = "dynamics"
#: Stage of the ledger that makes frames.
MADE = "frames"
#: Molecules whose geometries are made between two steps of the progress bar.
EMBEDDED = 128


def source_frames(
    teacher: FrameTeacher,
    start: Structures | None,
    request: DistilRequest,
    run_dir: Path,
    rejects: RejectLog,
    readings: list[Reading],
    ledger: Ledger,
) -> tuple[Structures, LessonConfig]:
    """The frames that a distillation may ask about, and how many of them are still to be drawn.

    Args:
        teacher: the teacher, which guides trees and dynamics.
        start: labelled frames, from which dynamics begin; None for none.
        request: inputs, dynamics and tree.
        run_dir: receives what is made, which a stopped run does not repeat.
        rejects: receives what cannot be read.
        readings: receives what was read.
        ledger: receives what frames cost that are made.

    Raises:
        InputError: no frame can be read or made.
    """
    lessons = request.lessons
    if request.inputs == DYNAMICS:
        with ledger.stage(MADE, item="frame"):
            frames = _of_dynamics(teacher, start, request, run_dir)
    else:
        path = existing_file(request.inputs, "inputs")
        if kind_of(path) in (*FRAME_KINDS, *SDF_SUFFIXES, STORE):
            keys = replace(request.data.keys(""), labels=False)
            spins = isinstance(teacher, SimulatorOfFrames)
            frames = read_structures(path, rejects, keys, spins=spins, labels=False, readings=readings)
        else:
            with ledger.stage(MADE, item="frame"):
                frames = _of_smiles(path, request, run_dir, rejects, readings)
            lessons = replace(lessons, count=None)
    # Whatever a file says of its frames is not what the teacher answers.
    frames = replace(frames, energy=np.full_like(frames.energy, np.nan), forces=np.full_like(frames.forces, np.nan))
    if not request.tree.frames:
        return frames, lessons
    if lessons.count is not None and lessons.count < len(frames):
        rows = np.random.default_rng(lessons.seed).choice(len(frames), lessons.count, replace=False)
        frames = frames.take(np.sort(rows))
    frames_read = frames
    askable = frames.take(np.flatnonzero(teacher.takes(frames) & ~frames.alone()))
    if not len(askable):
        raise InputError("the teacher takes none of its frames", where=str(request.inputs), remedy="Give others")
    grown = partial(teacher.tree, askable, request.tree, lessons.seed, run_dir)
    if isinstance(teacher, SimulatorOfFrames):
        # The frames are answered while the tree grows, and count as answers.
        frames = grown()
    else:
        with ledger.stage(MADE, item="frame"):
            frames = kept_frames(run_dir / "tree" / "frames.npz", grown)
    strange = len(frames_read) - len(askable)
    readings.append(
        Reading(
            str(request.inputs), "trees of rattled and relaxed frames", "start frames", len(frames_read), len(askable),
            {"frames": f"{len(frames):,} frames, the first of each tree among them"},
            {"the teacher does not take its elements, charge or cell": strange} if strange else {},
        )
    )  # fmt: skip
    return frames, replace(lessons, count=None)


def _of_dynamics(teacher: FrameTeacher, start: Structures | None, request: DistilRequest, run_dir: Path) -> Structures:
    """Frames of the teacher's own dynamics, from labelled frames.

    One member of an ensemble moves the walkers, at the cost of one, and all members say how far a walker may go and
    answer for its frames.
    """
    if not isinstance(teacher, SurrogateOfFrames):
        raise InputError("the dynamics are those of a trained potential", where="inputs", remedy="Give inputs=FILE")
    if start is None:
        raise InputError(
            "the dynamics of the teacher begin from labelled frames", where="inputs", remedy="Give data.train=FILE"
        )
    bound, config, seed = start.take(np.flatnonzero(~start.alone())), request.dynamics, request.lessons.seed
    potential = teacher.potential
    mover = one_member(potential) if potential.facts.config.ensemble > 1 else None
    explored = partial(explore, potential, bound, config, seed, mover=mover)
    return kept_frames(run_dir / "dynamics" / "frames.npz", lambda: explored().frames)


def _of_smiles(
    path: Path, request: DistilRequest, run_dir: Path, rejects: RejectLog, readings: list[Reading]
) -> Structures:
    """One geometry of each molecule of a file, or of so many that are drawn; those without go to `rejects`."""
    rows = drawn_rows(path, request.smiles, request.lessons)
    lost: list[tuple[int, str, str]] = []
    frames = kept_frames(run_dir / "conformers" / "frames.npz", lambda: _embedded(path, rows, request.conformers, lost))
    for line, text, reason in lost:
        rejects.add(path, line, printable(text), reason)
    left = {"no geometry can be made": len(rows) - len(frames)}
    readings.append(
        Reading(
            str(path),
            "molecules, whose geometries are made",
            "rows",
            len(rows),
            len(frames),
            {"geometries": f"of ETKDGv3 and MMFF94, the lowest of {request.conformers.n_conformers}"},
            {reason: number for reason, number in left.items() if number},
        )
    )
    return frames


def _embedded(
    path: Path, rows: list[tuple[str, int]], config: ConformerConfig, lost: list[tuple[int, str, str]]
) -> Structures:
    geometries: list[Geometry] = []
    with progress_bar("geometries", len(rows)) as bar:
        for first in range(0, len(rows), EMBEDDED):
            some = rows[first : first + EMBEDDED]
            for (text, line), outcome in zip(some, embed_each([text for text, _ in some], config), strict=True):
                if isinstance(outcome, Geometry):
                    geometries.append(outcome)
                else:
                    lost.append((line, text, outcome))
            bar.advance(len(some))
    if not geometries:
        raise InputError(
            f"no geometry can be made of any of its molecules: {lost[0][2] if lost else 'there is none'}",
            where=str(path),
            remedy="Give one SMILES a line, or a table of them",
        )
    return Structures.from_arrays(
        [one.numbers for one in geometries],
        [one.positions for one in geometries],
        charge=[one.charge for one in geometries],
        spin=[one.spin for one in geometries],
    )
