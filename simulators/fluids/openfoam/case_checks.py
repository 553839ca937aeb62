"""Checks that an OpenFOAM case has no code, no libraries named by a path, and no files from outside of it.

OpenFOAM is configured to refuse these as well; the checks report them before the run, with file and line.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Set
from pathlib import Path, PurePosixPath

from data.errors import InputError
from simulators.fluids.openfoam.contents import without_comments

#: Keywords with which a dictionary compiles code or runs a program.
CODE = re.compile(
    r"#\s*(?:codeStream|calc\w*)\b|\bcoded\w*|\bcode(?:Include|Options|Libs|Execute)\b|\bsystemCall\b"
    r"|\ballowSystemOperations\b|\bdynamicCode\b"
)
#: White space or one comment. Possessive quantifiers are not used: Python 3.11.2 misses matches with them. Instead each
#: pattern has one way only to match a text, so that giving characters back fails at once and takes linear time.
_BLANK = r"(?:\s|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/|//[^\n]*\n)"
#: All white space and comments between two words.
GAP = rf"{_BLANK}*(?!{_BLANK})"
#: The characters of a string between its quotes.
_QUOTED = r'[^"\\]*(?:\\.[^"\\]*)*'
#: A value up to the semicolon that ends it, outside of strings, or up to an unterminated string.
VALUE = rf'[^;"]*(?:"{_QUOTED}"[^;"]*)*'
#: Entries that name libraries; a path, a macro or a directive could name a library of the case itself.
_LIBRARY = rf'\b\w*[lL]ibs?(?:"|(?=[\s("/])){GAP}'
LIBRARY = re.compile(rf"{_LIBRARY}(?P<value>{VALUE});", re.S)
#: A quoted key is a regular expression, which may match any of `LIBRARY_KEYS`.
_PATTERN = rf'(?:^|[;{{}}]){GAP}"(?P<key>{_QUOTED})"\s*'
PATTERN = re.compile(rf'{_PATTERN}(?P<value>[^{{;"\s]{VALUE}|"{_QUOTED}"{VALUE});', re.S)
#: Beginnings of such entries. If a long file has many, the search for the end of each takes too long.
HEADS = (re.compile(_LIBRARY, re.S), re.compile(rf"{_PATTERN}[^{{;\s]", re.S))
MOST_HEADS, MOST_STEPS = 200, 10**7
LIBRARY_KEYS = ("lib", "libs", "functionObjectLibs", "motionSolverLibs", "dynamicFvMeshLibs", "allowSystemOperations")
#: An included file, relative to the file that includes it.
INCLUDE = re.compile(rf"#\s*s?include(?:IfPresent)?\b{GAP}\"([^\"\n\\]*)\"", re.S)
INCLUDES = re.compile(r"#\s*s?include(?:IfPresent)?\b")
#: An included file of OpenFOAM or of `system` whose path contains `..`.
LIBRARY_INCLUDE = re.compile(r"#\s*include(?:Etc|Func)\s*\"?[^\"\n;]*\.\.[^\n]*")
#: Prefix of a path from the root of the case.
IN_CASE = re.compile(r"(?:<(case|constant|system)>|\$(?:FOAM_CASE|\{FOAM_CASE\}))(?:/|$)")
#: Prefix of a path to one of OpenFOAM's own files.
IN_ETC = re.compile(r"<etc>/|~OpenFOAM/|\$(?:FOAM_ETC|\{FOAM_ETC\})/")


def include_target(name: str, target: str) -> str | None:
    """The path inside the case that `#include "target"` in the file `name` reads; None if it leads outside.

    Args:
        name: path of the file that includes, inside the case.
        target: text between the quotes; `<constant>`, `<system>`, `<case>` and `$FOAM_CASE` are resolved, and any other
            macro counts as outside.
    """
    anchor = IN_CASE.match(target)
    if anchor is not None:
        root = anchor[1] if anchor[1] in ("constant", "system") else ""
        joined = posixpath.join(root, target[anchor.end() :])
    else:
        joined = posixpath.join(posixpath.dirname(name), target)
    path = posixpath.normpath(joined)
    if target[:1] in ("/", "~") or path.startswith(("/", "..")) or re.search(r"[$<~]", joined):
        return None
    return path


def refuse_code(folder: Path, name: str, text: str, names: Collection[str], *, unread: Set[str] = frozenset()) -> None:
    """Refuse a file that compiles or runs code, loads a library of the case itself, or reads files outside the case.

    The text is searched with and without its comments, so that code cannot hide in an ambiguous comment.

    Args:
        folder: folder of the case, for errors.
        name: path of the file inside the case.
        text: its content; non-ASCII bytes may be decoded to any character.
        names: paths of all files of the template.
        unread: paths of the files that are not searched, because they hold binary numbers.

    Raises:
        InputError: names the file and the line.
    """

    def refusal(start: int, words: str, what: str, source: str, remedy: str) -> InputError:
        line = source.count("\n", 0, start) + 1
        return InputError(
            f"{' '.join(words.split())[:60]!r} {what}, which a case may not do",
            where=f"{folder / name}:{line}",
            file=folder / name,
            row=line,
            remedy=remedy,
        )

    plain = without_comments(text)
    value = "Write the value itself, or make it a parameter"
    for source in (text, plain):
        _refuse_endless(source, folder / name)
        for pattern, what in (
            (CODE, "compiles or runs code"),
            (LIBRARY_INCLUDE, "reads a file outside the case"),
        ):
            if match := pattern.search(source):
                raise refusal(match.start(), match[0], what, source, value)
        for match in LIBRARY.finditer(source):
            if re.search(r"[/$#]", match["value"]):
                raise refusal(match.start(), match[0], "loads a library by its path", source, value)
        for match in PATTERN.finditer(source):
            if "\0" in text and not match["key"].isprintable():
                continue  # quotes among the numbers of a binary list
            if re.search(r"[/$#]", match["value"]) and _may_mean_a_library(match["key"]):
                raise refusal(match.start(), match[0], "loads a library by its path", source, value)
        for match in INCLUDE.finditer(source):
            if IN_ETC.match(match[1]) and ".." not in PurePosixPath(match[1]).parts:
                continue
            path = include_target(name, match[1])
            if path is None:
                raise refusal(match.start(), match[0], "reads a file outside the case", source, value)
            if unread & {path, f"{path}.gz"}:
                raise refusal(match.start(), match[0], "reads a binary or compressed file", source, value)
            if path not in names and (folder / path).is_file():
                what = f"reads {path}, a result of an earlier run that is left out"
                raise refusal(match.start(), match[0], what, source, "Move that file, such as to constant/")
    for match in INCLUDES.finditer(plain):
        if not INCLUDE.match(plain, match.start()):
            raise refusal(match.start(), plain[match.start() :], "names no file that can be read", plain, value)


def _refuse_endless(source: str, where: Path) -> None:
    """Refuse a text in which the search for libraries would take too long.

    Raises:
        InputError: too many entries of a long text may name libraries.
    """
    for head in HEADS:
        count = sum(1 for _ in head.finditer(source))
        if count > MOST_HEADS and count * len(source) > MOST_STEPS:
            raise InputError(
                f"{count:,} entries of it may name libraries, which is more than can be checked",
                where=str(where),
                remedy="Move what is no dictionary out of the case",
            )


def _may_mean_a_library(pattern: str) -> bool:
    """Whether a quoted key may match one of `LIBRARY_KEYS`; patterns that Python may interpret differently count."""
    if len(pattern) > 200 or "[" in pattern or "(?" in pattern:
        return True
    try:
        return any(re.fullmatch(pattern, key) for key in LIBRARY_KEYS)
    except re.error:
        return True
