"""Names of variables, arguments, functions and classes that say nothing about what they hold do not come back."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Participles and the like, which leave open what was found, given or made.
EMPTY = {"found", "given", "made", "known", "own", "held", "wanted", "told", "there", "noted"}


def defined_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The names that a module binds, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def empty_names(text: str) -> list[tuple[str, int]]:
    """The empty names that a module binds; only modules with such a word are parsed."""
    if not re.search(rf"\b_*({'|'.join(EMPTY)})_*\b", text):
        return []
    return [(name, line) for name, line in defined_names(ast.parse(text)) if name.strip("_") in EMPTY]


def test_names_say_what_they_hold() -> None:
    example = "def found(own):\n    x.held = [_made for _made in own]\n    foundation = given_names = 1"
    assert sorted(empty_names(example)) == [("_made", 2), ("found", 1), ("held", 2), ("own", 1)]
    listing = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    # A source tree without Git, such as an unpacked archive, has no listing of its own files.
    paths = [ROOT / line for line in listing.stdout.splitlines()] or sorted(
        path
        for folder in ("data", "simulators", "surrogates", "experiments", "understudy", "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py")
    )
    assert len(paths) > 100
    empty = {
        f"{path.relative_to(ROOT)}:{line}": name
        for path in paths
        if path.is_file()
        for name, line in empty_names(path.read_text(encoding="utf-8"))
    }
    assert not empty, empty
