"""A cascade as a simulator: who answers, what an answer carries, what is refused, and what happens to failures."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import xarray as xr
from simulator_contract import assert_promises

from data.errors import InputError
from data.plain import from_plain, to_plain
from data.spec import SimulationError, Spec, Variable, check, content_hash, dataset
from simulators.adapter import AnswersMany, Simulator, answer_each
from surrogates.cascade.answer_cascade import AnswerCascade
from surrogates.cascade.cascade_card import CascadeCard, Promised, RungCard, Tolerance
from surrogates.cascade.risk_calibration import LabelledAnswers, Risk, calibrate
from surrogates.cascade.rung_requests import refuse_other_questions, request_to

X = Variable("x", (), "m", "float64", "place")
Y = Variable("y", (), "Pa", "float64", "pressure")
STD = Variable("y_std", (), "Pa", "float64", "standard deviation of the pressure")


@dataclass(frozen=True)
class Sine:
    """sin(x), by its series up to some order, which is worse far from 0; it refuses places beyond `reach`."""

    order: int
    std: bool = True
    reach: float = 10.0
    units: str = "Pa"
    output: str = "y"
    inputs: tuple[Variable, ...] = (X,)

    @property
    def name(self) -> str:
        return f"sine:{self.order}"

    @property
    def spec(self) -> Spec:
        outputs = tuple(replace(v, name=v.name.replace("y", self.output), units=self.units) for v in (Y, STD))
        return Spec(self.inputs, outputs if self.std else outputs[:1])

    @property
    def fingerprint(self) -> str:
        return content_hash(["sine", self.order])

    @property
    def provenance(self) -> dict[str, Any]:
        return {"simulator": self.name, "version": "1", "settings": {"order": self.order}}

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        check(inputs, (X,))
        x = float(inputs["x"])
        if abs(x) > self.reach:
            raise SimulationError("not_converged", f"{x} is too far away")
        terms = [(-1) ** k * x ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(self.order + 1)]
        return dataset(self.spec.outputs, {"y": sum(terms[:-1]), "y_std": abs(terms[-1])})


EXACT = Sine(20, std=False)
LADDER = (Sine(1), Sine(3), EXACT)


def request(x: float) -> xr.Dataset:
    return dataset((X,), {"x": x})


@cache
def calibrated(rungs: tuple[Sine, ...] = LADDER, tau: float = 0.05) -> CascadeCard:
    requests = [request(x) for x in np.random.default_rng(0).uniform(-3, 3, 200)]
    answers = [answer_each(rung, requests) for rung in rungs]
    labelled = LabelledAnswers.of(answers, {"y": tau})
    result = calibrate(labelled, Risk(0.1))
    cards = tuple(
        RungCard(f"r{k}", {}, rung.fingerprint, rung.name, 10.0**k, errors=(*result.errors, None)[k])
        for k, rung in enumerate(rungs)
    )
    counts = (len(result.design), len(result.calibration))
    promised = Promised(0.1, None, result.threshold, *counts, 0, 0, content_hash("labels"), 0)
    return CascadeCard(cards, Tolerance({"y": tau}, {"y": "Pa"}), promised)


def test_it_keeps_the_contract_of_a_simulator() -> None:
    cascade, other = AnswerCascade(LADDER, calibrated()), AnswerCascade(LADDER, calibrated(tau=0.1))
    assert isinstance(cascade, AnswersMany)
    assert_promises(cascade, other, request(1.0), dataset((replace(X, name="z"),), {"z": 1.0}))


def test_easy_requests_are_answered_by_cheap_rungs_and_the_promise_holds() -> None:
    cascade = AnswerCascade(LADDER, calibrated())
    places = np.random.default_rng(7).uniform(-3, 3, 500)
    answers = cascade.simulate_many([request(x) for x in places])
    assert all(isinstance(answer, xr.Dataset) for answer in answers)
    y, low, high, rung, cost = (
        np.array([float(answer[name]) for answer in answers if isinstance(answer, xr.Dataset)])
        for name in ("y", "y_low", "y_high", "rung", "answer_cost_s")
    )
    truth = np.sin(places)
    outside = (truth < low - 1e-9) | (truth > high + 1e-9)
    assert (outside == (np.abs(y - truth) > 0.05)).all()
    assert outside.mean() <= 0.16  # alpha is 0.1; 140 labels and 500 requests leave this much to chance
    assert [np.abs(places[rung == k]).mean() for k in (0, 1)] == sorted(
        np.abs(places[rung == k]).mean() for k in (0, 1)
    )
    assert (low == high)[rung == 2].all()
    assert np.allclose(high[rung < 2] - low[rung < 2], 0.1)
    assert (cost == np.array([1.0, 11.0, 111.0])[rung.astype(int)]).all()
    assert (rung == 0).mean() > 0.2
    assert (rung == 2).mean() < 0.5


def test_answers_do_not_depend_on_what_is_asked_with_them() -> None:
    cascade = AnswerCascade(LADDER, calibrated())
    requests = [request(x) for x in (0.1, 2.9, -1.7, 1.2)]
    for alone, together in zip(map(cascade.simulate, requests), cascade.simulate_many(requests), strict=True):
        assert isinstance(together, xr.Dataset)
        assert alone.identical(together)
    log = json.loads(cascade.simulate(request(2.9)).attrs["log"])["rungs"]
    assert [entry["rung"] for entry in log] == ["r0", "r1", "r2"][: len(log)]
    assert log[0]["chance_wrong"] > 0.5


def test_a_rung_without_error_bars_is_judged_by_its_disagreement_with_the_one_before() -> None:
    rungs = (Sine(1, std=False), Sine(2, std=False), EXACT)
    cascade = AnswerCascade(rungs, calibrated(rungs))
    chosen = [int(cascade.simulate(request(x))["rung"]) for x in (0.2, 2.9)]
    # The first rung is wrong too often to answer everything, and nothing tells which of its answers are.
    assert chosen == [1, 2]


def test_a_rung_that_fails_passes_on_or_lists_by_choice_and_says_why() -> None:
    rungs = (Sine(1, reach=0.5), Sine(3), EXACT)
    card = calibrated()
    answer = AnswerCascade(rungs, card).simulate(request(0.6))
    assert int(answer["rung"]) > 0
    assert json.loads(answer.attrs["log"])["rungs"][0] == {
        "rung": "r0", "failed": "not_converged", "message": "0.6 is too far away",
    }  # fmt: skip
    with pytest.raises(SimulationError, match=r"rung 0 \(r0\): 0\.6 is too far away") as caught:
        AnswerCascade(rungs, replace(card, failures="list")).simulate(request(0.6))
    assert caught.value.kind == "not_converged"
    with pytest.raises(SimulationError, match=r"rung 2 \(r2\)"):
        AnswerCascade((Sine(1), Sine(3), Sine(20, std=False, reach=0.1)), card).simulate(request(3.0))


def test_an_answer_outside_of_the_domain_of_a_rung_passes_on() -> None:
    @dataclass(frozen=True)
    class Narrow(Sine):
        def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
            return super().simulate(inputs).assign(in_domain=abs(float(inputs["x"])) < 0.1)

    card = calibrated()
    rungs = (Narrow(1), Sine(3), EXACT)
    assert int(AnswerCascade(rungs, card).simulate(request(0.2))["rung"]) == 1
    assert int(AnswerCascade(rungs, replace(card, domain=False)).simulate(request(0.2))["rung"]) == 0


@pytest.mark.parametrize(
    ("rung", "words"),
    [
        (Sine(1, units="bar"), r"rung 0 \(r0\) gives y in bar, and r2 in Pa"),
        (Sine(1, output="z"), r"rung 0 \(r0\) does not give y; it gives z, z_std"),
        (Sine(1, inputs=(replace(X, units="km"),)), r"rung 0 \(r0\) takes x in km, and r2 in m"),
        (Sine(1, inputs=()), r"rung 0 \(r0\) does not take x, on which r2 depends"),
        (Sine(1, inputs=(X, replace(X, name="w"))), r"rung 0 \(r0\) takes w, which r2 does not take"),
        (Sine(2), r"rung 0 \(r0\) is sine:2 .* and sine:1 .* was calibrated"),
    ],
)
def test_a_rung_of_another_question_is_refused_by_name(rung: Sine, words: str) -> None:
    card = calibrated()
    with pytest.raises(InputError, match=words) as caught:
        AnswerCascade((rung, *LADDER[1:]), card)
    assert caught.value.where == "cascade.0"


ATOMS = (
    Variable("numbers", ("atom",), "1", "int32", "atomic numbers"),
    Variable("positions", ("atom", "axis"), "Angstrom", "float64", "positions"),
)
CHARGE = Variable("charge", (), "e", "int32", "total charge")
SPIN = Variable("spin", (), "1", "int32", "number of unpaired electrons")
CELL = Variable("cell", ("axis", "axis_2"), "Angstrom", "float64", "lattice vectors")


def test_a_charge_spin_or_cell_that_a_rung_would_ignore_is_its_failure() -> None:
    plain, full = Sine(1, inputs=ATOMS), Sine(2, inputs=(*ATOMS, CHARGE, SPIN, CELL))
    refuse_other_questions([plain, full], ["a", "b"], ["y"])
    refuse_other_questions([full, Sine(3, inputs=(*ATOMS, SPIN))], ["a", "b"], ["y"])
    multiplicity = Sine(1, inputs=(*ATOMS, replace(SPIN, units="2S+1")))
    with pytest.raises(InputError, match=r"takes spin in 2S\+1, and b in 1"):
        refuse_other_questions([multiplicity, full], ["a", "b"], ["y"])
    base = {"numbers": [8, 1], "positions": np.eye(3)[:2], "charge": 0, "spin": 1, "cell": np.zeros((3, 3))}
    neutral = request_to(plain, dataset(full.inputs, base))
    assert set(neutral) == {"numbers", "positions"}
    for name, value in (("charge", -1), ("spin", 3), ("cell", np.eye(3))):
        changed = base | {name: value} | ({"spin": 0} if name == "charge" else {})
        with pytest.raises(SimulationError, match=f"takes no {name}"):
            request_to(plain, dataset(full.inputs, changed))
    filled = request_to(full, dataset(full.inputs[:4], base))
    assert not filled["cell"].values.any()


def test_the_card_is_the_identity_and_comes_back_from_json() -> None:
    card = calibrated()
    assert from_plain(CascadeCard, json.loads(json.dumps(to_plain(card)))) == card
    cascade: Simulator = AnswerCascade(LADDER, card)
    dearer = replace(card, rungs=tuple(replace(rung, cost_s=5.0, label="other") for rung in card.rungs))
    assert AnswerCascade(LADDER, dearer).fingerprint == cascade.fingerprint
    assert AnswerCascade(LADDER, replace(card, failures="list")).fingerprint != cascade.fingerprint
    with pytest.raises(InputError, match=r"tau\.y"):
        Tolerance({"y": 0.0}, {"y": "Pa"})
