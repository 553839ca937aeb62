"""Says why uncertain frames teach more or less than random ones, by many cheap runs of active learning.

The surrogate is a kernel model of forces (`benchmarks.kernel_forces`), which trains in a fraction of a second. Frames
are chosen by the functions of `understudy active`, from a pool whose labels are known (`benchmarks.pool_tasks`) or, in
the task "dynamics", from the surrogate's own dynamics of ethanol at 500 K with labels of GFN2-xTB. The uncertainty is
the spread of four models of half of the labels each. Every run with a rule of uncertainty also carries out the trial of
`experiments.active.choice_trial`, so that its verdicts can be compared with what really paid.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from benchmarks.active_learning import ERROR, LearningRun, median_curve
from benchmarks.common import Result, arguments, pin, report
from benchmarks.kernel_committee import Explorer, KernelCommittee, Labeller
from benchmarks.kernel_forces import InverseDistances, KernelForces
from benchmarks.pool_tasks import TASKS, PoolTask, pool_task
from data.files import write_json
from data.structures.structures import Structures
from experiments.active.choice_diagnosis import crowding, excess_kt, rank_correlation
from experiments.active.choice_trial import TrialConfig, relative_differences, trial_entries, verdict
from experiments.active.energy_window import inside_window
from experiments.active.frame_selection import ChoiceConfig, bags, choose
from experiments.active.stopping import frame_errors

#: Name -> rule, window in kT by internal coordinate, regions.
RULES: dict[str, tuple[str, float | None, int]] = {
    "random": ("random", None, 1),
    "uncertain": ("uncertain", None, 1),
    "half": ("uncertain_half", None, 1),
    "uncertain-window": ("uncertain", 0.8, 1),
    "half-window": ("uncertain_half", 0.8, 1),
    "uncertain-regions": ("uncertain", None, 8),
    "half-regions": ("uncertain_half", None, 8),
    "random-regions": ("random", None, 8),
}


@dataclass
class RuleRun:
    """One run and what it says about its choices."""

    rows: list[dict[str, Any]] = field(default_factory=list)


#: Prefix of the entries of a trial that the test frames decide.
ON_TEST = "test/"


def learn(
    task: PoolTask, explore: Explorer, label: Labeller, initial: Structures, name: str, options: Any, seed: int
) -> RuleRun:
    """Rounds of one rule until the labels are spent."""
    rule, window, regions = RULES[name]
    choice = ChoiceConfig(rule=rule, batch=options.batch, audit=options.audit, regions=regions)
    trial, run, labelled = TrialConfig(rounds=options.trial), RuleRun(), initial
    arms = {"chosen": initial, "random": initial}
    models: dict[str, KernelForces] = {}
    while True:
        committee = KernelCommittee.fit(labelled, seed)
        row: dict[str, Any] = {"labels": len(labelled), ERROR: mean_error(committee.whole, task.test)}
        for number, region in enumerate(task.regions):
            row[region] = mean_error(committee.whole, task.test.take(np.flatnonzero(task.region == number)))
        run.rows.append(row)
        room = options.labels - len(labelled)
        if room <= 0:
            return run
        step = seed * 1000 + len(run.rows)
        frames, doubt = committee.answer(explore(committee, labelled, step))
        allowed = inside_window(frames, labelled, window, task.temperature_kelvin)
        everything = np.ones(len(frames), bool)
        picked, drawn = choose(frames, doubt, everything, labelled, choice, room, step, allowed)
        chosen, audit = label(frames.take(picked)), label(frames.take(drawn))
        row |= causes(frames, doubt, picked, chosen, drawn, audit, labelled, task.temperature_kelvin)
        if models:
            for judges, prefix in ((audit, ""), (task.test, ON_TEST)):
                errors = [kernel_errors(models[arm], judges) for arm in ("chosen", "random")]
                entries = trial_entries(relative_differences(errors[0], errors[1]))
                row |= {prefix + key: value for key, value in entries.items()}
        count = min(len(chosen), len(audit))
        if rule != "random" and len(run.rows) <= trial.rounds:
            for arm, source in (("chosen", chosen), ("random", audit)):
                arms[arm] = Structures.concatenate([arms[arm], source.take(np.arange(count))])
                models[arm] = fit_kernel(arms[arm])
        labelled = Structures.concatenate([labelled, chosen, audit])


def causes(
    frames: Structures,
    doubt: np.ndarray,
    picked: Int[np.ndarray, " c"],
    chosen: Structures,
    drawn: Int[np.ndarray, " a"],
    audit: Structures,
    labelled: Structures,
    kelvin: float,
) -> dict[str, Any]:
    """What a round picked: ranks of uncertainties, and errors, energies and distances beside those of random frames."""
    errors = [
        frame_errors(truth, frames.take(rows).forces, truth.forces)
        for rows, truth in ((picked, chosen), (drawn, audit))
    ]
    if len(chosen) < 3:
        return {}
    table = bags(frames)
    other = np.random.default_rng(0).choice(len(frames), len(picked), replace=False)
    return {
        "rank correlation of uncertainty and error": rank_correlation(
            doubt[np.concatenate([picked, drawn])], np.concatenate(errors)
        ),
        "error of chosen over random frames": float(errors[0].mean() / errors[1].mean()),
        "energy of chosen frames, kT by coordinate": excess_kt(chosen, labelled, kelvin),
        "energy of random frames, kT by coordinate": excess_kt(audit, labelled, kelvin),
        "distance in batch over that in a random batch": crowding(table[picked], table[other]),
    }


def fit_kernel(frames: Structures) -> KernelForces:
    """One model of labelled frames."""
    return KernelForces.fit(InverseDistances.of(frames), frames.forces.reshape(len(frames), -1), frames.energy)


def kernel_errors(model: KernelForces, frames: Structures) -> Float[np.ndarray, " M"]:
    """Mean absolute error of a force component of each frame, meV/Angstrom."""
    return frame_errors(frames, model.predict(InverseDistances.of(frames))[1].reshape(-1, 3), frames.forces)


def mean_error(model: KernelForces, frames: Structures) -> float:
    """Mean absolute error of a force component, meV/Angstrom."""
    return float(kernel_errors(model, frames).mean())


def from_pool(task: PoolTask) -> tuple[Explorer, Labeller]:
    """Exploration and labels of a pool: all of its frames that are not labelled yet."""
    from experiments.active.frame_pool import frame_bytes, rows_left

    rows = {key: row for row, key in enumerate(frame_bytes(task.pool))}

    def explore(_: KernelCommittee, labelled: Structures, __: int) -> Structures:
        return task.pool.take(rows_left(task.pool, set(frame_bytes(labelled))))

    def label(frames: Structures) -> Structures:
        return task.pool.take(np.array([rows[key] for key in frame_bytes(frames)], np.int64))

    return explore, label


def drawn_frames(task: PoolTask, count: int, seed: int) -> Structures:
    """Frames of the pool drawn at random."""
    return task.pool.take(np.random.default_rng(seed).choice(len(task.pool), count, replace=False))


def compare(runs: dict[str, list[RuleRun]], goals: Sequence[float]) -> list[Result]:
    """Labels of each rule at the median errors of random choice, and its diagnoses and verdicts."""
    curves = {name: [LearningRun(name, run.rows, "", {}) for run in of_rule] for name, of_rule in runs.items()}
    grid, random = median_curve(curves["random"])
    results: list[Result] = []
    for name, of_rule in curves.items():
        if name == "random":
            continue
        labels, errors = median_curve(of_rule)
        median = LearningRun(name, [{"labels": n, ERROR: e} for n, e in zip(labels, errors, strict=True)], "", {})
        for share in goals:
            place = min(len(grid) - 1, max(1, round(share * (len(grid) - 1))))
            needed = median.labels_to_reach(float(random[place]))
            what = f"{name}: labels to reach {random[place]:.3g} meV/A"
            if needed is None:
                print(f"{what}: more than {labels[-1]:.0f}, random choice {grid[place]:.0f}")
            else:
                results.append(Result.against(what, needed, "labels", "random choice", float(grid[place])))
        results.append(
            Result.against(
                f"{name}: error after {grid[-1]:.0f} labels", errors[-1], "meV/A", "random choice", random[-1]
            )
        )
        for key in runs[name][0].rows[0]:
            values = [row[key] for run in runs[name] for row in run.rows if row.get(key) is not None]
            if " " in key and not key[0].isdigit() and key[0] not in "+-":
                results.append(Result(f"{name}: {key}", float(np.median(values)), "1"))
        results += verdicts(name, [run.rows for run in runs[name]])
    return results


def verdicts(name: str, runs: Sequence[Sequence[dict[str, Any]]]) -> list[Result]:
    """What the trials say that audit frames or test frames decide."""
    results: list[Result] = []
    for where, prefix in (("audit", ""), ("test", ON_TEST)):
        entries = [
            [{key.removeprefix(prefix): value for key, value in row.items() if key.startswith(prefix)} for row in rows]
            for rows in runs
        ]
        judged = [state for state in (verdict(rows, TrialConfig()) for rows in entries) if state is not None]
        if judged:
            head = f"{name}: trial on {where} frames"
            difference = float(np.mean([state.difference for state in judged]))
            fallen = float(sum(state.falls_back for state in judged))
            results += [
                Result(f"{head}: difference of errors", difference, "1"),
                Result(f"{head}: runs of {len(judged)} that fall back", fallen, "runs"),
            ]
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--task", choices=(*TASKS, "dynamics"), default="transfer", help="frames and test (%(default)s)"
    )
    parser.add_argument("--rules", nargs="+", choices=tuple(RULES), default=["uncertain", "half"])
    parser.add_argument("--seeds", type=int, default=10, help="runs with each rule (%(default)s)")
    parser.add_argument("--initial", type=int, default=12, help="labels of the first round (%(default)s)")
    parser.add_argument("--batch", type=int, default=12, help="frames that a round picks (%(default)s)")
    parser.add_argument("--audit", type=int, default=6, help="frames that a round draws beside them (%(default)s)")
    parser.add_argument("--labels", type=int, default=120, help="label budget of a run (%(default)s)")
    parser.add_argument("--trial", type=int, default=4, help="rounds of the trial (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    base = (options.out / "active_pools" / options.task).resolve()
    runs: dict[str, list[RuleRun]] = {}
    if options.task == "dynamics":
        from benchmarks.kernel_dynamics import dynamics_task, first_frames

        task, explore, label = dynamics_task(base)
        first = first_frames
    else:
        task = pool_task(options.task, options.data, base)
        explore, label = from_pool(task)
        first = partial(drawn_frames, task)

    for name in ("random", *options.rules):
        for seed in range(options.seeds):
            run = learn(task, explore, label, first(options.initial, seed), name, options, seed)
            runs.setdefault(name, []).append(run)
        curve = np.median([[row[ERROR] for row in run.rows] for run in runs[name]], axis=0)
        print(f"{name}: median errors {np.round(curve, 1).tolist()}", flush=True)
        last = [run.rows[-1] for run in runs[name]]
        print(
            {region: round(float(np.median([row[region] for row in last])), 1) for region in task.regions}, flush=True
        )
    write_json(options.out / f"active_rules_{options.task}.json", {k: [r.rows for r in v] for k, v in runs.items()})
    report("active_rules", compare(runs, (0.34, 0.67, 1.0)), options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run as run_benchmark

    sys.exit(run_benchmark(main))
