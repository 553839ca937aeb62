"""A simulator as a teacher: its answers by campaigns into one store, and what is kept of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from simulators.adapter import Simulator
from simulators.campaigns.answers import Answers, answer_requests
from simulators.campaigns.config import CampaignConfig

LOG = logging.getLogger(__name__)


@dataclass
class SimulatorAnswers:
    """A simulator whose answers lie in a store; those that are there are not computed again.

    Attributes:
        simulator: the simulator.
        store: directory of the records.
        config: settings of its campaigns.
        core_seconds: processor time of all records that were asked for so far, s.
    """

    simulator: Simulator
    store: Path
    config: CampaignConfig
    core_seconds: float = 0.0
    _costs: list[float] = field(default_factory=list)

    def ask(self, requests: Iterable[xr.Dataset], names: Sequence[str], total: int) -> Answers:
        """The answers to requests, or the reasons why there are none.

        Args:
            requests: the requests.
            names: outputs that are read.
            total: number of requests.

        Raises:
            InputError: every request failed, or most of the first ones.
        """
        answers = answer_requests(self.simulator, requests, self.store, self.config, names=names, total=total)
        self.take(answers)
        if lost := int((~answers.ok).sum()):
            LOG.warning("%s gave no answer to %d of %d requests", self.simulator.name, lost, len(answers.status))
        return answers

    def take(self, answers: Answers, evaluations: Sequence[float] | None = None) -> None:
        """Count the cost of answers.

        Args:
            answers: the answers.
            evaluations: number of answers of the simulator that each of those that succeeded took; None for one.
        """
        self.core_seconds += answers.core_seconds
        each = answers.costs[answers.ok] / (1.0 if evaluations is None else np.maximum(evaluations, 1.0))
        self._costs += each.tolist()

    @property
    def core_seconds_each(self) -> float:
        """Processor time of an answer, s: the smaller of mean and median.

        The first answer of each process contains the loading of the simulator, which a long campaign does not notice.
        """
        return float(min(np.mean(self._costs), np.median(self._costs))) if self._costs else float("nan")


def facts_of(simulator: Simulator) -> dict[str, str]:
    """Level of theory and licence of a simulator, as far as its provenance states them, by the names of `Teacher`."""
    stated: dict[str, Any] = simulator.provenance
    return {name: str(stated.get(name, "")) for name in ("level_of_theory", "licence")}
