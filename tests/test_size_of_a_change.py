"""How many files a new simulator, a new network and a new kind of surrogate touch, counted on those that exist.

A file is touched if it names the thing: the dotted path of its module, the path of its file, one of the classes that
are defined in its module, or in Python the word by which configurations choose it. Requests and recipes
(`conf/sampling`, `conf/task`, `conf/study`) are what people then do with it, and are no part of it; they are the only
configurations beside its own that may name it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from surrogates.family import FAMILIES

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data", "simulators", "surrogates", "experiments", "understudy")
RECIPES = ("experiments/conf/sampling/", "experiments/conf/task/", "experiments/conf/study/")
#: The most files that a new one may touch: its module, its YAML, and its test, or for a network its line in the table.
MOST = 3


def classes(module: Path) -> list[str]:
    """The public classes that a module defines."""
    body = ast.parse(module.read_text(encoding="utf-8")).body
    return [node.name for node in body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


def touched(root: Path, module: str, folders: Iterable[str], word: str | None = None) -> set[str]:
    """The files below some folders that name a module, its classes, or in Python the word of its configuration.

    Args:
        root: folder of the repository.
        module: path of the module below it.
        folders: where to look.
        word: choice that names it in configurations; None for none.
    """
    dotted = module.removesuffix(".py").replace("/", ".")
    names = [re.escape(dotted), re.escape(module), *(rf"\b{re.escape(name)}\b" for name in classes(root / module))]
    pattern = re.compile("|".join(names))
    quoted = None if word is None else re.compile(rf"""["']{re.escape(word)}["']""")
    files = {module}
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".py", ".yaml") or not path.is_file():
                continue
            text = path.read_text(encoding="utf-8")
            if pattern.search(text) or (quoted and path.suffix == ".py" and quoted.search(text)):
                files.add(str(path.relative_to(root)))
    return files


def yaml_of(target: str) -> Path:
    """The configuration that builds a class or names an architecture."""
    return next(p for p in sorted((ROOT / "experiments/conf").rglob("*.yaml")) if target in p.read_text("utf-8"))


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("simulators/kinetics/robertson.py", "simulators.kinetics.robertson.Robertson"),
        ("simulators/kinetics/mechanism.py", "simulators.kinetics.mechanism.Mechanism"),
    ],
)
def test_a_simulator_is_a_module_a_yaml_and_a_test(module: str, target: str) -> None:
    settings = yaml_of(target)
    files = {f for f in touched(ROOT, module, (*PACKAGES, "tests"), settings.stem) if not f.startswith(RECIPES)}
    # This test names it too, as would a test of any other table of witnesses.
    files.discard("tests/test_size_of_a_change.py")
    assert len(files) <= MOST, files
    assert files == {module, str(settings.relative_to(ROOT)), f"tests/{Path(module).parent}/test_{Path(module).name}"}


@pytest.mark.parametrize("name", ["ffno", "transolver", "deeponet"])
def test_a_network_is_a_module_a_yaml_and_a_line_in_a_table(name: str) -> None:
    module, settings = f"surrogates/fields/networks/{name}.py", f"experiments/conf/model/{name}.yaml"
    files = {f for f in touched(ROOT, module, PACKAGES, name) if not f.startswith(RECIPES)} | {settings}
    assert f"architecture: {name}" in (ROOT / settings).read_text("utf-8")
    assert len(files) <= MOST, files
    table = files - {module, settings}
    assert table == {"surrogates/fields/networks/architectures.py"}
    text = (ROOT / table.pop()).read_text("utf-8")
    # One import, and one line of the table.
    assert len([line for line in text.splitlines() if re.search(rf"\b{name}\b", line)]) == 2


def files_outside(root: Path, kind: str) -> set[str]:
    """The files outside of the folder of a kind that name one of its modules or the class of its surrogates or task."""
    family = FAMILIES[kind]
    pattern = re.compile(rf"\bsurrogates[./]{kind}\b|\b{family.word}(Surrogate|Task)\b")
    return {
        str(path.relative_to(root))
        for package in PACKAGES
        for path in (root / package).rglob("*.py")
        if not path.is_relative_to(root / "surrogates" / kind) and pattern.search(path.read_text(encoding="utf-8"))
    }


def test_a_kind_is_a_folder_and_a_line() -> None:
    # Flows on meshes are read, trained, scored, saved, loaded and evaluated like every other kind.
    assert not files_outside(ROOT, "meshes")
    lines = (ROOT / "surrogates/family.py").read_text("utf-8").splitlines()
    for kind, family in FAMILIES.items():
        assert len([line for line in lines if f'Family("{kind}", "{family.word}"' in line]) == 1, kind
        # Every class of a kind begins with its word, and every family has the same ones.
        modules = (ROOT / "surrogates" / kind).glob("*.py")
        text = "\n".join(path.read_text(encoding="utf-8") for path in modules)
        for role in ("Surrogate", "Config", "Facts", "Data", "Task"):
            assert re.search(rf"^class {family.word}{role}\b", text, re.MULTILINE), (kind, role)
        functions = [f"fit_{family.word.lower()}_surrogate", *(["calibrate_intervals"] if family.trained else [])]
        for function in functions:
            assert f"def {function}(" in text, (kind, function)


@pytest.mark.parametrize("stage", ["simulate", "train"])
def test_stages_that_serve_every_science_name_no_kind(stage: str) -> None:
    path = f"experiments/stages/{stage}.py"
    assert not [kind for kind in FAMILIES if path in files_outside(ROOT, kind)]


def test_the_count_finds_a_registry_a_chain_of_names_and_a_type_check(tmp_path: Path) -> None:
    """The count itself fails where a new simulator would need edits elsewhere."""
    for name, text in {
        "simulators/new/pendulum.py": "class Pendulum:\n    pass\n",
        "experiments/conf/simulator/pendulum.yaml": "_target_: simulators.new.pendulum.Pendulum\n",
        "tests/simulators/new/test_pendulum.py": "from simulators.new.pendulum import Pendulum\n",
        "experiments/registry.py": 'TABLE = {"pendulum": 1}\n',
        "experiments/draws.py": "def draw(s):\n    return isinstance(s, Pendulum)\n",
        "experiments/unrelated.py": "# a pendulum swings, and suspendulums do not\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    module = "simulators/new/pendulum.py"
    files = touched(tmp_path, module, ("simulators", "experiments", "tests"), "pendulum")
    assert len(files) == 5 > MOST
    assert files >= {"experiments/registry.py", "experiments/draws.py"}
    assert "experiments/unrelated.py" not in files
