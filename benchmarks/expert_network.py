"""PaiNN with experts of groups of elements, for `benchmarks.element_experts`; no user of the package can choose it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from data.structures.structures import MAX_ATOMIC_NUMBER
from surrogates.potentials.networks import architectures
from surrogates.potentials.networks.painn import PaiNN, PaiNNConfig, Update

#: Atomic numbers of each group but the last, which has all others: hydrogen, carbon, its neighbours in the table.
GROUPS = ((1,), (6,), (7, 8, 9))


class ExpertPaiNN(PaiNN):
    """PaiNN whose updates add the answer of an expert of the atom's group of elements."""

    def __init__(self, config: PaiNNConfig, rngs: nnx.Rngs) -> None:
        super().__init__(config, rngs)
        self.experts = nnx.List(
            [nnx.List([Update(config, rngs) for _ in range(len(GROUPS) + 1)]) for _ in range(config.layers)]
        )

    def updates_of(self, numbers: Int[Array, "M N"]) -> Iterable[Callable[..., tuple[Array, Array]]]:
        """The update of each round: the one for all, and the expert of each atom."""
        table = np.full(MAX_ATOMIC_NUMBER + 1, len(GROUPS), np.int32)
        for group, elements in enumerate(GROUPS):
            table[list(elements)] = group
        of_atom = jnp.asarray(table)[numbers]
        return [
            partial(_together, shared, some, of_atom) for shared, some in zip(self.updates, self.experts, strict=True)
        ]


def _together(
    shared: Update,
    experts: Sequence[Update],
    group: Int[Array, "M N"],
    s: Float[Array, "M N F"],
    v: Float[Array, "M N 3 F"],
) -> tuple[Float[Array, "M N F"], Float[Array, "M N 3 F"]]:
    ds, dv = shared(s, v)
    for index, expert in enumerate(experts):
        mine = (group == index).astype(s.dtype)[..., None]
        more_s, more_v = expert(s, v)
        ds, dv = ds + mine * more_s, dv + mine[..., None] * more_v
    return ds, dv


@contextmanager
def painn_with_experts() -> Iterator[None]:
    """Let PaiNN have experts within the block."""
    before = architectures.ARCHITECTURES._networks["painn"]
    architectures.ARCHITECTURES._networks["painn"] = (PaiNNConfig, ExpertPaiNN)
    try:
        yield
    finally:
        architectures.ARCHITECTURES._networks["painn"] = before
