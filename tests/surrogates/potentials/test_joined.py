"""Single networks become one ensemble whose answers are their means, and a member becomes a single network again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_potential import SMALL, WATER, morse_labels, potential

from data.errors import InputError
from data.structures.structures import Structures
from surrogates.potentials.atom_energies import References
from surrogates.potentials.facts import Head
from surrogates.potentials.heads import only_active
from surrogates.potentials.joined import joined_members, one_member
from surrogates.potentials.surrogate import PotentialSurrogate


def water(count: int, seed: int) -> Structures:
    """Shaken molecules of water with the labels of a Morse potential."""
    rng = np.random.default_rng(seed)
    frames = [WATER + 0.05 * rng.normal(size=WATER.shape) for _ in range(count)]
    return morse_labels(Structures.from_arrays([np.array([8, 1, 1])] * count, frames))


def member(seed: int, shift: float, charges: tuple[int, ...] = (0,), scale: float = 0.5) -> PotentialSurrogate:
    """A network with reference energies of its own, and a head that does not answer."""
    first = potential().facts
    references = References((1, 6, 8), (-13.0 + shift, -1030.0, -2040.0 - shift), (-13.0, -1030.0, -2040.0))
    head = Head(references, f"labels {seed}", charges=charges)
    facts = replace(first, scale=scale, heads={"other": first.head, "main": head}, active="main")
    return PotentialSurrogate(facts.model(seed), facts)


def test_an_ensemble_of_single_networks_answers_their_mean_and_each_is_in_it() -> None:
    members = [member(0, 0.0), member(1, 0.3, (0, 1)), member(2, -0.9)]
    labels, frames = water(24, 0), water(5, 1)
    whole = joined_members(members, labels, label_fingerprint="all labels")
    each = [one.predict_structures(frames, error_bars=False) for one in members]
    answer = whole.predict_structures(frames)
    np.testing.assert_allclose(answer.forces, np.mean([one.forces for one in each], axis=0), atol=1e-5)
    np.testing.assert_allclose(answer.energy, np.mean([one.energy for one in each], axis=0), atol=1e-5)
    # Reference energies that differ enter a force through the gate, and are means in the ensemble.
    spread = np.std([one.forces for one in each], axis=0, ddof=1)
    np.testing.assert_allclose(answer.forces_std, spread, rtol=0.1, atol=2e-3)
    assert list(whole.facts.heads) == ["main"]
    assert whole.labels_fingerprint == "all labels"
    assert whole.facts.head.charges == (0, 1)
    # It has a domain, which holds what it learned.
    assert (whole.novelties(labels) <= 1).mean() > 0.9
    for index, one in enumerate(each):
        alone = one_member(whole, index)
        assert alone.facts.config.ensemble == 1
        np.testing.assert_allclose(alone.predict_structures(frames, error_bars=False).forces, one.forces, atol=1e-2)


def test_networks_that_no_ensemble_can_hold_are_refused() -> None:
    labels, one = water(4, 0), member(0, 0.0)
    for others in ([], [member(1, 0.0, scale=0.7)], [potential(SMALL["painn"])], [potential(members=2)]):
        with pytest.raises(InputError, match="two or more single networks"):
            joined_members([one, *others], labels, label_fingerprint="")


def test_the_head_that_answers_can_be_kept_under_another_name() -> None:
    one, frames = member(0, 0.2), water(3, 1)
    alone = only_active(one, "start")
    assert list(alone.facts.heads) == [alone.facts.active] == ["start"]
    np.testing.assert_allclose(
        alone.predict_structures(frames, error_bars=False).energy,
        one.predict_structures(frames, error_bars=False).energy,
    )
