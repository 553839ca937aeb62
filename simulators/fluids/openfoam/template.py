"""An OpenFOAM case as a template: its files, the placeholders `{{name}}` in them, and its start time.

`{{name}}` has no meaning in OpenFOAM, whose macros begin with `$` and `#`. Cases that compile or run code are refused:
see `foam_checks`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data.errors import InputError
from simulators.fluids.openfoam.case_checks import refuse_code
from simulators.fluids.openfoam.contents import packed, unpacked, without_comments
from simulators.fluids.openfoam.start import TIME, start_folder

PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}", re.ASCII)
#: Results of an earlier run besides the time folders; they are not part of a template.
RESULTS = re.compile(r"processor.*|processors\d*|postProcessing|log\..*|.*\.foam|\.git|\.svn")
#: Copies and texts that OpenFOAM does not read, so that a placeholder in them has no effect.
UNREAD = re.compile(r".*~|.*\.(?:bak|old|save|sw[po]|md|rst)|#.*#|\..*|README.*|Allrun.*|Allclean.*", re.I)
#: Largest size of a template, bytes: it is kept in memory and sent to each worker of a campaign.
MAX_BYTES = 256 * 10**6


@dataclass(frozen=True)
class Template:
    """The files of a case.

    Attributes:
        files: (path inside the case, content), sorted by path.
        start: name of the time folder from which the case starts.
        left_out: (folder or file that counts as a result of an earlier run, number of its files).
    """

    files: tuple[tuple[str, bytes], ...]
    start: str = "0"
    left_out: tuple[tuple[str, int], ...] = ()

    @staticmethod
    def read(folder: Path) -> Template:
        """Read the case in a folder, without results of earlier runs except those from which it starts.

        Links inside the case are followed.

        Raises:
            InputError: the folder is not a case, is too large or holds dictionaries that compile or run code, its start
                time is unclear, or a link leads out of the case.
        """
        where = str(folder)
        if not folder.is_dir():
            raise InputError("no such directory", where=where, remedy="Name the directory of an OpenFOAM case")
        control = folder / "system" / "controlDict"
        if not control.is_file():
            raise InputError("not a case: system/controlDict is missing", where=where)
        times = {p.name for p in folder.iterdir() if p.is_dir() and TIME.fullmatch(p.name)}
        start = start_folder(without_comments(_text(control.read_bytes())), times, where)
        files: dict[str, bytes] = {}
        left_out: Counter[str] = Counter()
        size = 0
        for name in _walk(folder, start):
            head, _, rest = name.partition("/")
            if _result(head, rest, start):
                left_out[head] += 1
                continue
            path = folder / name
            if not path.exists():
                raise InputError("the link leads nowhere", where=str(path), remedy="Mend or remove it")
            if not path.is_file():
                continue
            if not path.resolve().is_relative_to(folder.resolve()):
                raise _leads_out(path)
            content = path.read_bytes()
            if name.endswith(".gz") and packed(content) and not _numbers(name, content):
                # OpenFOAM reads a compressed dictionary under either name; unpacked, it can be checked and filled.
                if path.with_suffix("").is_file():
                    raise InputError("lies beside the same file unpacked", where=str(path), remedy="Remove one of them")
                content, name = unpacked(path, content, MAX_BYTES), name.removesuffix(".gz")
            size += len(content)
            if size > MAX_BYTES:
                raise InputError(
                    f"above {MAX_BYTES / 1e6:,.0f} MB",
                    where=where,
                    remedy="Let blockMesh or snappyHexMesh make the mesh as one of the commands",
                )
            files[name] = content
        ordered = sorted(files.items(), key=lambda item: Path(item[0]))
        numbers = {name for name, content in ordered if _numbers(name, content)}
        for name, content in ordered:
            if content.startswith(b"\x1f\x8b") and name not in numbers:
                raise InputError(
                    "compressed, so it cannot be checked", where=str(folder / name), remedy="Unpack it with gunzip"
                )
            if name not in numbers:
                refuse_code(folder, name, _text(content), files, unread=numbers)
        return Template(tuple(ordered), start or "0", tuple(sorted(left_out.items())))

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of paths and contents."""
        digest = hashlib.sha256()
        for name, content in self.files:
            digest.update(f"{name}\n{len(content)}\n".encode() + content)
        return digest.hexdigest()

    @cached_property
    def placeholders(self) -> dict[str, str]:
        """Name of each placeholder with an effect -> its first place, as `file:line`."""
        return self._places()[0]

    @cached_property
    def idle(self) -> dict[str, str]:
        """Name of each placeholder without effect -> its place: in a comment, a copy or an unused time folder."""
        return self._places()[1]

    def _places(self) -> tuple[dict[str, str], dict[str, str]]:
        active: dict[str, str] = {}
        idle: dict[str, str] = {}
        for name, content in self.files:
            text = _text(content)
            # Bytes of a binary list may look like the start of a comment.
            plain = text if b"\0" in content else without_comments(text)
            head, *more = name.split("/")
            unread = UNREAD.fullmatch((more or [head])[-1]) or (TIME.fullmatch(head) and more and head != self.start)
            for match in PLACEHOLDER.finditer(text):
                # Comments are blanked in place, so that all other text keeps its position.
                commented = plain[match.start() : match.end()] != match[0]
                places = idle if unread or commented else active
                places.setdefault(match[1], f"{name}:{text.count(chr(10), 0, match.start()) + 1}")
        return active, {name: place for name, place in idle.items() if name not in active}

    def names(self) -> set[str]:
        """Paths inside the case."""
        return {name for name, _ in self.files}

    def text(self, name: str) -> str:
        """Content of one file; raises KeyError if there is no such file."""
        return dict(self.files)[name].decode("utf-8", "replace")

    def write(self, folder: Path, values: Mapping[str, float | int | str]) -> None:
        """Write the case with every `{{name}}` replaced.

        Args:
            folder: folder to write, created if it does not exist.
            values: value of each placeholder; numbers are written with 15 digits, whole numbers without a point.
        """
        for name, content in self.files:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_fill(content, values))

    def filled(self, name: str, values: Mapping[str, float | int | str]) -> bytes | None:
        """Content of one file as `write` writes it; None if the template has no such file."""
        content = dict(self.files).get(name)
        return None if content is None else _fill(content, values)


def match_placeholders(template: Template, sources: Mapping[str, str], where: str) -> None:
    """Refuse a placeholder without a value, and a value without a placeholder.

    Args:
        template: the template of a case.
        sources: name of a value -> setting that defines it, such as "parameters".
        where: path of the case, for errors.

    Raises:
        InputError: names the placeholder with its file and line, or the value.
    """
    for name, place in template.placeholders.items():
        if name not in sources:
            raise InputError(
                f"{{{{{name}}}}} has no value; there are {sorted(sources)}",
                where=f"{where}/{place}",
                remedy="Name it under parameters or constants",
            )
    for name, kind in sources.items():
        if name not in template.placeholders:
            idle = template.idle.get(name)
            place = f"; it stands only at {idle}, where it changes nothing" if idle else ""
            raise InputError(
                f"no file holds {{{{{name}}}}}, which {kind} name; there are {sorted(template.placeholders)}{place}",
                where=where,
                remedy=(
                    f"Write it outside of comments, into a file that is read from time {template.start} on"
                    if idle
                    else None
                ),
            )


def _fill(content: bytes, values: Mapping[str, float | int | str]) -> bytes:
    def put(match: re.Match[str]) -> str:
        # A placeholder in a comment needs no value.
        value = values.get(match[1], match[0])
        return value if isinstance(value, str) else f"{value:.15g}"

    return PLACEHOLDER.sub(put, _text(content)).encode("latin-1")


def _walk(folder: Path, start: str | None) -> Iterator[str]:
    """Sorted paths of all files inside a folder, including those of linked folders.

    Raises:
        InputError: a link leads to one of its parent folders, or out of the case.
    """
    root = folder.resolve()
    for at, folders, names in os.walk(folder, followlinks=True):
        inside = Path(at).relative_to(folder)
        folders.sort()
        real = Path(at).resolve()
        for name in list(folders):
            target = (Path(at) / name).resolve()
            if real.is_relative_to(target):
                raise InputError(
                    "the link leads to a folder that it lies in", where=str(Path(at) / name), remedy="Remove it"
                )
            if not target.is_relative_to(root):
                head, _, rest = (inside / name / "polyMesh").as_posix().partition("/")
                if not _result(head, rest, start):
                    raise _leads_out(Path(at) / name)
                folders.remove(name)
        yield from ((inside / name).as_posix() for name in sorted(names))


def _leads_out(path: Path) -> InputError:
    return InputError(
        "the link leads out of the case, so what it leads to is not a part of it",
        where=str(path),
        remedy="Copy it into the case: cp -rL CASE COPY",
    )


def _result(head: str, rest: str, start: str | None) -> bool:
    """Whether a file in a folder `head` of the case is a result of an earlier run."""
    if not (rest and TIME.fullmatch(head)):
        return RESULTS.fullmatch(head) is not None
    if head in ("0", start):
        return False
    # A mesh that moved or was refined is in the last time folder with a mesh before the start.
    return start is None or float(head) > float(start) or not rest.startswith("polyMesh/")


def _numbers(name: str, content: bytes) -> bool:
    """Whether a file holds compressed or binary geometry; it is no dictionary, and no dictionary includes it."""
    folders, last = name.split("/")[:-1], name.rpartition("/")[2]
    geometry = "triSurface" in folders or ("polyMesh" in folders and not last.startswith("boundary"))
    return geometry and not last.endswith("Dict") and (b"\0" in content or content.startswith(b"\x1f\x8b"))


def _text(content: bytes) -> str:
    """Decode content to one character per byte, which preserves any encoding when it is written again."""
    return content.decode("latin-1")
