"""Training curves and held-out scores in MLflow's local file store, for users who compare runs there.

The run directory's own `train.jsonl` and `metrics.json` are the record; this is a copy for a viewer
(`mlflow ui --backend-store-uri RUN/mlruns`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Folder of the store, in the run directory of a training.
FOLDER = "mlruns"
EXPERIMENT = "understudy"


class Tracker:
    """The one MLflow run of a training.

    Args:
        directory: directory of the file store, created if absent.
        experiment: name under which runs are grouped.
        parameters: settings to show, of any types that can be printed. MLflow cannot change a parameter; one that a
            resumed run has changed, such as the number of epochs, becomes a tag.
        resume: continue the run in the store, if there is one.
    """

    def __init__(self, directory: Path, experiment: str, parameters: Mapping[str, Any], *, resume: bool) -> None:
        # MLflow asks for this consent because its newer features want a database.
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("DO_NOT_TRACK", "true")
        from mlflow.tracking import MlflowClient

        directory.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=directory.resolve().as_uri())
        existing = self._client.get_experiment_by_name(experiment)
        experiment_id = existing.experiment_id if existing else self._client.create_experiment(experiment)
        runs = self._client.search_runs([experiment_id], max_results=1) if resume else []
        self._run = runs[0].info.run_id if runs else self._client.create_run(experiment_id).info.run_id
        self._client.update_run(self._run, status="RUNNING")
        logged = dict(runs[0].data.params) if runs else {}
        for name, value in parameters.items():
            if name not in logged:
                self._client.log_param(self._run, name, value)
            elif logged[name] != str(value):
                self._client.set_tag(self._run, f"resumed.{name}", value)
        self._last_step: dict[str, int] = {}

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics of a step, unless the run has them: a resumed run repeats the steps since its checkpoint."""
        for name, value in metrics.items():
            name = re.sub(r"[^\w./ :-]", "_", name)
            if name not in self._last_step:
                before = self._client.get_metric_history(self._run, name)
                self._last_step[name] = max((point.step for point in before), default=-1)
            if step > self._last_step[name]:
                self._client.log_metric(self._run, name, value, step=step)
                self._last_step[name] = step

    def last_step(self) -> int:
        """The last step of the curves; 0 if there are none."""
        return max((point.step for point in self._client.get_metric_history(self._run, "learning_rate")), default=0)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)


def log_scores(run_dir: Path, scores: Mapping[str, float]) -> None:
    """Add held-out scores to the MLflow run of a training, at its last step, if it keeps one.

    Args:
        run_dir: run directory of the training.
        scores: names to finite numbers.
    """
    if (run_dir / FOLDER).is_dir():
        tracker = Tracker(run_dir / FOLDER, EXPERIMENT, {}, resume=True)
        tracker.log(scores, tracker.last_step())
        tracker.close()
