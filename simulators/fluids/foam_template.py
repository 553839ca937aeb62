"""A case of OpenFOAM as a template: its files, the `{{name}}`s in them, and what they may not hold.

`{{name}}` means nothing to OpenFOAM, whose own macros begin with `$` and `#`. A case compiles or runs no code:
dictionaries that ask for it are refused here, and OpenFOAM is told the same when it runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data.errors import InputError

PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")
#: Words by which a dictionary has code compiled or a program run.
CODE = re.compile(
    r"#\s*(?:codeStream|calc)\b|\bcoded\w*|\bcode(?:Include|Options|Libs|Execute)\b|\bsystemCall\b"
    r"|\ballowSystemOperations\b|\bdynamicCode\b"
)
#: Libraries named by a path or a macro, which may be the case's own.
LIBRARY = re.compile(r"\b\w*[lL]ibs?\s+\(?[^;]*[/$][^;]*;|\b\w*[lL]ibs?\([^;]*[/$][^;]*;")
#: Files from outside the case, which nobody has looked at.
OUTSIDE = re.compile(r"#\s*s?include(?:IfPresent)?\s*\"(?:[/~<]|[^\"\n]*(?:\.\.|\$))[^\"\n]*\"")
#: Results of an earlier run, which are not part of a template.
RESULTS = re.compile(r"(?!0$)\d+(\.\d*)?([eE][-+]?\d+)?|processor.*|processors\d*|postProcessing|log\..*|.*\.foam")
#: Bytes of a template: what is held in memory and sent to each process of a campaign.
MAX_BYTES = 256 * 10**6


@dataclass(frozen=True)
class Template:
    """The files of a case.

    Attributes:
        files: (path inside the case, content), sorted by path.
    """

    files: tuple[tuple[str, bytes], ...]

    @staticmethod
    def read(folder: Path) -> Template:
        """The case in a folder, without results of earlier runs.

        Raises:
            InputError: the folder is not a case, is too large, or holds dictionaries that compile or run code.
        """
        where = str(folder)
        if not folder.is_dir():
            raise InputError("no such directory", where=where, remedy="Name the directory of an OpenFOAM case")
        if not (folder / "system" / "controlDict").is_file():
            raise InputError("not a case: system/controlDict is missing", where=where)
        paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and not _result(p.relative_to(folder))]
        size = sum(p.stat().st_size for p in paths)
        if size > MAX_BYTES:
            raise InputError(
                f"{size / 1e6:,.0f} MB, above {MAX_BYTES / 1e6:,.0f} MB",
                where=where,
                remedy="Let blockMesh or snappyHexMesh make the mesh as one of the commands",
            )
        files = tuple((p.relative_to(folder).as_posix(), p.read_bytes()) for p in paths)
        for name, content in files:
            _refuse_code(folder / name, content)
        return Template(files)

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of paths and contents."""
        digest = hashlib.sha256()
        for name, content in self.files:
            digest.update(f"{name}\n{len(content)}\n".encode() + content)
        return digest.hexdigest()

    @cached_property
    def placeholders(self) -> dict[str, str]:
        """Name -> where it first stands, as `file:line`."""
        found: dict[str, str] = {}
        for name, content in self.files:
            text = _text(content)
            for match in PLACEHOLDER.finditer(text or ""):
                found.setdefault(match[1], f"{name}:{(text or '').count(chr(10), 0, match.start()) + 1}")
        return found

    def names(self) -> set[str]:
        """Paths inside the case."""
        return {name for name, _ in self.files}

    def text(self, name: str) -> str:
        """Content of one file; KeyError where there is none."""
        return dict(self.files)[name].decode("utf-8", "replace")

    def write(self, folder: Path, values: Mapping[str, float | int | str]) -> None:
        """The case with every `{{name}}` replaced.

        Args:
            folder: made where absent.
            values: at least every placeholder; numbers are written with 15 digits, whole ones without a point.
        """

        def put(match: re.Match[str]) -> str:
            value = values[match[1]]
            return value if isinstance(value, str) else f"{value:.15g}"

        for name, content in self.files:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            text = _text(content)
            path.write_bytes(content if text is None else PLACEHOLDER.sub(put, text).encode())


def match_placeholders(template: Template, given: Mapping[str, str], where: str) -> None:
    """Refuse a placeholder without a value, and a value without a placeholder.

    Args:
        template: a case.
        given: name -> what gives it, such as "parameters".
        where: the case, for messages.

    Raises:
        InputError: naming the placeholder with its file and line, or the value.
    """
    for name, place in template.placeholders.items():
        if name not in given:
            raise InputError(
                f"{{{{{name}}}}} has no value; there are {sorted(given)}",
                where=f"{where}/{place}",
                remedy="Name it under parameters or constants",
            )
    for name, kind in given.items():
        if name not in template.placeholders:
            raise InputError(
                f"no file holds {{{{{name}}}}}, which {kind} name; there are {sorted(template.placeholders)}",
                where=where,
            )


def _result(path: Path) -> bool:
    return RESULTS.fullmatch(path.parts[0]) is not None


def _text(content: bytes) -> str | None:
    """Content as text; None for what is binary, which is copied as it stands."""
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _refuse_code(path: Path, content: bytes) -> None:
    text = _text(content)
    if text is None:
        if content.startswith(b"\x1f\x8b") and not {"polyMesh", "triSurface"} & set(path.parts):
            raise InputError("compressed, so it cannot be checked", where=str(path), remedy="Unpack it with gunzip")
        return
    # Comments are searched too: leaving them out would mean to parse them exactly as OpenFOAM does.
    for pattern, what in (
        (CODE, "compiles or runs code"),
        (LIBRARY, "loads a library by its path"),
        (OUTSIDE, "reads a file outside the case"),
    ):
        match = pattern.search(text)
        if match is not None:
            line = text.count("\n", 0, match.start()) + 1
            raise InputError(
                f"{' '.join(match[0].split())[:60]!r} {what}, which a case may not do",
                where=f"{path}:{line}",
                remedy="Write the value itself, or make it a parameter",
            )
