"""Distils an ensemble of the 24 h step of the dry core of Held and Suarez into one that takes five days at once.

The teacher has noise as an input and is trained on the fair CRPS. The student, a network of the same kind, learns the
true states five days apart and draws of the teacher's ensemble, and the same network learns the true states alone for
as much processor time. All are scored by the CRPS of 16 members on a run of the core that none has learned from.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.common import Result, arguments, pin, report
from benchmarks.distillation import stage
from benchmarks.forecast_mixture import core_arguments, dry_core


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    core_arguments(parser)
    parser.add_argument("--seconds", type=float, default=1800.0, help="training time of the teacher (%(default)s)")
    parser.add_argument("--student", type=float, default=600.0, help="training time of the student (%(default)s)")
    parser.add_argument("--network", default="sfno", help="network of both (%(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="steps of the teacher in one of the student (%(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the teacher")
    parser.add_argument("--student-set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the student")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    store, parts = dry_core(options, len(cores))
    folder = (options.out / "forecast_student").resolve()
    shared = [f"data.parts={parts}".replace(" ", ""), f"model={options.network}", "model.noise_dims=8"]
    shared += ["model.keep_mass=true", "model.mirror=true", f"model.truncation={options.truncation + 1}"]
    shared += ["model.network.width=48", "model.network.blocks=3", "train.batch_size=8", "train.epochs=1000"]
    teacher = [*shared, "data=forecasts", "train=forecasts", f"data.file={store.path}", "model.damping=0.97"]
    teacher += ["model.loss.unroll=2", f"train.max_seconds={options.seconds}", *options.set]
    stage("train", [*teacher, f"run.dir={folder / 'teacher'}"])
    asked = [*shared, "train=forecasts", f"teacher={folder / 'teacher'}", f"inputs={store.path}"]
    asked += [f"data.train={store.path}", f"lessons.every={options.steps}", "model.steps=2"]
    asked += [f"model.damping={0.97**options.steps:.4f}", f"train.max_seconds={options.student}", *options.student_set]
    metrics = stage("distil", [*asked, f"out={folder / 'student'}"])
    results = []
    for lead in (f"{24 * options.steps}h", f"{48 * options.steps}h"):
        for who, words in (
            ("teacher", "teacher"),
            ("student", "student"),
            ("alone", "same network, true states alone"),
        ):
            value = metrics[f"{who}/test/crps_{lead}"]
            results.append(Result(f"{words}, {lead}: CRPS over that of climatology", value, "1"))
        results += [
            Result(f"student over teacher, {lead}", metrics[f"error_over_teacher/test/crps_{lead}"], "1"),
            Result(f"student over true states alone, {lead}", metrics[f"error_over_alone/test/crps_{lead}"], "1"),
        ]
    for who in ("teacher", "student"):
        results.append(
            Result(
                f"{who}: forecast of {2 * options.steps} days, 16 members",
                metrics[f"{who}/core_us_each"] / 1e3,
                "core-ms",
            )
        )
    results += [
        Result("student over teacher: cost of a forecast", 1 / metrics["distil/speedup"], "1"),
        Result("teacher: training", metrics["teacher/train_core_seconds"], "core-s"),
        Result("student: training", metrics["student/train_core_seconds"], "core-s"),
        Result("student: answers of the teacher", metrics["distil/answers_core_seconds"], "core-s"),
        Result("same network, true states alone: training", metrics["alone/train_core_seconds"], "core-s"),
        Result("labels", metrics["teacher/label_core_seconds"], "core-s"),
        Result("pays from", metrics.get("distil/break_even_answers", float("nan")), "forecasts"),
    ]
    report("forecast_student", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
