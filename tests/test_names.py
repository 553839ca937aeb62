"""Names say what they hold, and two classes do not share one."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
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


def python_files() -> list[Path]:
    """The modules of the project; a source tree without Git, such as an unpacked archive, has no listing of its own."""
    listing = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    folders = ("data", "simulators", "surrogates", "experiments", "understudy", "benchmarks", "tests")
    paths = [ROOT / line for line in listing.stdout.splitlines()] or [
        path for folder in folders for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(paths) > 100
    return [path for path in paths if path.is_file()]


def test_two_classes_do_not_share_a_name() -> None:
    places = defaultdict(set)
    for path in python_files():
        module = str(path.relative_to(ROOT))
        if not module.startswith("tests/"):
            # Private classes, within one module, cannot be taken for each other.
            for name in re.findall(r"^class ([A-Z]\w*)", path.read_text(encoding="utf-8"), re.MULTILINE):
                places[name].add(module)
    shared = {name: modules for name, modules in places.items() if len(modules) > 1}
    assert not shared, shared


def test_names_say_what_they_hold() -> None:
    example = "def found(own):\n    x.held = [_made for _made in own]\n    foundation = given_names = 1"
    assert sorted(empty_names(example)) == [("_made", 2), ("found", 1), ("held", 2), ("own", 1)]
    empty = {
        f"{path.relative_to(ROOT)}:{line}": name
        for path in python_files()
        for name, line in empty_names(path.read_text(encoding="utf-8"))
    }
    assert not empty, empty
