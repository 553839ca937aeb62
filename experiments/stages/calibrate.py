"""`understudy calibrate`: make a ladder of simulators one simulator with a promised error."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from data.errors import InputError
from data.settings import build, existing_file
from data.terminal import show_pairs
from experiments.answering.cascade_calibration import LadderSettings, calibrate_cascade
from experiments.application.stage import StageSettings, application
from simulators.campaigns.config import CampaignConfig
from surrogates.cascade.risk_calibration import Risk
from surrogates.learning.devices import enable_compilation_cache

#: Keys below which the user chooses the names; they need no plus sign.
FREE = ("rungs.", "tau.")


@dataclass(frozen=True)
class CalibrateSettings(StageSettings):
    """The keys of `understudy calibrate`."""

    cascade: tuple[str, ...] = MISSING
    rungs: dict[str, Any] = field(default_factory=dict)
    labels: str = MISSING
    tau: dict[str, float] = field(default_factory=dict)
    risk: Risk = field(default_factory=Risk)
    failures: str = "pass"
    domain: bool = True
    drop: bool = True
    conformers: Any = MISSING
    campaign: Any = MISSING
    out: str = MISSING


def calibrate(config: DictConfig, run_dir: Path) -> None:
    """Calibrate a cascade for answers with the labels of a store."""
    settings = build(CalibrateSettings, config, where="")
    campaign = build(CampaignConfig, config.campaign, where="campaign")
    conformers: Any = OmegaConf.to_container(config.conformers, resolve=True)
    if not settings.tau:
        remedy = "Give tau.OUTPUT=VALUE, as tau.energy=0.01, for each output that answers are to have"
        raise InputError("no output has a tolerance", where="tau", remedy=remedy)
    ladder = LadderSettings(
        tuple(map(str, settings.cascade)),
        settings.tau,
        settings.risk,
        settings.rungs,
        settings.failures,
        settings.domain,
        conformers,
        settings.drop,
    )
    enable_compilation_cache()
    out = Path(settings.out)
    calibrate_cascade(ladder, existing_file(settings.labels, "labels"), out, campaign)
    # Only what draws imports matplotlib.
    from experiments.pages.page import write_report

    show_pairs("Report", {"page": write_report(out)})
    show_pairs("Ready", {"cascade": out, "use": f"understudy simulate simulator=cascade simulator.directory={out}"})


_application = application("calibrate", calibrate)


def main() -> None:
    """Run the stage; settings of rungs and tolerances, whose names the user chooses, need no plus sign."""
    sys.argv[1:] = [f"++{argument}" if argument.startswith(FREE) else argument for argument in sys.argv[1:]]
    _application()
