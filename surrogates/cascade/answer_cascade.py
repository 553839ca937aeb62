"""A ladder of simulators as one simulator: each request gets the cheapest answer that can be trusted.

The first rung whose answer has a chance of being wrong below the calibrated threshold answers (see `risk`), and the
last rung, the simulator, answers the rest. Rungs change from one request to the next, so that energies of successive
answers do not belong to one surface: it sorts frames and trajectories, and no step of dynamics is made with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from data.errors import InputError
from data.plain import to_plain
from data.spec import SimulationError, Spec, Variable, check, content_hash
from simulators.adapter import Simulator, answer_each
from surrogates.cascade.cascade_card import CascadeCard
from surrogates.cascade.difficulty import Answer, difficulty
from surrogates.cascade.rung_requests import refuse_other_questions, request_to

RUNG = Variable("rung", (), "1", "int32", "rung of the cascade that answered, from 0, the cheapest")
COST = Variable("answer_cost_s", (), "s", "float64", "processor time of the rungs that were asked, as calibrated")


class AnswerCascade:
    """A calibrated cascade; see `simulators.adapter.Simulator`.

    An answer has each output with a tolerance, as `<name>`, and the bounds `<name>_low` and `<name>_high`, which are
    the output minus and plus the tolerance, and equal to it where the simulator answered. They hold all entries of all
    outputs of a request with a probability of 1 - alpha or more. `rung` is the rung that answered, and `answer_cost_s`
    what the rungs that were asked cost.

    Args:
        rungs: from cheap to expensive, as many as the card has; the last one is the simulator.
        card: the calibration.

    Raises:
        InputError: a rung lacks an output, has other units or conventions, or is another one than was calibrated.
    """

    def __init__(self, rungs: Sequence[Simulator], card: CascadeCard) -> None:
        labels = [rung.label for rung in card.rungs]
        if len(rungs) != len(labels):
            raise InputError(f"{len(rungs)} rungs, and {len(labels)} were calibrated", where="cascade")
        for number, (rung, calibrated) in enumerate(zip(rungs, card.rungs, strict=True)):
            if rung.fingerprint != calibrated.fingerprint:
                raise InputError(
                    f"rung {number} ({calibrated.label}) is {rung.name} with the fingerprint {rung.fingerprint[:12]}, "
                    f"and {calibrated.name} with {calibrated.fingerprint[:12]} was calibrated",
                    where=f"cascade.{number}",
                    remedy="Calibrate the cascade anew with understudy calibrate, or restore that rung",
                )
        refuse_other_questions(rungs, labels, list(card.tolerance.tau))
        for name, unit in card.tolerance.units.items():
            if rungs[-1].spec.output(name).units != unit:
                raise InputError(f"the tolerance of {name} is in {unit}", where=f"tau.{name}")
        self.rungs, self.card = tuple(rungs), card

    @property
    def name(self) -> str:
        """The number of rungs, the simulator and the first digits of the fingerprint."""
        return f"cascade:{len(self.rungs)}:{self.rungs[-1].name}:{self.fingerprint[:8]}"

    @cached_property
    def spec(self) -> Spec:
        """The inputs of the last rung; its outputs that have a tolerance, with bounds, the rung and the cost."""
        last = self.rungs[-1].spec
        outputs: list[Variable] = []
        for name in self.card.tolerance.tau:
            variable = last.output(name)
            outputs.append(variable)
            outputs += [
                replace(variable, name=f"{name}_{end}", long_name=f"{word} bound of the {variable.long_name}")
                for end, word in (("low", "lower"), ("high", "upper"))
            ]
        return Spec(last.inputs, (*outputs, RUNG, COST), last.coords, last.attrs)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the fingerprints of the rungs and of the calibration; costs do not enter."""
        card = to_plain(self.card)
        for rung in card["rungs"]:
            for key in ("label", "settings", "name", "cost_s", "declared"):
                del rung[key]
        return content_hash(["cascade", card])

    @property
    def provenance(self) -> dict[str, Any]:
        """The name, the fingerprint as version, and the card as settings."""
        return {"simulator": self.name, "version": self.fingerprint, "settings": to_plain(self.card)}

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """The cheapest answer that can be trusted.

        Returns:
            See the class; `attrs["log"]` has the chance of being wrong of each rung that was asked, and its failure.

        Raises:
            SimulationError: `invalid_input`: the request does not fit; or the last rung failed; or, with
                `failures="list"`, a rung did.
        """
        (answer,) = self.simulate_many([inputs])
        if isinstance(answer, SimulationError):
            raise answer
        return answer

    def simulate_many(self, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
        """The answers to requests, rung by rung; see `simulate` and `simulators.adapter.AnswersMany`."""
        climbs = [_Climb(request) for request in inputs]
        for climb in climbs:
            self._check(climb)
        for number in range(len(self.rungs)):
            left = [climb for climb in climbs if climb.result is None]
            if not left:
                break
            for climb, answer in zip(left, ask(self.rungs[number], [c.request for c in left]), strict=True):
                self._judge(number, climb, answer)
        return [_ended(climb) for climb in climbs]

    def _check(self, climb: _Climb) -> None:
        # The last rung decides which of its inputs may be absent.
        present = tuple(v for v in self.spec.inputs if v.name in climb.request)
        try:
            check(climb.request, present, sizes=self.spec.sizes)
        except SimulationError as error:
            climb.result = error

    def _judge(self, number: int, climb: _Climb, answer: Answer) -> None:
        """Give the answer of a rung, or let the request climb."""
        rung, last = self.card.rungs[number], number == len(self.rungs) - 1
        climb.cost_s += rung.cost_s
        note: dict[str, Any] = {"rung": rung.label}
        climb.log.append(note)
        if isinstance(answer, SimulationError):
            note |= {"failed": answer.kind, "message": answer.message}
            if last or self.card.failures == "list":
                message = f"rung {number} ({rung.label}): {answer.message}"
                climb.result = SimulationError(answer.kind, message, {**answer.details, "rungs": climb.log})
            climb.before = answer
            return
        if not last:
            assert rung.errors is not None
            hard = difficulty(answer, climb.before, self.card.tolerance.tau, domain=self.card.domain)
            chance = float(rung.errors.chance(np.array(hard)))
            note["chance_wrong"] = chance if np.isfinite(chance) else None
            if not chance < self.card.promised.threshold:
                climb.before = answer
                return
        climb.result = self._answer(number, climb, answer, exact=last)

    def _answer(self, number: int, climb: _Climb, answer: xr.Dataset, *, exact: bool) -> xr.Dataset:
        values: dict[str, Any] = {RUNG.name: number, COST.name: climb.cost_s}
        for name, tau in self.card.tolerance.tau.items():
            value, width = np.asarray(answer[name].values, np.float64), 0.0 if exact else tau
            values |= {name: value, f"{name}_low": value - width, f"{name}_high": value + width}
        return self.spec.answer(values).assign_attrs(log=json.dumps({"rungs": climb.log}))


class _Climb:
    """A request on its way up.

    Attributes:
        request: the request.
        before: answer of the rung before, or its failure; None before the first.
        result: the answer, or why there is none; None while it climbs.
        cost_s: cost of the rungs that were asked, s.
        log: what each of them said.
    """

    def __init__(self, request: xr.Dataset) -> None:
        self.request = request
        self.before: Answer | None = None
        self.result: Answer | None = None
        self.cost_s = 0.0
        self.log: list[dict[str, Any]] = []


def _ended(climb: _Climb) -> Answer:
    assert climb.result is not None
    return climb.result


def ask(rung: Simulator, requests: Sequence[xr.Dataset]) -> list[Answer]:
    """The answers of a rung to requests to the last one, or its failures; a request that it would misread is one."""
    answers: list[Answer | None] = [None] * len(requests)
    translated: list[xr.Dataset] = []
    places: list[int] = []
    for place, request in enumerate(requests):
        try:
            translated.append(request_to(rung, request))
            places.append(place)
        except SimulationError as error:
            answers[place] = error
    for place, answer in zip(places, answer_each(rung, translated) if translated else [], strict=True):
        answers[place] = answer
    return [answer for answer in answers if answer is not None]
