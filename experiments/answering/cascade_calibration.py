"""Calibrates a cascade for answers from a store of labels, writes it to a directory, and prints what it promises."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import xarray as xr
from rich.console import Console

from data.claim import claim
from data.errors import InputError
from data.files import write_json
from data.plain import to_plain
from data.spec import SimulationError, content_hash, dataset
from data.terminal import columns_table, print_table
from experiments.answering.answer_rungs import build_answer_rungs, is_surrogate
from experiments.answering.answer_works import simulator_work, surrogate_works
from experiments.answering.labelled_requests import LabelledRequests, count_labels, read_labels, without_learned
from experiments.application.answer_work import AnswerWork, write_work
from experiments.application.run_directory import configuration_checked
from simulators.adapter import DeclaresCost, Simulator
from simulators.campaigns.answers import answer_requests
from simulators.campaigns.config import CampaignConfig
from surrogates.cascade.answer_cascade import ask
from surrogates.cascade.cascade_card import CARD, CascadeCard, Promised, RungCard, Tolerance
from surrogates.cascade.difficulty import Answer
from surrogates.cascade.ladder_choice import cheapest, ladders
from surrogates.cascade.risk_calibration import CalibratedRisk, LabelledAnswers, Risk, calibrate
from surrogates.cascade.rung_requests import refuse_other_questions, request_to

#: Requests with which the cost of a surrogate is measured, after its programs were compiled.
TIMED = 256


@dataclass(frozen=True)
class LadderSettings:
    """What a cascade for answers is.

    Attributes:
        cascade: rungs from cheap to expensive; see `experiments.answering.answer_rungs.build_answer_rungs`.
        rungs: settings of simulators by name.
        tau: output -> largest absolute error of any of its entries in a right answer, in its unit.
        risk: what is promised.
        failures: pass or list; see `surrogates.cascade.cascade_card.CascadeCard`.
        domain: whether an answer outside of a rung's own domain passes on.
        conformers: how rungs that take geometries make them from SMILES.
        drop: whether rungs that cost more than they save are left out; see `surrogates.cascade.ladder_choice`.
    """

    cascade: tuple[str, ...]
    tau: Mapping[str, float]
    risk: Risk = field(default_factory=Risk)
    rungs: Mapping[str, Any] = field(default_factory=dict)
    failures: str = "pass"
    domain: bool = True
    conformers: Mapping[str, Any] = field(default_factory=dict)
    drop: bool = True

    def __post_init__(self) -> None:
        if self.failures not in ("pass", "list"):
            raise InputError(f"must be pass or list, got {self.failures!r}", where="failures")
        # The units are checked once the rungs are built.
        Tolerance(self.tau, dict.fromkeys(self.tau, ""))


@dataclass(frozen=True)
class AnsweredRung:
    """Answers of one rung to all labelled requests, the cost of one of them in core-seconds, and what they take."""

    answers: Sequence[Answer]
    cost_s: float
    works: Sequence[AnswerWork] = ()


def calibrate_cascade(
    settings: LadderSettings, store: Path, out: Path, campaign: CampaignConfig, *, progress: bool = True
) -> CascadeCard:
    """Calibrate a cascade and write its card.

    Args:
        settings: what it is.
        store: labels of the last rung.
        out: directory; answers of simulators that are in it are not computed again.
        campaign: how simulators are run.
        progress: whether to print progress and the result.

    Raises:
        InputError: a rung cannot be used, or the promise takes more labels; both are named.
    """
    # Before a surrogate is loaded: what no rungs could keep costs nothing to refuse.
    settings.risk.refuse_too_few(count_labels(store), where="labels")
    labels, outputs = list(settings.cascade), list(settings.tau)
    rungs = build_answer_rungs(labels, settings.rungs, settings.conformers)
    refuse_other_questions(rungs, labels, outputs)
    labelled = without_learned(read_labels(store, rungs[-1], labels[-1], outputs), labels, rungs)
    settings.risk.refuse_too_few(len(labelled.requests), where="labels")
    campaign = replace(campaign, give_up_after=None)
    with claim(out, "calibrate"):
        configuration_checked(out)
        answered = [
            _answers(number, rung, label, labelled, outputs, out, campaign, progress)
            for number, (rung, label) in enumerate(zip(rungs[:-1], labels, strict=False))
        ]
        last = simulator_work(rungs[-1], labels[-1], store, labelled.cost_s, len(labelled.requests))
        answered.append(AnsweredRung(labelled.labels, labelled.cost_s, (last,)))
        by_rung = [rung.answers for rung in answered]
        dropped: list[str] = []
        if settings.drop:
            tables = ladders(by_rung, settings.tau, domain=settings.domain)
            chosen = cheapest(tables, [rung.cost_s for rung in answered], settings.risk)
            table, kept = tables[chosen], (*chosen, len(rungs) - 1)
            dropped = [label for k, label in enumerate(labels) if k not in kept]
            settings = replace(settings, cascade=tuple(labels[k] for k in kept))
            rungs, answered = [rungs[k] for k in kept], [answered[k] for k in kept]
        else:
            table = LabelledAnswers.of(by_rung, settings.tau, domain=settings.domain)
        result = calibrate(table, settings.risk)
        card = _card(settings, rungs, labelled, table, answered, result)
        write_json(out / CARD, to_plain(card))
        write_work([work for rung in answered for work in rung.works], out)
        works = {f"cascade/rung/{k}": rung.works[0] for k, rung in enumerate(answered)}
        more = {key: value for prefix, work in works.items() for key, value in work.metrics(prefix).items()}
        write_json(out / "metrics.json", metrics(card, result) | more)
    if progress:
        show(card, result, labelled)
        for label in dropped:
            Console().print(f"{label} is left out: it costs more than it saves. Keep it with drop=false.")
    return card


def _answers(
    number: int,
    rung: Simulator,
    label: str,
    labelled: LabelledRequests,
    outputs: Sequence[str],
    out: Path,
    campaign: CampaignConfig,
    progress: bool,
) -> AnsweredRung:
    requests = labelled.requests
    if is_surrogate(label):
        told_here, some = ask(rung, requests), requests[:TIMED]
        began = time.process_time()
        ask(rung, some)
        spent = (time.process_time() - began) / max(1, len(some))
        return AnsweredRung(told_here, spent, surrogate_works(rung, label, some, spent, len(requests)))
    asked: list[xr.Dataset] = []
    places: list[int] = []
    answers: list[Answer] = [SimulationError("invalid_input", "not asked")] * len(requests)
    for place, request in enumerate(requests):
        try:
            asked.append(request_to(rung, request))
            places.append(place)
        except SimulationError as error:
            answers[place] = error
    variable_of = {v.name: v for v in rung.spec.outputs}
    names = [name for o in outputs for name in (o, f"{o}_std") if name in variable_of]
    names += [name for name in ("in_domain",) if name in variable_of]
    answered = answer_requests(
        rung, asked, out / f"rung-{number}.zarr", campaign, names=names, progress=progress, none_answered=True
    )
    variables = tuple(variable_of[name] for name in names)
    for place, status, message, values in zip(places, answered.status, answered.message, answered.values, strict=True):
        answers[place] = (
            dataset(variables, values) if status == "ok" else SimulationError("crashed", f"{status}: {message}")
        )
    cost = rung.declared_cost_s if isinstance(rung, DeclaresCost) else answered.core_seconds / max(1, len(asked))
    work = simulator_work(rung, label, out / f"rung-{number}.zarr", float(cost), len(asked))
    return AnsweredRung(answers, float(cost), (work,))


def _card(
    settings: LadderSettings,
    rungs: Sequence[Simulator],
    labelled: LabelledRequests,
    table: LabelledAnswers,
    answered: Sequence[AnsweredRung],
    result: CalibratedRisk,
) -> CascadeCard:
    cards = tuple(
        RungCard(
            _lasting(label),
            to_plain(settings.rungs.get(label) or {}),
            rung.fingerprint,
            rung.name,
            answers.cost_s,
            declared=isinstance(rung, DeclaresCost),
            errors=errors,
            failed=failed,
        )
        for label, rung, answers, errors, failed in zip(
            settings.cascade, rungs, answered, (*result.errors, None), table.failed, strict=True
        )
    )
    promised = Promised(
        settings.risk.alpha,
        settings.risk.confidence,
        result.threshold,
        len(result.design),
        len(result.calibration),
        int(table.unlabelled[result.calibration].sum()),
        labelled.seen,
        content_hash(list(labelled.keys)),
        settings.risk.seed,
    )
    tau = {name: float(value) for name, value in settings.tau.items()}
    tolerance = Tolerance(tau, {name: rungs[-1].spec.output(name).units for name in tau})
    failures = cast(Literal["pass", "list"], settings.failures)
    geometries = any("smiles" in {v.name for v in rung.spec.inputs} for rung in rungs)
    conformers = to_plain(settings.conformers) if geometries else {}
    return CascadeCard(cards, tolerance, promised, failures, settings.domain, conformers)


def _lasting(label: str) -> str:
    """A name of a rung that leads to it from every working directory."""
    path = Path(label).expanduser()
    return str(path.resolve()) if path.exists() else label


def metrics(card: CascadeCard, result: CalibratedRisk) -> dict[str, float]:
    """Flat metrics of a calibration, with the unit in the key."""
    cost = np.cumsum([rung.cost_s for rung in card.rungs])
    # A request that climbs has paid for every rung that it was asked of.
    spent = float(cost[result.rung].mean())
    shares = {f"cascade/rung/{k}/share_answered": float((result.rung == k).mean()) for k in range(len(card.rungs))}
    costs = {f"cascade/rung/{k}/cost_core_seconds": rung.cost_s for k, rung in enumerate(card.rungs)}
    failed = {f"cascade/rung/{k}/failed": float(rung.failed) for k, rung in enumerate(card.rungs)}
    return {
        "cascade/alpha": card.promised.alpha,
        **({} if card.promised.confidence is None else {"cascade/confidence": card.promised.confidence}),
        "cascade/threshold": card.promised.threshold,
        "cascade/labels": float(card.promised.design + card.promised.calibration),
        "cascade/labels_seen": float(card.promised.seen),
        "cascade/wrong_share": float(result.wrong.mean()),
        "cascade/core_seconds_per_answer": spent,
        **({"cascade/speedup": card.rungs[-1].cost_s / spent} if spent > 0 else {}),
        **shares,
        **costs,
        **failed,
    }


def show(card: CascadeCard, result: CalibratedRisk, labelled: LabelledRequests) -> None:
    """Print which rung answers how much, at what cost, and what is promised.

    Args:
        card: the calibrated cascade.
        result: of the calibration.
        labelled: the labels.
    """
    values = metrics(card, result)
    table = columns_table("Cascade", ("rung", "answers", "core-s each", "failed"))
    for number, rung in enumerate(card.rungs):
        share = f"{values[f'cascade/rung/{number}/share_answered']:.1%}"
        cost = f"{rung.cost_s:.3g}" + (" declared" if rung.declared else "")
        table.add_row(f"{number} {rung.label}", share, cost, f"{rung.failed:,}")
    print_table(table)
    promised, tolerance = card.promised, card.tolerance
    how = "in the mean over labels" if promised.confidence is None else f"with a confidence of {promised.confidence:g}"
    said = [
        f"Answers are wrong, off in {tolerance.limits} or more, with a probability of {promised.alpha:g} at most, "
        f"{how}. That holds for requests like the labels, of which {promised.design:,} taught the chances of being "
        f"wrong and {promised.calibration:,} set the threshold.",
    ]
    if promised.unlabelled:
        said.append(f"{promised.unlabelled:,} of the latter have no label and count as wrong answers.")
    if labelled.seen:
        said.append(f"{labelled.seen:,} labels were left out, because a rung has learned from them.")
    said += [f"Whether {label} has learned from these labels is not known." for label in labelled.unknown]
    for line in said:
        Console().print(line)
