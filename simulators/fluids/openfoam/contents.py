"""Contents of OpenFOAM's files, ASCII or binary, plain or compressed: the text, and the numbers of binary lists.

The format is that of the OpenFOAM user guide, "Basic input/output file format": a list in binary is its length and then
its items between parentheses, in the byte order and widths that the entry `arch` of the header states. The numbers are
cut out of the text here, so that other modules search a text in which no number can be mistaken for syntax.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.errors import InputError

#: Item of a binary list -> numbers in it; labels are integers, all others floats.
ITEMS: Mapping[str, int] = {
    "label": 1,
    "scalar": 1,
    "vector": 3,
    "sphericalTensor": 1,
    "symmTensor": 6,
    "tensor": 9,
}
#: Classes of files that are one list (or two, of a compact list) without a name -> its items.
LISTS: Mapping[str, str] = {
    "labelList": "label",
    "faceCompactList": "label",
    "scalarField": "scalar",
    "vectorField": "vector",
}
#: Largest size of an unpacked file, bytes.
MAX_UNPACKED = 8 * 2**30

#: Beginning of a binary header. Its entries are searched as bytes, before it is known how to decode the file.
_HEADER = re.compile(rb'FoamFile\s*\{[^"}]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^"}]*)*\}', re.S)
_ENTRY = rb'[\s{;]%b\s+("[^"]*"|[^\s;]+)\s*;'
_ARCH = re.compile(rb"(LSB|MSB)\s*;\s*label\s*=\s*(32|64)\s*;\s*scalar\s*=\s*(32|64)")
_NAMED = re.compile(rb"List<(\w+)>\s*(\d{1,12})\s*\(", re.ASCII)
_BARE = re.compile(rb"\s*(?:(?://[^\n]*\n|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)\s*)*(\d{1,12})\s*\(")
#: Bytes that no text contains, in any encoding that extends ASCII.
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
#: A comment, or a string, in which comment characters have no meaning.
_COMMENT = re.compile(r'//[^\n]*|/\*.*?(?:\*/|\Z)|"(?:\\.|[^"\\])*"', re.S)
#: What stands in the text in place of a binary list; no text has the character 0 (`_text` refuses it).
MARK = re.compile(r"List<\w+>\s*\0(\d+)\0")


@dataclass(frozen=True)
class Contents:
    """Content of one file.

    Attributes:
        text: the text without comments; `MARK` stands in place of each binary list.
        lists: the binary lists, each of shape (items, numbers in an item), float64 or int64, in order.
    """

    text: str
    lists: tuple[np.ndarray, ...] = ()


def without_comments(text: str) -> str:
    """Blank the comments of a dictionary's text; all other characters keep their positions."""
    return _COMMENT.sub(lambda m: m[0] if m[0][0] == '"' else re.sub(r"[^\n]", " ", m[0]), text)


def packed(content: bytes) -> bool:
    """Whether the content of a file is compressed by gzip."""
    return content.startswith(b"\x1f\x8b")


def unpacked(path: Path, content: bytes, most: int = MAX_UNPACKED) -> bytes:
    """Unpack the content of a file that gzip has compressed; other content is returned as it is.

    Args:
        path: path of the file, for errors.
        content: its content.
        most: largest size of the result, bytes.

    Raises:
        InputError: the content is damaged, cut short, or larger than `most`.
    """
    parts: list[bytes] = []
    while packed(content):
        # A file may be several compressed pieces, one after the other.
        stream = zlib.decompressobj(wbits=31)
        try:
            parts.append(stream.decompress(content, most + 1 - sum(map(len, parts))))
        except zlib.error as error:
            raise InputError(f"damaged: {error}", where=str(path), remedy="Write it again") from error
        if sum(map(len, parts)) > most:
            raise InputError(f"above {most / 1e9:g} GB when it is unpacked", where=str(path))
        if not stream.eof:
            raise InputError("the compressed file is cut short", where=str(path), remedy="Write it again")
        content = stream.unused_data
        if not packed(content):
            return b"".join(parts)
    return content


def written_file(path: Path) -> Path:
    """The file that OpenFOAM reads for `path`: itself, or else the compressed one of the same name with `.gz`.

    Raises:
        InputError: neither exists.
    """
    beside = path.with_name(path.name + ".gz")
    if not path.is_file() and not beside.is_file():
        raise InputError("no such file", where=str(path))
    return path if path.is_file() else beside


def read_contents(path: Path) -> Contents:
    """Read a file that may be binary, compressed, or both.

    Args:
        path: its path, with or without the suffix `.gz`.

    Raises:
        InputError: the file is missing, damaged or cut short, or neither text nor binary as its header states.
    """
    path = written_file(path)
    content = unpacked(path, path.read_bytes())
    header = _HEADER.search(content)
    if header is None or _entry(header[0], b"format") != b"binary":
        return Contents(without_comments(_text(path, content)))
    arch = _ARCH.search(_entry(header[0], b"arch"))
    kind = _entry(header[0], b"class").decode("latin-1")
    text: list[bytes] = []
    lists: list[np.ndarray] = []
    at = 0

    def take(item: str, count: int, start: int) -> int:
        values, end = _raw(path, content, start, item, count, arch)
        text.append(b" List<%b> \0%d\0 " % (item.encode(), len(lists)))
        lists.append(values)
        return end

    def pass_over(start: int, end: int) -> None:
        if _BINARY.search(content, start, end):
            raise InputError(
                "numbers outside of its lists", where=str(path), remedy="Convert it with foamFormatConvert"
            )
        text.append(content[start:end])

    if kind in LISTS:
        at = header.end()
        pass_over(0, at)
        while match := _BARE.match(content, at):
            at = take(LISTS[kind], int(match[1]), match.end())
    while match := _NAMED.search(content, at):
        item = match[1].decode("latin-1")
        # Lists of words and of lists are text in binary files too.
        pass_over(at, match.start() if item in ITEMS else match.end())
        at = take(item, int(match[2]), match.end()) if item in ITEMS else match.end()
    pass_over(at, len(content))
    return Contents(without_comments(_decoded(b"".join(text))), tuple(lists))


def read_text(path: Path) -> str:
    """Read an ASCII file, which may be compressed, without its comments.

    Raises:
        InputError: the file is missing, damaged or not text.
    """
    path = written_file(path)
    return without_comments(_text(path, unpacked(path, path.read_bytes())))


def _decoded(content: bytes) -> str:
    """Text in UTF-8, or else in Latin-1, in which names of patches and comments may be."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _text(path: Path, content: bytes) -> str:
    if b"\0" in content:
        raise InputError(
            "not text, and its header does not say `format binary;`",
            where=str(path),
            remedy="Set `writeFormat ascii;` in system/controlDict",
        )
    return _decoded(content)


def _entry(header: bytes, name: bytes) -> bytes:
    """Value of an entry of the header; empty if there is none."""
    entry = re.search(_ENTRY % name, header)
    return b"" if entry is None else entry[1]


def _raw(
    path: Path, content: bytes, start: int, item: str, count: int, arch: re.Match[bytes] | None
) -> tuple[np.ndarray, int]:
    """A binary list whose first byte is at `start`, and the position behind its closing parenthesis.

    Headers of old releases have no `arch`. The width is then the one at which the closing parenthesis is found.

    Raises:
        InputError: the list is not closed where its length says, or two widths fit.
    """
    kind = "i" if item == "label" else "f"
    if arch is not None:
        order = "<" if arch[1] == b"LSB" else ">"
        widths = [int(arch[2 if kind == "i" else 3]) // 8]
    else:
        order, widths = "<", [4, 8] if count else [8]
    numbers = count * ITEMS[item]
    fitting = [w for w in widths if re.match(rb"\)\s*(?:;|/|\d|\Z)", content[start + numbers * w :][:64])]
    if len(fitting) != 1:
        raise InputError(
            f"a binary list of {count} items does not end where its length says"
            if not fitting
            else "its header does not state the width of its numbers, and two fit",
            where=str(path),
            remedy="It may be cut short; write it again, or convert it with foamFormatConvert",
        )
    dtype = np.dtype(f"{order}{kind}{fitting[0]}")
    values = np.frombuffer(content, dtype, numbers, start).astype(np.int64 if kind == "i" else np.float64)
    return values.reshape(count, ITEMS[item]), start + numbers * fitting[0] + 1
