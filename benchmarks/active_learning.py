"""Compares how many labels active learning and random choice need to reach a stated error of forces.

The molecule is ethanol, labelled with B3LYP/6-31G* by PySCF. Both sides begin with the same labels, explore with their
own surrogate and the same settings, spend the same number of labels on audits, and retrain by the same recipe. They
differ only in the rule that selects the other frames of a round. Both are scored on independent frames: a Langevin
trajectory at the temperature of the exploration, driven by GFN2-xTB and labelled by the DFT. All runs share one store
of labels, and a stopped benchmark resumes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.common import Result, arguments, pin, report
from data.files import write_json, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from data.structures.structures import Structures
    from experiments.active.active_learning import ActiveConfig
    from experiments.active.learner import Learner

ERROR = "test_forces_mae_mev_per_angstrom"
RULES = {"uncertain": "active", "random": "random choice"}
#: Force errors (meV/Angstrom) for which the number of labels is reported.
GOALS = (100.0, 80.0, 70.0, 60.0, 50.0, 40.0, 30.0)
TEMPERATURE_KELVIN, FRICTION_PER_FS, TIMESTEP_FS = 500.0, 0.02, 1.0


@dataclass(frozen=True)
class LearningRun:
    """One run with one of the two rules.

    Attributes:
        rule: a key of `RULES`.
        rounds: metrics of each round, as returned by `ActiveLearning.run`.
        stopped_by: criterion that ended the run, as returned by `ActiveLearning.run`.
        core_seconds: core-seconds by activity: labels, training and exploration.
    """

    rule: str
    rounds: list[dict[str, Any]]
    stopped_by: str
    core_seconds: dict[str, float]

    @property
    def labels(self) -> list[float]:
        """Number of labels after each round."""
        return [float(row["labels"]) for row in self.rounds]

    @property
    def errors(self) -> list[float]:
        """Mean absolute force error on the test frames after each round (meV/Angstrom)."""
        return [float(row[ERROR]) for row in self.rounds]

    def error_at(self, labels: float | np.ndarray) -> np.ndarray:
        """The error after this number of labels; the logarithm of the error is interpolated linearly between rounds."""
        return np.exp(np.interp(labels, self.labels, np.log(self.errors)))

    def labels_to_reach(self, error: float) -> float | None:
        """Labels after which the error is first at most `error`, by the same interpolation; None if it never is."""
        below = np.flatnonzero(np.array(self.errors) <= error)
        if not len(below):
            return None
        last = int(below[0])
        if last == 0:
            return self.labels[0]
        logs = np.log(self.errors[last - 1 : last + 1])
        share = (logs[0] - np.log(error)) / (logs[0] - logs[1])
        return float(self.labels[last - 1] + share * (self.labels[last] - self.labels[last - 1]))


def trajectory(start: Structures, frames: int, every_fs: float, seed: int) -> Structures:
    """Frames of a Langevin trajectory driven by GFN2-xTB, without its first picosecond."""
    from ase import Atoms, units
    from ase.md.langevin import Langevin
    from tblite.ase import TBLite

    from data.structures.structures import Structures
    from surrogates.potentials.dynamics.dynamics import thermal_velocities

    rng = np.random.default_rng(seed)
    atoms = Atoms(start.numbers, start.positions, calculator=TBLite(method="GFN2-xTB", verbosity=0))
    atoms.set_velocities(thermal_velocities(start, TEMPERATURE_KELVIN, seed) / units.fs)
    dynamics = Langevin(
        atoms,
        TIMESTEP_FS * units.fs,
        temperature_K=TEMPERATURE_KELVIN,
        friction=FRICTION_PER_FS / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(round(1000.0 / TIMESTEP_FS))
    positions = []
    for _ in range(frames):
        dynamics.run(round(every_fs / TIMESTEP_FS))
        positions.append(atoms.positions.copy())
    return Structures.from_arrays([start.numbers] * frames, positions)


def recipe(seed: int) -> Learner:
    """The model and training settings of a small ensemble, which two cores train in seconds."""
    from experiments.active.learner import Learner
    from surrogates.learning.loop import TrainConfig
    from surrogates.potentials.facts import PotentialConfig
    from surrogates.potentials.networks.painn import PaiNNConfig

    shared = {"batch_size": 4, "clip_norm": 10.0, "ema_decay": 0.99, "seed": seed, "warmup_fraction": 0.05}
    return Learner(
        PotentialConfig(network=PaiNNConfig(features=32, layers=2, basis_size=12), ensemble=3),
        TrainConfig(epochs=200, learning_rate=4e-3, **shared),  # type: ignore[arg-type]
        TrainConfig(epochs=100, learning_rate=4e-3, **shared),  # type: ignore[arg-type]
    )


def settings(rule: str, labels: int, goal: float, seed: int) -> ActiveConfig:
    """Settings of one run with one rule."""
    from experiments.active.active_learning import ActiveConfig
    from experiments.active.exploration import ExploreConfig
    from experiments.active.frame_selection import ChoiceConfig
    from experiments.active.initial_frames import InitialConfig
    from experiments.active.stopping import StopConfig

    return ActiveConfig(
        initial=InitialConfig(count=12),
        explore=ExploreConfig(
            walkers=16,
            steps=300,
            record_every=10,
            temperature_kelvin=TEMPERATURE_KELVIN,
            friction_per_fs=FRICTION_PER_FS,
            timestep_fs=TIMESTEP_FS,
        ),
        choose=ChoiceConfig(rule=rule, batch=16, audit=4),
        stop=StopConfig(force_error_mev_per_angstrom=goal, labels=labels),
        seed=seed,
    )


def runs_of_rule(runs: Sequence[LearningRun], rule: str) -> list[LearningRun]:
    """The runs that used one rule."""
    return [run for run in runs if run.rule == rule]


def median_curve(runs: Sequence[LearningRun]) -> tuple[np.ndarray, np.ndarray]:
    """Label counts of the rounds of the shortest run, and the median over runs of the error at each of them."""
    grid = np.array(min((run.labels for run in runs), key=lambda labels: labels[-1]))
    return grid, np.median([run.error_at(grid) for run in runs], axis=0)


def paint(axes: Axes, runs: Sequence[LearningRun], goals: Sequence[float]) -> None:
    """Draw the test errors of each run as thin lines and the median of each rule as a thick line."""
    from experiments.active.results import error_axis
    from experiments.pages.style import BLUE, GREY, INK, legend_below

    for rule, colour, marker in (("random", GREY, "s"), ("uncertain", BLUE, "o")):
        same_rule = runs_of_rule(runs, rule)
        for run in same_rule:
            axes.plot(run.labels, run.errors, color=colour, alpha=0.4, linewidth=0.9)
        axes.plot(
            *median_curve(same_rule), f"{marker}-", color=colour, label=f"{RULES[rule]}, median of {len(same_rule)}"
        )
    for goal in goals:
        axes.axhline(goal, color=INK, linestyle=":", linewidth=0.9)
    error_axis(axes, [error for run in runs for error in run.errors])
    axes.set(xlabel="Labels", ylabel="Mean absolute force error (meV/Å)")
    legend_below(axes, columns=2)


def compare_rules(runs: Sequence[LearningRun], goals: Sequence[float]) -> list[Result]:
    """Labels needed for each goal that every run reached, and the errors after the same number of labels."""
    ours, theirs = runs_of_rule(runs, "uncertain"), runs_of_rule(runs, "random")
    peer = RULES["random"]
    results: list[Result] = []
    for goal in goals:
        needed = [[run.labels_to_reach(goal) for run in group] for group in (ours, theirs)]
        reached = [[n for n in group if n is not None] for group in needed]
        if [len(group) for group in reached] != [len(ours), len(theirs)]:
            active, random = (len(group) for group in reached)
            print(f"{goal:g} meV/A: reached by {active} active and {random} random runs, so it is not compared")
            continue
        medians = [float(np.median(group)) for group in reached]
        results.append(Result.against(f"labels to reach {goal:g} meV/A", medians[0], "labels", peer, medians[1]))
    most = min(run.labels[-1] for run in runs)
    at = [float(np.median([run.error_at(most) for run in group])) for group in (ours, theirs)]
    results.append(Result.against(f"force MAE after {most:.0f} labels", at[0], "meV/A", peer, at[1]))
    return results


def stopping_results(runs: Sequence[LearningRun]) -> list[Result]:
    """The error that the stopping criterion measured and the test error, for active runs that it ended."""
    ended = [run for run in runs_of_rule(runs, "uncertain") if run.stopped_by == "goal"]
    if not ended:
        print("no active run met the goal that ends it")
        return []

    def median(key: str) -> float:
        return float(np.median([run.rounds[-1][key] for run in ended]))

    return [
        Result("active runs that the goal ended", float(len(ended)), "runs"),
        Result("labels spent when the goal ended them", median("labels"), "labels"),
        Result("their last audit, before it was learned", median("force_error_mev_per_angstrom"), "meV/A"),
        Result("their force MAE on test frames", median(ERROR), "meV/A"),
    ]


def costs(runs: Sequence[LearningRun]) -> list[Result]:
    """Median core-seconds of a run by activity."""
    names = list(runs[0].core_seconds)
    return [
        Result(f"cost of {name}, median run", float(np.median([run.core_seconds[name] for run in runs])), "core-s")
        for name in names
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--smiles", default="CCO", help="SMILES of the molecule (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="runs with each rule (%(default)s)")
    parser.add_argument("--labels", type=int, default=92, help="label budget of a run (%(default)s)")
    parser.add_argument(
        "--goals", type=float, nargs="+", default=list(GOALS), help="force errors to compare at, meV/A (%(default)s)"
    )
    parser.add_argument("--stop", type=float, default=25.0, help="force error that ends a run, meV/A (%(default)s)")
    parser.add_argument(
        "--test-frames", type=int, default=80, help="frames of the independent trajectory (%(default)s)"
    )
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    from data.structures.structures import Structures
    from experiments.active.active_learning import ActiveLearning
    from experiments.active.frame_labelling import label
    from experiments.pages.style import draw
    from simulators.campaigns.campaign import CampaignConfig
    from simulators.chemistry.conformers import ConformerConfig, embed
    from simulators.chemistry.pyscf import PySCF
    from surrogates.learning.devices import enable_compilation_cache

    enable_compilation_cache()
    base = (options.out / "active_learning" / options.smiles).resolve()
    store = base / "labels.zarr"
    geometry = embed(options.smiles, ConformerConfig()).geometry
    start = Structures.from_arrays([geometry.numbers], [geometry.positions])
    outputs = ("energy", "forces")
    simulator = PySCF(method="b3lyp", basis="6-31g*", outputs=outputs, grid_points=(35, 110), tolerance=1e-8)
    campaign = CampaignConfig(workers=len(cores))
    test = label(simulator, trajectory(start, options.test_frames, 30.0, 99), store, campaign)
    runs: list[LearningRun] = []
    for seed in range(options.seeds):
        for rule in RULES:
            learning = ActiveLearning(
                start,
                simulator,
                campaign,
                recipe(seed),
                settings(rule, options.labels, options.stop, seed),
                base / f"{rule}-{seed}",
                store=store,
                test=test.structures,
            )
            outcome = learning.run()
            spent = {name: learning.ledger.core_seconds(name) for name in ("labels", "training", "exploration")}
            runs.append(LearningRun(rule, outcome.rounds, outcome.stopped_by, spent))
    results = compare_rules(runs, options.goals)
    reached = [float(r.name.split()[3]) for r in results if r.name.startswith("labels to reach")]
    size = 1000.0 * float(np.abs(test.structures.forces).mean())
    results += stopping_results(runs) + costs(runs)
    results.append(Result("cost of one label", test.core_seconds / len(test.structures), "core-s"))
    results.append(Result("mean absolute force component of the test frames", size, "meV/A"))
    write_json(options.out / "active_learning_curves.json", [vars(run) for run in runs])
    title = "Error of forces, active and random choice"
    if reached:
        ours = results[len(reached) - 1]
        title = f"{reached[-1]:g} meV/Å after {ours.value:.0f} labels, by random choice after {ours.peer_value:.0f}"
    drawing = draw(
        lambda axes: paint(axes, runs, reached),
        name="active-learning",
        label="Test error of forces against the number of labels, active and random choice",
        title=title,
    )
    write_text(options.out / "active_learning.svg", drawing.xml)
    report("active_learning", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
