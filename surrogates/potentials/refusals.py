"""Structures that a potential does not answer, because nothing like them occurred in training."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols

from data.spec import SimulationError
from data.structures.structures import MIN_DISTANCE, Structures
from surrogates.potentials.facts import PotentialFacts


def refuse_unlearned(facts: PotentialFacts, structures: Structures) -> None:
    """Refuse structures that the active head of a potential cannot predict.

    Args:
        facts: the metadata of the potential.
        structures: the structures; labels are ignored.

    Raises:
        SimulationError: `invalid_input`: an element or a charge did not occur in training, two atoms of a structure
            nearly coincide, or a structure is periodic and the potential has latent charges.
    """
    elements = facts.references.elements
    unknown = np.setdiff1d(structures.numbers, [0, *elements])
    if len(unknown):
        names = ", ".join(f"{chemical_symbols[z]} ({z})" for z in unknown.tolist())
        learned = ", ".join(chemical_symbols[z] for z in elements)
        raise SimulationError("invalid_input", f"unknown element {names}; the potential knows {learned}")
    strange = sorted(set(structures.charge.tolist()) - set(facts.head.charges))
    if strange:
        learned = ", ".join(map(str, facts.head.charges))
        raise SimulationError("invalid_input", f"charge is {strange[0]}; the potential learned {learned} only")
    if facts.config.long_range and structures.periodic.any():
        raise SimulationError("invalid_input", "latent charges without cutoff need isolated molecules")
    close = structures.shortest_distances() < MIN_DISTANCE
    if close.any():
        raise SimulationError(
            "invalid_input",
            f"structure {int(np.flatnonzero(close)[0])} has two atoms closer than {MIN_DISTANCE} Angstrom",
        )
