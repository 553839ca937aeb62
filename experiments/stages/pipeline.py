"""`understudy pipeline`: candidates, labels, surrogate, screen, re-check and report, in one resumable run.

The steps are in the order of the methods section of the report. Each step saves its results in the run directory; a
later run skips the steps that are complete, and resumes the one that is not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from rich.console import Console

from data.errors import InputError
from data.files import write_json
from data.identity import molecule_keys
from data.json_files import read_plain
from data.molecules.files import iter_smiles_chunks
from data.molecules.foreign import graphs, smiles_problems
from data.processes.parsing import Lost
from data.rejects import RejectLog, Rejects
from data.settings import build, existing_file
from data.spec import content_hash
from data.splits import Split
from data.splits import canonical as canonical_forms
from data.terminal import show_pairs
from experiments.application.run_directory import configuration_checked
from experiments.application.stage import application, instantiate
from experiments.application.stage_costs import Ledger
from experiments.pipelines import funnel
from experiments.pipelines import held_out as evaluation
from experiments.pipelines.baselines import morgan_counts
from experiments.pipelines.candidate_selection import diverse, reservoir
from experiments.pipelines.enumeration import refuse_other_size, write_library
from experiments.pipelines.molecule_labelling import SimulatedLabels, label
from experiments.pipelines.refinement import Corrections, cheap_inputs, refine
from experiments.pipelines.settings import PipelineSettings, refuse_unanswerable
from experiments.screening.candidate_sources import identity, open_source, unused_of_candidates
from experiments.screening.library_screen import ScreenConfig, screen
from experiments.screening.objective import read_objective
from simulators.adapter import Simulator
from simulators.campaigns.campaign import CampaignConfig
from simulators.chemistry.conformers import ConformerConfig
from simulators.chemistry.from_smiles import FromSmiles
from simulators.chemistry.standardise import standard_smiles
from surrogates.learning.conformal import refuse_too_few
from surrogates.learning.devices import enable_compilation_cache
from surrogates.learning.learned_from import hash_keys, save_hashes
from surrogates.learning.loop import TrainConfig
from surrogates.learning.resuming import record_training_data
from surrogates.learning.tracking import log_scores
from surrogates.properties.fit import fit_property_surrogate
from surrogates.properties.surrogate import PropertyConfig, PropertySurrogate
from surrogates.properties.task import PropertyTask


@dataclass(frozen=True)
class Method:
    """A simulator of the run, the settings of its campaign, and the store of its records."""

    simulator: Simulator
    campaign: CampaignConfig
    store: Path
    key: str = "campaign"

    def label(self, smiles: list[str], targets: list[str]) -> SimulatedLabels:
        """Labels of `smiles`; those that are in the store are not simulated again."""
        return label(self.simulator, smiles, targets, self.store, self.campaign, key=self.key)[0]


def method(node: DictConfig, conformers: DictConfig, store: Path) -> Method:
    """The simulator that a configuration describes, wrapped so that it takes SMILES."""
    inner = instantiate(node.simulator)
    simulator = FromSmiles(inner, build(ConformerConfig, conformers, where="conformers"))
    key = f"{store.stem}.campaign"
    return Method(simulator, build(CampaignConfig, node.campaign, where=key), store, key)


def stream(path: Path, column: str) -> Iterator[tuple[str, int]]:
    """The SMILES of a file of any size, as they are written, and their line numbers."""
    for chunk in iter_smiles_chunks(path, 65_536, smiles_column=column):
        yield from zip(chunk.smiles, chunk.lines, strict=True)


def canonical(rows: Sequence[tuple[str, int]], standardise: Sequence[str], refuse: Refuse) -> list[str]:
    """Canonical SMILES of the rows that RDKit can read, each molecule once (`data.identity`), in order.

    Args:
        rows: SMILES and their line numbers.
        standardise: steps of standardisation that are applied first (`simulators.chemistry.standardise`).
        refuse: receives the line, the SMILES and the reason of the other rows.
    """
    smiles = [text for text, _ in rows]
    forms = standard_smiles(smiles, standardise) if standardise else [""] * len(smiles)
    asked = [text if isinstance(form, Lost) else form or text for form, text in zip(forms, smiles, strict=True)]
    by_key: dict[str, str] = {}
    checks = zip(rows, forms, smiles_problems(asked), canonical_forms(asked), molecule_keys(asked), strict=True)
    for (text, line), form, problem, whole, key in checks:
        reason = form.reason if isinstance(form, Lost) else problem
        if reason is None:
            by_key.setdefault(key, whole)
        else:
            refuse(line, text, reason)
    return list(by_key.values())


#: Receives the line, the text and the reason of a row that cannot be used.
Refuse = Callable[[int, str, str], None]


def draw(
    path: Path, config: PipelineSettings, standardise: Sequence[str] = (), rejects: Rejects | None = None
) -> dict[str, list[str]]:
    """The molecules to simulate, drawn uniformly: a held-out part, a pool to train on, and a random control.

    The held-out molecules never enter training at either fidelity, so that they represent new candidates; the control
    is disjoint from both. All are in their standard form, if one is requested, which is the form that is screened.
    Drawn molecules that cannot be read go to `rejects`.
    """

    def refuse(line: int, text: str, reason: str) -> None:
        if rejects is not None:
            rejects.add(path, line, text, reason)

    held_out = config.expensive.calibration + config.expensive.test
    total = held_out + config.recheck.random + config.cheap.count
    rows = reservoir(stream(path, config.smiles), int(1.02 * total) + 10, seed=config.seed)
    sample = canonical(rows, standardise, refuse)
    need = held_out + config.recheck.random + config.expensive.train
    if len(sample) < need:
        raise InputError(
            f"{len(sample)} molecules can be read, {need} are needed",
            where=str(path),
            remedy="Give more candidates, or ask for fewer labels: expensive.train, expensive.calibration, "
            "expensive.test",
        )
    return {
        "held_out": sample[:held_out],
        "random": sample[held_out : held_out + config.recheck.random],
        "pool": sample[held_out + config.recheck.random : total],
    }


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def comparison(
    expensive: SimulatedLabels, cheap: SimulatedLabels, picked: list[str], held_out: list[str], calibration: int
) -> evaluation.HeldOutLabels:
    """The molecules with labels of both fidelities: the picked ones for training, the others held out."""
    train, rest = expensive.take(picked).smiles, expensive.take(held_out).smiles
    smiles = train + rest
    edges = np.cumsum([len(train), min(calibration, len(rest) // 2)])
    train_rows, calibration_rows, test_rows = np.split(np.arange(len(smiles)), edges)
    return evaluation.HeldOutLabels(
        smiles,
        {"train": train_rows, "calibration": calibration_rows, "test": test_rows},
        expensive.take(smiles).values,
        cheap.take(smiles).values,
        expensive.units,
        morgan_counts(smiles),
    )


def pretrain(
    labels: SimulatedLabels, model: PropertyConfig, config: TrainConfig, run_dir: Path, seed: int
) -> PropertySurrogate:
    """A surrogate of the cheap simulator; 5% of its labels stop the training early."""
    table = graphs(labels.smiles, "labels of the cheap simulator")
    order = np.random.default_rng(seed).permutation(len(labels.smiles))
    valid = max(1, len(order) // 20)
    split = Split.of({"train": order[valid:], "valid": order[:valid], "calibration": order[:0]})
    return fit_property_surrogate(
        table,
        labels.values,
        split,
        model,
        config,
        run_dir / "training" / "pretrain",
        init=None,
        label_fingerprint=labels.fingerprint,
        units=labels.units,
    )


def pipeline(config: DictConfig, run_dir: Path) -> None:
    """Run every step that is not done yet, and print a table of the results."""
    settings = build(PipelineSettings, config, where="")
    targets, seed = settings.targets, settings.seed
    objective = read_objective(config.objective)
    model_config = PropertyTask.model_settings(config.model)
    recipes = {name: build(TrainConfig, config[name], where=name) for name in ("pretrain", "finetune")}
    cheap = method(config.cheap, config.conformers, run_dir / "labels" / "cheap.zarr")
    expensive = method(config.expensive, config.conformers, run_dir / "labels" / "expensive.zarr")
    refuse_unanswerable(targets, objective, {"cheap": cheap.simulator, "expensive": expensive.simulator})
    conformers = build(ConformerConfig, config.conformers, where="conformers")
    how = ScreenConfig(
        top_k=settings.screen.top_k,
        smiles=settings.smiles,
        standardise=conformers.standardise,
        workers=settings.workers,
        objective=objective,
        filters=settings.filters,
        diversity=settings.diversity,
    )
    candidates = run_dir / "candidates.csv.gz"
    if settings.candidates is not None:
        candidates = existing_file(settings.candidates, "candidates")
        # The screen reads fewer kinds of files than simulations do, so an unreadable one is refused before labels are
        # computed.
        open_source(candidates, settings.smiles)
    # A library that is written here depends on the configuration alone.
    drawn_from = {} if settings.candidates is None else identity(candidates)
    facts = {
        "file of candidates": content_hash(drawn_from),
        "simulators": content_hash([m.simulator.fingerprint for m in (cheap, expensive)]),
    }
    record_training_data(run_dir, facts, begun=(run_dir / "labels").exists())
    configuration_checked(run_dir)
    enable_compilation_cache()
    console = Console()
    ledger = Ledger(run_dir / "costs.json")

    console.rule("[bold]1 of 8  Candidates", align="left")
    if settings.candidates is None and candidates.exists():
        refuse_other_size(candidates, settings.library.size)
    elif settings.candidates is None:
        with ledger.stage("library") as cost:
            cost.items = write_library(candidates, settings.library.size, workers=settings.workers or cores()).written

    console.rule("[bold]2 of 8  Labels by simulation", align="left")
    with RejectLog(run_dir / "rejects.csv") as rejects:
        drawn = draw(candidates, settings, conformers.standardise, rejects)
    inputs = cheap_inputs(cheap.simulator, targets)
    with ledger.stage("cheap labels") as cost:
        answers = cheap.label(drawn["held_out"] + drawn["pool"], list(dict.fromkeys([*targets, *inputs])))
        cheap_labels = answers.only(targets)
        cost.items, cost.core_seconds = len(cheap_labels.smiles), cheap_labels.core_seconds
    held_out = cheap_labels.take(drawn["held_out"]).smiles
    pool = cheap_labels.take(drawn["pool"]).smiles
    picked = [pool[i] for i in diverse(pool, settings.expensive.train, seed=seed)]
    with ledger.stage("expensive labels") as cost:
        expensive_labels = expensive.label(picked + held_out, targets)
        cost.items, cost.core_seconds = len(expensive_labels.smiles), expensive_labels.core_seconds
    case = comparison(expensive_labels, cheap_labels, picked, held_out, settings.expensive.calibration)
    for target, values in case.expensive.items():
        refuse_too_few(
            values[case.parts["calibration"]], target, where="expensive.calibration, after failed simulations"
        )
    write_json(
        run_dir / "split.json",
        {"seed": seed, "smiles": case.smiles, "parts": {k: v.tolist() for k, v in case.parts.items()}},
    )

    console.rule("[bold]3 of 8  Surrogate", align="left")
    with ledger.stage("pretraining") as cost:
        learned = cheap_labels.take(pool)
        cost.items = len(learned.smiles)
        pretrained = pretrain(learned, model_config, recipes["pretrain"], run_dir, seed)

    def fit(train: np.ndarray, name: str) -> PropertySurrogate:
        table = graphs(case.smiles, "labels of the expensive simulator")
        split = Split.of({"train": train, "valid": train[:0], "calibration": case.parts["calibration"]})
        return fit_property_surrogate(
            table,
            dict(case.expensive),
            split,
            model_config,
            # The fits of the learning curve are not tracked, because there are many and none is a result.
            replace(recipes["finetune"], mlflow=recipes["finetune"].mlflow and name == "finetune"),
            run_dir / "training" / name,
            init=pretrained,
            label_fingerprint=expensive_labels.fingerprint,
            units=dict(case.units),
        )

    with ledger.stage("fine-tuning") as cost:
        cost.items = len(case.parts["train"])
        surrogate = fit(case.parts["train"], "finetune")

    console.rule("[bold]4 of 8  Evaluation on held-out labels", align="left")
    refined: dict[str, np.ndarray] = {}
    if settings.refine.top:
        seen = [case.smiles[i] for part in ("train", "calibration") for i in case.parts[part]]
        refined = Corrections.fit(answers, expensive_labels.take(seen), inputs).predict(answers, case.smiles)
    metrics = evaluation.evaluate(surrogate, case, run_dir / "evaluation.parquet", seed=seed, refined=refined)
    # The surrogate is saved with its held-out scores.
    held_out_scores = {name: value for name, value in metrics.items() if "/surrogate/" in name}
    log_scores(run_dir / "training" / "finetune", held_out_scores)
    surrogate.with_facts(scores=held_out_scores).save(run_dir / "surrogate")
    seen = [case.smiles[i] for part in ("train", "calibration") for i in case.parts[part]]
    save_hashes(run_dir / "surrogate", hash_keys(molecule_keys([*cheap_labels.take(pool).smiles, *seen])))
    with ledger.stage("learning curve"):
        curve = evaluation.learning_curve(
            lambda train: fit(train, f"curve-{len(train)}"),
            case,
            [*settings.expensive.curve, len(case.parts["train"])],
            seed=seed,
        )
    write_json(run_dir / "learning_curve.json", curve)

    console.rule("[bold]5 of 8  Screening", align="left")
    with ledger.stage("screening") as cost:
        screened = screen(surrogate, candidates, run_dir / "screen", how)
        cost.items, cost.core_seconds = screened.read, screened.core_seconds

    console.rule("[bold]6 of 8  Refinement by the cheap simulator", align="left")
    better = None
    if settings.refine.top:
        better = refine(
            run_dir / "screen",
            drawn["random"],
            answers,
            expensive_labels,
            cheap.label,
            expensive.label,
            objective,
            inputs,
            settings.refine,
            run_dir,
            ledger,
            how.filters,
        )
    else:
        console.print("None is asked for: the best of the screen are re-checked as they are (refine.top=0).")

    console.rule("[bold]7 of 8  Re-check by simulation", align="left")
    with ledger.stage("recheck") as cost:
        checked = funnel.recheck(
            surrogate, expensive.label, objective, targets, run_dir, settings.recheck.top, drawn["random"], better,
            how.diversity,
        )  # fmt: skip
        cost.items, cost.core_seconds = checked.items, checked.core_seconds

    console.rule("[bold]8 of 8  Report", align="left")
    metrics |= funnel.label_metrics("cheap", cheap_labels) | funnel.label_metrics("expensive", expensive_labels)
    if better is not None:
        metrics |= better.metrics()
    metrics |= checked.metrics | read_plain(
        run_dir / "screen" / "metrics.json", dict[str, float], remedy="Run the screen again"
    )
    metrics |= funnel.cost_metrics(ledger, cheap_labels, expensive_labels)
    metrics |= funnel.funnel_metrics(run_dir, objective, metrics)
    write_json(run_dir / "metrics.json", dict(sorted(metrics.items())))
    from experiments.pages.page import write_report

    page = write_report(run_dir)
    show_pairs("Pipeline", funnel.closing_rows(metrics, targets, case.units) | {"report": page, "run": run_dir})


def unused_in_pipeline(config: DictConfig) -> dict[str, str]:
    """Keys that this choice of candidates does not use, with the reason; see `experiments.application.strict`."""
    if config.candidates is None:
        return {"smiles": "the library that is written here has a column of its own"}
    return {
        "library": "it is written only where no candidates are given",
        **unused_of_candidates(Path(str(config.candidates))),
    }


main = application("pipeline", pipeline, unused=unused_in_pipeline)
