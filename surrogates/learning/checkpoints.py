"""Arrays on disk: Orbax for the bytes, a JSON note with checksums that is written last and makes them count.

Only arrays and JSON are read back; nothing is unpickled and nothing from a directory is executed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from data.errors import CorruptStoreError, InputError
from data.files import atomic_directory, remove_directory, reserve, write_json
from data.json_files import read_plain, reading
from data.plain import from_plain, within

NOTE = "note.json"
#: Bytes that Orbax writes in addition to the arrays, at least.
ROOM_BESIDE = 1 << 16
LOG = logging.getLogger(__name__)
T = TypeVar("T")
RESTORE = "Restore it from a copy or train again"


def checksum(leaves: Sequence[np.ndarray]) -> str:
    """SHA-256 (hex) over shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for leaf in leaves:
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def _file_checksums(directory: Path) -> dict[str, str]:
    """SHA-256 (hex) of every file below, by its path relative to the directory."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def save_arrays(directory: Path, tree: Any, note: Mapping[str, Any]) -> None:
    """Save the leaves of a pytree and a note, atomically; they are on the disk when this returns.

    Args:
        directory: created, or replaced once the new arrays are complete if it holds saved arrays.
        tree: arrays, on host or device; its structure is not stored, so that whoever loads it has to know it.
        note: entries of the note, JSON-serialisable.

    Raises:
        InputError: the directory holds something else.
        OSError: the disk has too little room.
    """
    if directory.exists() and any(directory.iterdir()) and not (directory / NOTE).is_file():
        raise InputError("holds no saved arrays, and is not replaced", where=str(directory), remedy="Name another path")
    logging.getLogger("absl").setLevel(logging.ERROR)
    leaves = [np.asarray(leaf) for leaf in jax.device_get(jax.tree.leaves(tree))]
    with atomic_directory(directory) as temporary:
        # Where the disk fills up while it writes, Orbax fails with many tracebacks.
        reserve(temporary, sum(leaf.nbytes for leaf in leaves) + ROOM_BESIDE)
        with _alone() as checkpointer:
            checkpointer.save((temporary / "arrays").resolve(), {f"{i:05d}": leaf for i, leaf in enumerate(leaves)})
        # Orbax writes the absolute path into it, and reads it in buckets alone; whoever is given the arrays need not
        # learn where they were saved.
        (temporary / "arrays" / "commit_success.txt").unlink(missing_ok=True)
        files = _file_checksums(temporary / "arrays")
        write_json(temporary / NOTE, {**note, "leaves": len(leaves), "sha256": checksum(leaves), "files": files})


def _alone() -> Any:
    """Orbax's checkpointer for host arrays of this process, which waits for no other process."""
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    process = jax.process_index()
    return ocp.StandardCheckpointer(
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process{process}"
        )
    )


def read_note(directory: Path) -> dict[str, Any]:
    """The note of a saved directory.

    Raises:
        InputError: there is none.
        CorruptStoreError: it is not what was written, or the arrays are in the directory without it.
    """
    if not (directory / NOTE).exists() and not (directory / "arrays").is_dir():
        raise InputError("no saved arrays here", where=str(directory), remedy="Check the path")
    note = read_plain(directory / NOTE, dict[str, Any], remedy=RESTORE)
    with reading(directory / NOTE, remedy=RESTORE):
        for key, kind in (("leaves", int), ("sha256", str)):
            with within(key):
                from_plain(kind, note.get(key))
        with within("files"):
            from_plain(dict[str, str], note.get("files", {}))
    return note


def load_arrays(directory: Path, like: Any) -> Any:
    """The pytree that was saved, with the structure of `like`.

    Args:
        directory: directory that `save_arrays` wrote.
        like: a pytree whose leaves have the shapes and dtypes that were saved.

    Raises:
        CorruptStoreError: bytes are missing or changed.
        InputError: the saved arrays are of another model.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)
    note = read_note(directory)
    templates, structure = jax.tree.flatten(like)
    # Orbax keeps parts that a read may not touch, so the arrays alone would not show every changed byte.
    held_files = _file_checksums(directory / "arrays")
    digests = note.get("files", {})
    changed = sorted(name for name, digest in digests.items() if held_files.get(name) != digest)
    if changed:
        raise CorruptStoreError(
            f"{len(changed)} of {len(digests)} files are missing or changed, the first {changed[0]}",
            where=str(directory / "arrays" / changed[0]),
            remedy=RESTORE,
        )
    shapes = [(tuple(w.shape), np.dtype(w.dtype)) for w in templates]
    if note["leaves"] != len(shapes):
        raise InputError(
            f"{note['leaves']} arrays, {len(shapes)} are expected: those of another model", where=str(directory)
        )
    try:
        with _alone() as checkpointer:
            _refuse_other_shapes(checkpointer, directory, shapes)
            arrays = checkpointer.restore((directory / "arrays").resolve())
        leaves = [np.asarray(arrays[f"{i:05d}"]) for i in range(note["leaves"])]
    except InputError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise CorruptStoreError(f"arrays cannot be read: {reason}", where=str(directory), remedy=RESTORE) from error
    if checksum(leaves) != note.get("sha256"):
        raise CorruptStoreError("arrays are not those that were saved", where=str(directory), remedy=RESTORE)
    if [(leaf.shape, leaf.dtype) for leaf in leaves] != shapes:
        raise InputError("arrays are those of another model", where=str(directory))
    return jax.tree.unflatten(structure, leaves)


def _refuse_other_shapes(
    checkpointer: Any, directory: Path, shapes: list[tuple[tuple[int, ...], np.dtype[Any]]]
) -> None:
    """Refuse other shapes before an array is read, because a directory may declare more than the memory holds."""
    stored = checkpointer.metadata((directory / "arrays").resolve()).item_metadata.tree
    for number, (shape, dtype) in enumerate(shapes):
        declared = stored[f"{number:05d}"]
        if tuple(declared.shape) != shape or np.dtype(declared.dtype) != dtype:
            raise InputError(
                f"array {number} is {tuple(declared.shape)} {declared.dtype}, {shape} {dtype} is expected: "
                "the arrays are those of another model",
                where=str(directory),
            )


def newest_whole(folder: Path, read: Callable[[Path], T]) -> T | None:
    """The newest checkpoint that is not damaged, read by `read`; each damaged one is logged in one line.

    Args:
        folder: folder of checkpoints, whose names sort by age; those that begin with a dot are incomplete.
        read: reads one checkpoint; raises `CorruptStoreError` where it is damaged.

    Returns:
        None if there is no checkpoint.

    Raises:
        CorruptStoreError: all checkpoints are damaged; the error is that of the newest.
    """
    damage: CorruptStoreError | None = None
    for place in reversed(_complete(folder)):
        if damage is not None:
            LOG.warning(
                "the training resumes from checkpoint %s, because a newer one is damaged: %s %s",
                *(place.name, damage.where, damage.problem),
            )
        try:
            return read(place)
        except CorruptStoreError as error:
            damage = damage or error
    if damage is not None:
        raise damage
    return None


def drop_others(folder: Path, newest: str) -> None:
    """Remove all checkpoints but `newest` and the one before it; later ones are damaged, and are written again."""
    places = _complete(folder)
    upto = [place for place in places if place.name <= newest]
    for old in sorted({*places} - {*upto[-2:]}):
        remove_directory(old)


def _complete(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if not p.name.startswith("."))
