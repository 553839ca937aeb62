"""A committee of kernel models, whose spread is the uncertainty of a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from benchmarks.kernel_forces import InverseDistances, KernelForces
from data.structures.structures import Structures
from experiments.active.frame_selection import worst_atom


@dataclass
class KernelCommittee:
    """A model of all labels, and four of half of them each."""

    whole: KernelForces
    halves: list[KernelForces]

    @staticmethod
    def fit(frames: Structures, seed: int) -> KernelCommittee:
        """Fit labelled frames of one molecule."""
        table, forces = InverseDistances.of(frames), frames.forces.reshape(len(frames), -1)
        halves = []
        for part in range(2):
            order = np.random.default_rng([seed, part]).permutation(len(frames))
            for rows in (order[: len(order) // 2], order[len(order) // 2 :]):
                halves.append(KernelForces.fit(table.take(rows), forces[rows], frames.energy[rows]))
        return KernelCommittee(KernelForces.fit(table, forces, frames.energy), halves)

    def answer(self, frames: Structures) -> tuple[Structures, Float[np.ndarray, " M"]]:
        """The frames with predicted energies and forces, and the uncertainty of each, eV/Angstrom."""
        table = InverseDistances.of(frames)
        energy, forces = self.whole.predict(table)
        spread = np.std([half.predict(table)[1] for half in self.halves], axis=0, ddof=1).reshape(-1, 3)
        return replace(frames, energy=energy, forces=forces.reshape(-1, 3)), worst_atom(frames, spread)


#: Explored frames of a round, from the committee, labelled frames and a seed.
Explorer = Callable[[KernelCommittee, Structures, int], Structures]
#: Labels of frames.
Labeller = Callable[[Structures], Structures]
