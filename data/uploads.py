"""Objects written to buckets: only where there is none, compared with what was meant, and read back.

An object appears whole or not at all. Of several writers of the same name the first one wins, which the server decides
(`If-None-Match: *` on S3, `ifGenerationMatch=0` on Google): nobody's object is replaced unless that is asked for.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from data.errors import InputError
from data.files import atomic_path
from data.remote.buckets import Bucket
from data.remote.objects import MissingObjectError, repeated
from data.remote.path import RemotePath, path_of, server_of


def bucket_path(text: str | Path, key: str) -> RemotePath:
    """The path of objects that can be written.

    Raises:
        InputError: it is no URL of a bucket.
    """
    path = path_of(text)
    if not isinstance(path, RemotePath) or not isinstance(server_of(path.url), Bucket):
        raise InputError(
            f"{text} is no address that is written to", where=key, remedy="Give s3://BUCKET/NAME or gs://BUCKET/NAME"
        )
    return path


def put_if_absent(local: Path, target: RemotePath) -> bool:
    """Write an object from a file, unless there is one; whether the object has the bytes of the file afterwards.

    Raises:
        InputError: it cannot be written.
    """
    url = target.url
    if repeated(lambda: _bucket(url).put(local, url, only_if_absent=True), url):
        return True
    # This may be our own: the answer to an earlier try may have been lost.
    return has_content(target, local)


def put(local: Path, target: RemotePath) -> None:
    """Write an object from a file in place of any that is there.

    Raises:
        InputError: it cannot be written.
    """
    url = target.url
    repeated(lambda: _bucket(url).put(local, url, only_if_absent=False), url)


def remove(target: RemotePath) -> None:
    """Remove an object.

    Raises:
        InputError: it cannot be removed.
    """
    url = target.url
    repeated(lambda: _bucket(url).remove(url), url)


def put_bytes_if_absent(content: bytes, target: RemotePath) -> bool:
    """See `put_if_absent`."""
    with tempfile.NamedTemporaryFile(prefix="understudy-") as file:
        file.write(content)
        file.flush()
        return put_if_absent(Path(file.name), target)


def has_content(target: RemotePath, local: Path) -> bool:
    """Whether an object has the bytes of a file; it is read through if it has its length."""
    fresh = RemotePath(target.url)
    try:
        if fresh.facts().size != local.stat().st_size:
            return False
        with fresh.stream() as theirs, local.open("rb") as ours:
            return _digest(theirs) == _digest(ours)
    except MissingObjectError:
        return False


def fetch(source: RemotePath, local: Path) -> None:
    """Write a file from an object, atomically and in the memory of one range.

    Raises:
        InputError: there is no such object, or it cannot be read.
    """
    with atomic_path(local) as temporary, RemotePath(source.url).stream() as stream, temporary.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)


def objects_below(prefix: RemotePath) -> dict[str, int]:
    """The sizes (bytes) of all objects below a URL, by their names from there."""
    url = prefix.url
    return repeated(lambda: _bucket(url).below(url), url)


def _digest(stream: object) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _bucket(url: str) -> Bucket:
    server = server_of(url)
    assert isinstance(server, Bucket)
    return server
