"""A screen by a ladder of rungs from cheap to expensive that promises to keep a share of the hits.

    all candidates -> rung 0 -> draws, which every rung answers -> thresholds
                          \\-> those above its threshold -> rung 1 -> ... -> the last rung

Each step leaves files from which a killed cascade goes on: the parts and the ledger of a screen, stores of simulations,
and `thresholds.json`. A hit is a candidate whose answers of the last rung reach the objective.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.errors import InputError
from data.files import write_json
from data.json_files import read_plain
from experiments.application.answer_work import work_metrics, write_work
from experiments.screening.cascade import rung_answers
from experiments.screening.cascade.audit import AnsweredCandidates, audit
from experiments.screening.cascade.failures import Unanswered, status_columns
from experiments.screening.cascade.first_rung import FirstAnswers, first_answers
from experiments.screening.cascade.kept_table import write_kept
from experiments.screening.cascade.population import FailurePolicy, Population
from experiments.screening.cascade.rung_answers import OK, answer
from experiments.screening.cascade.rung_work import rung_works
from experiments.screening.cascade.rungs import CascadeRung
from experiments.screening.cascade.settings import LESS, MORE_OR_LESS, CalibrationSettings
from experiments.screening.library_screen import ScreenConfig
from experiments.screening.objective import Objective
from simulators.campaigns.campaign import CampaignConfig
from surrogates.cascade.design import UNIFORM
from surrogates.cascade.promise import Calibration, Promise, StageThreshold, stage_thresholds
from surrogates.cascade.scoring import HitRule, Stack

CARD = "cascade.json"
THRESHOLDS = "thresholds.json"
KEPT = "kept.parquet"
ANEW = "Give another out=DIR, or delete this one"


@dataclass(frozen=True)
class Cascade:
    """A screen by several rungs.

    Attributes:
        rungs: the rungs, cheap to expensive, after `check_rungs`.
        rule: what a hit is.
        promise: promised recall over the rungs before the last one.
        calibration: how thresholds are set.
        failures: what becomes of a candidate on which a rung fails.
        screen: settings of the first rung's screen.
        campaign: how simulations are run.
        out: output directory.
        show: whether to print progress.
    """

    rungs: Sequence[CascadeRung]
    rule: HitRule
    promise: Promise
    calibration: CalibrationSettings
    failures: FailurePolicy
    screen: ScreenConfig
    campaign: CampaignConfig
    out: Path
    show: bool = True

    def run(self, candidates: Path) -> dict[str, float]:
        """Run the cascade, or resume it, and return its metrics.

        Args:
            candidates: file of the candidates.

        Raises:
            InputError: the promise cannot be kept, or the directory was calibrated with other rungs.
        """
        self.calibration.refuse_stages(self.promise.stages)
        self.promise.refuse_too_few(
            self.calibration.labels + (self.calibration.certain or 0),
            what="labels are allowed",
            where="calibration.labels",
            remedy=MORE_OR_LESS,
        )
        self.claim()
        first = self.first(candidates)
        population = Population(first.parts, self.rule, self.failures, first.carried)
        thresholds, models, calibrated = self._thresholds(population)
        kept, funnel, failed = self._survivors(population, thresholds, models)
        failed.add_labelled(calibrated, self.rungs, self.failures.policy)
        failed.write(self.out)
        metrics = self._finish(population, thresholds, calibrated, kept, funnel, failed, first)
        return self.finish(metrics, first, candidates, population.total)

    # The first rung, over all candidates

    def claim(self, more: Mapping[str, Any] | None = None) -> None:
        """Write what this cascade depends on, or compare it with what is in the directory; `more` are further facts."""
        now = {
            **(more or {}),
            "rungs": [{"label": r.label, "fingerprint": r.model.fingerprint} for r in self.rungs],
            "intervals": {name: [str(low), str(high)] for name, (low, high) in self.rule.intervals.items()},
            "promise": asdict(self.promise),
            # Draws by score may be continued; the number of uniform ones is a part of their test.
            "calibration": asdict(self.calibration) | ({"labels": 0} if self.calibration.sampling == "score" else {}),
            "failures": self.failures.policy,
        }
        path = self.out / CARD
        if not path.is_file():
            write_json(path, now)
            return
        before = read_plain(path, dict[str, Any], remedy=ANEW)
        for rung, earlier in zip(self.rungs, before.get("rungs", []), strict=False):
            if earlier.get("fingerprint") != rung.model.fingerprint:
                raise rung.refuse("has another fingerprint than the one that the thresholds were calibrated with", ANEW)
        if changed := sorted(key for key in {*now, *before} if json.loads(json.dumps(now)).get(key) != before.get(key)):
            raise InputError(f"it holds a cascade with another {changed[0]}", where=str(self.out), remedy=ANEW)

    def first(self, candidates: Path) -> FirstAnswers:
        """The answers of the first rung to all candidates."""
        return first_answers(
            self.rungs[0], candidates, self.rule.names, self.out, self.screen, self.campaign, self.show
        )

    # Thresholds

    def _thresholds(self, population: Population) -> tuple[list[StageThreshold], list[dict[str, Stack]], pd.DataFrame]:
        """The thresholds of all rungs but the last, the stacked models, and the labelled candidates."""
        how, promise = self.calibration, self.promise
        if how.sampling == "audit":
            return self._audited(population)
        draws = min(how.labels, max(1, population.total // 2))
        certain = how.certain
        if how.sampling == "uniform" or promise.stages > 1:
            certain = 0
        elif certain is None:
            # About as many as any threshold that keeps the promise will have to pass on.
            certain = min(population.certain_count(promise.recall), population.total // 4)
        cut = population.cut_of(certain) if certain else np.inf
        possible = certain + draws
        promise.refuse_too_few(
            possible,
            what=f"of {population.total} candidates may be labelled",
            where="calibration.labels",
            remedy=LESS,
        )
        uniform = 1.0 if how.sampling == "uniform" else UNIFORM
        sampled, drawn = population.sample(cut, draws, how.seed, uniform)
        if drawn is None:
            raise InputError("every candidate would be labelled", where="calibration.certain", remedy="Lower it")
        self._refuse_unlikely(sampled, promise)
        asked = forms(sampled)
        for rung in self.rungs[1:]:
            frame = answer(rung, asked, self.rule.names, self.out, self.campaign, self.show)
            sampled = pd.concat([sampled, frame.add_suffix(f"_{rung.number}")], axis=1)
        last = self.rungs[-1].number
        labelled = (sampled[f"status_{last}"] == OK).to_numpy()
        hit = labelled & self.hits(sampled, last)
        place = pd.Series(np.arange(len(sampled)), index=sampled["number"])
        rows = place.loc[drawn.rows].to_numpy()
        stacking = int(how.stack * len(rows)) if promise.stages > 1 else 0
        models = self._stacks(sampled.iloc[np.unique(rows[:stacking])]) if stacking else [{}] * promise.stages
        tested = rows[stacking:]
        scores = self._scores(sampled, models)
        # The last rung's failures count as hits that are lost, because they might be hits.
        counted = np.where(labelled, hit, True)
        scores = np.where(labelled[:, None], scores, -np.inf)
        sure = sampled["certain"].to_numpy() & counted
        calibration = Calibration(
            scores[tested],
            counted[tested],
            None if how.sampling == "uniform" else drawn.weights[stacking:],
            drawn.largest_weight,
            scores[sure],
        )
        confirmed = int(hit[np.unique(np.concatenate([tested, np.flatnonzero(sure)]))].sum())
        self.promise.refuse_too_few(
            len(calibration.hits[calibration.hits]) + int(sure.sum()) if how.sampling == "uniform" else confirmed,
            what="of the labelled candidates are hits",
            where="calibration.labels",
            remedy=f"{MORE_OR_LESS}; the labels so far are kept in this directory",
        )
        thresholds = stage_thresholds(calibration, promise)
        sampled["hit"] = hit
        write_json(
            self.out / THRESHOLDS,
            {
                "stages": [asdict(stage) | {"threshold": str(stage.threshold)} for stage in thresholds],
                "stacks": [{name: stack.plain() for name, stack in stage.items()} for stage in models],
                "draws": len(rows), "certain": int(sampled["certain"].sum()), "labelled": len(set(asked)),
                "hits": confirmed,
            },
        )  # fmt: skip
        return thresholds, models, sampled

    def _audited(self, population: Population) -> tuple[list[StageThreshold], list[dict[str, Stack]], pd.DataFrame]:
        result = audit(population, self.calibration, self.promise, self._ask)
        labelled, hits = len(set(forms(result.sampled))), int(result.sampled["hit"].sum())
        note = {
            "draws": result.draws,
            "certain": int(result.sampled["certain"].sum()),
            "labelled": labelled,
            "hits": hits,
        }
        stage = asdict(result.stage) | {"threshold": str(result.stage.threshold)}
        write_json(self.out / THRESHOLDS, {"stages": [stage], "stacks": [{}], **note})
        return [result.stage], [{}], result.sampled

    def _ask(self, frame: pd.DataFrame) -> AnsweredCandidates:
        """Answers of the last rung, for an audit."""
        number = self.rungs[-1].number
        more = answer(self.rungs[-1], forms(frame), self.rule.names, self.out, self.campaign, self.show)
        frame = pd.concat([frame, more.add_suffix(f"_{number}")], axis=1)
        labelled = (frame[f"status_{number}"] == OK).to_numpy()
        return AnsweredCandidates(frame, labelled, labelled & self.hits(frame, number))

    def _refuse_unlikely(self, sampled: pd.DataFrame, promise: Promise) -> None:
        """Refuse a promise for which the first rung expects too few hits among the candidates to be labelled."""
        score = sampled["score_0"].to_numpy()
        chance = np.where(np.isfinite(score), np.exp(np.minimum(score, 0.0)), 1.0)
        # Twice as many, because the first rung may underrate the hits.
        promise.refuse_too_few(
            2 * float(chance.sum()) + 1,
            what="at most are likely among the candidates that may be labelled",
            where="calibration.labels",
            remedy=MORE_OR_LESS,
        )

    def hits(self, frame: pd.DataFrame, number: int) -> np.ndarray:
        """Whether the answers of a rung are those of a hit."""
        inside = np.ones(len(frame), bool)
        for name, (low, high) in self.rule.intervals.items():
            value = frame[f"{name}_{number}"].to_numpy(np.float64)
            inside &= (low <= value) & (value <= high)
        return inside

    # Scores of the rungs between the first and the last

    def _inputs(self, frame: pd.DataFrame, stage: int) -> np.ndarray:
        """Answers of the rungs up to a stage, as inputs of a stacked model."""
        columns = []
        for rung in self.rungs[: stage + 1]:
            end = "" if rung.number == 0 else f"_{rung.number}"
            for name in self.rule.names:
                columns.append(frame[f"{name}{end}"].to_numpy(np.float64))
                if rung.learned:
                    columns.append(frame[f"{name}_std{end}"].to_numpy(np.float64))
            if rung.learned:
                columns.append(frame[f"in_domain{end}"].to_numpy(np.float64))
        return np.stack(columns, axis=1)

    def _stacks(self, frame: pd.DataFrame) -> list[dict[str, Stack]]:
        last = self.rungs[-1].number
        models: list[dict[str, Stack]] = [{}]
        for stage in range(1, self.promise.stages):
            inputs = self._inputs(frame, stage)
            fitted = {n: Stack.fit(inputs, frame[f"{n}_{last}"].to_numpy(np.float64)) for n in self.rule.names}
            models.append({n: s for n, s in fitted.items() if s is not None})
        return models

    def _stage_scores(self, frame: pd.DataFrame, stage: int, model: Mapping[str, Stack]) -> np.ndarray:
        """Scores of one stage; a candidate without an answer of its rung passes or is left out."""
        rung = self.rungs[stage]
        answered = (frame[f"status_{stage}"] == OK).to_numpy()
        mean = {n: frame[f"{n}_{stage}"].to_numpy(np.float64) for n in self.rule.names}
        std = {n: np.ones(len(frame)) for n in self.rule.names}
        for name in self.rule.names:
            if rung.learned:
                std[name] = np.maximum(frame[f"{name}_std_{stage}"].to_numpy(np.float64), 1e-300)
            if name in model:
                combined = model[name].predict(self._inputs(frame, stage))
                usable = np.isfinite(combined)
                mean[name] = np.where(usable, combined, mean[name])
                std[name] = np.where(usable, model[name].std, std[name])
        return np.where(answered, self.rule.log_chance(mean, std), self.failures.score)

    def _scores(self, frame: pd.DataFrame, models: Sequence[Mapping[str, Stack]]) -> np.ndarray:
        stages = [frame["score_0"].to_numpy(np.float64)]
        stages += [self._stage_scores(frame, stage, models[stage]) for stage in range(1, self.promise.stages)]
        return np.stack(stages, axis=1)

    # The funnel

    def _survivors(
        self, population: Population, thresholds: Sequence[StageThreshold], models: Sequence[Mapping[str, Stack]]
    ) -> tuple[pd.DataFrame, list[tuple[int, int]], Unanswered]:
        """Candidates that reach the last rung with all answers, the numbers in and out of each rung, and failures."""
        cut = thresholds[0].threshold
        blocks = [frame.assign(number=numbers, score_0=score) for numbers, score, frame in population.at_least(cut)]
        kept = pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame()
        funnel = [(population.total, len(kept))]
        lost = population.unanswered()
        failed = Unanswered()
        failed.add(lost, 0, "status", "message", (lost["score_0"] >= cut).to_numpy())
        for rung in self.rungs[1:]:
            frame = answer(rung, forms(kept), self.rule.names, self.out, self.campaign, self.show)
            kept = pd.concat([kept, frame.add_suffix(f"_{rung.number}")], axis=1)
            answered = (kept[f"status_{rung.number}"] == OK).to_numpy()
            before = len(kept)
            if rung.number < self.promise.stages:
                score = self._stage_scores(kept, rung.number, models[rung.number])
                passed = score >= thresholds[rung.number].threshold
                failed.add(kept[~answered], rung.number, *status_columns(rung.number), passed[~answered])
                kept = kept[passed].reset_index(drop=True)
                funnel.append((before, len(kept)))
            else:
                failed.add(
                    kept[~answered], rung.number, *status_columns(rung.number), np.zeros((~answered).sum(), bool)
                )
                funnel.append((before, int((answered & self.hits(kept, rung.number)).sum())))
        return kept, funnel, failed

    def _finish(
        self,
        population: Population,
        thresholds: Sequence[StageThreshold],
        calibrated: pd.DataFrame,
        kept: pd.DataFrame,
        funnel: Sequence[tuple[int, int]],
        failed: Unanswered,
        first: FirstAnswers,
    ) -> dict[str, float]:
        last = self.rungs[-1].number
        together = pd.concat(
            [kept.assign(group="kept"), calibrated.drop(columns="hit").assign(group="calibration")], ignore_index=True
        ).drop_duplicates("number")
        together["hit"] = (together[f"status_{last}"] == OK) & self.hits(together, last)
        write_kept(together, self.rule.names, first, self.out / KEPT)
        costs = self.costs(first)
        spent = sum(cost.core_seconds for cost in costs)
        per_last = costs[-1].core_seconds / max(1, costs[-1].answered)
        metrics: dict[str, float] = {
            "cascade/recall_promised": self.promise.recall,
            "cascade/confidence": self.promise.confidence,
            "cascade/candidates": float(population.total),
            "cascade/rejected": float(first.rejected),
            "cascade/labels": float(costs[-1].answered),
            "cascade/calibration_labels": float(len(set(forms(calibrated)))),
            "cascade/hits": float(together["hit"].sum()),
            "cascade/core_seconds": spent,
            "cascade/speedup": per_last * population.total / spent if spent > 0 else float("inf"),
        }
        for rung, cost, (entered, left) in zip(self.rungs, costs, funnel, strict=True):
            prefix = f"cascade/rung/{rung.number}"
            metrics |= cost.metrics(prefix, entered, left) | {f"{prefix}/failed": float(failed.count(rung.number))}
            if rung.number < self.promise.stages:
                stage = thresholds[rung.number]
                metrics |= {
                    f"{prefix}/share_of_hits_lost": stage.share_lost,
                    f"{prefix}/share_of_hits_lost_bound": stage.bound,
                }
        return metrics

    def costs(self, first: FirstAnswers) -> list[rung_answers.RungCost]:
        """What each rung has cost."""
        return [first.cost, *(rung_answers.cost(rung, self.out) for rung in self.rungs[1:])]

    def finish(
        self, metrics: Mapping[str, float], first: FirstAnswers, candidates: Path, total: int
    ) -> dict[str, float]:
        """Write what the rungs do for an answer, and the metrics with it, which are returned."""
        works = rung_works(self.rungs, self.costs(first), first, candidates, total)
        write_work(works, self.out)
        finite = {k: v for k, v in {**metrics, **work_metrics(works)}.items() if np.isfinite(v)}
        write_json(self.out / "metrics.json", finite)
        return finite


def cascade_screen_config(config: ScreenConfig, objective: Objective) -> ScreenConfig:
    """The screen of the first rung: it scores every candidate, in the domain or not, and writes no best ones."""
    return replace(config, top_k=0, objective=replace(objective, kappa=0.0, confident=False, require_domain=False))


def forms(frame: pd.DataFrame) -> list[str]:
    """SMILES of the form that was screened."""
    if "standard_smiles" in frame:
        return [str(s) for s in frame["standard_smiles"].fillna(frame["smiles"])]
    return [str(s) for s in frame["smiles"]] if len(frame) else []
