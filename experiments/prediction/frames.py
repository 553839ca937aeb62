"""Answers of a potential to every frame of a file: energies, forces, stresses, error bars and domain, frame by frame.

Chunks of frames are answered and written as parts, each with a note of what could not be used and of the pairs of true
and predicted values; a killed run goes on behind the last part. At the end the parts become one file.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import ase.io.trajectory
import numpy as np
from ase import Atoms

from data.errors import InputError
from data.files import atomic_path, make_directory, remove_directory, write_json
from data.formats.kinds import FORMATS, TRAJECTORY, XYZ_SUFFIXES, kind_of
from data.formats.rows import Bad, Row
from data.json_files import read_plain
from data.molecules.writing import write_extxyz
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import build
from data.spec import SimulationError
from data.structures.batches import round_up
from data.structures.frame_files import read_frames
from data.structures.frame_settings import KeySettings
from data.structures.structures import Structures
from data.terminal import progress_bar
from experiments.application.run_directory import configuration_checked, rejects_path
from experiments.application.stage import show_readings
from experiments.application.usage import PeakMemory, cpu_seconds
from experiments.prediction.delivery import Delivered
from experiments.prediction.rows import NOT_FINITE, PARTS, REASON
from experiments.prediction.truth import TruthScores
from surrogates.family import FAMILIES

if TYPE_CHECKING:
    from surrogates.mixture.surrogate import MixtureSurrogate
    from surrogates.potentials.surrogate import PotentialSurrogate

#: Frames of a part.
CHUNK_FRAMES = 1024
WRITTEN = "written.json"
UNITS = {"energy": "eV", "forces": "eV/Angstrom"}
#: Entries of a frame that hold its geometry, and stay what they are.
GEOMETRY = ("pbc", "cell", "fixed", "constraints")


def predict_frames(
    surrogate: PotentialSurrogate | MixtureSurrogate,
    inputs: Path,
    out: Path,
    run_dir: Path,
    settings: Mapping[str, Any],
) -> Delivered:
    """Write the answers to all frames of a file.

    Args:
        surrogate: the potential, or a mixture, each of whose molecules is answered by one of its experts.
        inputs: what `data.structures.frame_files.read_frames` takes.
        out: .extxyz, .xyz or .traj. A frame keeps its entries; energy, forces and stress are those of the potential,
            and those of the file become energy_true and so on.
        run_dir: directory of the run.
        settings: `head`, and the keys of `data.structures.frame_settings.KeySettings`.

    Raises:
        InputError: no frame can be used, or the file cannot be read.
    """
    frame_kind(out)
    began, cpu = time.perf_counter(), cpu_seconds()
    surrogate = FAMILIES[surrogate.KIND].task.ready(surrogate, settings)
    keys = build(KeySettings, {name: settings[name] for name in KeySettings.__dataclass_fields__}, where="").keys("")
    keys = keys.after(surrogate.frame_keys)
    work = run_dir / PARTS
    make_directory(work)
    held_to = {
        "surrogate": surrogate.fingerprint,
        "head": getattr(surrogate.facts, "active", ""),
        "frames": CHUNK_FRAMES,
    }
    done = _done(work, held_to)
    with PeakMemory() as memory, progress_bar("frames", None) as bar:
        for number, rows in enumerate(_chunks(read_frames(inputs, (), keys), CHUNK_FRAMES)):
            if number >= done:
                _write_part(work, number, _answers(surrogate, rows, inputs))
                write_json(work / WRITTEN, {"settings": held_to, "parts": number + 1})
            bar.advance(len(rows))
    notes = [read_plain(path, dict[str, Any], remedy=f"Remove {work}") for path in sorted(work.glob("part-*.json"))]
    counted = {name: sum(note[name] for note in notes) for name in ("frames", "written", "answered", "out_of_domain")}
    left_out: dict[str, int] = {}
    with RejectLog(rejects_path(run_dir)) as rejects:
        for line, text, reason in (one for note in notes for one in note["rejects"]):
            rejects.add(inputs, line, text, reason)
            left_out[reason] = left_out.get(reason, 0) + 1
    kind = kind_of(inputs)
    reading = Reading(str(inputs), FORMATS.get(kind, kind), "frames", counted["frames"], counted["answered"],
                      left_out=left_out)  # fmt: skip
    show_readings([reading], run_dir)
    if not counted["answered"]:
        remove_directory(run_dir / PARTS)
        raise InputError("no frame of it can be used", where=str(inputs), remedy=f"See {rejects.path}")
    configuration_checked(run_dir)
    _join(sorted(work.glob("part-*.extxyz")), out)
    scores = {name: TruthScores(unit) for name, unit in UNITS.items()}
    for path in sorted(work.glob("part-*.npz")):
        with np.load(path, allow_pickle=False) as pairs:
            for name, score in scores.items():
                score.add(*pairs[name].T)
    seconds = time.perf_counter() - began
    metrics = {f"predict/{name}": float(value) for name, value in counted.items()}
    metrics |= {
        "predict/rejected": float(counted["frames"] - counted["answered"]), "predict/seconds": seconds,
        "predict/core_seconds": cpu_seconds() - cpu, "predict/peak_memory_mb": memory.peak_mb,
    }  # fmt: skip
    said: dict[str, object] = {
        "frames": f"{counted['frames']:,}" + (f" (parts of before: {done})" if done else ""),
        "without an answer": f"{counted['frames'] - counted['answered']:,}",
        "outside the training domain": f"{counted['out_of_domain']:,}",
        "rate": f"{counted['frames'] / seconds:,.1f} frames/s over {seconds:.1f} s",
        "units": "energies in eV, forces in eV/Angstrom, stresses in eV/Angstrom^3",
    }
    for name, score in scores.items():
        metrics |= {f"predict/{name}/{key}": value for key, value in score.metrics().items()}
        said |= {f"{name}: {key}": f"{value:.6g}" for key, value in score.metrics().items()}
    columns = {f"{name}{end}": unit for name, unit in UNITS.items() for end in ("", "_std", "_low", "_high", "_true")}
    return Delivered(metrics, said, scores, columns | {"stress": "eV/Angstrom^3"})


def frame_kind(out: Path) -> str:
    """The suffix of a file of frames.

    Raises:
        InputError: no file of this suffix is written.
    """
    if out.suffix.lower() not in (*XYZ_SUFFIXES, TRAJECTORY):
        raise InputError(
            f"cannot tell the kind of file from the name {out.name!r}", where="out",
            remedy=f"Use one of {' '.join((*XYZ_SUFFIXES, TRAJECTORY))}",
        )  # fmt: skip
    return out.suffix.lower()


def _chunks(rows: Iterator[Row | Bad], size: int) -> Iterator[list[Row | Bad]]:
    while some := list(islice(rows, size)):
        yield some


def _done(work: Path, held_to: Mapping[str, Any]) -> int:
    """The number of parts that an earlier session wrote."""
    if not (work / WRITTEN).exists():
        return 0
    written = read_plain(work / WRITTEN, dict[str, Any], remedy=f"Remove {work}")
    if written["settings"] != dict(held_to):
        raise InputError(
            "the directory holds predictions with other settings", where=str(work),
            remedy="Give the same settings to resume them, or name another out",
        )  # fmt: skip
    return int(written["parts"])


def _answers(
    surrogate: PotentialSurrogate | MixtureSurrogate, rows: Sequence[Row | Bad], path: Path
) -> tuple[list[Row], dict[str, Any], dict[str, np.ndarray]]:
    """The frames of a chunk with their answers, what is noted of them, and pairs of true and predicted values."""
    reasons = {row.line: row.reason for row in rows if isinstance(row, Bad)}
    texts = {row.line: row.text for row in rows if isinstance(row, Bad)}
    frames = [row for row in rows if isinstance(row, Row)]
    for row in frames:
        if row.numbers is None or row.positions is None:
            reasons[row.line] = "no geometry"
    kept: list[Row] = []
    for row in frames:
        if row.line in reasons:
            continue
        try:
            surrogate.refuse_unknown(Structures.from_frames([row], str(path)))
            kept.append(row)
        except (InputError, SimulationError) as error:
            reasons[row.line] = error.problem if isinstance(error, InputError) else error.message
    pairs: dict[str, list[np.ndarray]] = {name: [np.zeros((0, 4))] for name in UNITS}
    answered: dict[int, dict[str, Any]] = {}
    outside = 0
    if kept:
        table = Structures.from_frames(kept, str(path))
        sizes = tuple(sorted({round_up(int(n)) for n in table.sizes}))
        answer = surrogate.predict_structures(table, sizes=sizes)
        learned = {v.name for v in surrogate.spec.outputs} | {"stress"}
        for i, row in enumerate(kept):
            atoms = slice(int(table.atom_start[i]), int(table.atom_start[i + 1]))
            named: dict[str, Any] = {}
            for name in learned:
                values = getattr(answer, name)
                if values is not None:
                    named[name] = values[atoms] if name.startswith("forces") else values[i]
            if "stress" in named and not np.isfinite(named["stress"]).all():
                del named["stress"]
            if not all(np.isfinite(values).all() for values in named.values()):
                reasons[row.line] = NOT_FINITE
                continue
            outside += not bool(named.get("in_domain", True))
            answered[row.line] = named
            for name in UNITS:
                if name in named and (true := row.properties.get(name)) is not None:
                    ends = [named.get(f"{name}{end}", np.full_like(named[name], np.nan)) for end in ("_low", "_high")]
                    columns = [np.asarray(v, float).ravel() for v in (true, named[name], *ends)]
                    pairs[name].append(np.stack(columns, axis=1))
    written = [_with_answer(row, answered.get(row.line), reasons.get(row.line)) for row in frames
               if row.numbers is not None and row.positions is not None]  # fmt: skip
    note = {
        "frames": len(rows), "written": len(written), "answered": len(answered), "out_of_domain": outside,
        "rejects": [[line, texts.get(line, "")[:200], reason] for line, reason in sorted(reasons.items())],
    }  # fmt: skip
    return written, note, {name: np.concatenate(some) for name, some in pairs.items()}


def _with_answer(row: Row, answer: Mapping[str, Any] | None, reason: str | None) -> Row:
    """A frame with the answer of the potential in place of its labels, which become NAME_true."""
    entries: dict[str, Any] = {}
    for name, value in row.properties.items():
        if name in ("energy", "forces", "stress"):
            entries[f"{name}_true"] = value
        elif name != "constraints":
            entries[name] = value
    if answer is not None:
        entries |= {name: v.item() if isinstance(v, np.generic) else v for name, v in answer.items()}
    if reason is not None:
        entries[REASON] = reason
    entries["frame_line"] = row.line
    return replace(row, properties=entries)


def _write_part(work: Path, number: int, part: tuple[list[Row], dict[str, Any], dict[str, np.ndarray]]) -> None:
    rows, note, pairs = part
    stem = work / f"part-{number:06d}"
    write_extxyz(stem.with_suffix(".extxyz"), rows)
    with atomic_path(stem.with_suffix(".npz")) as temporary, open(temporary, "wb") as file:
        np.savez(file, **pairs)  # type: ignore[arg-type]
    write_json(stem.with_suffix(".json"), note)


def _join(parts: Iterable[Path], out: Path) -> None:
    """Write the frames of all parts to one file."""
    with atomic_path(out) as temporary:
        if frame_kind(out) != TRAJECTORY:
            with open(temporary, "wb") as file:
                for part in parts:
                    file.write(part.read_bytes())
            return
        with ase.io.trajectory.TrajectoryWriter(str(temporary), "w") as writer:
            for part in parts:
                for atoms in ase.io.iread(str(part), index=":", format="extxyz"):
                    writer.write(_with_results(atoms))


def _with_results(atoms: Atoms) -> Atoms:
    """Atoms as a trajectory of ASE keeps them, which has no place for arrays of its own but in `info`."""
    for name in [name for name in atoms.arrays if name.startswith("forces_")]:
        atoms.info[name] = atoms.arrays.pop(name)
    return atoms
