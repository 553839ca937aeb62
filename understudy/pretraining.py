"""`make body`: pre-train one potential on geometries of many molecules, to start later trainings from.

    python -m understudy.pretraining --molecules table.csv --out runs/body
    understudy train task=molecules/potentials data.train=a.xyz tune.surrogate=runs/body tune.head=dft run.dir=runs/a

Molecules of a table become conformers, conformers become geometries in thermal motion
(`simulators.chemistry.thermal_frames`), and each level of theory labels these geometries by a campaign of its own. One
potential learns all levels, each under a head of its own on a common body: the first level alone, then each further
one beside the replayed labels of those before it. A twentieth of the molecules choose the weights, and another one, of
which nothing is learned, gives the scores. The same command resumes what was stopped. `OUT/surrogate` is the potential
with its card, `body.json`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from data.claim import claim
from data.errors import InputError
from data.files import atomic_directory, write_json
from data.json_files import read_plain
from data.processes.processor import tree_seconds
from data.settings import existing_file
from data.store.store_reader import StoreReader
from data.terminal import show_pairs
from experiments.pretraining.frame_library import write_frames
from experiments.pretraining.molecule_choice import MoleculeChoice, choose_molecules
from simulators.chemistry.thermal_frames import ThermalConfig
from surrogates.learning.label_source import KEPT
from understudy.stages import quoted, run

CARD = "body.json"
REMEDY = "Remove the directory, and it is made anew"
T = TypeVar("T")


@dataclass(frozen=True)
class LevelOfTheory:
    """A simulator whose energies and forces one head learns.

    Attributes:
        head: name of the head.
        simulator: configuration of the simulator.
        settings: further settings of its campaign, such as `simulator.method=GFN1-xTB`.
    """

    head: str
    simulator: str
    settings: tuple[str, ...] = ()

    @staticmethod
    def of(text: str) -> LevelOfTheory:
        """A level as the command takes it: `xtb`, or `gfn1=xtb simulator.method=GFN1-xTB` with a head of another name.

        Raises:
            InputError: no simulator is named, or the name of the head is no word.
        """
        words = text.split()
        head, _, simulator = (words or [""])[0].partition("=")
        if not re.fullmatch(r"[A-Za-z]\w*", head):
            raise InputError(f"{text!r} names no simulator", where="--levels", remedy="Give one or more, such as xtb")
        return LevelOfTheory(head, simulator or head, tuple(words[1:]))


@dataclass(frozen=True)
class PretrainingSettings:
    """What a pre-training is made of.

    Attributes:
        molecules: table of SMILES.
        smiles: its column of SMILES.
        choice: which of its molecules are learned from.
        motion: how geometries are drawn.
        levels: simulators that give energies and forces, as `LevelOfTheory.of` reads them; the last one answers.
        model: configuration of the network.
        epochs: passes over the labels of each level.
        overrides: further settings of the trainings, such as `train.batch_size=16`.
        workers: processes of the campaigns.
    """

    molecules: str
    smiles: str = "smiles"
    choice: MoleculeChoice = field(default_factory=MoleculeChoice)
    motion: ThermalConfig = field(default_factory=ThermalConfig)
    levels: tuple[str, ...] = ("xtb",)
    model: str = "painn"
    epochs: int = 30
    overrides: tuple[str, ...] = ()
    workers: int = 1

    def __post_init__(self) -> None:
        heads = [LevelOfTheory.of(text).head for text in self.levels]
        if not heads or len(set(heads)) < len(heads):
            raise InputError("each level is named once", where="--levels", remedy="Give one or more, such as xtb")

    @property
    def identity(self) -> dict[str, Any]:
        """The settings on which the potential depends, as plain JSON."""
        plain = asdict(self) | {"molecules": Path(self.molecules).name}
        del plain["workers"]
        listed: dict[str, Any] = _listed(plain)
        return listed


def _listed(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value


def pretrain(settings: PretrainingSettings, out: Path) -> Path:
    """Choose, draw, label, train and describe; returns the directory of the potential.

    Args:
        settings: see `PretrainingSettings`.
        out: directory of everything; the same settings resume what was stopped in it.

    Raises:
        InputError: it was begun with other settings, or see `choose_molecules` and the stages.
    """
    table = existing_file(settings.molecules, "--molecules")
    with claim(out, "pre-training") as folder:
        _refuse_other_settings(folder / "settings.json", settings)
        costs = _Costs(folder / "costs.json")
        chosen = _once(
            folder / "molecules.json",
            lambda: asdict(costs.of("molecules", lambda: choose_molecules(table, settings.smiles, settings.choice))),
        )
        frames, counts = {}, {}
        for part, smiles in chosen["parts"].items():
            write = partial(write_frames, smiles, settings.motion, folder / "frames", part)
            frames[part], counts[part] = costs.of("geometries", write)
        levels = [LevelOfTheory.of(text) for text in settings.levels]
        stores = {
            level.head: {part: _labelled(folder, level, part, path, settings, costs) for part, path in frames.items()}
            for level in levels
        }
        trained: list[str] = []
        for level in levels:
            _train(folder, level.head, trained, stores, settings, costs)
            trained.append(level.head)
        last = folder / "train" / trained[-1]
        metrics = read_plain(last / "metrics.json", dict[str, float], remedy=REMEDY)
        with atomic_directory(folder / "surrogate") as target:
            shutil.copytree(last / "surrogate", target, dirs_exist_ok=True)
            write_json(target / CARD, _card(settings, chosen, counts, stores, metrics, costs))
        return folder / "surrogate"


class _Costs:
    """Processor time of each step, s, added up over the sessions of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds = read_plain(path, dict[str, float], remedy=REMEDY) if path.is_file() else {}

    def of(self, step: str, work: Callable[[], T]) -> T:
        """Do the work and note what it cost, also where it is stopped."""
        before = tree_seconds()
        try:
            return work()
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + tree_seconds() - before
            write_json(self.path, self.seconds)


def _once(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` returned when it was first asked."""
    if not path.is_file():
        write_json(path, make())
    return read_plain(path, dict[str, Any], remedy=REMEDY)


def _refuse_other_settings(path: Path, settings: PretrainingSettings) -> None:
    before = _once(path, lambda: settings.identity)
    changed = [key for key, value in settings.identity.items() if before.get(key) != value]
    if changed:
        raise InputError(
            f"it was begun with other {', '.join(changed)}",
            where=str(path.parent),
            remedy="Give the same settings, or another --out",
        )


def _labelled(
    folder: Path, level: LevelOfTheory, part: str, frames: Path, settings: PretrainingSettings, costs: _Costs
) -> Path:
    """The store with the labels of a level for the frames of a part."""
    name = f"{level.head}-{part}"
    store, run_dir = folder / "labels" / f"{name}.zarr", folder / "campaigns" / name
    if not (run_dir / "metrics.json").is_file():
        line = ["simulator.outputs=[energy,forces]", f"campaign.workers={settings.workers}", *level.settings]
        asked = {"inputs": str(frames), "simulator": level.simulator, "out": str(store), "run_dir": str(run_dir)}
        costs.of(f"labels of {level.head}", lambda: run("simulate", *line, **asked))
    return store


def _train(
    folder: Path,
    level: str,
    earlier: Sequence[str],
    stores: Mapping[str, Mapping[str, Path]],
    settings: PretrainingSettings,
    costs: _Costs,
) -> None:
    """Train the head of a level, from the potential of the earlier levels, whose labels are replayed."""
    run_dir = folder / "train" / level
    if (run_dir / "metrics.json").is_file():
        return
    of = stores[level]
    line = [
        "task=molecules/potentials", f"model={settings.model}", f"data.train={quoted(of['train'])}",
        f"data.valid={quoted(of['valid'])}", f"data.test=[{quoted(of['test'])}]", f"train.epochs={settings.epochs}",
        f"tune.head={level}", "train.mlflow=false",
    ]  # fmt: skip
    if earlier:
        line.append(f"tune.surrogate={quoted(folder / 'train' / earlier[-1] / 'surrogate')}")
        line += [f"+tune.replay.{name}={quoted(stores[name]['train'])}" for name in earlier]
    costs.of(f"training of {level}", lambda: run("train", *line, *settings.overrides, run_dir=str(run_dir)))


def _card(
    settings: PretrainingSettings,
    chosen: Mapping[str, Any],
    frames: Mapping[str, int],
    stores: Mapping[str, Mapping[str, Path]],
    metrics: Mapping[str, float],
    costs: _Costs,
) -> dict[str, Any]:
    """What a user has to know before starting from the potential."""
    levels = {}
    for level, parts in stores.items():
        attributes = StoreReader(parts["train"]).attrs
        levels[level] = {key: attributes[key] for key in KEPT if key in attributes}
    return {
        "settings": settings.identity,
        "heads": levels,
        "molecules": {part: len(smiles) for part, smiles in chosen["parts"].items()},
        "left_out": chosen["left_out"],
        "frames": dict(frames),
        "errors_on_molecules_not_learned_from": {k: v for k, v in metrics.items() if k.startswith("test/")},
        "core_seconds": dict(costs.seconds),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its arguments; None: those of the process.

    Returns:
        0; 2 for a refused setting or file; 130 for a stop that the same command resumes.
    """
    choice, motion = MoleculeChoice(), ThermalConfig()
    parser = argparse.ArgumentParser(prog="python -m understudy.pretraining", description=__doc__.splitlines()[0])
    parser.add_argument("--molecules", required=True, help="table of SMILES: .smi, .csv, .tsv, .sdf or .parquet")
    parser.add_argument("--smiles", default="smiles", help="its column of SMILES (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/body"), help="directory of the run (%(default)s)")
    parser.add_argument("--count", type=int, default=choice.count, help="molecules that are drawn (%(default)s)")
    parser.add_argument("--elements", nargs="+", default=choice.elements, help="elements that may occur (%(default)s)")
    parser.add_argument("--most-atoms", type=int, default=choice.most_atoms, help="atoms with hydrogens (%(default)s)")
    parser.add_argument("--without", nargs="*", default=[], metavar="SMILES", help="molecules that are left out (none)")
    parser.add_argument("--frames", type=int, default=motion.frames, help="geometries of a molecule (%(default)s)")
    parser.add_argument(
        "--kelvin", type=float, nargs="+", default=motion.temperatures_kelvin,
        help="temperatures of the motion, one of which is drawn for each geometry (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=motion.steps, help="steps of the motion, of 1 fs (%(default)s)")
    parser.add_argument("--levels", nargs="+", default=["xtb"], help="simulators that label (%(default)s)")
    parser.add_argument("--model", default=PretrainingSettings.model, help="configuration of the network (%(default)s)")
    parser.add_argument("--epochs", type=int, default=PretrainingSettings.epochs, help="passes a level (%(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further settings of the trainings")
    parser.add_argument("--workers", type=int, default=1, help="processes that label (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of molecules and geometries (%(default)s)")
    options = parser.parse_args(argv)
    try:
        settings = PretrainingSettings(
            options.molecules,
            options.smiles,
            MoleculeChoice(
                options.count, tuple(options.elements), options.most_atoms, tuple(options.without), options.seed
            ),
            ThermalConfig(options.frames, tuple(options.kelvin), options.steps, seed=options.seed),
            tuple(options.levels),
            options.model,
            options.epochs,
            tuple(options.set),
            options.workers,
        )
        surrogate = pretrain(settings, options.out)
    except (InputError, ValueError) as error:
        print(f"understudy: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    size = sum(path.stat().st_size for path in surrogate.rglob("*") if path.is_file())
    show_pairs("Pre-trained", {"surrogate": surrogate, "card": surrogate / CARD, "size": f"{size / 1e6:.2f} MB"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
