"""Training curves in MLflow's local file store, for those who compare runs there.

The run directory's own `train.jsonl` and `metrics.json` are the record; this is a copy for a viewer
(`mlflow ui --backend-store-uri RUN/mlruns`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Tracker:
    """One MLflow run under `directory`.

    Args:
        directory: of the file store, made if absent.
        experiment: name under which runs are grouped.
        parameters: settings to show, in any types that print.
    """

    def __init__(self, directory: Path, experiment: str, parameters: Mapping[str, Any]) -> None:
        # MLflow asks for this consent because its newer features want a database.
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("DO_NOT_TRACK", "true")
        from mlflow.tracking import MlflowClient

        directory.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=directory.resolve().as_uri())
        found = self._client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else self._client.create_experiment(experiment)
        self._run = self._client.create_run(experiment_id).info.run_id
        for name, value in parameters.items():
            self._client.log_param(self._run, name, value)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers at a step."""
        for name, value in metrics.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)
