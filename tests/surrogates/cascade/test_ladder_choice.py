"""Rungs that cost more than they save are left out of a cascade for answers, and the promise holds without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from surrogates.cascade.ladder_choice import cheapest, expected_cost, ladders
from surrogates.cascade.risk import answering_rung
from surrogates.cascade.risk_calibration import LabelledAnswers, Risk, calibrate, chances, wrong_answers

#: Core-milliseconds of two light networks, a single one, an ensemble of four, and the simulator: about those of
#: `benchmarks.answer_cascade`.
COSTS = (0.8, 0.5, 2.0, 1000.0)


def labelled(count: int, typical: tuple[float, ...], seed: int = 0) -> LabelledAnswers:
    """Errors in units of the tolerance, lognormal with these medians, and standard deviations that tell a part."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0.0, 0.5, count)
    hard = np.array(typical) * np.exp(shared[:, None] + 0.2 * rng.normal(size=(count, len(typical))))
    error = hard * np.exp(0.3 * rng.normal(size=hard.shape))
    return LabelledAnswers(hard, error, np.zeros(count, bool), (0,) * (len(typical) + 1))


def tables(every: LabelledAnswers) -> dict[tuple[int, ...], LabelledAnswers]:
    choices = [(0, 1, 2), (0, 1), (0, 2), (1, 2), (0,), (1,), (2,)]
    return {
        some: replace(every, difficulty=every.difficulty[:, list(some)], error=every.error[:, list(some)])
        for some in choices
    }


@pytest.mark.parametrize(
    ("typical", "kept"),
    [
        # The single network is right always, and cheaper than the two before it, which add nothing. The ensemble after
        # it is never asked, and stays for requests that look harder.
        ((0.2, 0.1, 0.08), (1, 2)),
        # The light networks are wrong too often, and each answer of the ensemble spares the simulator.
        ((3.0, 0.7, 0.6), (1, 2)),
        # A light network that is right as often as the others is all that pays.
        ((0.1, 2.0, 2.0), (0, 1, 2)),
    ],
)
def test_a_rung_stays_if_it_saves_more_than_it_costs(typical: tuple[float, ...], kept: tuple[int, ...]) -> None:
    risk, some = Risk(0.1, design=0.5), tables(labelled(600, typical))
    assert cheapest(some, COSTS, risk) == kept
    costs = {one: expected_cost(table, [*(COSTS[k] for k in one), COSTS[-1]], risk) for one, table in some.items()}
    assert costs[kept] == min(costs.values())


def test_the_promise_holds_for_the_chosen_ladder_over_many_labels() -> None:
    risk, wrong, chosen = Risk(0.1, design=0.3), [], set()
    for seed in range(60):
        fresh = labelled(700, (0.8, 0.45, 0.4), seed)
        rows = {True: np.arange(200), False: np.arange(200, 700)}
        some = tables(
            replace(fresh, **{k: getattr(fresh, k)[rows[True]] for k in ("difficulty", "error", "unlabelled")})
        )
        best = cheapest(some, COSTS, risk)
        chosen.add(best)
        result = calibrate(some[best], risk)
        later = fresh.difficulty[rows[False]][:, list(best)], fresh.error[rows[False]][:, list(best)]
        rung = answering_rung(chances(result.errors, later[0]), result.threshold)
        wrong.append(wrong_answers(rung, later[1] > 1).mean())
    # The mean over labels and requests is promised; its own chance is 0.1 * 0.9 / 140 labels / 60 repeats and more.
    assert np.mean(wrong) <= 0.1 + 4 * np.std(wrong) / np.sqrt(len(wrong))
    assert (0, 1, 2) not in chosen


def test_every_choice_has_its_own_difficulty() -> None:
    """A rung without standard deviations is judged by the one before it, which differs by ladder."""
    rungs = [[xr.Dataset({"u": ((), value)}) for value in values] for values in ((1.0, 2.0), (1.1, 2.4), (1.2, 2.0))]
    some = ladders([*rungs, [xr.Dataset({"u": ((), 1.0)})] * 2], {"u": 0.1})
    assert list(some) == [(0, 1, 2), (0, 1), (0, 2), (1, 2), (0,), (1,), (2,)]
    assert some[0, 1, 2].difficulty[:, 2] == pytest.approx([1.0, 4.0])
    assert some[0, 2].difficulty[:, 1] == pytest.approx([2.0, 0.0])
    assert some[2,].error[:, 0] == pytest.approx([2.0, 10.0])
    assert list(ladders([rungs[0]] * 7, {"u": 0.1})) == [(0, 1, 2, 3, 4, 5)]
