"""The lines of the README and of the guides, run as they are printed, but for numbers that make them small.

A line is named by what it writes: its `out=`, or its `run.dir=`. Its words stay as they are; a size of a test takes the
place of the printed value of the same key, or is added where the line leaves the default.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from experiments.cli import COMMANDS, STAGES, main

ROOT = Path(__file__).resolve().parents[2]
#: Names of the command.
COMMAND = ("understudy", ".venv/bin/understudy")
#: Programs of other lines, which install packages.
INSTALLERS = ("make", ".venv/bin/python -m pip", ".venv/bin/python -m ipykernel")

#: Size of trainings that differ in their labels, or in the layout of their files, alone from one that is trained: no
#: step is made.
NO_STEP = "train.max_seconds=0"

#: Guides of the three blocks of the README, and the stages with which these begin.
README = ("chemist", "cfd", "forecaster")
STARTS = ("pipeline", "simulate", "windows")


@dataclass(frozen=True)
class GuideLine:
    """A line of a page that runs a stage.

    Attributes:
        page: name of the page.
        words: the stage and its arguments.
    """

    page: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it writes."""
        values = dict(word.split("=", 1) for word in self.words[1:] if "=" in word)
        return values.get("out") or values["run.dir"]

    def small(self, sizes: Sequence[str]) -> list[str]:
        """The words with other sizes."""
        key = {size.partition("=")[0].lstrip("+"): size for size in sizes}
        printed = [key.pop(word.partition("=")[0].lstrip("+"), word) for word in self.words[1:]]
        return [self.words[0], *printed, *key.values()]


def guide_lines(page: str) -> list[GuideLine]:
    """The lines of a page in their order.

    Raises:
        AssertionError: a line is neither one of the command nor one that installs something.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = []
    for block in re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] in COMMAND:
                # Other commands read runs, or serve until they are stopped; their own tests run them.
                assert words[1] in STAGES or words[1] in COMMANDS, line
                if words[1] in STAGES:
                    lines.append(GuideLine(page, tuple(words[1:])))
            else:
                assert line.startswith(INSTALLERS), line
    return lines


def readme_lines(guide: str) -> list[GuideLine]:
    """The lines of the README that belong to a guide; the first one is the first one of the guide."""
    first = guide_lines(f"docs/guides/{guide}.md")[0]
    starts = {name: i for i, name in enumerate(README)}
    blocks: list[list[GuideLine]] = [[] for _ in README]
    block = -1
    for line in guide_lines("README.md"):
        block += line.words[0] in STARTS
        blocks[block].append(line)
    lines = blocks[starts[guide]]
    assert lines[0].words == first.words, guide
    return lines


@dataclass
class GuideRun:
    """Lines that are run one after the other in a directory.

    Attributes:
        folder: the directory, in which the files lie that the lines read; it has to be the current one.
        sizes: name of a line -> the sizes that it takes. Names that occur again have "#2", "#3" behind them.
        before: name of a line -> what prepares it.
        scored: lines whose network is calibrated and scored although it is not trained.
        names: those that were run.
        ran: their words.
    """

    folder: Path
    sizes: Mapping[str, Sequence[str]]
    before: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    scored: frozenset[str] = frozenset()
    names: list[str] = field(default_factory=list)
    ran: set[tuple[str, ...]] = field(default_factory=set)

    def run(self, line: GuideLine) -> None:
        """Run a line, unless another page had the same one; it ends with 0, and what it names is there.

        Raises:
            AssertionError: it does not.
        """
        if line.words in self.ran:
            return
        self.ran.add(line.words)
        count = sum(name.partition("#")[0] == line.name for name in self.names)
        name = f"{line.name}#{count + 1}" if count else line.name
        self.names.append(name)
        out = self.folder / line.name
        for place in (out, out.with_name(f"{out.name}.run")):
            if place.is_dir():
                shutil.rmtree(place)
            place.unlink(missing_ok=True)
        self.before.get(name, lambda: None)()
        words = line.small([*usual(line), *self.sizes.get(name, ())])
        with contextlib.ExitStack() as stack:
            if words[0] == "train" and NO_STEP in words and name not in self.scored:
                stack.enter_context(_without_scores())
            assert main(words) == 0, " ".join(words)
        assert out.exists(), f"{name} was not written"


@contextlib.contextmanager
def _without_scores() -> Iterator[None]:
    """Networks are neither calibrated nor scored, which compiles more than their training would."""
    from experiments.stages import train

    task_of = train.task_of

    def task(config: DictConfig) -> Any:
        asked = task_of(config)
        object.__setattr__(asked, "calibrate", lambda surrogate, parts: surrogate)
        object.__setattr__(asked, "score", lambda surrogate, parts: {})
        return asked

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "task_of", task)
        yield


def usual(line: GuideLine) -> list[str]:
    """Sizes that are small for every line of a stage."""
    stage, words = line.words[0], set(line.words)
    if stage in ("simulate", "active", "calibrate"):
        return ["campaign.workers=1"]
    if stage == "screen":
        cascade = any(word.startswith("cascade=") for word in words)
        recheck = any(word.startswith("recheck.simulator=") for word in words)
        return ["workers=1"] * (not recheck) + ["campaign.workers=1"] * cascade + ["recheck.workers=1"] * recheck
    if stage == "predict":
        return []
    if stage == "train":
        fast = ["train.epochs=1", "train.mlflow=false"]
        if any(word.startswith("tune.surrogate=") for word in words):
            return fast  # The network is that of the weights.
        if "model=forecast_mixture" in words:
            return []  # No network is trained.
        if "model=corrector" in words:
            return [*fast, "model.network.width=8", "model.loss.unroll=2"]
        for task, sizes in NETWORKS.items():
            if task in words:
                return [*fast, *sizes]
    return []


#: Task -> the smallest network that it can have.
NETWORKS: Mapping[str, Sequence[str]] = {
    "task=molecules/properties": (
        "model.network.features=8", "model.network.layers=1", "model.ensemble=1", "model.buckets=1",
    ),
    "task=molecules/potentials": (
        "model.network.features=8", "model.network.layers=1", "model.buckets=1", "model.committee=0",
        "train.batch_size=2",
    ),
    "task=fluids/drag": ("model.width=8", "model.ensemble=2"),
    "task=fluids/cells": ("model.network.features=8", "model.network.blocks=1", "model.buckets=1"),
    "task=fluids/meshes": ("model.network.features=8", "model.network.blocks=1", "model.buckets=1"),
    "task=fluids/trajectories": ("model.network.width=8", "model.network.layers=1", "model.network.modes=[3]"),
    "task=fluids/fields": ("model.network.width=8", "model.network.layers=1", "model.network.modes=[3]"),
    "task=kinetics/ignition": ("model.width=8", "model.ensemble=1"),
    "task=weather/forecasts": (
        "model.network.width=8", "model.network.blocks=1", "model.network.patch=1", "model.loss.unroll=1",
        "model.steps=2",
    ),
}  # fmt: skip
