"""`understudy train`: train a surrogate on labels, and write its held-out scores to `metrics.json`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from data.files import write_json
from data.reading_summary import Reading
from data.settings import build, names
from data.terminal import show_pairs
from experiments.application.run_directory import configuration_checked, refuse_default_directory
from experiments.application.stage import StageSettings, application, first_rejects, reading_shown
from experiments.campaigns.cheaper_simulator import rung_of
from surrogates.family import family_of
from surrogates.learning.devices import enable_compilation_cache, is_first
from surrogates.learning.fit_note import note_fit
from surrogates.learning.label_source import label_sources, save_label_sources, sources_before
from surrogates.learning.processes import DeviceConfig, news_awaited, processes_joined
from surrogates.learning.resuming import record_training_data
from surrogates.learning.task import VALIDATION, Task
from surrogates.learning.tracking import log_scores
from surrogates.saved import surrogate_directory


@dataclass(frozen=True)
class TrainSettings(StageSettings):
    """The keys of `understudy train`; each group is checked where it is used.

    Attributes:
        level: level of theory of labels whose file does not say it.
        launcher: what starts all processes; see `experiments.launching.training`.
    """

    devices: DeviceConfig = field(default_factory=DeviceConfig)
    model: Any = MISSING
    data: Any = MISSING
    train: Any = MISSING
    tune: Any = MISSING
    baseline: Any = None
    on: str | None = None
    level: str | None = None
    cross_validation: int | None = None
    rung: Any = MISSING
    launcher: Any = None


def train(config: DictConfig, run_dir: Path) -> None:
    """Train a surrogate of the kind that the configuration chooses, and print what it costs and how good it is."""
    enable_compilation_cache()
    settings = build(TrainSettings, config, where="")
    task = task_of(config)
    trained: list[tuple[Any, Any]] = []
    with news_awaited():
        if settings.cross_validation is not None:
            _cross_validated(task, settings.cross_validation, run_dir)
            return
        metrics = train_on(task, read_data(task, run_dir), run_dir, trained=trained)
    if not is_first():
        return
    save_label_sources(run_dir / "surrogate", _sources(config, settings.level))
    write_json(run_dir / "metrics.json", dict(sorted(metrics.items())))
    page = _page(task, trained, run_dir, metrics)
    show_pairs("Trained", {**closing_rows(metrics), **page, "surrogate": run_dir / "surrogate"})


def _label_files(data: Mapping[str, Any]) -> list[Path]:
    """The files of labels that the settings of the data name."""
    return [Path(name) for name in names(data.get("file") or data.get("train"), "data.file")]


def _sources(config: DictConfig, level: str | None) -> list[dict[str, Any]]:
    """What made the labels, also those of the surrogate whose weights the training began from."""
    sources = label_sources(_label_files(config.data), level)
    if config.model.kind == "potentials":
        sources = [{"head": config.tune.head, **source} for source in sources]
    before = config.tune.surrogate
    return sources if before is None else sources_before(surrogate_directory(before, "tune.surrogate"), sources)


def _page(
    task: Task[Any, Any, Any], trained: list[tuple[Any, Any]], run_dir: Path, metrics: Mapping[str, float]
) -> dict[str, Path]:
    """Write the page of a training of a kind that has one, from its test part or else its validation part."""
    if task.KIND != "fields" or not trained:
        return {}
    surrogate, parts = trained[0]
    held_out = parts.test if parts.test is not None else parts.valid
    if held_out is None:
        return {}
    # Drawing loads matplotlib, for which other trainings need not wait.
    from experiments.pages.field_page import write_field_page

    return {"page": write_field_page(run_dir, surrogate, held_out, metrics)}


def _cross_validated(task: Task[Any, Any, Any], folds: int, run_dir: Path) -> None:
    from experiments.pipelines.cross_validation import SUMMARY, cross_validate

    metrics = cross_validate(task, read_data(task, run_dir), folds, run_dir, train_on)
    if is_first():
        write_json(run_dir / "metrics.json", metrics)
        places = {"summary": run_dir / SUMMARY, "surrogates": str(run_dir / "fold-*" / "surrogate")}
        show_pairs("Cross-validated", {"folds": folds, **places})


def task_of(config: DictConfig) -> Task[Any, Any, Any]:
    """The training that a configuration describes.

    Raises:
        InputError: a key is unknown, or a value has a wrong type or is out of range.
    """
    family = family_of(config.model.kind, where="model.kind")
    task: Task[Any, Any, Any] = family.task.of(settings_of(config), rung_of(config, family))
    return task


def settings_of(config: DictConfig) -> dict[str, Any]:
    """The groups of a configuration that a kind of surrogate reads, as plain values."""
    groups = ("model", "data", "train", "tune", "baseline", "rung")
    plain: dict[str, Any] = {
        name: None if config.get(name) is None else OmegaConf.to_container(config[name], resolve=True)
        for name in groups
    }
    return {**plain, "on": config.get("on")}


def train_task(task: Task[Any, Any, Any], run_dir: Path, *, progress: bool = True) -> dict[str, float]:
    """Read, split, fit, calibrate, score, and save to `run_dir/surrogate`.

    Args:
        task: training of any kind of surrogate.
        run_dir: directory that receives all results.
        progress: whether to show progress bars and tables.

    Returns:
        The metrics of `train_on`; only the first of several processes returns any.

    Raises:
        InputError: a file has nothing that can be used, or see `train_on`.
    """
    return train_on(task, read_data(task, run_dir), run_dir, progress=progress)


def read_data(task: Task[Any, Any, Any], run_dir: Path) -> Any:
    """Read all files of a training, and show and keep what was read.

    Raises:
        InputError: a file has nothing that can be used.
    """
    readings: list[Reading] = []
    with first_rejects(run_dir) as rejects, reading_shown(readings, run_dir):
        return task.read(rejects, readings)


def train_on(
    task: Task[Any, Any, Any],
    data: Any,
    run_dir: Path,
    *,
    progress: bool = True,
    trained: list[tuple[Any, Any]] | None = None,
) -> dict[str, float]:
    """Split data that were read before, fit, calibrate, score, and save to `run_dir/surrogate`.

    Args:
        task: training of any kind of surrogate.
        data: what `task.read` returns.
        run_dir: directory that receives all results; a training that was stopped in it resumes.
        progress: whether to show progress bars and tables.
        trained: receives the surrogate and the parts of the data, for a page.

    Returns:
        Flat metrics: `train/seconds` (wall time), `train/core_seconds` (processor time), `train/data_wait_share` (share
        of the time of the loop), `train/compilations` (of the training step), the size of the training part and the
        cost of its labels, and the scores. Only the first of several processes returns metrics.

    Raises:
        InputError: the parts do not fit the amount of data, or `run_dir` holds a training on other data.
    """
    parts = task.split(data, run_dir, progress=progress)
    record_training_data(run_dir, task.identity(parts))
    configuration_checked(run_dir)
    if is_first():
        write_json(run_dir / "split.json", task.rows(parts), indent=None)
    surrogate, result = task.fit(parts, run_dir, progress=progress)
    note_fit(result, run_dir)
    surrogate = task.calibrate(surrogate, parts)
    if not is_first():
        return {}
    metrics = {
        "train/seconds": result.seconds,
        "train/core_seconds": result.core_seconds,
        "train/data_wait_share": result.data_wait_share,
        "train/compilations": float(result.compilations["train"]),
        **({} if result.epochs is None else dict(zip(EPOCHS, map(float, result.epochs), strict=True))),
        **task.costs(parts, result),
    }
    scores = task.score(surrogate, parts)
    log_scores(run_dir, scores)
    task.save(surrogate, parts, metrics | scores, run_dir / "surrogate")
    if trained is not None:
        trained.append((surrogate, parts))
    return metrics | scores


#: Metrics: passes over the data that a training made, and those that were asked for.
EPOCHS = ("train/epochs", "train/epochs_asked")


def closing_rows(metrics: Mapping[str, float]) -> dict[str, str]:
    """The rows of the table that ends a training: costs, scores, and the part that they were computed on."""
    # Scores of forecasts for each channel and lead are omitted here; the page of an evaluation shows them.
    shown = [
        name
        for name in metrics
        if (name.startswith(("test/", f"{VALIDATION}/")) and name.count("/") < 3)
        or name in ("train/seconds", "train/core_seconds")
    ]
    rows = {name: f"{metrics[name]:.6g}" for name in shown}
    if EPOCHS[0] in metrics:
        completed, asked = (metrics[name] for name in EPOCHS)
        rows["epochs"] = f"{completed:.3g} of {asked:g}" + ("" if completed >= asked else ", ended by time or patience")
    if not any(name.startswith("test/") for name in metrics):
        validated = any(name.startswith(f"{VALIDATION}/") for name in metrics)
        rows["held-out scores"] = (
            "none: those of the validation part, which chose the weights, are better than on others; set samples aside "
            "for a test to get held-out ones"
            if validated
            else "none, since nothing was set aside for a test"
        )
    return rows


def unused_in_training(config: DictConfig) -> dict[str, str]:
    """Keys that this kind of surrogate or training does not use, with the reason; see `application.strict`."""
    task = family_of(config.model.kind, where="model.kind").task
    unused: dict[str, str] = task.unused_in_training(settings_of(config))
    if not config.devices.distributed:
        others = ("coordinator", "processes", "process", "local_device_ids", "lost_after_s")
        unused |= {f"devices.{name}": "there is one process without devices.distributed=true" for name in others}
    return unused


def join_processes(config: DictConfig) -> AbstractContextManager[None]:
    """The context in which the processes of a training are joined.

    Raises:
        InputError: there are several, and `run.dir` is not given.
    """
    devices = build(TrainSettings, config, where="").devices
    if devices.distributed:
        refuse_default_directory()
    return processes_joined(devices)


main = application("train", train, unused=unused_in_training, around=join_processes)
