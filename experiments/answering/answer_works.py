"""What the rungs of a cascade for answers do for an answer; see `experiments.application.answer_work`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import xarray as xr

from experiments.application.answer_work import AnswerWork, judged
from simulators.adapter import DeclaresCost, Simulator
from surrogates.cascade.answer_cascade import ask
from surrogates.learning.program_work import metered


def simulator_work(rung: Simulator, label: str, store: Path, cost_s: float, answers: int) -> AnswerWork:
    """The work of a simulator, whose operations are not known.

    Args:
        rung: the simulator.
        label: how the user named it.
        store: store of its answers.
        cost_s: cost of an answer, core-seconds.
        answers: number of answers.
    """
    stored = sum(p.stat().st_size for p in store.rglob("*") if p.is_file()) / max(1, answers)
    return AnswerWork(label, float(answers), 1e6 * cost_s, isinstance(rung, DeclaresCost), bytes_stored=stored)


def surrogate_works(
    rung: Simulator, label: str, some: Sequence[xr.Dataset], cost_s: float, answers: int
) -> list[AnswerWork]:
    """The work of a surrogate, and then that of each expert of a mixture.

    Args:
        rung: the surrogate.
        label: how the user named it.
        some: requests whose programs are counted.
        cost_s: cost of an answer, core-seconds.
        answers: number of answers.
    """
    experts = dict(zip(getattr(rung, "names", ()), getattr(rung, "experts", ()), strict=True))
    before = dict(getattr(rung, "answered", {}))
    with metered() as meter:
        ask(rung, some)
    whole = AnswerWork(label, float(answers), 1e6 * cost_s)
    if not meter.calls:
        return [whole]
    works = [judged(whole, meter.work().times(1 / max(1, len(some))))]
    counts = {name: getattr(rung, "answered", {}).get(name, 0) - before.get(name, 0) for name in experts}
    operations = {name: meter.work(expert) for name, expert in experts.items() if counts[name]}
    total = sum(cost.flops for cost in operations.values())
    for name, cost in operations.items():
        # Processor time is measured for the mixture; experts share it in proportion to their operations.
        part = cost.flops / total * len(some) / counts[name] if total else 0.0
        one = replace(whole, label=f"{label}: {name}", answers=answers * counts[name] / len(some), expert=True)
        works.append(judged(replace(one, core_us=whole.core_us * part), cost.times(1 / counts[name])))
    return works
