"""Fine-tuning of a potential with new heads beside old ones, and differences to a cheaper simulator."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.morse import MorsePotential
from flax import nnx
from small_potential import WATER, potential, scattered

from data.errors import InputError
from data.plain import to_plain
from data.spec import SimulationError
from data.structures.frame_names import FrameKeys
from data.structures.structures import Structures
from experiments.campaigns.cheaper_simulator import CampaignRung
from simulators.chemistry.ase_calculator import ASECalculator
from simulators.rebuild import describe
from surrogates.learning.loop import TrainConfig
from surrogates.potentials.baseline import differences
from surrogates.potentials.calibration import calibrate_intervals
from surrogates.potentials.facts import PotentialConfig
from surrogates.potentials.fit import FineTuning, domain_limit, fit_potential_surrogate
from surrogates.potentials.networks.ace import ACEConfig
from surrogates.potentials.scores import evaluate_frames
from surrogates.potentials.surrogate import PotentialSurrogate

CONFIG = PotentialConfig(
    network=ACEConfig(features=8, layers=1, degree=1, cutoff_angstrom=4.0, basis_size=6, radial=3),
    buckets=1,
    committee=4,
)
QUICK = TrainConfig(
    epochs=20, learning_rate=5e-3, clip_norm=10.0, ema_decay=0.95, batch_size=10, checkpoint_every_s=None
)
MORSE = {"epsilon": 1.0, "r0": 1.4, "rho0": 3.0, "rcut1": 3.6, "rcut2": 4.0}


def labelled(count: int, seed: int, *, depth: float = 1.0, elements: tuple[int, ...] = (1, 6, 8)) -> Structures:
    """Clusters with energies and forces of a Morse potential of some depth, which is the same for all elements."""
    table = scattered(count, 4, seed, fewest=4)
    numbers = np.random.default_rng(seed).choice(elements, len(table.numbers)).astype(np.int32)
    calculator = MorsePotential(**{**MORSE, "epsilon": depth})
    energy, forces = [], []
    for a, b in zip(table.atom_start, table.atom_start[1:], strict=False):
        atoms = Atoms(numbers[a:b], table.positions[a:b], calculator=calculator)
        energy.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    return replace(table, numbers=numbers, energy=np.array(energy), forces=np.concatenate(forces))


def train(
    tmp_path: Path, table: Structures, config: PotentialConfig = CONFIG, epochs: int = QUICK.epochs, **more: object
) -> PotentialSurrogate:
    settings = {"label_fingerprint": "morse", "progress": False, **more}
    quick = replace(QUICK, epochs=epochs)
    return fit_potential_surrogate(table, None, config, quick, tmp_path, **settings)[0]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def first(once: Callable[[str, Callable[[Path], object]], Path]) -> PotentialSurrogate:
    def make(folder: Path) -> None:
        calibrate_intervals(train(folder / "run", labelled(150, 0)), labelled(40, 1)).save(folder / "potential")

    return PotentialSurrogate.load(once("heads", make) / "potential")


@pytest.fixture(scope="module")
def deep(first: PotentialSurrogate, tmp_path_factory: pytest.TempPathFactory) -> PotentialSurrogate:
    """The first with a second head, of deeper wells, that alone was trained."""
    folder = tmp_path_factory.mktemp("deep")
    return train(folder, labelled(150, 2, depth=1.6), head="deep", tune=FineTuning(first, frozen_body=True))


def error(potential: PotentialSurrogate, table: Structures) -> float:
    return float(np.abs(potential.predict_structures(table).forces - table.forces).mean())


def test_potentials_that_differ_in_scale_and_reference_energies_share_their_programs() -> None:
    first = potential()
    references = replace(first.facts.references, bonded=(-13.5, -1031.0, -2041.0))
    one, other = first.model, replace(first.facts.with_head(references=references), scale=0.7).model()
    assert nnx.split(one)[0] == nnx.split(other)[0]
    # They answer with numbers of their own.
    assert [float(one.scale), float(other.scale)] == pytest.approx([0.5, 0.7])
    assert float(other.release[...][0, 6]) == pytest.approx(-1.0)
    assert not np.asarray(one.release[...]).any()


def test_with_a_frozen_body_old_heads_stay_as_they_were_and_the_new_one_has_learned(
    first: PotentialSurrogate, deep: PotentialSurrogate
) -> None:
    tuned = deep
    assert list(tuned.facts.heads) == ["main", "deep"]
    assert tuned.facts.active == "deep"
    test, deep_test = labelled(40, 3), labelled(40, 3, depth=1.6)
    before, after = first.predict_structures(test), tuned.with_facts(active="main").predict_structures(test)
    kept = {path: leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(first.model, nnx.Param))}
    for path, leaf in nnx.to_flat_state(nnx.state(tuned.model, nnx.Param)):
        now = leaf[...][:, :1] if "readout" in path else leaf[...]
        np.testing.assert_array_equal(now, kept[path])
    # The weights are the same, but the product is batched: results agree up to rounding.
    np.testing.assert_allclose(before.forces, after.forces, atol=1e-5)
    np.testing.assert_allclose(before.energy, after.energy, atol=1e-5)
    assert error(tuned, deep_test) < 0.6 * error(first, deep_test)


def test_replayed_labels_keep_an_old_head_up_with_a_body_that_changes(
    first: PotentialSurrogate, tmp_path: Path
) -> None:
    new, old, test = labelled(100, 4, depth=-1.0), labelled(100, 0), labelled(40, 5)
    drifted = train(tmp_path / "a", new, head="hill", tune=FineTuning(first)).with_facts(active="main")
    kept = train(tmp_path / "b", new, head="hill", tune=FineTuning(first, replay=old)).with_facts(active="main")
    assert error(kept, test) < 0.7 * error(drifted, test)
    assert error(kept, test) < 2.0 * error(first, test)


def test_a_new_head_begins_where_its_labels_are(first: PotentialSurrogate, tmp_path: Path) -> None:
    # Labels that differ from the old ones by an energy for each element alone.
    shifts = {1: -3.0, 6: 40.0, 8: 7.0}
    table = labelled(40, 11)
    answer = first.predict_structures(table, error_bars=False)
    added = np.bincount(table.molecule, [shifts[int(z)] for z in table.numbers], len(table))
    shifted = replace(table, energy=answer.energy + added, forces=answer.forces)
    still = replace(QUICK, epochs=1, learning_rate=1e-9)
    begun, _ = fit_potential_surrogate(
        shifted, None, CONFIG, still, tmp_path, label_fingerprint="shifted", head="shifted", tune=FineTuning(first),
        progress=False,
    )  # fmt: skip
    before = first.facts.references
    for z, old, new in zip(before.elements, before.bonded, begun.facts.references.bonded, strict=True):
        assert new - old == pytest.approx(shifts[z], abs=1e-3)
    np.testing.assert_allclose(begun.predict_structures(table, error_bars=False).energy, shifted.energy, atol=1e-3)
    assert begun.began_from == first.fingerprint == begun.provenance["began_from"]
    assert first.began_from is None
    assert "began_from" not in first.provenance


def test_a_new_element_comes_with_a_new_head_only(first: PotentialSurrogate, tmp_path: Path) -> None:
    new = labelled(60, 6, elements=(6, 17))
    with pytest.raises(InputError, match=r"has not learned the elements \[17\]"):
        train(tmp_path / "a", new, head="main", tune=FineTuning(first))
    tuned = train(tmp_path / "b", new, epochs=2, head="chlorine", tune=FineTuning(first))
    assert np.isfinite(tuned.predict_structures(new).energy).all()
    with pytest.raises(SimulationError, match=r"unknown element Cl"):
        tuned.with_facts(active="main").predict_structures(new)


def test_a_potential_with_heads_is_saved_and_read_with_all_of_them(deep: PotentialSurrogate, tmp_path: Path) -> None:
    tuned = deep
    tuned.save(tmp_path / "saved")
    loaded = PotentialSurrogate.load(tmp_path / "saved")
    test = labelled(40, 8)
    for head in ("main", "deep"):
        before, after = (p.with_facts(active=head).predict_structures(test) for p in (tuned, loaded))
        np.testing.assert_array_equal(before.energy, after.energy)
    with pytest.raises(InputError, match="no head 'other'"):
        loaded.with_facts(active="other")


def test_the_committee_has_error_bars_that_cover_and_a_domain_that_ends(first: PotentialSurrogate) -> None:
    test = labelled(150, 9)
    answer = first.predict_structures(test)
    bare = first.predict_structures(test, error_bars=False)
    assert bare.energy_std is bare.forces_low is bare.in_domain is None
    np.testing.assert_allclose(bare.forces, answer.forces, atol=1e-5)
    assert answer.energy_std is not None
    assert answer.forces_std is not None
    assert answer.forces_low is not None
    assert answer.forces_high is not None
    assert answer.in_domain is not None
    inside = (answer.forces_low <= test.forces) & (test.forces <= answer.forces_high)
    assert 0.8 < inside.mean() < 0.98
    low, high = answer.energy_low, answer.energy_high
    assert low is not None
    assert high is not None
    # 40 calibration and 150 test frames allow about 0.73 to 0.99 (beta-binomial, 99.9%).
    assert 0.73 < np.mean((low <= test.energy) & (test.energy <= high)) <= 0.995
    error = np.abs(answer.forces - test.forces)
    uncertain = answer.forces_std > np.quantile(answer.forces_std, 0.9)
    assert error[uncertain].mean() > 2.0 * error[~uncertain].mean()
    crushed = replace(test, positions=0.4 * test.positions, _neighbours={})
    domain = first.predict_structures(crushed).in_domain
    assert domain is not None
    assert domain.mean() < 0.5 < answer.in_domain.mean()


def test_differences_to_a_cheaper_simulator_are_learned_and_the_whole_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})  # one worker answers so few
    cheap = ASECalculator("ase.calculators.morse.MorsePotential", MORSE)
    table, test = labelled(60, 0, depth=1.15), labelled(40, 1, depth=1.15)
    (less,), cost = differences(CampaignRung(cheap), [table], tmp_path / "cheap.zarr", progress=False)
    assert cost["baseline/frames"] == 60
    assert cost["baseline/failed"] == 0
    alone = replace(CONFIG, committee=0)
    potential = train(tmp_path / "run", less, alone, baseline=describe(cheap))
    with pytest.raises(SimulationError, match="missing_component"):
        potential.predict_structures(test)
    whole = potential.with_baseline(cheap)
    plain = train(tmp_path / "plain", table, alone)
    assert error(whole, test) < 0.5 * error(plain, test)
    other = ASECalculator(
        "ase.calculators.morse.MorsePotential", {**MORSE, "epsilon": 2.0}, outputs=("energy", "forces")
    )
    with pytest.raises(InputError, match="the potential learned differences to"):
        potential.with_baseline(other)


def test_labels_of_another_file_are_those_of_the_names_that_were_learned(tmp_path: Path) -> None:
    surrogate = potential()
    named = replace(surrogate.facts.head, keys=FrameKeys(energy=("REF_energy",), forces=("REF_forces",)))
    surrogate.with_facts(heads={"main": named}).save(tmp_path / "named")
    surrogate.save(tmp_path / "usual")
    water = Atoms("OHH", WATER)
    answer = surrogate.predict_structures(Structures.from_arrays([water.numbers], [water.positions])).energy[0].item()
    # The usual name holds the energy of a cheaper method, 1 eV higher.
    symbols = zip(water.symbols, water.positions, strict=True)
    lines = [f"{symbol} {' '.join(map(str, place))}" for symbol, place in symbols]
    header = f"Properties=species:S:1:pos:R:3 energy={answer + 1.0!r}"
    (tmp_path / "both.xyz").write_text("\n".join(["3", f"{header} REF_energy={answer!r}", *lines, ""]))
    (tmp_path / "usual.xyz").write_text("\n".join(["3", header, *lines, ""]))
    key = "test/both/energy_mae_mev"
    both = [tmp_path / "both.xyz"]
    assert evaluate_frames(PotentialSurrogate.load(tmp_path / "named"), both)[key] == pytest.approx(0.0, abs=1e-3)
    assert evaluate_frames(PotentialSurrogate.load(tmp_path / "usual"), both)[key] == pytest.approx(1000.0)
    assert evaluate_frames(PotentialSurrogate.load(tmp_path / "named"), both, keys=FrameKeys(energy=("energy",)))[
        key
    ] == pytest.approx(1000.0)
    with pytest.raises(InputError, match=r"no frame has REF_energy.*energy, of which data\.energy_key names one"):
        evaluate_frames(PotentialSurrogate.load(tmp_path / "named"), [tmp_path / "usual.xyz"])
    # A potential with the usual names is stored as it was before names were saved.
    assert "keys" not in to_plain(surrogate.facts.head)


def test_one_outlier_does_not_widen_the_domain_and_few_structures_are_all_inside() -> None:
    distances = np.append(np.linspace(0.2, 1.0, 299), 50.0)
    limit = domain_limit(distances)
    assert limit < 1.0
    assert (distances > limit).sum() <= 3
    assert domain_limit(distances[-60:]) == 50.0
