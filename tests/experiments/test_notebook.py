"""The notebook runs from top to bottom on a run directory and draws what it says."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient


def test_the_notebook_runs_on_a_run(synthetic_run: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_RUN", str(synthetic_run))
    folder = repository / "experiments" / "notebooks"
    notebook = nbformat.read(folder / "accuracy_versus_cost.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    text = "".join(output.get("text", "") for output in outputs)
    assert "break-even at" in text
    table = outputs[-1]["data"]["text/plain"]
    assert "coverage" in table
