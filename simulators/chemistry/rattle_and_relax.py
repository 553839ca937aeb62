"""Geometries around a molecule that are worth learning: a tree of copies that are rattled and a little relaxed.

A parent is drawn among the frames so far, its atoms are displaced at random, and a few steps of steepest descent
along the forces of a simulator take the worst contacts away. Parents are drawn by two laws: a share of them uniformly
among the generations and then among the frames of that generation, which leads away from the start, and the others by
the Boltzmann weight of their energy, which leads back to the wells (after the sampling by which Gardner et al. 2025,
arXiv:2506.10956, distil foundation potentials). Frames with too large a force are not kept.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from ase.units import kB
from jaxtyping import Float

from data.spec import SimulationError, Spec, Variable, check, content_hash, dataset
from simulators.adapter import AnswersMany, Simulator, answer_each

SEED = Variable("seed", (), "1", "int64", "seed of the displacements")
OUTPUTS = (
    Variable("frame_positions", ("row", "axis"), "Angstrom", "float64", "positions of all frames, one after the other"),
    Variable("frame_forces", ("row", "axis"), "eV/Angstrom", "float64", "forces of all frames, one after the other"),
    Variable("frame_energies", ("frame",), "eV", "float64", "total energy of each frame"),
    Variable("frame_parents", ("frame",), "1", "int32", "frame that each began from; -1 for the first"),
    Variable("evaluations", (), "1", "int32", "answers of the simulator"),
    Variable("refused", (), "1", "int32", "frames that were not kept"),
)
#: Displacement of an atom in a step of steepest descent over its force, Angstrom^2/eV: stable for springs below 100.
DESCENT = 0.02
#: A tree ends after as many trials for each frame that it is to have.
TRIALS = 3


@dataclass(frozen=True)
class TreeConfig:
    """How a tree grows.

    Attributes:
        frames: frames of a tree beside the first; 0: no tree grows.
        rattle_angstrom: standard deviation of the displacement of each atom along each axis, Angstrom.
        relax_steps: largest number of relaxation steps of a frame; each has as many as are drawn, 0 or more.
        step_angstrom: largest displacement of an atom in one of these steps, Angstrom.
        largest_force: largest force on an atom of a frame that is kept, eV/Angstrom.
        temperature_kelvin: temperature of the Boltzmann weights of parents, K.
        by_generation: share of the parents that are drawn by generation.
    """

    frames: int = 0
    rattle_angstrom: float = 0.1
    relax_steps: int = 4
    step_angstrom: float = 0.1
    largest_force: float = 25.0
    temperature_kelvin: float = 1000.0
    by_generation: float = 0.5

    def __post_init__(self) -> None:
        if self.frames < 0 or self.relax_steps < 0:
            raise ValueError(f"frames and relax_steps must be 0 or more, got {self}")
        positive = (self.rattle_angstrom, self.step_angstrom, self.largest_force, self.temperature_kelvin)
        if not all(0 < value < np.inf for value in positive):
            raise ValueError(f"lengths, force and temperature must be above 0 and finite, got {self}")
        if not 0 <= self.by_generation <= 1:
            raise ValueError(f"by_generation must lie between 0 and 1, got {self.by_generation}")


@dataclass(frozen=True)
class RattleAndRelax:
    """A simulator whose answer for a geometry and a seed is its tree of frames with energies and forces.

    A tree whose first frame fails fails for the same reason; another frame that fails is not kept.

    Attributes:
        simulator: a simulator of the energies and forces of geometries.
        config: how trees grow.
    """

    simulator: Simulator
    config: TreeConfig = field(default_factory=TreeConfig)

    @property
    def name(self) -> str:
        """Such as "rattled:so3lr"."""
        return f"rattled:{self.simulator.name}"

    @cached_property
    def spec(self) -> Spec:
        """The inputs are those of the inner simulator and a seed."""
        return Spec((*self.simulator.spec.inputs, SEED), OUTPUTS)

    @property
    def provenance(self) -> dict[str, Any]:
        """That of the inner simulator, with the settings of the tree."""
        return {**self.simulator.provenance, "simulator": self.name, "tree": asdict(self.config)}

    @property
    def fingerprint(self) -> str:
        """Hash of the inner fingerprint and the settings of the tree."""
        return content_hash([self.simulator.fingerprint, asdict(self.config)])

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Grow a tree."""
        (answer,) = self._grown([inputs])
        if isinstance(answer, SimulationError):
            raise answer
        return answer

    def _grown(self, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
        """Grow trees side by side, so that their frames are answered together."""
        results: dict[int, xr.Dataset | SimulationError] = {}
        growing: dict[int, _Growing] = {}
        waiting: dict[int, xr.Dataset] = {}
        for place, request in enumerate(inputs):
            try:
                check(request, self.spec.inputs, optional=("charge", "spin", "cell"))
            except SimulationError as error:
                results[place] = error
                continue
            growing[place] = _tree(request, self.config)
            waiting[place] = next(growing[place])
        while waiting:
            answers = answer_each(self.simulator, list(waiting.values()))
            for place, answer in zip(list(waiting), answers, strict=True):
                try:
                    waiting[place] = growing[place].send(answer)
                except StopIteration as end:
                    results[place] = end.value
                    del waiting[place]
        return [results[place] for place in range(len(inputs))]


@dataclass(frozen=True)
class RattleAndRelaxMany(RattleAndRelax):
    """`RattleAndRelax` of a simulator that answers many requests together."""

    def simulate_many(self, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
        """Grow trees side by side; see `simulators.adapter.AnswersMany`."""
        return self._grown(inputs)


def rattle_and_relax(simulator: Simulator, config: TreeConfig) -> RattleAndRelax:
    """The simulator of trees, which answers many together where the simulator does."""
    return (RattleAndRelaxMany if isinstance(simulator, AnswersMany) else RattleAndRelax)(simulator, config)


_Answer = xr.Dataset | SimulationError
_Growing = Generator[xr.Dataset, _Answer, _Answer]


@dataclass
class _Frame:
    """A frame of a tree: positions, energy, forces, its parent and its generation."""

    positions: Float[np.ndarray, "atom 3"]
    energy: float
    forces: Float[np.ndarray, "atom 3"]
    parent: int
    generation: int


def _tree(request: xr.Dataset, config: TreeConfig) -> _Growing:
    """A tree as a generator: it gives the requests to the simulator one by one, takes the answers, and returns."""
    rng = np.random.default_rng(int(request["seed"]))
    asked = request.drop_vars("seed")
    answer = yield asked
    if isinstance(answer, SimulationError):
        return answer
    frames = [_frame(np.asarray(asked["positions"].values, np.float64), answer, -1, 0)]
    evaluations, refused = 1, 0
    for _ in range(TRIALS * config.frames):
        if len(frames) > config.frames:
            break
        parent = drawn_parent(
            np.array([frame.energy for frame in frames]), np.array([frame.generation for frame in frames]), config, rng
        )
        positions = frames[parent].positions
        positions = positions + rng.normal(scale=config.rattle_angstrom, size=positions.shape)
        generation, child = frames[parent].generation + 1, None
        for step in range(int(rng.integers(config.relax_steps + 1)) + 1):
            if step and child is not None:
                positions = positions + descent(child.forces, config.step_angstrom)
            answer = yield asked.assign(positions=(asked["positions"].dims, positions, asked["positions"].attrs))
            evaluations += 1
            if isinstance(answer, SimulationError):
                child = None
                break
            child = _frame(positions, answer, parent, generation)
        if child is None or np.linalg.norm(child.forces, axis=1).max() > config.largest_force:
            refused += 1
        else:
            frames.append(child)
    values = {
        "frame_positions": np.concatenate([frame.positions for frame in frames]),
        "frame_forces": np.concatenate([frame.forces for frame in frames]),
        "frame_energies": np.array([frame.energy for frame in frames]),
        "frame_parents": np.array([frame.parent for frame in frames], np.int32),
        "evaluations": np.int32(evaluations),
        "refused": np.int32(refused),
    }
    return dataset(OUTPUTS, values)


def drawn_parent(
    energies: Float[np.ndarray, " frame"], generations: np.ndarray, config: TreeConfig, rng: np.random.Generator
) -> int:
    """The frame that the next one begins from.

    Args:
        energies: of the frames, eV.
        generations: of the frames.
        config: share of parents that are drawn by generation, and temperature of the others.
        rng: source of random numbers.
    """
    if rng.random() < config.by_generation:
        generation = rng.choice(np.unique(generations))
        return int(rng.choice(np.flatnonzero(generations == generation)))
    weights = np.exp(-(energies - energies.min()) / (kB * config.temperature_kelvin))
    return int(rng.choice(len(energies), p=weights / weights.sum()))


def descent(forces: Float[np.ndarray, "atom 3"], step_angstrom: float) -> Float[np.ndarray, "atom 3"]:
    """A step of steepest descent, of which no atom moves farther than `step_angstrom`."""
    step = DESCENT * forces
    return step * min(1.0, step_angstrom / max(float(np.linalg.norm(step, axis=1).max()), 1e-12))


def _frame(positions: Float[np.ndarray, "atom 3"], answer: xr.Dataset, parent: int, generation: int) -> _Frame:
    forces = np.asarray(answer["forces"].values, np.float64)
    return _Frame(positions, float(answer["energy"]), forces, parent, generation)
