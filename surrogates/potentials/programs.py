"""A potential as programs of StableHLO: energies of atoms and forces of isolated molecules of fixed sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ase.data import chemical_symbols
from flax import nnx

from data.errors import InputError
from data.structures.batches import System
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.stablehlo import Program

MEANINGS = {
    "numbers": "1; atomic number, 0 for padding",
    "positions": "Angstrom; from the centre of the molecule, which float32 resolves best",
    "charge": "e; total charge",
    "atomic_energy": "eV; energy of each atom above the reference energy of its element, which the card has",
    "forces": "eV/Angstrom",
}


def programs(potential: PotentialSurrogate, sizes: Sequence[int], batch: Any) -> tuple[list[Program], dict[str, Any]]:
    """One program for each number of atoms, and what the card says beside them.

    The energy of a molecule is the sum of `atomic_energy` and of the reference energies of its atoms, to be added in
    double precision. Every pair of atoms is computed, and nothing repeats. Ensembles give the mean of their members;
    standard deviations, intervals and the domain are left out.

    Raises:
        InputError: no size is named; or the potential stands on a simulator, or has learned no energies.
    """
    facts = potential.facts
    if facts.head.baseline is not None:
        raise InputError(
            f"the potential adds to the answers of {facts.head.baseline['name']}, which no program has",
            where="surrogate",
            remedy="Train one on plain labels",
        )
    if not facts.head.has_energy:
        raise InputError("the potential has learned no energies", where="surrogate", remedy="Train one with energies")
    if not sizes or min(sizes) < 1:
        raise InputError("the numbers of atoms are not named", where="sizes", remedy="Give sizes=[9,21], for example")

    def function(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        model = nnx.merge(potential._graph, jax.tree.map(jnp.asarray, potential._state))
        numbers, positions = arrays["numbers"], arrays["positions"]
        head = jnp.full(numbers.shape[:1], facts.index, jnp.int32)
        answer = model(System(numbers, positions, arrays["charge"], head, None, None))
        return {"atomic_energy": answer.atomic.mean(axis=0), "forces": answer.forces.mean(axis=0)}

    def shapes(n: int) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            "numbers": jax.ShapeDtypeStruct((batch, n), jnp.int32),
            "positions": jax.ShapeDtypeStruct((batch, n, 3), jnp.float32),
            "charge": jax.ShapeDtypeStruct((batch,), jnp.float32),
        }

    references = facts.references
    energies = {chemical_symbols[z]: float(e) for z, e in zip(references.elements, references.bonded, strict=True)}
    card = {
        "reference_energy_ev": energies,
        "charges": list(facts.head.charges),
        "cutoff_angstrom": potential.cutoff_angstrom,
        "periodic": False,
        "head": facts.active,
    }
    return [Program(f"atoms-{n}", function, shapes(n), MEANINGS) for n in sorted(set(sizes))], card
