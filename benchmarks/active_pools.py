"""Compares rules of active learning on pools of frames whose labels are known, and says why a rule pays or not.

Every rule begins with the same random frames of a pool and labels as many in each round. Test sets weigh their regions
evenly: temperatures of a flexible molecule, steps of a proton transfer; thermal ethanol has one region. The diagnoses
are of the first rule: whether uncertainties rank errors, what energies and distances picked frames have, and whether
training from the last weights forgets.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.active_learning import ERROR, LearningRun, median_curve
from benchmarks.common import Result, arguments, pin, report
from benchmarks.pool_tasks import TASKS, PoolTask, pool_task
from data.files import write_json

if TYPE_CHECKING:
    from experiments.active.active_learning import ActiveConfig, ActiveLearning
    from experiments.active.learner import Learner


@dataclass(frozen=True)
class PoolRule:
    """A rule with its settings.

    Attributes:
        rule, window_kt, regions: see `experiments.active.frame_selection.ChoiceConfig`.
        trial_rounds: see `experiments.active.choice_trial.TrialConfig`.
    """

    rule: str
    window_kt: float | None = None
    regions: int = 1
    trial_rounds: int = 0


RULES = {
    "random": PoolRule("random"),
    "uncertain": PoolRule("uncertain"),
    "half": PoolRule("uncertain_half"),
    "window": PoolRule("uncertain", window_kt=0.8),
    "regions": PoolRule("uncertain", regions=8),
    "even": PoolRule("random", regions=8),
    "trial": PoolRule("uncertain", trial_rounds=4),
}


def pool_learner(seed: int, options: Any) -> Learner:
    """A small ensemble: `--epochs` for the first labels, and half as many from the last weights."""
    from experiments.active.learner import Learner
    from surrogates.learning.loop import TrainConfig
    from surrogates.potentials.facts import PotentialConfig
    from surrogates.potentials.networks.painn import PaiNNConfig

    shared: dict[str, Any] = {"batch_size": options.batch_size, "clip_norm": 10.0, "ema_decay": 0.99, "seed": seed}
    shared |= {"warmup_fraction": 0.05, "learning_rate": options.learning_rate}
    # Every pair of a small molecule lies inside, so that all rounds and runs share one compiled step.
    network = PaiNNConfig(
        cutoff_angstrom=options.cutoff, features=options.features, layers=options.layers, basis_size=12
    )
    return Learner(
        PotentialConfig(network=network, ensemble=2),
        TrainConfig(epochs=options.epochs, **shared),
        TrainConfig(epochs=options.epochs // 2, **shared),
    )


def pool_settings(rule: PoolRule, options: Any, temperature: float, seed: int) -> ActiveConfig:
    """Settings of one run, which ends when the labels are spent."""
    from experiments.active.active_learning import ActiveConfig
    from experiments.active.choice_trial import TrialConfig
    from experiments.active.frame_selection import ChoiceConfig
    from experiments.active.initial_frames import InitialConfig
    from experiments.active.stopping import StopConfig

    return ActiveConfig(
        initial=InitialConfig(count=options.initial),
        choose=ChoiceConfig(
            rule=rule.rule,
            batch=options.batch,
            audit=options.audit,
            window_kt=rule.window_kt,
            temperature_kelvin=temperature,
            regions=rule.regions,
        ),
        trial=TrialConfig(rounds=rule.trial_rounds),
        stop=StopConfig(force_error_mev_per_angstrom=0.01, labels=options.labels),
        seed=seed,
    )


def diagnoses(learning: ActiveLearning, task: PoolTask) -> list[Result]:
    """What the first and the last choice of a run picked, where all labels of the pool are known."""
    from experiments.active.batch import CHOSEN, Batch
    from experiments.active.choice_diagnosis import crowding, excess_kt, rank_correlation
    from experiments.active.frame_pool import frame_bytes, survey
    from experiments.active.frame_selection import bags
    from experiments.active.stopping import frame_errors
    from surrogates.potentials.surrogate import PotentialSurrogate

    rows = {key: row for row, key in enumerate(frame_bytes(task.pool))}
    table, results = bags(task.pool), []
    everything = np.arange(len(task.pool))
    for number in (1, len(learning.rounds) - 1):
        folder = learning.run_dir / "rounds"
        before = PotentialSurrogate.load(folder / f"{number - 1:03d}" / "surrogate")
        batch = Batch.load(folder / f"{number:03d}" / "batch.npz")
        keys = frame_bytes(batch.frames.take(np.flatnonzero(batch.role == CHOSEN)))
        picked = np.array([rows[key] for key in keys])
        seen = survey(before, task.pool, everything)
        errors = frame_errors(task.pool, seen.frames.forces, task.pool.forces)
        drawn = np.random.default_rng(0).choice(len(task.pool), len(picked), replace=False)
        heights = [
            excess_kt(frames, task.pool, task.temperature_kelvin) or 0.0
            for frames in (task.pool.take(picked), task.pool, task.test)
        ]
        ranks = _or_nan(rank_correlation(seen.uncertainty, errors))
        head, peer = f"round {number}", "all frames"
        results += [
            Result(f"{head}: rank correlation of uncertainty and error", ranks, "1"),
            Result.against(f"{head}: error of picked frames", errors[picked].mean(), "meV/A", peer, errors.mean()),
            Result.against(f"{head}: energy of picked frames", heights[0], "kT/coordinate", peer, heights[1]),
            Result(f"{head}: energy of test frames", heights[2], "kT/coordinate"),
            Result(f"{head}: nearest distance in batch over random batch", crowding(table[picked], table[drawn]), "1"),
        ]
    return results


def forgetting(learning: ActiveLearning, learner: Learner, task: PoolTask, folder: Path) -> Result:
    """Error of the last round, and of fresh weights that learn the same labels by the longer recipe."""
    frames = learning.learned
    from data.structures.structures import Structures

    fresh = learner.learn(Structures.concatenate(frames), None, folder, label_fingerprint="fresh", progress=False)
    answer = fresh.predict_structures(task.test, error_bars=False)
    error = 1000.0 * float(np.abs(answer.forces - task.test.forces).mean())
    return Result.against("error from the last weights", learning.rounds[-1][ERROR], "meV/A", "fresh weights", error)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def compare_with_random(runs: dict[str, list[LearningRun]]) -> list[Result]:
    """Labels of each rule at the median errors that random choice had after its rounds, and errors at the end."""
    grid, random = median_curve(runs["random"])
    results: list[Result] = []
    for name, of_rule in runs.items():
        if name == "random":
            continue
        labels, errors = median_curve(of_rule)
        median = LearningRun(name, [{"labels": n, ERROR: e} for n, e in zip(labels, errors, strict=True)], "", {})
        for n, error in list(zip(grid, random, strict=True))[2:]:
            needed = median.labels_to_reach(float(error))
            if needed is None:
                print(f"{name}: {error:.3g} meV/A, random choice after {n:.0f} labels, is not reached")
                continue
            what = f"{name}: labels to reach {error:.3g} meV/A"
            results.append(Result.against(what, needed, "labels", "random choice", float(n)))
        last = float(grid[-1])
        at = [float(np.median([run.error_at(last) for run in group])) for group in (of_rule, runs["random"])]
        spread = [f"{float(run.error_at(last)):.3g}" for run in of_rule]
        print(f"{name}: errors after {last:.0f} labels by seed: {', '.join(spread)}")
        results.append(Result.against(f"{name}: error after {last:.0f} labels", at[0], "meV/A", "random choice", at[1]))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--task", choices=TASKS, default="torsion", help="pool and test (%(default)s)")
    parser.add_argument("--rules", nargs="+", choices=tuple(RULES), default=["uncertain"], help="beside random choice")
    parser.add_argument("--seeds", type=int, default=3, help="runs with each rule (%(default)s)")
    parser.add_argument("--initial", type=int, default=24, help="labels of the first round (%(default)s)")
    parser.add_argument("--batch", type=int, default=20, help="frames that a round picks (%(default)s)")
    parser.add_argument("--audit", type=int, default=4, help="frames that a round draws beside them (%(default)s)")
    parser.add_argument("--labels", type=int, default=144, help="label budget of a run (%(default)s)")
    parser.add_argument("--features", type=int, default=32, help="channels of the networks (%(default)s)")
    parser.add_argument("--cutoff", type=float, default=6.0, help="cutoff of the networks, Angstrom (%(default)s)")
    parser.add_argument("--layers", type=int, default=2, help="rounds of message passing (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=4, help="frames of a step (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=4e-3, help="its largest value (%(default)s)")
    parser.add_argument("--epochs", type=int, default=120, help="epochs of the first round (%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="train fresh weights on the last labels too")
    options = parser.parse_args(argv)
    pin(options.cores)
    from experiments.active.active_learning import ActiveLearning
    from experiments.active.frame_labelling import label
    from simulators.campaigns.campaign import CampaignConfig
    from surrogates.learning.devices import enable_compilation_cache

    enable_compilation_cache()
    base = (options.out / "active_pools" / options.task).resolve()
    task = pool_task(options.task, options.data, base)
    campaign, store = CampaignConfig(workers=1), base / "labels.zarr"
    label(task.simulator, task.pool, store, campaign, progress=False)
    runs: dict[str, list[LearningRun]] = {}
    results: list[Result] = []
    for name in ("random", *options.rules):
        rule = RULES[name]
        for seed in range(options.seeds):
            learner = pool_learner(seed, options)
            learning = ActiveLearning(
                None,
                task.simulator,
                campaign,
                learner,
                pool_settings(rule, options, task.temperature_kelvin, seed),
                base / f"{name}-{seed}",
                store=store,
                test=task.test,
                pool=task.pool,
                progress=False,
            )
            outcome = learning.run()
            spent = {part: learning.ledger.core_seconds(part) for part in ("training", "trial")}
            runs.setdefault(name, []).append(LearningRun(name, outcome.rounds, outcome.stopped_by, spent))
            errors = [round(error, 1) for error in runs[name][-1].errors]
            print(f"{name}, seed {seed}: errors {errors}, core-s {spent}", flush=True)
            if seed == 0 and name != "random":
                causes = diagnoses(learning, task)
                if options.fresh:
                    causes.append(forgetting(learning, learner, task, base / f"fresh-{name}"))
                results += [replace(result, name=f"{name}: {result.name}") for result in causes]
    results += compare_with_random(runs)
    write_json(options.out / f"active_pools_{options.task}.json", {k: [vars(r) for r in v] for k, v in runs.items()})
    report("active_pools", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
