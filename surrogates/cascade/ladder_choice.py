"""Which rungs of a cascade for answers pay: a rung that costs more than it saves is left out.

A rung is asked about every request that reaches it, and pays only if it answers so many of them that the rungs above it
save more. Every choice among the rungs before the last one is tried on the labels that teach the chances of being wrong
(`risk_calibration.Risk.parts`). Those that set the threshold are not looked at, so that the promise holds for the
chosen ladder as for any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from surrogates.cascade.difficulty import Answer
from surrogates.cascade.risk import ErrorModel, answering_rung, first_wrong
from surrogates.cascade.risk_calibration import LabelledAnswers, Risk, chances

#: Rungs before the last one, by number, in ascending order.
Chosen = tuple[int, ...]
#: Most rungs before the last one of which every choice is tried.
MOST = 5


def ladders(
    answers: Sequence[Sequence[Answer]], tau: Mapping[str, float], *, domain: bool = True
) -> dict[Chosen, LabelledAnswers]:
    """The labelled answers of every ladder with some of the rungs and the last one, all rungs first.

    The difficulty of an answer may depend on the rung before it (`difficulty.difficulty`), so that each ladder has
    its own. Of more than `MOST` rungs before the last one only all are taken.

    Args:
        answers: of each rung to each request, the last rung's being the labels.
        tau: output -> tolerance.
        domain: see `difficulty.difficulty`.
    """
    cheap = tuple(range(len(answers) - 1))
    sizes = range(len(cheap), 0, -1) if len(cheap) <= MOST else [len(cheap)]
    return {
        some: LabelledAnswers.of([*(answers[k] for k in some), answers[-1]], tau, domain=domain)
        for size in sizes
        for some in combinations(cheap, size)
    }


def cheapest(tables: Mapping[Chosen, LabelledAnswers], costs: Sequence[float], risk: Risk) -> Chosen:
    """The ladder that is expected to cost the least at the promised risk; of equal ones the one with more rungs.

    Args:
        tables: see `ladders`.
        costs: of an answer of each rung, the last one included, s.
        risk: what is promised.
    """
    spent = {some: expected_cost(table, [costs[k] for k in some] + [costs[-1]], risk) for some, table in tables.items()}
    return min(spent, key=lambda some: (spent[some], -len(some)))


def expected_cost(labelled: LabelledAnswers, costs: Sequence[float], risk: Risk) -> float:
    """The mean cost of an answer, s, as the labels tell it that teach the chances of being wrong.

    Args:
        labelled: answers of one ladder.
        costs: of an answer of each of its rungs, s.
        risk: what is promised.
    """
    design, _ = risk.parts(len(labelled.error))
    hard, error = labelled.difficulty[design], labelled.error[design]
    models = [ErrorModel.fit(hard[:, k], error[:, k]) for k in range(error.shape[1])]
    chance = chances(models, hard)
    wrong_from = np.sort(first_wrong(chance, error > 1))
    # A few labels cannot keep the promise, but their quantile tells where the threshold will lie.
    place = min(len(wrong_from) - 1, int(risk.alpha * (len(wrong_from) + 1)))
    rung = answering_rung(chance, float(wrong_from[place]))
    return float(np.cumsum(costs)[rung].mean())
