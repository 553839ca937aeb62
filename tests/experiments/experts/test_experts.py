"""A mixture grows by an expert for data outside of its domain, and shrinks only where its tests allow it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from forked_commands import Command
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from small_potential import WATER, morse_labels

from data.errors import InputError
from data.formats.rows import Row
from data.json_files import read_plain
from data.molecules.writing import write_extxyz
from data.structures.structures import Structures
from experiments.application.choices import CONF
from experiments.experts.growing import growth, plain, replayed, training_recipe
from experiments.experts.members import saved_members
from experiments.experts.pruning import PruneConfig
from experiments.experts.pruning import prune as prune_members
from experiments.stages.grow import grow
from experiments.stages.prune import prune
from experiments.stages.train import train
from surrogates.mixture.surrogate import MixtureSurrogate
from surrogates.potentials.fit import _with_head, _with_old_weights
from surrogates.potentials.heads import only_active
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.saved import load_surrogate

METHANE = 0.63 * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
NETWORK = ["model=painn", "model.network.features=8", "model.network.layers=1", "model.network.cutoff_angstrom=3.0"]
NETWORK += ["model.committee=0", "model.buckets=1", "train.epochs=3", "train.mlflow=false", "train.batch_size=8"]


def frames(numbers: list[int], place: np.ndarray, count: int, seed: int, offset: float) -> Structures:
    """Shaken molecules with the energies and forces of a Morse potential, each atom with an energy of its own."""
    rng = np.random.default_rng(seed)
    table = Structures.from_arrays(
        [np.array(numbers)] * count, [place + 0.05 * rng.normal(size=place.shape) for _ in range(count)]
    )
    table = morse_labels(table)
    return replace(table, energy=table.energy + offset)


def written(path: Path, table: Structures) -> Path:
    rows = []
    for m in range(len(table)):
        atoms = slice(table.atom_start[m], table.atom_start[m + 1])
        labels = {"energy": float(table.energy[m]), "forces": table.forces[atoms]}
        rows.append(Row(m + 1, None, table.numbers[atoms], table.positions[atoms], labels))
    write_extxyz(path, rows)
    return path


def stage(function: Callable[[DictConfig, Path], None], name: str, run_dir: Path, *overrides: str) -> dict[str, float]:
    key = "run.dir" if name == "train" else "out"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(name, [*overrides, f"{key}={run_dir}"])
    run_dir.mkdir(parents=True, exist_ok=True)
    function(config, run_dir)
    return read_plain(run_dir / "metrics.json", dict[str, float], remedy="")


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A potential of water in `first`, and with methane as a second expert in `two`."""
    folder = tmp_path_factory.mktemp("grown")
    for name, numbers, place in (("water", [8, 1, 1], WATER), ("methane", [6, 1, 1, 1, 1], METHANE)):
        written(folder / f"{name}.xyz", frames(numbers, place, 24, 0, -10.0))
        written(folder / f"{name}_test.xyz", frames(numbers, place, 12, 1, -10.0))
    data = [f"data.train={folder}/water.xyz", "data.valid=0.2", f"data.test=[{folder}/water_test.xyz]"]
    stage(train, "train", folder / "first", "task=molecules/potentials", *data, *NETWORK)
    data = [f"data.train={folder}/methane.xyz", "data.valid=0.2", f"data.test=[{folder}/methane_test.xyz]"]
    old = [f"old.train=[{folder}/water.xyz]", f"old.test=[{folder}/water_test.xyz]", "replay=8"]
    stage(grow, "grow", folder / "two", f"surrogate={folder}/first", *data, *old, *NETWORK[-3:])
    return folder


def test_the_old_expert_answers_as_before_and_the_new_one_what_was_outside(grown: Path) -> None:
    first, two = load_surrogate(grown / "first" / "surrogate"), load_surrogate(grown / "two" / "surrogate")
    assert isinstance(two, MixtureSurrogate)
    assert two.names == ("water", "methane")
    assert two.experts[0].fingerprint == first.fingerprint
    # As many as are scored, here and below, so that the same programs answer them.
    water, methane = frames([8, 1, 1], WATER, 12, 5, 0.0), frames([6, 1, 1, 1, 1], METHANE, 12, 5, 0.0)
    before, after = first.predict_structures(water), two.predict_structures(water)
    np.testing.assert_array_equal(before.forces, after.forces)
    assert two.route(methane).tolist() == [1] * 12
    # The new expert has one head, whose references are those of methane.
    assert list(two.experts[1].facts.heads) == ["methane"]
    metrics = read_plain(grown / "two" / "metrics.json", dict[str, float], remedy="")
    assert metrics["domain/outside"] == 1.0
    assert metrics["growth/water"] == 0.0
    assert metrics["mixture/routed/water"] == metrics["mixture/routed/methane"] == 1.0
    assert metrics["mixture/share/water"] == 0.5
    assert metrics["old_head/water/forces_mae_mev_per_angstrom"] > 0


def test_a_killed_growth_leaves_the_old_expert_and_goes_on_to_the_same_mixture(grown: Path, tmp_path: Path) -> None:
    old = {p: p.read_bytes() for p in (grown / "first" / "surrogate").rglob("*") if p.is_file() and p.name != ".lock"}
    out = tmp_path / "killed"
    arguments = [
        f"surrogate={grown}/first", f"data.train={grown}/methane.xyz", "data.valid=0.2",
        f"data.test=[{grown}/methane_test.xyz]", f"old.train=[{grown}/water.xyz]", f"old.test=[{grown}/water_test.xyz]",
        "replay=8", *NETWORK[-3:],
    ]  # fmt: skip
    process = Command("grow", *arguments, f"out={out}", cwd=tmp_path)
    # The data of the training are recorded before its programs are compiled.
    while process.poll() is None and not (out / "learned_from.json").is_file():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL, process.said
    assert not (out / "surrogate").exists()
    stage(grow, "grow", out, *arguments)
    again, two = (load_surrogate(place / "surrogate") for place in (out, grown / "two"))
    assert again.fingerprint == two.fingerprint
    assert {p: p.read_bytes() for p in old} == old


def test_data_inside_of_the_domain_grow_nothing(grown: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0% of the 24 frames lie outside .* nothing is grown.*expert methane"):
        stage(
            grow, "grow", tmp_path / "again", f"surrogate={grown}/two", f"data.train={grown}/methane.xyz",
            "expert=more",
        )  # fmt: skip
    assert not (tmp_path / "again" / "surrogate").exists()


def test_experts_are_replaced_only_if_every_test_allows_it(grown: Path, tmp_path: Path) -> None:
    whole = {p: p.read_bytes() for p in (grown / "two" / "surrogate").rglob("*") if p.is_file() and p.name != ".lock"}
    refused = stage(prune, "prune", tmp_path / "one", f"surrogate={grown}/two", "tolerance=1e-9", *NETWORK[-3:])
    assert refused["prune/largest_growth"] > 1e-9
    assert refused["prune/accepted"] == 0.0
    assert not (tmp_path / "one" / "surrogate").exists()
    members = saved_members(grown / "two" / "surrogate")
    assert {p: p.read_bytes() for p in whole} == whole
    assert set(members.memories) == {"water", "methane"}
    assert [len(members.memories[n].tests) for n in ("water", "methane")] == [12, 12]
    half = refused["prune/parameters_after"] / refused["prune/parameters_before"]
    assert half == pytest.approx(0.5, rel=0.02)
    # The same training, which has ended, with any tolerance: one expert answers both molecules.
    with initialize_config_dir(str(CONF), version_base="1.3"):
        recipe = training_recipe(plain(compose("prune", ["surrogate=x", "out=y", *NETWORK[-3:]]).train))
    pruned = prune_members(members, PruneConfig(tolerance=1e9), None, recipe, tmp_path / "one")
    assert pruned.members is not None
    assert pruned.metrics["prune/largest_growth"] == pytest.approx(refused["prune/largest_growth"], rel=1e-3)
    pruned.members.save(tmp_path / "smaller", [None])
    smaller = saved_members(tmp_path / "smaller")
    assert smaller.mixture.names == ("union",)
    assert smaller.mixture.facts.elements == (1, 6, 8)
    assert len(smaller.memories["union"].tests) == 12
    both = Structures.concatenate([frames([8, 1, 1], WATER, 12, 5, 0.0), frames([6, 1, 1, 1, 1], METHANE, 12, 5, 0.0)])
    assert np.isfinite(smaller.mixture.predict_structures(both).forces).all()


def test_replayed_labels_are_the_answers_of_the_old_expert(grown: Path) -> None:
    potential = load_surrogate(grown / "first" / "surrogate")
    table = frames([8, 1, 1], WATER, 9, 3, -10.0)
    replay = replayed(potential, table, 4, seed=0)
    assert replay is not None
    assert len(replay) == 4
    answer = potential.predict_structures(replay)
    np.testing.assert_allclose(replay.energy, answer.energy, rtol=1e-12)
    np.testing.assert_allclose(replay.forces, answer.forces, atol=1e-12)
    assert replayed(potential, table, 0, seed=0) is None


def test_one_head_of_several_answers_alone_as_among_them(grown: Path) -> None:
    old = load_surrogate(grown / "first" / "surrogate")
    head = replace(old.facts.head, labels_fingerprint="other")
    facts = _with_head(old, "new", head, old.facts.config)
    model = _with_old_weights(old, facts)
    both = PotentialSurrogate(model, facts, old.last_layer)
    table = frames([8, 1, 1], WATER, 12, 4, 0.0)
    for name in ("main", "new"):
        alone = only_active(both.with_facts(active=name))
        assert list(alone.facts.heads) == [name]
        np.testing.assert_allclose(
            alone.predict_structures(table).forces, both.with_facts(active=name).predict_structures(table).forces,
            atol=1e-6,
        )  # fmt: skip


def test_growth_is_the_largest_of_the_errors() -> None:
    before = {"before/a/energy_mae_mev": 2.0, "before/a/forces_mae_mev_per_angstrom": 4.0}
    after = {"after/a/energy_mae_mev": 2.2, "after/a/forces_mae_mev_per_angstrom": 4.2}
    assert growth(before, after, ("a", "b")) == pytest.approx({"growth/a": 0.1})
