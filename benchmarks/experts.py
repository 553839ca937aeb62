"""Grows a mixture of potentials from ethanol to aspirin to 3BPA and prunes it to one, beside naive fine-tuning.

The first potential learns ethanol. `understudy grow` adds aspirin, which begins from its weights and replays frames of
ethanol with its answers as labels, and then 3BPA, of a new element, from fresh weights. Naive fine-tuning trains the
first potential on aspirin, and the result on 3BPA, each under a new head and without replay; its old heads are then
scored again. `understudy prune` distils the three experts into one of the size of one. All errors are those of forces
on test frames that nobody learned from.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report
from benchmarks.potential_learning import write

#: Molecule -> files of training and test frames; those of 3BPA at 300 K are split.
FILES = {
    "ethanol": ("rmd17_ethanol_train.xyz", "rmd17_ethanol_test_MD.xyz"),
    "aspirin": ("rmd17_aspirin_train.xyz", "rmd17_aspirin_test.xyz"),
    "bpa": ("3bpa_train_300K.xyz", "3bpa_train_300K.xyz"),
}
ERROR = "forces_mae_mev_per_angstrom"


def frames(data: Path, folder: Path, molecule: str, train: int, test: int) -> tuple[Path, Path]:
    """Files with the first training frames of a molecule and with frames for its tests."""
    from surrogates.potentials.structure_reading import read_structures

    tables = [read_structures(data_file(data, name), None) for name in FILES[molecule]]
    first = train if FILES[molecule][0] == FILES[molecule][1] else 0
    return (
        write(tables[0].take(np.arange(train)), folder / f"{molecule}.xyz"),
        write(tables[1].take(np.arange(first, first + test)), folder / f"{molecule}_test.xyz"),
    )


def stage(name: str, overrides: Sequence[str]) -> dict[str, float]:
    """Run a stage in this process, and return its metrics."""
    from data.json_files import read_plain

    directory = next(text.partition("=")[2] for text in overrides if text.startswith(("run.dir=", "out=")))
    done = Path(directory) / "metrics.json"
    if not done.is_file():
        from hydra import compose, initialize_config_dir

        from experiments.application.choices import CONF
        from experiments.stages.grow import grow
        from experiments.stages.prune import prune
        from experiments.stages.train import train

        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(name, [*overrides, "train.mlflow=false"])
        Path(directory).mkdir(parents=True, exist_ok=True)
        {"train": train, "grow": grow, "prune": prune}[name](config, Path(directory))
    return dict(read_plain(done, dict[str, Any], remedy="Remove it"))


def head_errors(directory: Path, tests: Mapping[str, Path], heads: Mapping[str, str]) -> dict[str, float]:
    """Errors of the heads of a fine-tuned potential, each on the test frames of its molecule."""
    from surrogates.potentials.scores import score
    from surrogates.potentials.structure_reading import read_structures
    from surrogates.potentials.surrogate import PotentialSurrogate

    potential = PotentialSurrogate.load(directory)
    return {
        molecule: score(potential.with_facts(active=head), read_structures(tests[molecule], None), "t", "")[
            f"t/{ERROR}"
        ]
        for molecule, head in heads.items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`. What is finished in the folder is not run again."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--frames", type=int, nargs=3, default=[950, 950, 400], help="training frames of each molecule")
    parser.add_argument("--tests", type=int, default=100, help="test frames of each molecule (%(default)s)")
    parser.add_argument("--epochs", type=int, default=100, help="epochs of every training (%(default)s)")
    parser.add_argument("--prune-epochs", type=int, default=None, help="epochs of the distillation (those of the rest)")
    parser.add_argument("--copies", type=int, default=1, help="displaced copies that are distilled (%(default)s)")
    parser.add_argument("--model", nargs="+", default=["model=painn"], help="network and settings of every expert")
    parser.add_argument("--again", action="store_true", help="remove what earlier runs left")
    options = parser.parse_args(argv)
    pin(options.cores)
    folder = options.out / "experts"
    if options.again:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        molecule: frames(options.data, folder, molecule, count, options.tests)
        for molecule, count in zip(FILES, options.frames, strict=True)
    }
    tests = {molecule: test for molecule, (_, test) in files.items()}

    def data_of(molecule: str) -> list[str]:
        train, test = files[molecule]
        return [f"data.train={train}", "data.valid=0.1", "data.calibration=0.1", f"data.test=[{test}]"]

    recipe = [f"train.epochs={options.epochs}"]
    potentials = ["task=molecules/potentials", *options.model, *recipe]
    stage("train", [*potentials, *data_of("ethanol"), f"run.dir={folder / 'ethanol'}"])
    old = [f"old.train=[{files['ethanol'][0]}]", f"old.test=[{tests['ethanol']}]"]
    grown = [f"surrogate={folder / 'ethanol'}", *old, *data_of("aspirin"), *recipe, "replay=200"]
    two = stage("grow", [*grown, f"out={folder / 'two'}"])
    tuned = [*potentials, *data_of("aspirin"), f"tune.surrogate={folder / 'ethanol'}", "tune.head=aspirin"]
    stage("train", [*tuned, f"run.dir={folder / 'naive_two'}"])
    three = stage(
        "grow", [f"surrogate={folder / 'two'}", *data_of("bpa"), *options.model, *recipe, f"out={folder / 'three'}"]
    )
    distilled = [f"surrogate={folder / 'three'}", f"out={folder / 'one'}", "tolerance=0.1", f"copies={options.copies}"]
    one = stage("prune", [*distilled, f"train.epochs={options.prune_epochs or options.epochs}"])
    tuned = [*potentials, *data_of("bpa"), f"tune.surrogate={folder / 'naive_two'}", "tune.head=bpa"]
    stage("train", [*tuned, f"run.dir={folder / 'naive_three'}"])
    naive_two = head_errors(folder / "naive_two" / "surrogate", tests, {"ethanol": "main", "aspirin": "aspirin"})
    naive_three = head_errors(
        folder / "naive_three" / "surrogate", tests, {"ethanol": "main", "aspirin": "aspirin", "bpa": "bpa"}
    )
    first = two[f"before/ethanol/{ERROR}"]
    unit, naive = "meV/A", "naive fine-tuning"
    results = [
        Result("ethanol, its first potential", first, unit),
        Result.against("ethanol after aspirin", two[f"after/ethanol/{ERROR}"], unit, naive, naive_two["ethanol"]),
        Result("ethanol after aspirin, old head of the new expert with replay", two[f"old_head/ethanol/{ERROR}"], unit),
        Result.against("aspirin", two[f"after/aspirin/{ERROR}"], unit, naive, naive_two["aspirin"]),
        *(Result.against(f"{m} after 3BPA", three[f"after/{m}/{ERROR}"], unit, naive, naive_three[m]) for m in FILES),
        Result("aspirin outside of the domain of ethanol", two["domain/outside"], "share"),
        Result("3BPA outside of the domain of both", three["domain/outside"], "share"),
        *(Result(f"tests of {m} routed to its expert", three[f"mixture/routed/{m}"], "share") for m in FILES),
        *(
            Result.against(
                f"{m} after pruning", one[f"after/{m}/{ERROR}"], unit, "its expert", one[f"before/{m}/{ERROR}"]
            )
            for m in FILES
        ),
        Result.against(
            "parameters after pruning", one["prune/parameters_after"], "", "all experts", one["prune/parameters_before"]
        ),
        Result("largest growth of an error by pruning", one["prune/largest_growth"], "share"),
        Result("accepted at a tolerance of 0.1", one["prune/accepted"], "yes = 1"),
    ]
    report("experts", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
