"""The mixture that a stage begins with: a saved one, or a trained potential as its only expert, with their frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.identity import frame_keys
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import existing_file, names
from data.structures.frame_names import FrameKeys
from data.structures.structures import Structures
from experiments.application.renamed import present_config
from experiments.application.yaml_files import read_yaml
from surrogates.learning.learned_from import Hashes, read_hashes, save_hashes
from surrogates.learning.overlap import Overlap
from surrogates.mixture.facts import NAME, MixtureConfig
from surrogates.mixture.fit import fit_mixture_surrogate
from surrogates.mixture.memory import Memory, none_of, read_memory, save_memory, some_of
from surrogates.mixture.surrogate import EXPERTS, MixtureSurrogate
from surrogates.potentials.scores import score
from surrogates.potentials.structure_reading import read_structures
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.saved import read_card

#: Kinds of surrogates that can be grown.
GROWN = ("potentials", "mixture")


@dataclass(frozen=True)
class OldFiles:
    """The files of the potential that a mixture begins with; see the keys `old` of `understudy grow`.

    Attributes:
        train: files of frames that it learned from; None for those that the run of its training names.
        test: labelled files that it did not learn from, likewise.
    """

    train: Any = None
    test: Any = None


@dataclass(frozen=True)
class Members:
    """A mixture with the frames of its experts.

    Attributes:
        mixture: the mixture.
        memories: frames by the name of the expert.
        directories: directory of each saved expert.
    """

    mixture: MixtureSurrogate
    memories: Mapping[str, Memory]
    directories: Mapping[str, Path] = field(default_factory=dict)

    def test_scores(self, prefix: str) -> dict[str, float]:
        """Scores of the mixture on the test frames of each expert, under `<prefix>/<expert>/`."""
        scores: dict[str, float] = {}
        for name, memory in self.memories.items():
            if len(memory.tests):
                scores |= score(self.mixture, memory.tests, f"{prefix}/{name}", f"tests of {name}")
        return scores

    def save(self, directory: Path, learned: Sequence[Hashes | None]) -> None:
        """Write the mixture, its frames and the hashes of all geometries that it has learned from.

        Args:
            directory: directory of the surrogate.
            learned: hashes of what its experts learned from; None where they are not known.
        """
        self.mixture.save(directory)
        save_memory(directory, self.memories)
        save_hashes(directory, *learned)

    def loads(self) -> dict[str, float]:
        """The load of each expert on all test frames, and the share of its own that each receives."""
        tested = {name: memory.tests for name, memory in self.memories.items() if len(memory.tests)}
        if not tested:
            return {}
        every = Structures.concatenate(list(tested.values()))
        loads = {f"mixture/share/{name}": share for name, share in self.mixture.shares(every).items()}
        return loads | {f"mixture/routed/{n}": self.mixture.shares(table)[n] for n, table in tested.items()}


def saved_members(directory: Path) -> Members:
    """The mixture in a directory, with the frames that it keeps.

    Raises:
        InputError: it is no mixture.
        CorruptStoreError: a file of it is damaged.
    """
    kind = read_card(directory)["kind"]
    if kind != MixtureSurrogate.KIND:
        raise InputError(
            f"a surrogate of {kind} has no experts", where=str(directory), remedy="Name what understudy grow made"
        )
    mixture = MixtureSurrogate.load(directory)
    places = {name: directory / EXPERTS / name for name in mixture.names}
    return Members(mixture, read_memory(directory, mixture.names), places)


def read_members(
    directory: Path,
    old: OldFiles,
    rejects: RejectLog | None,
    readings: list[Reading],
    *,
    config: MixtureConfig,
    most: int,
    seed: int,
) -> Members:
    """The mixture in a directory, or a mixture of the potential in it.

    Args:
        directory: directory of a surrogate.
        old: files of a potential; not used for a mixture, which keeps frames of its own.
        rejects: receives frames that cannot be read.
        readings: receives what was read.
        config: settings of the routing of a mixture that is made here.
        most: how many frames to keep of each part.
        seed: seed of their choice.

    Raises:
        InputError: it is no potential, it has a baseline, or its frames are not found.
    """
    kind = read_card(directory)["kind"]
    if kind not in GROWN:
        raise InputError(
            f"a surrogate of {kind} cannot be grown", where=str(directory), remedy=f"Name one of {' or '.join(GROWN)}"
        )
    if kind == MixtureSurrogate.KIND:
        return saved_members(directory)
    surrogate = PotentialSurrogate.load(directory)
    refuse_baseline(surrogate, directory)
    train, test = _old_files(directory, old)
    keys = surrogate.frame_keys

    def frames_of(path: Path, *, training: bool) -> Structures:
        taken = read_structures(path, rejects, keys or FrameKeys(), training=training, readings=readings)
        return taken.take(np.flatnonzero(~taken.alone()))

    learned = Structures.concatenate([frames_of(path, training=True) for path in train])
    tests = [frames_of(path, training=False) for path in test]
    fresh = [t.take(np.flatnonzero(~_seen(directory, t))) for t in tests]
    held_out = Structures.concatenate(fresh) if fresh else none_of(learned)
    name = name_of(train[0])
    memory = Memory(some_of(learned, most, seed), some_of(held_out, most, seed))
    # The potential knows all elements of its training, of which the frames that are kept may lack one.
    surrogate.refuse_unknown(memory.learned)
    mixture = fit_mixture_surrogate({name: surrogate}, {name: memory.learned}, config)
    return Members(mixture, {name: memory}, {name: directory})


def refuse_baseline(potential: PotentialSurrogate, directory: Path) -> None:
    """Refuse a potential whose answers need another simulator.

    Raises:
        InputError: it learned differences to a baseline.
    """
    if potential.needs_spin:
        raise InputError(
            "it learned differences to a baseline, and an expert answers alone",
            where=str(directory),
            remedy="Train it on plain labels",
        )


def name_of(path: Path) -> str:
    """The name of an expert for the file that it learned from."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in path.stem).strip("_.-")[:64]
    return name if NAME.fullmatch(name) else "expert"


def _seen(directory: Path, frames: Structures) -> np.ndarray:
    overlap = Overlap.among(read_hashes(directory), frame_keys(frames), "frames")
    return np.zeros(len(frames), bool) if overlap.seen is None else np.asarray(overlap.seen)


def _old_files(directory: Path, old: OldFiles) -> tuple[list[Path], list[Path]]:
    """The training and test files of a potential: those that are named, or those of the run that trained it.

    Raises:
        InputError: a file is missing, or no run names the training files.
    """
    data: Mapping[str, Any] = {}
    run = directory.parent / "config.yaml"
    if run.is_file():
        data = present_config(read_yaml(run, remedy="Name the files by old.train and old.test")).get("data") or {}
    train: Sequence[str] = names(data.get("train") if old.train is None else old.train, "old.train")
    test: Sequence[str] = names(data.get("test") if old.test is None else old.test, "old.test")
    if not train:
        raise InputError(
            "the frames that this potential learned from are not known",
            where=str(directory),
            remedy="Name them by old.train=[FILE], and frames with labels to test it on by old.test=[FILE]",
        )
    return [existing_file(f, "old.train") for f in train], [existing_file(f, "old.test") for f in test]
