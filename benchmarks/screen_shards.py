"""What shards and their merge add to a screen of a prepared library, by its size; a part of `benchmarks.scaling`.

Two ways are measured. In one process, with what is imported and compiled once on neither side: this is what shards cost
beside the starts of processes, also with a surrogate that costs nothing. And as commands that a user types: the jobs of
submitit on this machine, and `understudy merge`, with the start of each process.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from benchmarks.engine_overhead import molecules
from data.claim import claim
from data.files import make_directory, write_text
from data.molecules.graph_tables import GraphTable
from data.molecules.library import LibraryPart, PreparedLibrary, read_part, write_part
from data.processes.descendants import adopt_orphans, children
from data.processes.processor import tree_seconds
from data.shards import Shard
from experiments.merging.merge import merge
from experiments.screening.library_screen import ScreenConfig, screen
from surrogates.abilities import PredictsTables

#: Overhead that shards and merge may have.
GOAL = 1.05
#: Molecules and epochs that the ensemble learns from; its speed does not depend on how good it is.
TAUGHT, EPOCHS = 400, 2
#: Molecules that are prepared; a larger library holds them several times.
PREPARED = 200_000
TOP_K = 1000


class AtomCounts:
    """A surrogate that costs next to nothing, so that what is measured is the screen around it."""

    fingerprint = "atom counts"

    def compile(self) -> None:
        """Nothing is compiled."""

    def predict_table(self, table: GraphTable) -> dict[str, np.ndarray]:
        """The number of atoms and an interval around it."""
        atoms = np.diff(table.atom_start).astype(np.float32)
        return {"in_domain": atoms > 0, "size": atoms, "size_std": atoms, "size_low": atoms - 1, "size_high": atoms + 1}


def saved_network(folder: Path) -> Path:
    """An ensemble of the default 2D network, taught numbers of letters of SMILES; trained unless it is there."""
    from understudy.stages import train

    saved = folder / "network" / "surrogate"
    if not saved.is_dir():
        labels = folder / "labels.csv"
        rows = [f"{smiles},{len(smiles)}" for smiles in itertools.islice(molecules(), TAUGHT)]
        labels.write_text("smiles,size\n" + "\n".join(rows) + "\n")
        settings = ["task=molecules/properties", f"data.file={labels}", "data.target=size", "data.unit='1'"]
        train(*settings, f"train.epochs={EPOCHS}", "train.mlflow=false", f"run.dir={folder / 'network'}")
    return saved.resolve()


def loaded_network(folder: Path) -> PredictsTables:
    """The same, loaded."""
    from surrogates.properties.surrogate import PropertySurrogate

    return PropertySurrogate.load(saved_network(folder))


SURROGATES: Mapping[str, Callable[[Path], Any]] = {"free": lambda folder: AtomCounts(), "network": loaded_network}


def core_seconds(run: Callable[[], object]) -> float:
    """Processor time of a call, s; processes that it started have ended and count."""
    core = tree_seconds()
    run()
    return tree_seconds() - core


def command_seconds(*arguments: str | Path) -> float:
    """Processor time of a command of `understudy` and of all processes that it starts, s."""
    return commands_seconds([arguments])


def commands_seconds(commands: Sequence[Sequence[str | Path]]) -> float:
    """Processor time of commands of `understudy` that run at the same time, and of all processes that they start, s.

    This process adopts those whose parents end before them, so that the time of each is counted once it has ended.

    Raises:
        subprocess.CalledProcessError: a command fails.
    """
    adopt_orphans()
    # Parsing processes of this one live on.
    others = set(children(os.getpid()))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [[sys.executable, "-m", "understudy", *map(str, arguments)] for arguments in commands]
    running = [subprocess.Popen(line, stdout=subprocess.DEVNULL) for line in lines]
    for line, status in zip(lines, [process.wait() for process in running], strict=True):
        if status:
            raise subprocess.CalledProcessError(status, line)
    while ours := set(children(os.getpid())) - others:
        os.waitpid(ours.pop(), 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def library_of(folder: Path, size: int) -> Path:
    """A prepared library of so many molecules, which is made unless it is there.

    Preparing takes longer than all screens of a library. One of more than `PREPARED` molecules therefore repeats the
    parts of a smaller one, with other numbers of lines.

    Args:
        folder: of all libraries.
        size: number of molecules; a multiple of `PREPARED` where it is larger.
    """
    library = folder / f"library-{size}"
    if (library / "library.json").is_file():
        return library
    if size <= PREPARED:
        table = folder / f"candidates-{size}.csv.gz"
        # In a process of its own, because processes that help it would be children of this one until it ends.
        code = (
            "import sys; from pathlib import Path; from experiments.pipelines.enumeration import write_library; "
            "write_library(Path(sys.argv[1]), int(sys.argv[2]), workers=1, progress=False)"
        )
        subprocess.run([sys.executable, "-c", code, str(table), str(size)], check=True)
        command_seconds("prepare", f"candidates={table}", f"out={library}", "workers=1", f"run.dir={folder / 'run'}")
        return library
    once = PreparedLibrary.open(library_of(folder, PREPARED))
    make_directory(library)
    with claim(library, "prepared library"):
        parts: list[LibraryPart] = []
        for copy in range(size // PREPARED):
            for part in once.parts:
                rows = read_part(once.path, part)
                parts.append(write_part(library, len(parts), replace(rows, lines=rows.lines + copy * 2 * PREPARED)))
        source = {**once.source, "copies": size // PREPARED}
        PreparedLibrary(library, tuple(parts), once.rejected, source).save()
    return library


def in_process(folder: Path, library: Path, surrogate: PredictsTables, distinct: bool) -> dict[str, float]:
    """A screen in two shards and their merge against the unsharded one, in this process; see `shards`."""

    def screened(out: Path, shard: Shard | None) -> None:
        directory = out if shard is None else shard.directory(out)
        settings = {
            "stage": "screen", "run": {"dir": str(directory)}, "out": str(directory), "workers": 1, "top_k": TOP_K,
            "shard": None if shard is None else str(shard), "candidates": str(library), "distinct": distinct,
        }  # fmt: skip
        with claim(directory, "screen"):
            config = ScreenConfig(workers=1, shard=shard, top_k=TOP_K, distinct=distinct)
            screen(surrogate, library, directory, config, progress=False)
            write_text(directory / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)), listed=True)

    def in_shards() -> None:
        for number in (1, 2):
            screened(folder / "merged", Shard(number, 2))

    screened(folder / "first", None)  # so that what is imported and opened once counts for neither
    # The unsharded screen runs before and after, so that a change of the load of the machine does not count for one.
    before = core_seconds(lambda: screened(folder / "whole", None))
    parts = core_seconds(in_shards)
    merged = core_seconds(lambda: merge(folder / "merged"))
    after = core_seconds(lambda: screened(folder / "again", None))
    check_equal(folder)
    return compared(before, parts, merged, after)


def as_commands(folder: Path, library: Path, surrogate: Path, distinct: bool) -> dict[str, float]:
    """The same by commands, two jobs of submitit on this machine, and `understudy merge`; see `shards`."""
    line = ["screen", f"surrogate={surrogate}", f"candidates={library}", f"top_k={TOP_K}", "workers=1"]
    line += [f"distinct={str(distinct).lower()}"]
    array = ["launcher=submitit", "launcher.cluster=local", "launcher.shards=2"]
    small = len(PreparedLibrary.open(library)) <= PREPARED
    if small:
        command_seconds(*line, f"out={folder / 'first'}")  # so that compiled programs are kept for both
    # The shards run at the same time, and programs that share caches and memory slow each other down, as any two do.
    # The unsharded screen therefore runs beside another one.
    twice = [[*line, f"out={folder / name}"] for name in ("whole", "beside")]
    before = commands_seconds(twice) / 2
    parts = command_seconds(*line, f"out={folder / 'merged'}", *array)
    merged = command_seconds("merge", folder / "merged")
    # What a start costs changes with the load of the machine, and is most of a small screen.
    twice = [[*line, f"out={folder / name}"] for name in ("again", "beside_again")]
    after = commands_seconds(twice) / 2 if small else before
    check_equal(folder)
    return compared(before, parts, merged, after)


def compared(before: float, parts: float, merged: float, after: float) -> dict[str, float]:
    """The numbers of a comparison from processor times: unsharded, two shards, merge, unsharded again, s."""
    whole = (before + after) / 2
    return {
        "unsharded: core-s": whole,
        "second unsharded over first": after / before,
        "two shards: core-s": parts,
        "merge: core-s": merged,
        "ratio, merge included": (parts + merged) / whole,
    }


def check_equal(folder: Path) -> None:
    """Raise an error unless the merged screen has the best rows of the unsharded one."""
    if (folder / "merged" / "top.csv").read_bytes() != (folder / "whole" / "top.csv").read_bytes():
        raise RuntimeError("the merged screen differs from the unsharded one")


def by_size(folder: Path, sizes: Sequence[int], surrogates: Sequence[str], *, commands: bool) -> dict[str, float]:
    """The numbers of each size with each surrogate, and the size from which the ratio stays below the goal.

    Args:
        folder: receives libraries and the trained network, which are used again if they are there.
        sizes: of the libraries.
        surrogates: names in `SURROGATES`.
        commands: whether screens are measured as commands as well, which takes the network.
    """
    ways: dict[str, tuple[Callable[[Path, Path, Any, bool], dict[str, float]], Any]] = {}
    for name in surrogates:
        ways[name] = in_process, SURROGATES[name](folder)
    if commands:
        ways["commands with network"] = as_commands, saved_network(folder)
    numbers: dict[str, float] = {}
    for name, (measure, surrogate) in ways.items():
        ratios = {}
        for size in sorted(sizes):
            work = folder / "work"
            of_size = measure(work, library_of(folder, size), surrogate, size <= PREPARED)
            shutil.rmtree(work)
            ratios[size] = of_size["ratio, merge included"]
            numbers |= {f"{name}, {size:,}: {what}": value for what, value in of_size.items()}
            print(name, f"{size:,}", of_size, file=sys.stderr, flush=True)
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
