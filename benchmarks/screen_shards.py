"""What shards and their merge add to a screen of a prepared library, by its size; a part of `benchmarks.scaling`.

Two surrogates are measured: one that costs nothing, so that only the screen around it counts, and a trained ensemble of
the default 2D network. What a process imports and compiles at its start is in neither side, since each of several
machines pays that once whatever the size; the command `understudy merge` is measured by itself, with its start.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from benchmarks.engine_overhead import molecules
from data.claim import claim
from data.files import write_text
from data.molecules.graph_tables import GraphTable
from data.processes.processor import tree_seconds
from data.shards import Shard, shards_directory
from experiments.merging.merge import merge
from experiments.screening.library_screen import ScreenConfig, screen
from experiments.screening.library_writing import prepare
from surrogates.abilities import PredictsTables

#: Overhead that shards and merge may have.
GOAL = 1.05
#: Molecules and epochs that the ensemble learns from; its speed does not depend on how good it is.
TAUGHT, EPOCHS = 400, 2


class AtomCounts:
    """A surrogate that costs next to nothing, so that what is measured is the screen around it."""

    fingerprint = "atom counts"

    def compile(self) -> None:
        """Nothing is compiled."""

    def predict_table(self, table: GraphTable) -> dict[str, np.ndarray]:
        """The number of atoms and an interval around it."""
        atoms = np.diff(table.atom_start).astype(np.float32)
        return {"in_domain": atoms > 0, "size": atoms, "size_std": atoms, "size_low": atoms - 1, "size_high": atoms + 1}


def trained_network(folder: Path) -> PredictsTables:
    """An ensemble of the default 2D network that has learned numbers of letters of SMILES."""
    from surrogates.properties.surrogate import PropertySurrogate
    from understudy.stages import train

    labels = folder / "labels.csv"
    rows = [f"{smiles},{len(smiles)}" for smiles in itertools.islice(molecules(), TAUGHT)]
    labels.write_text("smiles,size\n" + "\n".join(rows) + "\n")
    settings = ["task=molecules/properties", f"data.file={labels}", "data.target=size", "data.unit='1'"]
    train(*settings, f"train.epochs={EPOCHS}", "train.mlflow=false", f"run.dir={folder / 'network'}")
    return PropertySurrogate.load(folder / "network" / "surrogate")


SURROGATES: Mapping[str, Callable[[Path], Any]] = {"free": lambda folder: AtomCounts(), "network": trained_network}


def core_seconds(run: Callable[[], object]) -> float:
    """Processor time of a call, s; processes that it started have ended and count."""
    core = tree_seconds()
    run()
    return tree_seconds() - core


def shards(folder: Path, size: int, surrogate: PredictsTables) -> dict[str, float]:
    """A screen of a prepared library in two shards and their merge, against the unsharded one.

    Args:
        folder: a new folder.
        size: molecules of the library.
        surrogate: what predicts.
    """
    folder.mkdir(parents=True)
    table = folder / "library.smi"
    table.write_text("\n".join(itertools.islice(molecules(), size)) + "\n")
    prepare(table, folder / "library", workers=2, progress=False)

    def screened(out: Path, shard: Shard | None) -> None:
        directory = out if shard is None else shard.directory(out)
        settings = {
            "stage": "screen", "run": {"dir": str(directory)}, "out": str(directory), "workers": 1, "top_k": 1000,
            "shard": None if shard is None else str(shard), "candidates": str(folder / "library"), "distinct": True,
        }  # fmt: skip
        with claim(directory, "screen"):
            config = ScreenConfig(workers=1, shard=shard)
            screen(surrogate, folder / "library", directory, config, progress=False)
            write_text(directory / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)), listed=True)

    def in_shards() -> None:
        for number in (1, 2):
            screened(folder / "merged", Shard(number, 2))

    screened(folder / "first", None)  # so that what is imported and opened once counts for neither
    # The unsharded screen runs before and after, so that a change of the load of the machine does not count for one.
    before = core_seconds(lambda: screened(folder / "whole", None))
    parts = core_seconds(in_shards)
    copied = shards_directory(folder / "command")
    shutil.copytree(shards_directory(folder / "merged"), copied)
    merged = core_seconds(lambda: merge(folder / "merged"))
    after = core_seconds(lambda: screened(folder / "again", None))
    whole = (before + after) / 2
    command = [sys.executable, "-m", "understudy", "merge", str(folder / "command")]
    by_command = core_seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ))
    for name in ("merged", "command"):
        assert (folder / name / "top.csv").read_bytes() == (folder / "whole" / "top.csv").read_bytes()
    return {
        "unsharded: core-s": whole,
        "second unsharded over first": after / before,
        "two shards: core-s": parts,
        "merge: core-s": merged,
        "merge as a command, with its start: core-s": by_command,
        "ratio, merge included": (parts + merged) / whole,
        "ratio, merge as a command": (parts + by_command) / whole,
    }


def by_size(folder: Path, sizes: Sequence[int], surrogates: Sequence[str]) -> dict[str, float]:
    """The numbers of each size with each surrogate, and the size from which the ratio stays below the goal.

    Args:
        folder: an empty folder.
        sizes: of the libraries.
        surrogates: names in `SURROGATES`.
    """
    numbers: dict[str, float] = {}
    for name in surrogates:
        surrogate = SURROGATES[name](folder)
        ratios = {}
        for size in sorted(sizes):
            of_size = shards(folder / name / str(size), size, surrogate)
            shutil.rmtree(folder / name / str(size))
            ratios[size] = of_size["ratio, merge included"]
            numbers |= {f"{name}, {size:,}: {what}": value for what, value in of_size.items()}
        numbers[f"{name}: size from which the ratio stays below {GOAL}"] = stays_below(ratios, GOAL)
    return numbers


def stays_below(ratios: Mapping[int, float], goal: float) -> float:
    """The smallest measured size from which all ratios are at most `goal`; infinite if that of the largest is not."""
    least = float("inf")
    for size in sorted(ratios, reverse=True):
        if not ratios[size] <= goal:
            break
        least = float(size)
    return least
