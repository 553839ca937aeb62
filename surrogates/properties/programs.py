"""A property surrogate as programs of StableHLO: from the bytes of molecular graphs to the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data.errors import InputError
from data.molecules.graph_tables import ATOM_COLUMNS, BOND_COLUMNS
from data.molecules.graphs import GraphBatch, GraphSize
from surrogates.properties.head_spread import mean_and_spread
from surrogates.properties.mpnn import read
from surrogates.properties.surrogate import PropertySurrogate
from surrogates.stablehlo import Program


def programs(surrogate: PropertySurrogate, sizes: Sequence[int], batch: Any) -> tuple[list[Program], dict[str, Any]]:
    """One program for each padded size of molecules, and what the card says beside them.

    The inputs are those of `data.molecules.graphs.GraphBatch`, which `data.molecules.featurise` makes of SMILES. The
    outputs are the mean of the members and their standard deviation, before its calibration; intervals and the domain
    are left out.

    Args:
        surrogate: the surrogate.
        sizes: largest numbers of atoms to export; empty for all padded sizes of the training.
        batch: molecules of a batch.

    Raises:
        InputError: the surrogate stands on another one or predicts probabilities, or no padded size is named.
    """
    facts = surrogate.facts
    if facts.on is not None:
        raise InputError(
            "the surrogate takes the answers of a cheaper one, which no program has", where="surrogate",
            remedy="Train one without on=",
        )  # fmt: skip
    if facts.classification:
        raise InputError(
            f"{facts.classification[0]} is a calibrated probability, which is not exported", where="surrogate",
            remedy="Export a surrogate of numbers",
        )  # fmt: skip
    chosen = [b for b in surrogate.buckets if not sizes or b.atoms in sizes]
    if not chosen:
        offered = ", ".join(str(b.atoms) for b in surrogate.buckets)
        raise InputError(f"no padded size has {sizes} atoms", where="sizes", remedy=f"Choose from {offered}")
    scale, mean = np.array(facts.standardise.scale), np.array(facts.standardise.mean)

    def function(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        graphs = GraphBatch(
            arrays["atoms"], arrays["bonds"], arrays["bond_atoms"], arrays["atom_counts"],
            mask=arrays["atom_counts"] > 0, labels=jnp.zeros((arrays["atoms"].shape[0], 0)),
        )  # fmt: skip
        inputs = read(graphs, lookup=True)
        members = jnp.stack([_on_device(member).answers(inputs) for member in surrogate.model.members])
        value, spread = mean_and_spread(members, len(surrogate.targets), jnp)
        return {"value": value * scale + mean, "std": spread * scale}

    def shapes(bucket: GraphSize) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            "atoms": jax.ShapeDtypeStruct((batch, bucket.atoms, len(ATOM_COLUMNS)), jnp.uint8),
            "bonds": jax.ShapeDtypeStruct((batch, bucket.bonds, len(BOND_COLUMNS)), jnp.uint8),
            "bond_atoms": jax.ShapeDtypeStruct((batch, bucket.bonds, 2), jnp.uint8),
            "atom_counts": jax.ShapeDtypeStruct((batch,), jnp.int32),
        }

    targets = ", ".join(f"{name} ({facts.units[name]})" for name in surrogate.targets)
    meanings = {
        "atoms": f"1; {', '.join(ATOM_COLUMNS)}; 0 for padding",
        "bonds": f"1; {', '.join(BOND_COLUMNS)}; 0 for padding",
        "bond_atoms": "1; the two ends of each bond, 255 for padding",
        "atom_counts": "1; atoms of each molecule, 0 for padding",
        "value": f"predictions: {targets}",
        "std": f"standard deviation, before calibration: {targets}",
    }
    programs = [Program(f"atoms-{b.atoms}-bonds-{b.bonds}", function, shapes(b), meanings) for b in chosen]
    return programs, {"targets": list(surrogate.targets), "units": dict(facts.units)}


def _on_device(member: nnx.Module) -> Any:
    """A network whose weights are arrays of JAX, which a traced function can index."""
    graph, weights = nnx.split(member)
    return nnx.merge(graph, jax.tree.map(jnp.asarray, weights))
