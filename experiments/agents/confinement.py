"""One folder beyond which no path of a call leads, and text of others made harmless.

A path is resolved before it is compared, so that neither `..` nor a link leads out. A folder that is named is searched
for links too, because a stage reads whatever lies in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from data.errors import InputError, printable

#: Folder below the root for what the server keeps: runs that it started, and its record of calls.
KEPT = ".understudy"
#: Entries of a folder that are searched for links.
MOST_ENTRIES = 20_000
#: Characters of a text of others, such as a message of a solver, that an answer repeats.
MOST_CHARACTERS = 400


class Root:
    """The folder that calls may read and write.

    Args:
        path: the folder.
        base: folder to which paths are relative; None: the root itself. A person at a terminal has the whole machine
            as the root, and the working directory as the base.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(self, path: Path | str, base: Path | None = None) -> None:
        self.path = Path(path).expanduser().resolve()
        self.base = self.path if base is None else base.resolve()
        if not self.path.is_dir():
            raise InputError("no such folder", where=str(path), remedy="Name an existing folder as --root")

    @property
    def confined(self) -> bool:
        """Whether anything lies outside."""
        return self.path != Path(self.path.anchor)

    @property
    def kept(self) -> Path:
        """The folder for what the server keeps itself."""
        return self.base / KEPT

    def inside(self, text: str, where: str, *, searched: bool = True) -> Path:
        """The path that a call names, resolved; it need not exist.

        Args:
            text: the path.
            where: key or argument that names it.
            searched: whether a folder may hold no link that leads out, because all that is in it may be read.

        Raises:
            InputError: it lies outside of the root, or a link within it leads there.
        """
        if "\0" in text or len(text) > 4096:
            raise InputError("this is no path", where=where)
        remedy = "Give a path below the root of the server, relative to it"
        if not self.confined:
            return (self.base / Path(text).expanduser()).resolve()
        if text.startswith("~"):
            raise InputError(f"{capped(text)!r} lies outside of the root", where=where, remedy=remedy)
        path = (self.base / text).resolve()
        if not self.holds(path):
            raise InputError(f"{capped(text)!r} lies outside of the root", where=where, remedy=remedy)
        if searched and path.is_dir():
            for link in _links(path):
                if not self.holds(link.resolve()):
                    problem = f"{capped(text)!r} holds a link that leads out of the root: {capped(link.name)!r}"
                    raise InputError(problem, where=where, remedy="Copy what it points to, or remove the link")
        return path

    def holds(self, path: Path) -> bool:
        """Whether a resolved path is the root, or lies below it."""
        return path == self.path or self.path in path.parents

    def relative(self, path: Path) -> str:
        """A path below the root as callers name it."""
        return os.path.relpath(path, self.base)

    def refuse_outside(self, plain: Mapping[str, Any], *, network: bool) -> None:
        """Refuse a configuration of which a text names a path outside of the root, or a host.

        Args:
            plain: a composed configuration with resolved values.
            network: whether addresses such as gs://... may be read.

        Raises:
            InputError: names the key.
        """
        for key, text in texts(plain):
            if "://" in text:
                if not network:
                    remedy = "The person who starts the server may allow it: --allow network"
                    raise InputError("names an address beyond this machine", where=key, remedy=remedy)
            elif self._may_be_path(text):
                self.inside(text, key)

    def _may_be_path(self, text: str) -> bool:
        # Whatever a stage could open: a name with a separator, or one that is there already.
        if not text or len(text) > 4096 or "\0" in text:
            return bool(text)
        if text.startswith("~") or os.sep in text or ".." in text:
            return True
        try:
            return os.path.lexists(self.base / text)
        except OSError:
            return False


def texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and value of each text in plain values; names of keys are texts as well."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from texts(value, key)
    elif isinstance(node, str):
        yield key, node


def _links(folder: Path) -> Iterator[Path]:
    def every() -> Iterator[Path]:
        for parent, folders, files in os.walk(folder):
            yield from (Path(parent, name) for name in (*folders, *files))

    return (path for path in islice(every(), MOST_ENTRIES) if path.is_symlink())


def capped(text: str, limit: int = MOST_CHARACTERS) -> str:
    """A text of others on one line, without control characters, and of limited length."""
    line = printable(text)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
