"""The cheaper simulator on which a surrogate is to stand: a campaign asks it, and its store is resumed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr
from jax import process_count
from omegaconf import DictConfig, OmegaConf

from data.errors import InputError
from data.settings import build, names
from experiments.application.choices import CONF
from experiments.application.stage import instantiate
from experiments.application.yaml_files import load_yaml
from experiments.campaigns.named_simulator import named_simulator
from simulators.adapter import AnswersHere, Simulator
from simulators.campaigns.answers import answer_requests
from simulators.campaigns.config import CampaignConfig
from simulators.rebuild import describe, rebuild
from surrogates.family import Family
from surrogates.learning.rung import FittedRung, Rung, RungAnswers, ask_here
from surrogates.saved import CARD, load_surrogate, surrogate_directory

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RungSettings:
    """The keys of `rung`.

    Attributes:
        settings: overrides of the configuration of the simulator, such as simulator.method=GFN1-xTB.
        outputs: output or outputs of it that are used; None for all that the kind of surrogate can use.
        store: store of its answers, such as one that `understudy simulate` made; None for one in the run directory.
        conformers: how geometries are made from SMILES; the keys of `simulators.chemistry.conformers.ConformerConfig`.
    """

    settings: list[str] = field(default_factory=list)
    outputs: Any = None
    store: str | None = None
    conformers: Any = None


@dataclass(frozen=True)
class CampaignRung:
    """A simulator that a campaign asks; see `surrogates.learning.rung.Rung`.

    Attributes:
        simulator: the simulator.
        outputs: outputs that are used; empty for all that can be.
        store: store of the answers; None for the one that the training names.
    """

    simulator: Simulator
    outputs: Sequence[str] = ()
    store: Path | None = None

    def ask(
        self, requests: Sequence[xr.Dataset], names: Sequence[str], store: Path, *, progress: bool = True
    ) -> RungAnswers:
        """See `Rung.ask`; the campaign goes on if every request fails.

        Raises:
            InputError: several processes train together, since one process alone writes a store.
        """
        if process_count() > 1:
            raise InputError(
                f"answers of {self.simulator.name} are computed by one process",
                where="devices.distributed",
                remedy="Train in one process, on any number of devices",
            )
        answers = answer_requests(
            self.simulator,
            requests,
            self.store or store,
            CampaignConfig(give_up_after=None),
            names=names,
            progress=progress,
            none_answered=True,
        )
        pairs = zip(answers.status, answers.message, strict=True)
        reasons = ["" if status == "ok" else f"{status}: {message}" for status, message in pairs]
        return RungAnswers(answers.values, reasons, answers.core_seconds)


@dataclass(frozen=True)
class DirectRung:
    """A trained surrogate, or a simulator as fast, that is asked in this process and needs no store; see `Rung`."""

    simulator: Simulator
    outputs: Sequence[str] = ()

    def ask(
        self, requests: Sequence[xr.Dataset], names: Sequence[str], store: Path, *, progress: bool = True
    ) -> RungAnswers:
        """See `Rung.ask`."""
        return ask_here(self.simulator, requests, names)


def rung_of(config: DictConfig, family: Family) -> Rung | FittedRung | None:
    """What the surrogate is to stand on, from the keys `on`, `rung` and `baseline` of a training.

    Raises:
        InputError: this kind cannot stand on it, there is no such simulator or surrogate, or two are named.
    """
    on, task = config.get("on"), family.task
    if on is None:
        return None if config.get("baseline") is None else CampaignRung(instantiate(config.baseline))
    if config.get("baseline") is not None:
        raise InputError("the cheaper simulator is named twice, by on and by baseline", where="on")
    name = str(on)
    if name in task.FITTED_RUNGS:
        return FittedRung(name)
    if task.RUNG_OUTPUTS is None:
        can = f"It can stand on {', '.join(sorted(task.FITTED_RUNGS))}" if task.FITTED_RUNGS else "Leave it out"
        raise InputError(f"a surrogate of {family.name} stands on no {name}", where="on", remedy=can)
    settings = build(RungSettings, config.rung, where="rung")
    outputs = names(settings.outputs, "rung.outputs")
    path = Path(name).expanduser()
    if any((folder / CARD).is_file() for folder in (path, path / "surrogate")):
        return DirectRung(load_surrogate(surrogate_directory(name, "on")), outputs)
    simulator = named_simulator(name, [*_outputs(name, task.RUNG_OUTPUTS), *settings.settings], key="on")
    if family.candidates == "molecules" and "smiles" not in {v.name for v in simulator.spec.inputs}:
        # Imported here, because few trainings make geometries.
        from simulators.chemistry.conformers import ConformerConfig
        from simulators.chemistry.from_smiles import FromSmiles

        conformers = build(ConformerConfig, settings.conformers or {}, where="rung.conformers")
        simulator = FromSmiles(simulator, conformers)
    if family.candidates is not None:
        _say_if_not_rebuilt(simulator)
    if isinstance(simulator, AnswersHere) and settings.store is None:
        return DirectRung(simulator, outputs)
    return CampaignRung(simulator, outputs, None if settings.store is None else Path(settings.store).expanduser())


def _say_if_not_rebuilt(simulator: Simulator) -> None:
    """Warn of a simulator that a saved surrogate cannot make again by itself, before anything is paid."""
    try:
        rebuild(describe(simulator))
    except InputError as error:
        LOG.warning(
            "on: %s, so that commands cannot ask the trained surrogate; in Python, surrogate.with_rung(simulator) can",
            error.problem,
        )


def _outputs(name: str, outputs: Sequence[str]) -> list[str]:
    """The override that makes a packaged simulator give these outputs, if it has a list of outputs to choose."""
    file = CONF / "simulator" / f"{name}.yaml"
    if not outputs or not file.is_file():
        return []
    node = load_yaml(file, remedy="Install understudy again")
    chosen = OmegaConf.is_list(node.get("outputs")) if not OmegaConf.is_missing(node, "outputs") else False
    return [f"simulator.outputs=[{','.join(outputs)}]"] if chosen else []
