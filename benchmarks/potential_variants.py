"""Compares settings of a potential on rMD17 after equal processor time, whatever else runs on the machine.

Processor seconds of a training step are measured for all variants in turns within one process, so that other work
disturbs all alike. The first variant is the base: it trains for `--epochs`, and each other one for as many epochs as
take the same processor time by those measurements, its compilation counted. The schedule of the learning rate follows
the epochs, and no training ends by a clock. What a training took is printed too.

python -m benchmarks.potential_variants --variant base --variant coupled model.network.coupling=all
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report
from benchmarks.potential_learning import FILES, ISOLATED, METRICS, measure_once, ours, split, write
from data.errors import InputError

if TYPE_CHECKING:
    from data.structures.structures import Structures
    from surrogates.potentials.surrogate import PotentialSurrogate
    from surrogates.potentials.task import PotentialTask

#: Turns in which all variants are measured, and least processor seconds of a variant in one of them.
TURNS, LONG = 5, 1.0
#: Frames of the table of which answers are timed.
ANSWERED = 200
Variants = Mapping[str, Sequence[str]]


def task_of_variant(parts: Mapping[str, Path], overrides: Sequence[str]) -> PotentialTask:
    """The training that `understudy train task=molecules/potentials model=ace` would run with these settings."""
    from hydra import compose, initialize_config_dir

    from experiments.application.choices import CONF
    from experiments.stages.train import task_of
    from surrogates.potentials.task import PotentialTask

    settings = ["task=molecules/potentials", "model=ace", f"data.train={parts['train']}", *overrides]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        task = task_of(compose("train", settings))
    assert isinstance(task, PotentialTask)
    return task


class Measurements:
    """One variant with fresh weights, whose training steps and answers are timed.

    Attributes:
        compiling: processor seconds until the first training step is done, unless `steps` is false.
        step: least processor seconds of one training step in any turn, unless `steps` is false.
        answer: least processor seconds of energy and forces of one frame in any turn, from table to table.
    """

    def __init__(
        self, task: PotentialTask, train: Structures, isolated: Mapping[int, float], *, steps: bool = True
    ) -> None:
        import jax
        from flax import nnx

        from simulators.precision import jit_float32
        from surrogates.learning.step import TrainState, training_step
        from surrogates.potentials.atom_energies import References
        from surrogates.potentials.facts import Head, PotentialFacts
        from surrogates.potentials.fit import MAIN, output_scale, residual_of, training_batches, with_shortest
        from surrogates.potentials.surrogate import PotentialSurrogate

        references = References.fit(train, isolated)
        residual = residual_of(train, references)
        facts = PotentialFacts(task.config, output_scale(residual), {MAIN: Head(references, "none")}, MAIN)
        facts = with_shortest(facts, residual)
        model = facts.model(task.training.seed)
        self.potential: PotentialSurrogate = PotentialSurrogate(model, facts)
        self.table = train.take(np.arange(min(ANSWERED, len(train))))
        self.answers()
        self.step = self.answer = float("inf")
        parts: Any = nnx.split(model, nnx.Param, ...)
        graph, params, self.fixed = parts
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        self.steps = steps
        if not steps:
            return
        self.state = TrainState.begin(params, task.training)
        batches = training_batches(residual, task.config, task.training.batch_size, None, task.training.seed)
        self.steps_per_epoch = batches.steps_per_epoch
        self.batch = next(iter(batches.epoch(0)))
        self.run_step = jit_float32(training_step(graph, task.config.loss, task.training), donate_argnums=0)
        self.compiling = self.seconds(self.advance, 1)

    def advance(self) -> None:
        """One training step, to its end."""
        import jax

        from surrogates.learning.step import Moment

        moment = Moment(jax.random.key(0), np.float32(1e-4), np.float32(0.5))
        self.state, _, value = self.run_step(self.state, self.fixed, self.batch, moment)
        value.block_until_ready()

    def answers(self) -> None:
        """Energies and forces of the table."""
        self.potential.predict_structures(self.table, error_bars=False)

    @staticmethod
    def seconds(work: Callable[[], None], least: int = 0) -> float:
        """Processor seconds of one call of `work`, in the mean of as many calls as `LONG` takes, or of `least`."""
        start, count = time.process_time(), 0
        while count < least or (not least and time.process_time() - start < LONG):
            work()
            count += 1
        return (time.process_time() - start) / count

    def take_turn(self) -> None:
        """Measure once more."""
        if self.steps:
            self.step = min(self.step, self.seconds(self.advance))
        self.answer = min(self.answer, self.seconds(self.answers) / len(self.table))

    def numbers(self) -> dict[str, float]:
        """Processor seconds of an answer and, where steps are timed, of an epoch and of compiling; and parameters."""
        answers = {"answer": self.answer, "parameters": self.parameters}
        return answers | (
            {"compiling": self.compiling, "epoch": self.step * self.steps_per_epoch} if self.steps else {}
        )


def measure_costs(
    variants: Variants, parts: Mapping[str, Path], train: Structures, isolated: Mapping[int, float], *, steps: bool
) -> dict[str, dict[str, float]]:
    """The numbers of each variant, measured in turns."""
    measured = {
        name: Measurements(task_of_variant(parts, each), train, isolated, steps=steps)
        for name, each in variants.items()
    }
    for _ in range(TURNS):
        for each in measured.values():
            each.take_turn()
    return {name: each.numbers() for name, each in measured.items()}


def equal_epochs(costs: Mapping[str, Mapping[str, float]], base: str, epochs: int) -> dict[str, int]:
    """The epochs of each variant that take the processor time of that many epochs of the base.

    Raises:
        InputError: the time is not enough for one epoch of a variant.
    """
    budget = costs[base]["compiling"] + epochs * costs[base]["epoch"]
    counts = {name: int((budget - cost["compiling"]) / cost["epoch"] + 1e-6) for name, cost in costs.items()}
    short = [name for name, count in counts.items() if count < 1]
    if short:
        raise InputError(f"no epoch of {', '.join(short)} fits", where="--epochs", remedy="Give more epochs")
    return counts


def variants_of(arguments_of_each: Sequence[Sequence[str]]) -> Variants:
    """The overrides of each variant, by its name.

    Raises:
        InputError: a name is given twice.
    """
    variants = {name: overrides for name, *overrides in arguments_of_each}
    if len(variants) < len(arguments_of_each):
        raise InputError("two variants have one name", where="--variant", remedy="Give each a name of its own")
    return variants


def cost_rows(name: str, costs: Mapping[str, float]) -> list[Result]:
    """What was measured of one variant before its training."""
    epoch = [Result(f"{name}: an epoch", costs["epoch"], "core-s")] if "epoch" in costs else []
    return [
        *epoch,
        Result(f"{name}: energy and forces of a frame", 1e6 * costs["answer"], "core-us"),
        Result(f"{name}: parameters", costs["parameters"], "1"),
    ]


def score_rows(name: str, scores: Mapping[str, float]) -> list[Result]:
    """What the training of one variant reached, and took."""
    return [
        *(Result(f"{name}: {key.split('_')[0]} MAE", scores[key], unit) for key, unit in METRICS.items()),
        Result(f"{name}: forces MAE in training", scores["train_forces"], "meV/A"),
        Result(f"{name}: epochs", scores["epochs"], "1"),
        Result(f"{name}: training", scores["core_seconds"], "core-s"),
    ]


def train_variant(folder: Path, parts: dict[str, Path], test: Path, overrides: Sequence[str], epochs: int) -> Any:
    """Train one variant and score it on the test file."""
    from surrogates.potentials.scores import evaluate_frames
    from surrogates.potentials.surrogate import PotentialSurrogate

    ours(folder, parts, "ace", 1.0, [*overrides, f"train.epochs={epochs}", "train.max_seconds=null"])
    scores = evaluate_frames(PotentialSurrogate.load(folder / "surrogate"), [test])
    last = json.loads((folder / "train.jsonl").read_text().splitlines()[-1])
    return {
        **{key: scores[f"test/{test.stem}/{key}"] for key in METRICS},
        "train_forces": 1e3 * last["train/forces_mae_ev_per_angstrom"],
        "epochs": float(epochs),
        "core_seconds": json.loads((folder / "fit.json").read_text())["core_seconds"],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--molecule", choices=FILES, default="aspirin", help="molecule of rMD17 (%(default)s)")
    parser.add_argument(
        "--variant",
        nargs="+",
        action="append",
        metavar="NAME [KEY=VALUE ...]",
        help="name and settings; the base first",
    )
    parser.add_argument("--epochs", type=int, default=160, help="epochs of the base (%(default)s)")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="variants to train now; all are measured (all)")
    parser.add_argument("--answers", action="store_true", help="measure what answers cost, and train nothing")
    parser.add_argument("--resume", action="store_true", help="reuse the measurements and trainings of earlier runs")
    options = parser.parse_args(argv)
    pin(options.cores)
    from surrogates.potentials.atom_energies import isolated_energies
    from surrogates.potentials.structure_reading import read_structures

    variants = variants_of(options.variant or [["base"], ["coupled", "model.network.coupling=all"]])
    train_file, test_file = (data_file(options.data, file) for file in FILES[options.molecule])
    base = (options.out / "potential_variants" / options.molecule).resolve()
    base.mkdir(parents=True, exist_ok=True)
    train, valid = split(read_structures(train_file, None))
    isolated_file = data_file(options.data, ISOLATED)
    parts = {"train": write(train, base / "train.xyz"), "valid": write(valid, base / "valid.xyz")}
    parts["isolated"] = isolated_file.resolve()
    asked = [" ".join([name, *overrides]) for name, overrides in variants.items()]
    isolated = isolated_energies(read_structures(isolated_file, None))
    measure: Any = partial(measure_costs, variants, parts, train, isolated, steps=not options.answers)
    file = base / f"{'answers' if options.answers else 'costs'}_{len(variants)}.json"
    costs: Any = measure_once(file, asked, measure, resume=options.resume)
    results = [row for name in variants for row in cost_rows(f"{options.molecule}, {name}", costs[name])]
    report("potential_variants", results, options.out, argv)
    chosen = [] if options.answers else list(variants) if options.only is None else options.only
    counts = equal_epochs(costs, next(iter(variants)), options.epochs) if chosen else {}
    for name in chosen:
        folder = base / f"{name}_{options.epochs}"
        settings = [*variants[name], f"{counts[name]} epochs"]
        make = partial(train_variant, folder, parts, test_file, variants[name], counts[name])
        scores = measure_once(base / f"{folder.name}.json", settings, make, resume=options.resume)
        results += score_rows(f"{options.molecule}, {name}", scores)
        report("potential_variants", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
