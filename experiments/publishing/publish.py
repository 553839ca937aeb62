"""`understudy publish SOURCE URL`: a store, a run or a library copied to a bucket, each object verified.

Objects are written only where there is none, and read back; `published.json`, which is written last, lists them with
their checksums. The same command resumes: an object that is there with the right bytes is not written again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.checksums import sha256_of
from data.claim import LOCK as CLAIM_LOCK
from data.claim import lock_is_held
from data.errors import InputError
from data.files import atomic_directory, is_temporary, remove_directory, sweep_beside, write_json
from data.remote.path import RemotePath
from data.store.creation import LOCK
from data.store.owner import is_owner_file
from data.store.store_reader import CARD
from data.terminal import progress_bar
from data.uploads import bucket_path, has_content, objects_below, put_if_absent
from experiments.publishing.sharded_store import write_sharded

#: The list of all objects of a copy.
LIST = "published.json"
FORMAT = 1
#: Suffix of the folder beside a store with the copy that is being published.
STAGED = ".sharded"
EMPTY = "Name an empty prefix"


@dataclass(frozen=True)
class Published:
    """What a copy consists of.

    Attributes:
        url: its address.
        objects: number of objects, without the list of them.
        bytes: their size.
        written: number of objects that this command wrote; the others were there.
        records: number of records of a store; None for other directories.
    """

    url: str
    objects: int
    bytes: int
    written: int
    records: int | None = None


def publish(source: Path, url: str, *, progress: bool = True) -> Published:
    """Copy a store, folded and sharded, or another directory of results as it is.

    Raises:
        InputError: the source is no directory of results or in use, the URL cannot be written to, or it holds other
            objects.
        CorruptStoreError: the store is damaged.
    """
    target = bucket_path(url.rstrip("/"), "URL")
    if not source.is_dir():
        raise InputError("no such directory", where=str(source), remedy="Name a store, a run or a library")
    if lock_is_held(source):
        raise InputError("a command writes to it", where=str(source), remedy="Publish it once that has ended")
    if not (source / CARD).is_file():
        return _copy(source, target, None, progress)
    # A kill leaves the sharded copy for the next try, which makes it anew.
    staged = source.with_name(source.name + STAGED)
    sweep_beside(staged)
    with atomic_directory(staged) as folder:
        records = write_sharded(source, folder)
    copy = _copy(staged, target, records, progress)
    remove_directory(staged)
    return copy


def _copy(folder: Path, target: RemotePath, records: int | None, progress: bool) -> Published:
    files = {file.relative_to(folder).as_posix(): file for file in _files(folder)}
    if not files:
        raise InputError("holds no file", where=str(folder), remedy="Name a store, a run or a library")
    present = objects_below(target)
    if strange := sorted(set(present) - set(files) - {LIST}):
        raise InputError(f"holds {strange[0]}, which {folder.name} does not have", where=str(target), remedy=EMPTY)
    entries = []
    with progress_bar("publishing", len(files), show=progress) as bar:
        for number, (name, file) in enumerate(files.items()):
            place = target / name
            # Whoever wrote an object, its bytes are read back and compared.
            if not (name in present or put_if_absent(file, place)) or not has_content(place, file):
                raise InputError("holds other bytes than the file", where=str(place), remedy=EMPTY)
            entries.append({"name": name, "bytes": file.stat().st_size, "sha256": sha256_of(file)})
            bar.update(number + 1)
    with tempfile.TemporaryDirectory(prefix="understudy-") as scratch:
        listing = Path(scratch) / LIST
        write_json(listing, {"format": FORMAT, "records": records, "objects": entries}, listed=False)
        if not put_if_absent(listing, target / LIST):
            raise InputError("lists another copy", where=str(target / LIST), remedy=EMPTY)
    total = sum(file.stat().st_size for file in files.values())
    return Published(str(target), len(files), total, len(set(files) - set(present)), records)


def _files(folder: Path) -> Iterator[Path]:
    """The files below a directory that another machine has a use for, in a fixed order, without links."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            is_of_writer = name in (LOCK, CLAIM_LOCK) or is_owner_file(name) or is_temporary(name)
            if not is_of_writer and not path.is_symlink():
                yield path
