"""Reads the JSON files of this project, with their checksums, as the types that their readers declare.

`data.plain` says how a value of JSON becomes a value of a type, and `data.files.write_json` writes these files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from data.checksums import read_bytes
from data.errors import CorruptStoreError
from data.plain import PlainError, from_plain

T = TypeVar("T")


def read_json(path: Path, *, remedy: str) -> Any:
    """The content of a JSON file of this project, after its checksum was verified; see `data.checksums`.

    Raises:
        CorruptStoreError: it is missing, its checksum differs, or it is no JSON.
        OSError: the file system refuses it.
    """
    try:
        return parse_json(read_bytes(Path(path), remedy=remedy))
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptStoreError("is missing", where=str(path), remedy=remedy) from None
    except ValueError as error:
        raise CorruptStoreError(f"not readable: {error}", where=str(path), remedy=remedy) from error


def parse_json(content: bytes | str) -> Any:
    """The value of JSON text in UTF-8; NaN is refused, because no file of this project holds one.

    Raises:
        ValueError: it is none, or is nested too deep.
    """

    def refuse(text: str) -> None:
        raise ValueError(f"{text} is no number")

    text = content if isinstance(content, str) else content.decode("utf-8")
    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_plain(path: Path, kind: type[T], *, remedy: str) -> T:
    """The content of a JSON file of this project, as the type that its reader declares; see `from_plain`.

    Raises:
        CorruptStoreError: it is missing, is no JSON, or a value in it is of another type; names the key.
    """
    value = read_json(path, remedy=remedy)
    with reading(path, remedy=remedy):
        return from_plain(kind, value)


@contextmanager
def reading(path: Path, *, remedy: str) -> Iterator[None]:
    """Errors of what is read in the block name the file.

    Raises:
        CorruptStoreError: a value is missing, or is not what is expected.
    """
    try:
        yield
    except PlainError as error:
        raise CorruptStoreError(str(error), where=str(path), remedy=remedy) from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        problem = f"cannot be used: {type(error).__name__}: {error}"
        raise CorruptStoreError(problem, where=str(path), remedy=remedy) from error
