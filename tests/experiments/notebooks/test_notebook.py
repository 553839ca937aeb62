"""Notebooks draw what they say, on numbers whose answer is known, and import only the public face."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import understudy

OURS = {"data", "simulators", "surrogates", "experiments", "benchmarks"}


def test_the_notebook_runs_on_a_run(synthetic_run: Path, run_notebook: Callable[..., list[dict[str, Any]]]) -> None:
    outputs = run_notebook("accuracy_versus_cost", {"UNDERSTUDY_RUN": str(synthetic_run)})
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    text = "".join(output.get("text", "") for output in outputs)
    metrics = json.loads((synthetic_run / "metrics.json").read_text())
    assert f"break-even at {metrics['cost/break_even_candidates'] - 1:,.0f}" in text or (
        f"break-even at {metrics['cost/break_even_candidates']:,.0f}" in text
    )
    table = outputs[-1]["data"]["text/plain"]
    assert "coverage" in table


def modules(code: str) -> set[str]:
    """The modules that code imports, by their full name."""
    nodes = list(ast.walk(ast.parse(code)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("name", ["accuracy_versus_cost", "fluids"])
def test_a_notebook_imports_only_the_public_face(name: str, repository: Path) -> None:
    path = repository / "experiments" / "notebooks" / f"{name}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    imported = modules(code)
    assert not {module for module in imported if module.split(".")[0] in OURS}
    assert not {module for module in imported if module.startswith("understudy.")}
    used = set(re.findall(r"\bunderstudy\.(\w+)", code))
    assert used <= set(understudy.__all__)
