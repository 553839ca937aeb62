"""The middle rung of a pipeline: the cheap simulator answers the best candidates of the screen, which are ranked anew.

A Gaussian process predicts the expensive simulator's values from the cheap answers and the molecule's fingerprint
(`surrogates.cascade.correction`). It learns from the labels of the pipeline, and then from a few more among the best
candidates, those from which the most is learned about the others: candidates at the edge of what a library holds are
unlike its random molecules, and share errors of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from data.checksums import verify
from data.files import listed_path, write_json
from data.identity import molecule_keys
from data.json_files import read_plain
from experiments.application.stage_costs import Ledger
from experiments.pipelines.baselines import morgan_counts
from experiments.pipelines.molecule_labelling import SimulatedLabels
from experiments.pipelines.settings import Refinement
from experiments.screening.best_rows import TopK
from experiments.screening.cascade.settings import hit_rule
from experiments.screening.hit_selection import Refused, refusals, write_filtered
from experiments.screening.ledger import result_parts
from experiments.screening.objective import Objective
from experiments.screening.repeated_molecules import molecule_keys_by
from simulators.adapter import Simulator
from surrogates.cascade.correction import Correction, most_informative

#: Further labels are chosen among this many times as many candidates, the best ones.
CHOICE = 7
TABLE, CHOSEN = "refinement.parquet", "refinement_labels.json"
Label = Callable[[list[str], list[str]], SimulatedLabels]


@dataclass(frozen=True)
class Corrections:
    """The corrections of all targets.

    Attributes:
        inputs: outputs of the cheap simulator that they read.
        of: target -> correction.
    """

    inputs: tuple[str, ...]
    of: Mapping[str, Correction]

    @staticmethod
    def fit(cheap: SimulatedLabels, expensive: SimulatedLabels, inputs: Sequence[str]) -> Corrections:
        """Fit to the molecules that have labels of both simulators.

        Raises:
            InputError: there are too few of them.
        """
        # Sorted, because the order in which labels arrive must not change the last digits of a fit.
        both = sorted(set(cheap.smiles) & set(expensive.smiles))
        answers, truth, counts = _answers(cheap.take(both), inputs), expensive.take(both), morgan_counts(both)
        return Corrections(
            tuple(inputs), {target: Correction.fit(answers, counts, values) for target, values in truth.values.items()}
        )

    def predict(self, cheap: SimulatedLabels, smiles: Sequence[str]) -> dict[str, Float[np.ndarray, " molecule"]]:
        """`<t>`, `<t>_std`, `<t>_low` and `<t>_high` of molecules; NaN where the cheap simulator has no answer.

        Args:
            cheap: answers of the cheap simulator.
            smiles: molecules, canonical as in `cheap`.
        """
        row = {s: i for i, s in enumerate(cheap.smiles)}
        answers = np.full((len(smiles), len(self.inputs)), np.nan)
        have = np.array([s in row for s in smiles], bool)
        answers[have] = _answers(cheap, self.inputs)[[row[s] for s in smiles if s in row]]
        counts = morgan_counts(smiles) if len(smiles) else np.zeros((0, 1))
        values: dict[str, np.ndarray] = {}
        for target, correction in self.of.items():
            mean, std = correction.predict(answers, counts)
            half = correction.factor * std
            values |= {target: mean, f"{target}_std": std, f"{target}_low": mean - half, f"{target}_high": mean + half}
        return values


def cheap_inputs(simulator: Simulator, targets: Sequence[str]) -> list[str]:
    """Scalar outputs of the cheap simulator that a correction reads; total energies only where they are a target.

    Total energies tell the size of a molecule and little else.
    """
    return [
        v.name
        for v in simulator.spec.outputs
        if not v.dims and v.dtype.startswith("float") and (v.name != "energy" or v.name in targets)
    ]


def score(
    objective: Objective, targets: Sequence[str], values: Mapping[str, np.ndarray]
) -> Float[np.ndarray, " molecule"]:
    """What predictions are ranked by, larger is better: the logarithm of the probability of being a hit.

    Where the objective says neither what a hit is nor a window, it is the predicted property itself. A molecule without
    a prediction has -inf.
    """
    if objective.hit is None and not objective.windows:
        name = objective.target(targets)
        value = objective.sign * np.asarray(values[name]) - objective.kappa * np.asarray(values[f"{name}_std"])
        return np.where(np.isfinite(value), value, -np.inf)
    rule = hit_rule(objective, targets)
    return rule.log_chance(
        {t: values[t] for t in rule.names}, {t: np.maximum(values[f"{t}_std"], 1e-12) for t in rule.names}
    )


def best_of_screen(
    folder: Path, objective: Objective, targets: Sequence[str], count: int, filters: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[Refused]]:
    """The best candidates of a screen by `score`, each molecule once, read part by part.

    Args:
        folder: directory of the screen.
        objective: what is sought.
        targets: properties.
        count: number of candidates.
        filters: catalogues of structural alerts; a candidate with an alert makes room for the next best.

    Returns:
        Columns smiles, of the form that was screened, `<t>_screen`, and screen_score, best first; and the candidates
        that would be among them without the filters.
    """
    best, forms = None, ["smiles"]
    for part in result_parts(folder):
        present = set(pq.read_schema(part).names)
        forms = [c for c in ("smiles", "standard_smiles") if c in present]
        if best is None:
            best = TopK(count, molecule_keys_by(forms), refusals(filters, forms) if filters else None)
        names = [c for t in targets for c in (t, f"{t}_std")]
        table = pq.read_table(part, columns=["line", *forms, "in_domain", *names])
        if objective.require_domain:
            table = table.filter(table.column("in_domain"))
        values = {n: table.column(n).to_numpy().astype(np.float64) for n in names}
        table = table.append_column("score", pa.array(score(objective, targets, values), pa.float64()))
        for batch in table.combine_chunks().to_batches():
            best.add(batch)
    rows = None if best is None else best.table()
    if best is None or rows is None:
        return pd.DataFrame({"smiles": [], "screen_score": []}), [] if best is None else best.refused()
    frame = rows.to_pandas()
    if "standard_smiles" in frame:
        frame["smiles"] = frame["standard_smiles"].fillna(frame["smiles"])
    kept = frame.rename(columns={"score": "screen_score", **{t: f"{t}_screen" for t in targets}})
    return kept[["smiles", *(f"{t}_screen" for t in targets), "screen_score"]], best.refused()


@dataclass(frozen=True)
class Refined:
    """The candidates after the middle rung.

    Attributes:
        table: rows of `refinement.parquet`, best first.
        corrections: fitted to all labels.
        cheap: answers of the cheap simulator to candidates and controls.
        labels: the expensive labels that were added; None if there are none.
        filtered: number of candidates as good as these that an alert refused, by the name of the catalogue; None if no
            filter was requested.
    """

    table: pd.DataFrame
    corrections: Corrections
    cheap: SimulatedLabels
    labels: SimulatedLabels | None
    filtered: Mapping[str, int] | None = None

    def metrics(self) -> dict[str, float]:
        """What entered the middle rung, what failed in it, and the labels that were added."""
        refused = {} if self.filtered is None else {"": sum(self.filtered.values()), **self.filtered}
        return {
            **{f"refinement/filtered/{name}".rstrip("/"): float(count) for name, count in refused.items()},
            "refinement/candidates": float(len(self.table)),
            "refinement/failed": float((self.table["status"] != "ok").sum()),
            "refinement/labels": float(0 if self.labels is None else len(self.labels.smiles)),
            "refinement/labels_failed": float(0 if self.labels is None else len(self.labels.failed)),
        }

    def best(self) -> list[str]:
        """The candidates that have no label yet, best first."""
        fresh = self.table[(self.table["status"] == "ok") & ~self.table["labelled"]]
        return fresh["smiles"].astype(str).tolist()


def refine(
    screened: Path,
    control: Sequence[str],
    cheap_labels: SimulatedLabels,
    labelled: SimulatedLabels,
    cheap: Label,
    expensive: Label,
    objective: Objective,
    inputs: Sequence[str],
    counts: Refinement,
    run_dir: Path,
    ledger: Ledger,
    filters: Sequence[str] = (),
) -> Refined:
    """Answer the best candidates of a screen by the cheap simulator, and rank them anew.

    Args:
        screened: directory of the screen.
        control: SMILES of other molecules that the cheap simulator answers as well.
        cheap_labels: answers of the cheap simulator to the labelled molecules.
        labelled: labels of the expensive simulator.
        cheap, expensive: label SMILES by the simulators; what is in their stores is not simulated again.
        objective: what is sought.
        inputs: outputs of the cheap simulator; see `cheap_inputs`.
        counts: numbers of candidates and of further labels.
        run_dir: receives `refinement.parquet`, `refinement_labels.json` with the choice of the further labels, and
            `filtered.csv` if candidates were refused.
        ledger: receives the cost of the stages "ranking", "refinement" and "refinement labels".
        filters: catalogues of structural alerts; candidates with an alert are left out, and listed in `filtered.csv`.
    """
    targets = list(labelled.values)
    with ledger.stage("ranking"):
        candidates, refused = best_of_screen(screened, objective, targets, counts.top, filters)
        filtered = write_filtered(refused, run_dir)
        names = candidates["smiles"].astype(str).tolist()
        keys, present = molecule_keys(names), set(molecule_keys(labelled.smiles))
    with ledger.stage("refinement") as cost:
        answers = cheap(list(dict.fromkeys([*names, *control])), list(inputs))
        cost.items, cost.core_seconds = len(answers.smiles), answers.core_seconds
    with ledger.stage("ranking"):
        corrections = Corrections.fit(cheap_labels, labelled, inputs)
        fresh = [s for s, key in zip(names, keys, strict=True) if key not in present]
        chosen = _chosen(run_dir / CHOSEN, fresh, corrections, answers, objective, counts.labels)
    added: SimulatedLabels | None = None
    if chosen:
        with ledger.stage("refinement labels") as cost:
            added = expensive(chosen, targets)
            cost.items, cost.core_seconds = len(added.smiles), added.core_seconds
        present |= set(molecule_keys(chosen))
    with ledger.stage("ranking"):
        if added is not None:
            corrections = Corrections.fit(cheap_labels.joined(answers), labelled.joined(added), inputs)
        values = corrections.predict(answers, names)
    place = {s: i for i, s in enumerate(answers.smiles)}
    reasons = {s: (kind, message) for s, kind, message in answers.failed}
    columns: dict[str, Any] = {
        "screen_rank": np.arange(1, len(names) + 1),
        "status": ["ok" if s in place else reasons[s][0] for s in names],
        "message": ["" if s in place else reasons[s][1] for s in names],
        "labelled": [key in present for key in keys],
        "score": score(objective, targets, values),
    }
    for name in inputs:
        columns[f"cheap_{name}"] = [answers.values[name][place[s]] if s in place else np.nan for s in names]
    for target in targets:
        for suffix in ("", "_std", "_low", "_high"):
            columns[f"{target}{suffix or '_pred'}"] = values[f"{target}{suffix}"]
    table = candidates.assign(**columns).sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
    with listed_path(run_dir / TABLE) as temporary:
        table.to_parquet(temporary)
    return Refined(table, corrections, answers, added, filtered if filters else None)


def _chosen(
    path: Path, fresh: list[str], corrections: Corrections, answers: SimulatedLabels, objective: Objective, more: int
) -> list[str]:
    """Candidates to label: those from which the most is learned about the best. They are saved for a resumed run."""
    if not (more and fresh):
        return []
    if path.is_file():
        verify(path, remedy="Remove it and run again")
        return read_plain(path, list[str], remedy="Remove it and run again")
    values = corrections.predict(answers, fresh)
    ranked = score(objective, list(corrections.of), values)
    best = [fresh[i] for i in np.argsort(-ranked, kind="stable")[: CHOICE * more] if np.isfinite(ranked[i])]
    inputs, counts = _answers(answers.take(best), corrections.inputs), morgan_counts(best)
    rows = most_informative([c.covariance(inputs, counts) for c in corrections.of.values()], more) if best else []
    chosen = [best[i] for i in rows]
    write_json(path, chosen)
    return chosen


def _answers(labels: SimulatedLabels, inputs: Sequence[str]) -> Float[np.ndarray, "molecule answer"]:
    return np.stack([np.asarray(labels.values[name], np.float64) for name in inputs], axis=1)
