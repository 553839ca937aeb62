"""Force errors of potentials that learn few labels of a molecule: from fresh weights, from a body, beside xTB.

A body is what `make body` pre-trained on other molecules; one that was not told to leave the molecule out is refused.
All ways train the same network by the same recipe for the same number of steps, which cost about the same; the
processor time that they took is printed. There is no validation part: the labels that are counted are all that is
used, and the averaged weights of the last step are scored. `body` begins from the weights of the body, with reference
energies that are fitted again. `replay` does so too, beside as many of the body's own labelled frames, under its head.
`difference` learns what GFN2-xTB lacks, which then has to be run for every answer. Rows without labels are what the
cheap method and the body answer as they are. Labels are those of files (rMD17: PBE/def2-SVP; 3BPA: wB97X/6-31G(d)), or
with --pyscf those of B3LYP/6-31G* for the same geometries.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report
from data.errors import InputError
from data.files import write_json
from data.json_files import read_plain

if TYPE_CHECKING:
    from data.structures.structures import Structures
    from simulators.adapter import Simulator
    from surrogates.learning.loop import TrainConfig
    from surrogates.potentials.facts import PotentialConfig
    from surrogates.potentials.surrogate import PotentialSurrogate

WAYS = ("scratch", "body", "replay", "difference")
REMEDY = "Remove it, and it is measured again"


@dataclass(frozen=True)
class LabelledMolecule:
    """A molecule with labelled frames.

    Attributes:
        smiles: the molecule, which the body must have left out.
        labels: file of the frames that are learned.
        tests: file of the frames that are scored.
    """

    smiles: str
    labels: str
    tests: str


MOLECULES = {
    "ethanol": LabelledMolecule("CCO", "rmd17_ethanol_train.xyz", "rmd17_ethanol_test_MD.xyz"),
    "aspirin": LabelledMolecule("CC(=O)Oc1ccccc1C(=O)O", "rmd17_aspirin_train.xyz", "rmd17_aspirin_test.xyz"),
    "3bpa": LabelledMolecule("Nc1ncccc1OCc1ccccc1", "3bpa_train_300K.xyz", "3bpa_train_mixedT.xyz"),
}


@dataclass(frozen=True)
class LabelledSet:
    """Frames to learn from and to score on, with what GFN2-xTB answers for them.

    Attributes:
        labels, tests: frames with labels.
        cheap_labels, cheap_tests: the same frames with the answers of GFN2-xTB.
        cheap_core_ms: processor time of an answer of GFN2-xTB, ms.
    """

    labels: Structures
    tests: Structures
    cheap_labels: Structures
    cheap_tests: Structures
    cheap_core_ms: float


def labelled_by(simulator: Simulator, frames: Structures) -> Structures:
    """The frames with energies and forces of a simulator, in this process."""
    from surrogates.potentials.baseline import baseline_answers

    energy, forces = baseline_answers(simulator, frames)
    return replace(frames, energy=energy, forces=forces)


def labelled_by_dft(frames: Structures, folder: Path) -> Structures:
    """The frames with energies and forces of B3LYP/6-31G*, by a campaign in a folder, which resumes in it."""
    from benchmarks.potential_learning import write
    from surrogates.potentials.structure_reading import read_structures
    from understudy.stages import run

    folder.mkdir(parents=True, exist_ok=True)
    bare = replace(frames, energy=np.full_like(frames.energy, np.nan), forces=np.full_like(frames.forces, np.nan))
    store = folder / "labels.zarr"
    asked = {"inputs": str(write(bare, folder / "frames.xyz")), "simulator": "pyscf_forces", "out": str(store)}
    run("simulate", "campaign.workers=1", **asked, run_dir=str(folder / "campaign"))
    return read_structures(store, None)


def read_set(options: argparse.Namespace, name: str) -> LabelledSet:
    """The frames of a molecule, in an order that a fixed seed decides."""
    from data.processes.processor import tree_seconds
    from simulators.chemistry.xtb import XTB
    from surrogates.potentials.structure_reading import read_structures

    molecule = MOLECULES[name]
    read = [read_structures(data_file(options.data, file), None) for file in (molecule.labels, molecule.tests)]
    bound = [frames.take(np.flatnonzero(~frames.alone())) for frames in read]
    count = min(max(options.labels), len(bound[0]))
    labels, tests = (
        frames.take(np.random.default_rng(0).permutation(len(frames))[:most])
        for frames, most in zip(bound, (count, options.tests), strict=True)
    )
    if options.pyscf:
        folder = options.out / "few_labels" / f"{name}-b3lyp"
        labels = labelled_by_dft(labels, folder / f"labels-{count}")
        tests = labelled_by_dft(tests, folder / f"tests-{options.tests}")
    start = tree_seconds()
    cheap = [labelled_by(XTB(outputs=("energy", "forces")), frames) for frames in (labels, tests)]
    each = 1e3 * (tree_seconds() - start) / (len(labels) + len(tests))
    return LabelledSet(labels, tests, cheap[0], cheap[1], each)


def less(frames: Structures, cheap: Structures) -> Structures:
    """The frames with the differences of their labels to those of a cheaper method."""
    return replace(frames, energy=frames.energy - cheap.energy, forces=frames.forces - cheap.forces)


def force_error(forces: np.ndarray, frames: Structures) -> float:
    """Mean absolute error of a component of a force, meV/Angstrom."""
    return 1e3 * float(np.abs(forces - frames.forces).mean())


def energy_error(energy: np.ndarray, frames: Structures) -> float:
    """Mean absolute error of the energy, meV."""
    return 1e3 * float(np.abs(energy - frames.energy).mean())


class FewLabels:
    """Trainings from a body and without one.

    Args:
        options: of the command.
        body: the pre-trained potential.
        replayed: frames with the labels of its head that answers, to draw replayed ones from; None without them.
    """

    def __init__(self, options: argparse.Namespace, body: PotentialSurrogate, replayed: Structures | None) -> None:
        self.options, self.body, self.replayed = options, body, replayed
        self.config: PotentialConfig = replace(body.facts.config, committee=0)

    def recipe(self, frames: Structures, rate: float, seed: int) -> TrainConfig:
        """The recipe of `train=potentials` for a number of steps, for a table of all frames that are learned."""
        from surrogates.learning.loop import TrainConfig
        from surrogates.potentials.fit import training_batches

        steps = training_batches(frames, self.config, self.options.batch, None, 0).steps_per_epoch
        return TrainConfig(
            epochs=math.ceil(self.options.steps / steps), optimiser="muon", learning_rate=rate, warmup_fraction=0.02,
            clip_norm=10.0, ema_decay=0.995, batch_size=self.options.batch, seed=seed, checkpoint_every_s=None,
        )  # fmt: skip

    def learn(self, way: str, frames: LabelledSet, count: int, seed: int, folder: Path) -> dict[str, float]:
        """Errors on the tests and processor time of one training."""
        from data.processes.processor import tree_seconds
        from data.structures.structures import Structures
        from surrogates.potentials.fit import FineTuning, fit_potential_surrogate

        rows = np.random.default_rng([seed, count]).permutation(len(frames.labels))[:count]
        train, tests, tune = frames.labels.take(rows), frames.tests, None
        if way == "difference":
            train = less(train, frames.cheap_labels.take(rows))
        learned = train
        if way == "replay":
            assert self.replayed is not None
            some = np.random.default_rng(seed).permutation(len(self.replayed))[:count]
            replay = self.replayed.take(some).with_head(self.body.facts.index)
            learned, tune = Structures.concatenate([train, replay]), FineTuning(self.body, replay)
        elif way == "body":
            tune = FineTuning(self.body)
        rate = self.options.rate if tune is None else self.options.tuning_rate
        config = replace(self.config, repulsion=False) if way == "difference" else self.config
        start = tree_seconds()
        potential, result = fit_potential_surrogate(
            train, None, config, self.recipe(learned, rate, seed), folder, label_fingerprint="benchmark",
            head="labels", tune=tune, progress=False,
        )  # fmt: skip
        seconds = tree_seconds() - start
        answer = potential.predict_structures(tests, error_bars=False)
        cheap = frames.cheap_tests if way == "difference" else None
        forces = answer.forces if cheap is None else answer.forces + cheap.forces
        energy = answer.energy if cheap is None else answer.energy + cheap.energy
        return {
            "forces": force_error(forces, tests),
            "energy": energy_error(energy, tests),
            "core_seconds": seconds,
            "steps": float(result.history[-1]["step"]),
        }


def labels_to_reach(errors: dict[int, float], target: float) -> float:
    """Number of labels at an error, by interpolation of logarithms; NaN if the largest number does not reach it.

    Where the smallest number reaches it already, that number is returned, which is then an upper bound.
    """
    counts = sorted(errors)
    if errors[counts[0]] <= target:
        return float(counts[0])
    for fewer, more in itertools.pairwise(counts):
        if errors[more] <= target < errors[fewer]:
            share = math.log(errors[fewer] / target) / math.log(errors[fewer] / errors[more])
            return float(fewer * (more / fewer) ** share)
    return float("nan")


def learning_rows(name: str, options: argparse.Namespace, errors: dict[str, dict[int, list[dict[str, float]]]]) -> Any:
    """The printed numbers of a molecule: mean errors, their ratio to scratch, and labels at the error of scratch."""
    results = []
    mean = {
        way: {count: float(np.mean([run["forces"] for run in runs])) for count, runs in by_count.items()}
        for way, by_count in errors.items()
    }
    for way, by_count in errors.items():
        for count, runs in by_count.items():
            spread = max(run["forces"] for run in runs) - min(run["forces"] for run in runs)
            text = f"{name}, {count} labels, {way}: force MAE (seeds differ by {spread:.1f})"
            scratch = mean.get("scratch", {}).get(count)
            peer = None if way == "scratch" or scratch is None else "scratch"
            results.append(Result.against(text, mean[way][count], "meV/A", peer, scratch if peer else None))
            energy = float(np.mean([run["energy"] for run in runs]))
            results.append(Result(f"{name}, {count} labels, {way}: energy MAE", energy, "meV"))
        seconds = float(np.mean([run["core_seconds"] for runs in by_count.values() for run in runs]))
        results.append(Result(f"{name}, {way}: training", seconds, "core-s"))
    for count, target in mean.get("scratch", {}).items():
        for way in errors:
            if way != "scratch":
                reached = labels_to_reach(mean[way], target)
                results.append(Result(f"{name}: labels of {way} at the error of {count} of scratch", reached, "1"))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`. Trainings that an earlier run finished with the same settings are kept."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--body", type=Path, default=Path("runs/body"), help="run of `make body` (%(default)s)")
    parser.add_argument("--molecules", nargs="+", choices=MOLECULES, default=["ethanol"], help="(%(default)s)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="ways (all)")
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 30, 100, 300], help="labels (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each, on other labels (%(default)s)")
    parser.add_argument("--steps", type=int, default=2000, help="steps of each training (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="frames of a step (%(default)s)")
    parser.add_argument("--rate", type=float, default=1e-2, help="learning rate from fresh weights (%(default)s)")
    parser.add_argument("--tuning-rate", type=float, default=3e-3, help="learning rate from the body (%(default)s)")
    parser.add_argument("--tests", type=int, default=200, help="frames that are scored (%(default)s)")
    parser.add_argument("--pyscf", action="store_true", help="label the frames by B3LYP/6-31G*, hours for large ones")
    options = parser.parse_args(argv)
    pin(options.cores)
    from surrogates.learning.devices import enable_compilation_cache
    from surrogates.potentials.structure_reading import read_structures
    from surrogates.potentials.surrogate import PotentialSurrogate
    from surrogates.saved import surrogate_directory

    enable_compilation_cache()
    directory = surrogate_directory(str(options.body), "--body")
    body = PotentialSurrogate.load(directory)
    card = read_plain(directory / "body.json", dict[str, Any], remedy="Name a run of `make body`")
    for name in options.molecules:
        if MOLECULES[name].smiles not in card["settings"]["choice"]["without"]:
            raise InputError(
                f"the body may have learned {name}",
                where="--body",
                remedy=f"Pre-train with --without {MOLECULES[name].smiles!r}",
            )
    replayed = None
    if "replay" in options.ways:
        store = options.body / "labels" / f"{body.facts.active}-train.zarr"
        replayed = read_structures(store, None)
    few = FewLabels(options, body, replayed)
    folder = options.out / "few_labels"
    results = [
        Result("pre-training: molecules", float(sum(card["molecules"].values())), "1"),
        Result("pre-training: frames", float(sum(card["frames"].values())), "1"),
        *(Result(f"pre-training: {step}", cost, "core-s") for step, cost in card["core_seconds"].items()),
    ]
    for name in options.molecules:
        frames = read_set(options, name)
        results += [
            Result(f"{name}: mean absolute force component", 1e3 * float(np.abs(frames.tests.forces).mean()), "meV/A"),
            Result(f"{name}, no labels, GFN2-xTB: force MAE", force_error(frames.cheap_tests.forces, frames.tests),
                   "meV/A"),
            Result(f"{name}, no labels, body: force MAE", force_error(
                body.predict_structures(frames.tests, error_bars=False).forces, frames.tests), "meV/A"),
            Result(f"{name}: GFN2-xTB, which every answer of a difference needs", frames.cheap_core_ms, "core-ms"),
        ]  # fmt: skip
        errors: dict[str, dict[int, list[dict[str, float]]]] = {}
        for way in options.ways:
            for count in options.labels:
                if count > len(frames.labels):
                    continue
                for seed in range(options.seeds):
                    rate = options.rate if way in ("scratch", "difference") else options.tuning_rate
                    key = f"{name}-{way}-{count}-{seed}-{options.steps}-{options.batch}-{rate:g}-{options.tests}"
                    key += f"-{max(options.labels)}-{body.fingerprint[:12]}{'-b3lyp' if options.pyscf else ''}"
                    file = folder / f"{key}.json"
                    if not file.is_file():
                        write_json(file, few.learn(way, frames, count, seed, folder / key))
                    run = read_plain(file, dict[str, float], remedy=REMEDY)
                    errors.setdefault(way, {}).setdefault(count, []).append(run)
            report("few_labels", [*results, *learning_rows(name, options, errors)], options.out, argv)
        results += learning_rows(name, options, errors)
    report("few_labels", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
