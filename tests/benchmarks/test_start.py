"""Benchmarks start: their modules import, their settings exist, and their trainings and campaigns are configured."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_settings import assigned, keys_of, refused

from benchmarks import (
    answer_bodies,
    apebench,
    corrector,
    darcy,
    drag,
    held_suarez,
    kinetics,
    mesh_flow,
    models,
    navier_stokes,
    potential_learning,
    step,
    turbulent_step,
)
from data.fields.field_reading import read_fields
from data.meshes.mesh_samples import read_meshes
from data.parameters import read_parameters
from experiments.application.choices import groups
from experiments.cli import STAGES
from experiments.stages.train import train_on, train_task
from simulators.campaigns.campaign import run_campaign
from surrogates.fields.fit import fit_field_surrogate
from surrogates.properties.fit import fit_property_surrogate

FOLDER = Path(apebench.__file__).parent
#: `darcy_peer` and `mace_score` run in the environments of peers, and import their packages.
MODULES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in ("__init__", "darcy_peer", "mace_score"))
#: A setting, or the beginning of one such as `train.epochs={}`, but not half of a name such as `task=kinetics/{}`.
SETTING = re.compile(r"\+?[a-z_]+[a-z_.@]*=(?!\w+/(\{|$))\S*")


def strings(module: str) -> Iterator[str]:
    """The strings of a module, and the beginnings of its formatted ones."""
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)  # type: ignore[misc]


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_is_imported_and_its_options_are_explained(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = getattr(importlib.import_module(f"benchmarks.{module}"), "main", None)
    if main is None or not inspect.signature(main).parameters:
        return
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "--out" in capsys.readouterr().out


def test_programs_within_benchmarks_import_what_exists() -> None:
    """Programs that are run in processes of their own are strings, which no type checker reads."""
    programs = [
        (m, text) for m in MODULES for text in strings(m) if re.search(r"^(from|import) \S+ ?", text, re.MULTILINE)
    ]
    checked = 0
    for module, text in programs:
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    assert hasattr(importlib.import_module(str(node.module)), alias.name), f"{module}: {alias.name}"
                    checked += 1
    assert checked > 15


def test_settings_within_benchmarks_exist() -> None:
    keys = set().union(*(keys_of(stage) for stage in STAGES))
    of_groups = {group for stage in STAGES for group in groups(stage)}
    settings = [
        (m, *assigned(text.partition("{")[0].rstrip("[")))
        for m in MODULES
        for text in strings(m)
        if SETTING.fullmatch(text)
    ]
    assert len(settings) > 40
    assert [s for s in settings if refused(s[1], s[2], of_groups, keys)] == []


class WorkReachedError(Exception):
    """The work of a benchmark, at which it is stopped."""


def stop(*arguments: Any, **options: Any) -> Any:
    raise WorkReachedError


def replace(monkeypatch: pytest.MonkeyPatch, function: Any, other: Any) -> None:
    """Put another function in the place of one, in the module that defines it and from which benchmarks import it."""
    monkeypatch.setattr(importlib.import_module(function.__module__), function.__name__, other)


TABLE = SimpleNamespace(content=lambda: "")
WORK: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "apebench": (fit_field_surrogate, lambda out: apebench.score("kdv", 0, out, [], 10_000)),
    **{
        f"corrector, {name}": (
            fit_field_surrogate,
            lambda out, case=case: corrector.train(case, *[np.zeros((2, 6, 1, *(8,) * case.dim))] * 2, out, 1, []),
        )
        for name, case in [
            *corrector.CASES.items(),
            ("coarser", corrector.CASES["burgers"].correcting(32, 0.0125, 0.95)),
        ]
    },
    "darcy": (
        train_on,
        lambda out: darcy.ours(out, dict.fromkeys(darcy.FILES, out), 60.0, 0, []),
    ),
    "drag": (train_on, lambda out: drag.train_surrogate(out, out / "run", [])),
    "held_suarez": (
        run_campaign,
        lambda out: held_suarez.simulate_core(out, 1, ["sampling=seeds", "simulator.days=1"]),
    ),
    "kinetics, labels": (
        run_campaign,
        lambda out: kinetics.label(next(iter(kinetics.PROBLEMS)), out, 3, 1),
    ),
    "kinetics": (train_on, lambda out: kinetics.train("ignition", out, out / "run", [])),
    "mesh_flow": (
        train_on,
        lambda out: mesh_flow.train_surrogate(out, out / "run", 60.0, []),
    ),
    "answer_bodies, numbers": (
        train_on,
        lambda out: drag.train_surrogate(out, out / "run", [], answer_bodies.OUTPUTS[-1]),
    ),
    "answer_bodies, meshes": (
        train_on,
        lambda out: mesh_flow.train_surrogate(out, out / "run", None, answer_bodies.MESHES),
    ),
    "step": (
        train_on,
        lambda out: mesh_flow.train_surrogate(out, out / "run", None, step.SETTINGS, "fluids/cells"),
    ),
    **{
        f"turbulent_step, {kind}": (
            train_on,
            lambda out, kind=kind: turbulent_step.train_surrogate(kind, range(64), out / "run", []),
        )
        for kind in turbulent_step.RECIPES
    },
    "navier_stokes": (
        fit_field_surrogate,
        lambda out: navier_stokes.train_operator(np.zeros((16, 3, 1, 8, 8)), out, 60.0, []),
    ),
    "potential_learning": (
        train_task,
        lambda out: potential_learning.ours(
            out / "run", dict.fromkeys(("train", "valid", "isolated"), Path(__file__)), "ace", 60.0, []
        ),
    ),
    "qm9_gap": (
        fit_property_surrogate,
        lambda out: models.fit(
            models.Gaps(["C", "CC", "CCC"], np.arange(3.0)),
            {"train": np.array([0]), "valid": np.array([1]), "calibration": np.array([2])},
            out,
            max_seconds=60.0,
        ),
    ),
}


@pytest.mark.parametrize("name", WORK)
def test_a_benchmark_is_configured_up_to_its_work(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration composes and builds; files of labels, which no test has, are replaced."""
    work, call = WORK[name]
    replace(monkeypatch, work, stop)
    monkeypatch.setattr(apebench, "trajectories", lambda *_: np.zeros((4, 6, 1, 16), np.float32))
    for reader in (read_fields, read_meshes, read_parameters):
        replace(monkeypatch, reader, lambda *_, **__: (TABLE, {}))
    with pytest.raises(WorkReachedError):
        call(tmp_path)
