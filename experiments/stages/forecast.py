"""`understudy forecast`: forecasts of a trained forecaster from states of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from data.errors import InputError
from data.settings import build, names
from data.terminal import show_pairs
from experiments.application.stage import StageSettings, application, instantiate
from surrogates.learning.devices import enable_compilation_cache
from surrogates.saved import load_surrogate, read_card, surrogate_directory


@dataclass(frozen=True)
class ForecastStageSettings(StageSettings):
    """The keys of `understudy forecast`."""

    surrogate: str | None = MISSING
    source: Any = MISSING
    time: Any = None
    steps: int | None = None
    members: int = 1
    seed: int = 0
    out: str = MISSING

    def __post_init__(self) -> None:
        if self.members < 1 or self.seed < 0 or (self.steps is not None and self.steps < 1):
            raise ValueError("steps and members must be 1 or more, and seed 0 or more")


def forecast(config: DictConfig, run_dir: Path) -> None:
    """Write forecasts from the states of `config.source` to `config.out`."""
    settings = build(ForecastStageSettings, config, where="")
    out = Path(settings.out)
    directory = surrogate_directory(settings.surrogate, "surrogate")
    kind = str(read_card(directory)["kind"])
    if kind != "forecasts":
        raise InputError(
            f"a surrogate of {kind} makes no forecasts", where="surrogate", remedy="Write understudy predict for it"
        )
    from experiments.forecasting.issuing import issue_forecasts
    from experiments.prediction.delivery import deliver, is_delivered

    try:
        source = instantiate(config.source)
    except ValueError as error:
        raise InputError(str(error), where="source") from error
    if not hasattr(source, "segments") or not hasattr(source, "step_hours"):
        raise InputError(
            f"a {type(source).__name__} holds no states to start from", where="source",
            remedy="Choose source=file, weatherbench2 or arco_era5",
        )  # fmt: skip
    enable_compilation_cache()
    surrogate: Any = load_surrogate(directory)
    starts = names(settings.time, "time")
    made_from = {"surrogate": surrogate.fingerprint, "source": str(source.where), "time": starts}
    if is_delivered(out, run_dir, made_from):
        show_pairs("Forecasts", {"file": f"{out}, which is complete"}, files={"file": out})
        return
    answer = issue_forecasts(surrogate, source, starts, settings.steps, settings.members, settings.seed, out, run_dir)
    deliver(answer, out, run_dir, made_from)
    show_pairs("Forecasts", {**answer.said, "file": out})


main = application("forecast", forecast)
