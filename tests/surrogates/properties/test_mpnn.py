"""The 2D network: invariance under padding, order and batch; it learns; it is saved and loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from rdkit import Chem

from data.errors import CorruptStoreError, InputError
from data.files import write_json
from data.molecules.featurise import encode
from data.molecules.graphs import GraphSize, pad
from data.plain import from_plain, to_plain
from data.spec import SimulationError, Spec, check, dataset
from data.splits import Split
from simulators.adapter import Simulator
from surrogates.learning.loop import TrainConfig
from surrogates.properties.fit import fit_property_surrogate
from surrogates.properties.mpnn import MPNN, Ensemble, MPNNConfig, read
from surrogates.properties.surrogate import BATCH, PropertyConfig, PropertySurrogate
from surrogates.properties.training_domain import Domain
from surrogates.saved import load_surrogate
from surrogates.trained import Surrogate

SMALL = MPNNConfig(features=16, layers=1, readout=16)
SMILES = ["CCO", "c1ccccc1O", "C[N+](=O)[O-]", "C1CC2CC1C2", "C#N", "C", "CC(C)(C)c1ccc2ccccc2c1"]


def outputs(model: Ensemble, smiles: list[str], bucket: GraphSize, size: int) -> np.ndarray:
    """Predictions (member, molecule, target)."""
    table = encode(smiles)[0]
    return np.asarray(answer(model, pad(table, np.arange(len(table)), bucket, size)))[:, : len(smiles)]


#: One program for each shape of a batch.
answer = nnx.jit(lambda model, batch: model(batch))


@pytest.fixture(scope="module")
def model() -> Ensemble:
    return Ensemble(SMALL, 2, 3, nnx.Rngs(0))


def test_padding_and_company_change_nothing(model: Ensemble) -> None:
    together = outputs(model, SMILES, GraphSize(14, 15), 8)
    for bucket, size in ((GraphSize(14, 15), 16), (GraphSize(40, 50), 8)):
        assert np.abs(outputs(model, SMILES, bucket, size) - together).max() < 1e-6
    for i, smiles in enumerate(SMILES):
        assert np.abs(outputs(model, [smiles], GraphSize(14, 15), 1)[:, 0] - together[:, i]).max() < 1e-6


def test_the_order_of_atoms_changes_nothing(model: Ensemble) -> None:
    random = np.random.default_rng(0)
    for smiles in SMILES:
        molecule = Chem.MolFromSmiles(smiles)
        order = random.permutation(molecule.GetNumAtoms()).tolist()
        other = Chem.MolToSmiles(Chem.RenumberAtoms(molecule, order), canonical=False)
        one = outputs(model, [smiles], GraphSize(14, 15), 1)
        assert np.abs(one - outputs(model, [other], GraphSize(14, 15), 1)).max() < 1e-5


@pytest.mark.parametrize(
    ("one", "other"),
    [("CCO", "CCN"), ("CC=O", "CCO"), ("C/C=C/F", "C/C=C\\F"), ("N[C@@H](C)O", "N[C@H](C)O"), ("C[O-]", "CO")],
)
def test_different_molecules_have_different_answers(model: Ensemble, one: str, other: str) -> None:
    answers = outputs(model, [one, other], GraphSize(14, 15), 2)
    assert np.abs(answers[:, 0] - answers[:, 1]).max() > 1e-4


def additive(smiles: list[str]) -> dict[str, np.ndarray]:
    """Two properties that a graph network can learn exactly: weighted counts of atoms and of double bonds."""
    mols = [Chem.MolFromSmiles(s) for s in smiles]
    weight = [sum({6: 1.0, 7: -2.0, 8: 3.0}.get(a.GetAtomicNum(), 0.5) for a in m.GetAtoms()) for m in mols]
    double = [sum(b.GetBondTypeAsDouble() == 2 for b in m.GetBonds()) for m in mols]
    return {"weight": np.array(weight, float), "double": np.array(double, float)}


def molecules(count: int) -> list[str]:
    """Random chains with branches, all different."""
    random = np.random.default_rng(0)
    molecules: dict[str, None] = {}
    while len(molecules) < count:
        parts = random.choice(["C", "N", "O", "C(C)", "C(=O)", "C(N)", "C=C"], size=random.integers(2, 6))
        text = Chem.CanonSmiles("C" + "".join(parts) + "C")
        molecules[text] = None
    return list(molecules)


TRAINING = TrainConfig(epochs=25, learning_rate=5e-3, batch_size=32, ema_decay=0.98, checkpoint_every_s=None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[PropertySurrogate, list[str], Split]:
    smiles = molecules(400)
    split = Split.of(
        {
            "train": np.arange(250),
            "valid": np.arange(250, 280),
            "calibration": np.arange(280, 320),
            "test": np.arange(320, 400),
        }
    )
    surrogate = fit_property_surrogate(
        encode(smiles)[0],
        additive(smiles),
        split,
        PropertyConfig(SMALL, ensemble=2, buckets=2),
        TRAINING,
        tmp_path_factory.mktemp("fit"),
        units={"weight": "eV", "double": "1"},
        label_fingerprint="abc",
        progress=False,
    )
    return surrogate, smiles, split


def test_it_learns_what_a_graph_network_can_learn(trained: tuple[PropertySurrogate, list[str], Split]) -> None:
    surrogate, smiles, split = trained
    test = [smiles[i] for i in split["test"]]
    truth, predicted = additive(test), surrogate.predict_table(encode(test)[0])
    for name in ("weight", "double"):
        error = np.abs(predicted[name] - truth[name]).mean()
        assert error < 0.2 * truth[name].std(), name
        inside = (predicted[f"{name}_low"] <= truth[name]) & (truth[name] <= predicted[f"{name}_high"])
        assert inside.mean() > 0.75  # 40 calibration, 80 test: the band of nominal 90% coverage
        assert (predicted[f"{name}_std"] > 0).all()
    assert predicted["in_domain"].mean() > 0.9


def test_it_is_a_simulator_and_a_surrogate(trained: tuple[PropertySurrogate, list[str], Split]) -> None:
    surrogate = trained[0]
    assert isinstance(surrogate, Simulator)
    assert isinstance(surrogate, Surrogate)
    answer = surrogate.simulate(dataset(surrogate.spec.inputs, {"smiles": "CCOC"}))
    check(answer, surrogate.spec.outputs)
    assert answer["weight"].attrs["units"] == "eV"
    table = surrogate.predict_table(encode(["CCOC"])[0])
    assert float(answer["weight"]) == pytest.approx(table["weight"][0], abs=1e-5)
    assert float(answer["weight_std"]) == pytest.approx(table["weight_std"][0], abs=1e-5)
    with pytest.raises(SimulationError) as caught:
        surrogate.simulate(dataset(surrogate.spec.inputs, {"smiles": "C("}))
    assert caught.value.kind == "invalid_input"


def test_a_saved_surrogate_answers_as_before(
    trained: tuple[PropertySurrogate, list[str], Split], tmp_path: Path
) -> None:
    surrogate = trained[0].with_facts(scores={"test/mae": 0.1})
    surrogate.save(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    assert isinstance(again, PropertySurrogate)
    table = encode(SMILES)[0]
    for name, values in surrogate.predict_table(table).items():
        assert np.array_equal(values, again.predict_table(table)[name])
    assert again.fingerprint == surrogate.fingerprint
    assert again.scores == {"test/mae": 0.1}
    assert again.labels_fingerprint == "abc"
    card = json.loads((tmp_path / "s" / "surrogate.json").read_text())
    assert from_plain(Spec, card["spec"]) == surrogate.spec
    changed = jax.tree.map(lambda x: x + 1e-3, nnx.state(surrogate.model))
    other = nnx.clone(surrogate.model)
    nnx.update(other, changed)
    assert PropertySurrogate(other, surrogate.facts).fingerprint != surrogate.fingerprint


def test_a_damaged_or_foreign_directory_is_refused(
    trained: tuple[PropertySurrogate, list[str], Split], tmp_path: Path
) -> None:
    trained[0].save(tmp_path / "s")
    card = json.loads((tmp_path / "s" / "surrogate.json").read_text())
    write_json(tmp_path / "s" / "surrogate.json", {**card, "kind": "os.system"})
    with pytest.raises(InputError, match=r"os\.system"):
        load_surrogate(tmp_path / "s")
    write_json(tmp_path / "s" / "surrogate.json", card)
    # Every file of the arrays, including those that a read would not need.
    for damaged in sorted(path for path in (tmp_path / "s" / "weights" / "arrays").rglob("*") if path.is_file()):
        whole = damaged.read_bytes()
        raw = bytearray(whole or b"-")
        raw[len(raw) // 2] ^= 0xFF
        damaged.write_bytes(bytes(raw))
        with pytest.raises(CorruptStoreError, match=damaged.name):
            load_surrogate(tmp_path / "s")
        damaged.write_bytes(whole)
    load_surrogate(tmp_path / "s")


def test_too_few_calibration_molecules_are_refused_before_training(tmp_path: Path) -> None:
    smiles = molecules(40)
    labels = additive(smiles)
    labels["double"][30:33] = np.nan
    with pytest.raises(InputError, match="7 molecules with a label of double"):
        fit_property_surrogate(
            encode(smiles)[0],
            labels,
            Split.of({"train": np.arange(30), "valid": np.arange(0), "calibration": np.arange(30, 40)}),
            PropertyConfig(SMALL, ensemble=1),
            TRAINING,
            tmp_path / "run",
            units={"weight": "eV", "double": "1"},
            label_fingerprint="abc",
        )
    assert not (tmp_path / "run").exists()


def test_screening_many_sizes_compiles_once_a_bucket(trained: tuple[PropertySurrogate, list[str], Split]) -> None:
    surrogate = PropertySurrogate(trained[0].model, trained[0].facts)
    table = encode(trained[1] * 4)[0]
    for first in range(0, len(table), 500):
        surrogate.predict_table(table.take(slice(first, first + 500)))
    assert surrogate.compilations <= len(surrogate.facts.buckets)
    assert surrogate.batch_size == BATCH


def test_fine_tuning_starts_where_a_line_on_the_old_answers_is(
    trained: tuple[PropertySurrogate, list[str], Split], tmp_path: Path
) -> None:
    surrogate, smiles, _ = trained
    few = smiles[:40]
    labels = {name: 3.0 * values + 7.0 for name, values in additive(few).items()}
    split = Split.of({"train": np.arange(40), "valid": np.zeros(0, int), "calibration": np.zeros(0, int)})
    tuned = fit_property_surrogate(
        encode(few)[0],
        labels,
        split,
        surrogate.facts.config,
        replace(TRAINING, epochs=1, learning_rate=1e-6),
        tmp_path,
        units={"weight": "eV", "double": "1"},
        label_fingerprint="expensive",
        init=surrogate,
        progress=False,
    )
    rest = smiles[320:]
    predicted = tuned.predict_table(encode(rest)[0])["weight"]
    truth = 3.0 * additive(rest)["weight"] + 7.0
    assert np.abs(predicted - truth).mean() < 0.15 * truth.std()
    assert tuned.facts.pretrained_on == ("abc",)
    assert tuned.labels_fingerprint == "expensive"


def test_the_domain_knows_what_it_has_not_seen() -> None:
    domain = Domain.of(encode(["CCO", "CCN", "CCCC", "c1ccccc1"])[0])
    inside = domain.holds(encode(["CCCO", "CCCCN", "CC(C)O", "CCF", "CCCCCCCCCC", "OCCN", "c1ccncc1"])[0])
    assert inside.tolist() == [True, True, False, False, False, True, False]
    assert from_plain(Domain, json.loads(json.dumps(to_plain(domain)))).hashes.tolist() == domain.hashes.tolist()
    joined = domain.join(Domain.of(encode(["CF", "FCC"])[0]))
    assert joined.holds(encode(["FCCC"])[0]).all()
    assert domain.holds(encode([])[0]).shape == (0,)


def test_features_of_bonds_are_the_same_looked_up_or_made() -> None:
    table, bad = encode(["CC(=O)Oc1ccccc1C(=O)O", "F/C=C/C#N", "C1CCCCCCCCCC1", "[NH4+].[Cl-]", "C12C3C4C1C5C2C3C45"])
    assert not bad
    batch = pad(table, np.arange(len(table)), GraphSize(16, 20), 8)
    plain, looked_up = read(batch), read(batch, lookup=True)
    assert looked_up.kinds is not None
    np.testing.assert_array_equal(np.asarray(looked_up.bonds)[np.asarray(looked_up.kinds)], plain.bonds)
    network = MPNN(MPNNConfig(features=16, layers=2), 2, nnx.Rngs(0))
    np.testing.assert_allclose(network(looked_up), network(plain), rtol=1e-5, atol=1e-5)


def test_the_sizes_of_the_training_molecules_are_compiled_before_they_are_needed(
    trained: tuple[PropertySurrogate, list[str], Split],
) -> None:
    surrogate, smiles, _ = trained
    fresh = PropertySurrogate(surrogate.model, surrogate.facts)
    fresh.compile()
    before = fresh.compilations
    assert before == len(surrogate.facts.buckets)
    fresh.predict_table(encode(smiles)[0])
    assert fresh.compilations == before
