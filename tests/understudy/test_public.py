"""The public face: every name of it leads somewhere, stages run as the command does, and shadows are named."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import understudy
from data.spec import Spec, Variable

ROOT = Path(__file__).resolve().parents[2]


class Square:
    """A simulator of one's own: y = x^2."""

    name = "square"
    fingerprint = "square-1"
    spec = Spec((Variable("x", (), "1", "float64", "x"),), (Variable("y", (), "1", "float64", "x squared"),))
    provenance: dict[str, str] = {}  # noqa: RUF012

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        return self.spec.answer({"y": float(inputs.x) ** 2})


def test_every_public_name_is_there() -> None:
    assert set(understudy.__all__) == set(understudy._MODULES) == set(dir(understudy))
    for name in understudy.__all__:
        assert getattr(understudy, name).__doc__, name


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(AttributeError, match="it has Campaign"):
        understudy.lode  # noqa: B018


def test_importing_it_imports_no_library_of_a_science() -> None:
    code = "import sys, understudy; print(sorted({'jax', 'pyscf', 'hydra', 'numpy'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize("name", ["data", "experiments"])
def test_a_package_in_the_place_of_ours_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("raise ValueError('not ours')\n")
    (tmp_path / "here").mkdir()
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", "import understudy; understudy.load"],
        cwd=tmp_path / "here", env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: understudy: ")
    assert str(tmp_path / f"{name}.py") in last


def test_a_file_beside_the_notebook_does_not_stand_in_for_ours(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("raise ValueError('not ours')\n")
    result = subprocess.run(
        [sys.executable, "-c", "import understudy; print(understudy.load.__name__)"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.stdout.strip() == "load", result.stderr


def test_a_campaign_of_ones_own_simulator_is_stored_and_resumed(tmp_path: Path) -> None:
    square = Square()
    campaign = understudy.Campaign(square, tmp_path / "squares", workers=1, timeout_s=60.0)
    first = campaign.run([square.spec.request({"x": float(n)}) for n in range(3)], progress=False)
    second = campaign.run([square.spec.request({"x": float(n)}) for n in range(5)], progress=False)
    assert (first.done, second.done, second.cached) == (3, 2, 3)
    table = campaign.records()
    np.testing.assert_array_equal(table.y, table.x**2)
    assert table.y.attrs["units"] == "1"


def test_a_simulator_is_named_with_its_settings() -> None:
    xtb = understudy.simulator("xtb", "simulator.method=GFN1-xTB")
    assert xtb.name == "xtb:GFN1-xTB"
    assert isinstance(xtb, understudy.Simulator)
    with pytest.raises(understudy.InputError, match="pyscf"):
        understudy.simulator("pyscfe")


def test_a_stage_runs_as_the_command_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "two molecules, it's.csv"
    table.write_text("smiles\nO\nC\n")
    run = understudy.simulate(
        "simulator=xtb", "simulator.outputs=[energy]", "campaign.workers=1", inputs=table, run_dir=tmp_path / "run"
    )
    assert run.directory == tmp_path / "run"
    assert run.metrics["simulate/answered"] == 2
    assert "molecules" in capsys.readouterr().out
    # GFN2-xTB of water: -5.07 Hartree.
    water = run.records().energy.values[list(run.records().smiles.values).index("O")]
    assert water == pytest.approx(-137.97, abs=0.05)


def test_what_a_stage_refuses_is_an_error_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(understudy.InputError, match=r"absent\.csv"):
        understudy.simulate(inputs=tmp_path / "absent.csv", run_dir=tmp_path / "run")
    with pytest.raises(understudy.InputError, match=r"surrogate\.json"):
        understudy.load(tmp_path)


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/guides/{p.name}" for p in sorted((ROOT / "docs/guides").glob("*.md")))]
)
def test_pages_import_and_name_only_what_is_public(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                assert str(module).split(".")[0] not in {"data", "simulators", "surrogates", "experiments"}, block
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "understudy":
                assert node.attr in understudy.__all__, block


def test_a_comparison_of_a_directory_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(understudy.InputError, match=r"comparison\.json"):
        understudy.comparison(tmp_path)
