"""Labels that active learning needs for a stated error of forces, beside random choice from the same kind of dynamics.

Ethanol, B3LYP/6-31G* by PySCF. Both sides begin with the same labels, explore with their own surrogate by the same
settings, spend the same number of labels on audits, and retrain by the same recipe; they differ in the rule that
picks the rest of a round. Scored on frames that neither has anything to do with: a Langevin trajectory at the
temperature of the exploration, driven by GFN2-xTB and labelled by the DFT. All runs share one store of labels, and
a stopped benchmark goes on where it was.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data.files import write_json, write_text
from experiments.benchmarks.common import Result, arguments, pin, report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from data.structures import Structures
    from experiments.active.loop import ActiveConfig, Learner

ERROR = "test_forces_mae_mev_per_angstrom"
RULES = {"uncertain": "active", "random": "random choice"}
#: Errors of forces, meV/Angstrom, for which labels are counted.
GOALS = (100.0, 80.0, 70.0, 60.0, 50.0, 40.0, 30.0)
TEMPERATURE_KELVIN, FRICTION_PER_FS, TIMESTEP_FS = 500.0, 0.02, 1.0


@dataclass(frozen=True)
class Run:
    """One run of one side.

    Attributes:
        rule: a key of `RULES`.
        rounds: as `ActiveLearning` gives them.
        stopped_by: likewise.
        core_seconds: of labels, training and exploration.
    """

    rule: str
    rounds: list[dict[str, Any]]
    stopped_by: str
    core_seconds: dict[str, float]

    @property
    def labels(self) -> list[float]:
        """After each round."""
        return [float(row["labels"]) for row in self.rounds]

    @property
    def errors(self) -> list[float]:
        """On the test frames, after each round, meV/Angstrom."""
        return [float(row[ERROR]) for row in self.rounds]

    def error_at(self, labels: float | np.ndarray) -> np.ndarray:
        """The error after some labels: between rounds on a line of its logarithm."""
        return np.exp(np.interp(labels, self.labels, np.log(self.errors)))

    def labels_to_reach(self, error: float) -> float | None:
        """Labels after which the error is first at most `error`, on the same line; None if it never is."""
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
    """Frames of a Langevin trajectory driven by GFN2-xTB, the first picosecond left out."""
    from ase import Atoms, units
    from ase.md.langevin import Langevin
    from tblite.ase import TBLite

    from data.structures import Structures
    from surrogates.graph.dynamics import thermal_velocities

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
    found = []
    for _ in range(frames):
        dynamics.run(round(every_fs / TIMESTEP_FS))
        found.append(atoms.positions.copy())
    return Structures.from_arrays([start.numbers] * frames, found)


def recipe(seed: int) -> Learner:
    """A small ensemble, which two cores train in seconds."""
    from experiments.active.loop import Learner
    from surrogates.graph.facts import PotentialConfig
    from surrogates.graph.painn import PaiNNConfig
    from surrogates.train import TrainConfig

    shared = {"batch_size": 4, "clip_norm": 10.0, "ema_decay": 0.99, "seed": seed, "warmup_fraction": 0.05}
    return Learner(
        PotentialConfig(network=PaiNNConfig(features=32, layers=2, basis_size=12), ensemble=3),
        TrainConfig(epochs=200, learning_rate=4e-3, **shared),  # type: ignore[arg-type]
        TrainConfig(epochs=100, learning_rate=4e-3, **shared),  # type: ignore[arg-type]
    )


def settings(rule: str, labels: int, goal: float, seed: int) -> ActiveConfig:
    """One run of one side."""
    from experiments.active.exploration import ExploreConfig
    from experiments.active.loop import ActiveConfig, InitialConfig
    from experiments.active.selection import ChoiceConfig
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


def side(runs: Sequence[Run], rule: str) -> list[Run]:
    """The runs of one rule."""
    return [run for run in runs if run.rule == rule]


def median_curve(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of labels of the shortest run's rounds, and the median over runs of the error there."""
    grid = np.array(min((run.labels for run in runs), key=lambda labels: labels[-1]))
    return grid, np.median([run.error_at(grid) for run in runs], axis=0)


def paint(axes: Axes, runs: Sequence[Run], goals: Sequence[float]) -> None:
    """Test errors of each run, thin, and the median of each side, thick."""
    from experiments.active.report import error_axis
    from experiments.reporting.style import BLUE, GREY, INK, legend_below

    for rule, colour, marker in (("random", GREY, "s"), ("uncertain", BLUE, "o")):
        own = side(runs, rule)
        for run in own:
            axes.plot(run.labels, run.errors, color=colour, alpha=0.4, linewidth=0.9)
        axes.plot(*median_curve(own), f"{marker}-", color=colour, label=f"{RULES[rule]}, median of {len(own)}")
    for goal in goals:
        axes.axhline(goal, color=INK, linestyle=":", linewidth=0.9)
    error_axis(axes, [error for run in runs for error in run.errors])
    axes.set(xlabel="Labels", ylabel="Mean absolute force error (meV/Å)")
    legend_below(axes, columns=2)


def compared(runs: Sequence[Run], goals: Sequence[float]) -> list[Result]:
    """Labels to reach each goal that every run reached, and the errors after equally many labels."""
    ours, theirs = side(runs, "uncertain"), side(runs, "random")
    peer = RULES["random"]
    results: list[Result] = []
    for goal in goals:
        found = [[run.labels_to_reach(goal) for run in own] for own in (ours, theirs)]
        known = [[n for n in own if n is not None] for own in found]
        if [len(own) for own in known] != [len(ours), len(theirs)]:
            print(f"{goal:g} meV/A: reached by {len(known[0])} active and {len(known[1])} random runs, so not compared")
            continue
        medians = [float(np.median(own)) for own in known]
        results.append(Result.against(f"labels to reach {goal:g} meV/A", medians[0], "labels", peer, medians[1]))
    most = min(run.labels[-1] for run in runs)
    at = [float(np.median([run.error_at(most) for run in own])) for own in (ours, theirs)]
    results.append(Result.against(f"force MAE after {most:.0f} labels", at[0], "meV/A", peer, at[1]))
    return results


def stopped(runs: Sequence[Run]) -> list[Result]:
    """How the criterion's own measure compares with the test frames, where it ended an active run."""
    ended = [run for run in side(runs, "uncertain") if run.stopped_by == "goal"]
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


def costs(runs: Sequence[Run]) -> list[Result]:
    """Core-seconds of a run, by what they went to."""
    names = list(runs[0].core_seconds)
    return [
        Result(f"cost of {name}, median run", float(np.median([run.core_seconds[name] for run in runs])), "core-s")
        for name in names
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--smiles", default="CCO", help="the molecule (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each side (%(default)s)")
    parser.add_argument("--labels", type=int, default=92, help="budget of a run (%(default)s)")
    parser.add_argument("--goals", type=float, nargs="+", default=list(GOALS), help="meV/A (%(default)s)")
    parser.add_argument("--stop", type=float, default=25.0, help="goal that ends a run, meV/A (%(default)s)")
    parser.add_argument("--test-frames", type=int, default=80, help="of the independent trajectory (%(default)s)")
    given = parser.parse_args(argv)
    cores = pin(given.cores)
    from data.structures import Structures
    from experiments.active.labelling import label
    from experiments.active.loop import ActiveLearning
    from experiments.reporting.style import draw
    from simulators.campaign import CampaignConfig
    from simulators.quantum.conformers import ConformerConfig, embed
    from simulators.quantum.pyscf import PySCF
    from surrogates.devices import enable_compilation_cache

    enable_compilation_cache()
    base = (given.out / "active_learning" / given.smiles).resolve()
    store = base / "labels.zarr"
    geometry = embed(given.smiles, ConformerConfig()).geometry
    start = Structures.from_arrays([geometry.numbers], [geometry.positions])
    outputs = ("energy", "forces")
    simulator = PySCF(method="b3lyp", basis="6-31g*", outputs=outputs, grid_points=(35, 110), tolerance=1e-8)
    campaign = CampaignConfig(workers=len(cores))
    test = label(simulator, trajectory(start, given.test_frames, 30.0, 99), store, campaign)
    runs: list[Run] = []
    for seed in range(given.seeds):
        for rule in RULES:
            learning = ActiveLearning(
                start,
                simulator,
                campaign,
                recipe(seed),
                settings(rule, given.labels, given.stop, seed),
                base / f"{rule}-{seed}",
                store=store,
                test=test.structures,
            )
            found = learning.run()
            spent = {name: learning.ledger.core_seconds(name) for name in ("labels", "training", "exploration")}
            runs.append(Run(rule, found.rounds, found.stopped_by, spent))
    results = compared(runs, given.goals)
    reached = [float(r.name.split()[3]) for r in results if r.name.startswith("labels to reach")]
    size = 1000.0 * float(np.abs(test.structures.forces).mean())
    results += stopped(runs) + costs(runs)
    results.append(Result("cost of one label", test.core_seconds / len(test.structures), "core-s"))
    results.append(Result("mean absolute force component of the test frames", size, "meV/A"))
    write_json(given.out / "active_learning_curves.json", [vars(run) for run in runs])
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
    write_text(given.out / "active_learning.svg", drawing.xml)
    report("active_learning", results, given.out, argv)


if __name__ == "__main__":
    from experiments.benchmarks.common import run

    sys.exit(run(main))
