"""The notebook draws what it says, on numbers whose answer is known; test_pipeline.py runs it on a real run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
