"""Surrogates that an earlier version saved are loaded, answer as before and keep their identity."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from saved_files import SURROGATES, unpack

from data.errors import CorruptStoreError, InputError
from data.spec import dataset
from data.store.records import RecordStore
from simulators.campaigns.campaign import run_campaign
from surrogates.family import FAMILIES
from surrogates.saved import CARD, load_surrogate


def test_there_is_one_of_every_kind() -> None:
    assert {name.partition("_")[0] for name in SURROGATES} == set(FAMILIES)


@pytest.mark.parametrize("name", SURROGATES)
def test_a_saved_surrogate_answers_as_before(name: str, tmp_path: Path) -> None:
    directory, record = unpack(f"surrogates/{name}", tmp_path)
    surrogate = load_surrogate(directory)
    spec = surrogate.spec
    request = spec.request(record["question"]) if spec.coords else dataset(spec.inputs, record["question"])
    answer = surrogate.simulate(request)
    assert set(record["answer"]) <= set(answer)
    for output, values in record["answer"].items():
        # In float32 forces are off by 1e-5 to 5e-5 eV/Angstrom from those in float64, by how XLA splits a program.
        rounding = 1e-4 if output.startswith("forces") else 1e-6
        np.testing.assert_allclose(answer[output].values, values, rtol=1e-5, atol=rounding, err_msg=output)
    assert surrogate.labels_fingerprint == record["labels_fingerprint"]
    assert dict(surrogate.scores) == record["scores"]


@pytest.mark.parametrize("name", SURROGATES)
def test_a_campaign_that_a_saved_surrogate_began_resumes(name: str, tmp_path: Path) -> None:
    # Later versions added outputs to the spec of some kinds, such as `in_domain`.
    directory, record = unpack(f"surrogates/{name}", tmp_path / "surrogate")
    surrogate = load_surrogate(directory)
    spec = surrogate.spec
    outputs = [v for v in spec.outputs if v.name in record["answer"]]
    attrs = {**spec.attrs, "fingerprint": record["fingerprint"]}
    assert pickle.loads(pickle.dumps(surrogate)).fingerprint == record["fingerprint"]
    if name == "forecasts":
        with pytest.raises(InputError, match="appear twice"):
            run_campaign(surrogate, [], tmp_path / "s", progress=False)
        return
    RecordStore.create(
        tmp_path / "s", spec.inputs, outputs, coords=spec.coords, provenance=surrogate.provenance, attrs=attrs
    ).close()
    assert run_campaign(surrogate, [], tmp_path / "s", progress=False, none_answered=True).requested == 0


@pytest.mark.parametrize("name", SURROGATES)
def test_a_saved_surrogate_keeps_its_fingerprint(name: str, tmp_path: Path) -> None:
    # Records of campaigns, ledgers of screens and resumed runs name surrogates by their fingerprints.
    directory, record = unpack(f"surrogates/{name}", tmp_path / "old")
    surrogate = load_surrogate(directory)
    assert surrogate.fingerprint == record["fingerprint"]
    surrogate.save(tmp_path / "new")
    assert load_surrogate(tmp_path / "new").fingerprint == record["fingerprint"]


def test_weights_of_another_surrogate_of_the_same_shape_are_refused(tmp_path: Path) -> None:
    directory, _ = unpack("surrogates/parameters", tmp_path / "old")
    surrogate = load_surrogate(directory)
    surrogate.save(tmp_path / "a")
    other = type(surrogate)(surrogate.facts.model(seed=5), surrogate.facts)
    other.save(tmp_path / "b")
    shutil.rmtree(tmp_path / "a" / "weights")
    shutil.copytree(tmp_path / "b" / "weights", tmp_path / "a" / "weights")
    with pytest.raises(CorruptStoreError, match="those of another surrogate") as caught:
        load_surrogate(tmp_path / "a")
    assert str(caught.value.where).endswith(CARD)


def test_scores_of_a_saved_potential_stay_in_its_fingerprint_alone(tmp_path: Path) -> None:
    # The first version hashed the scores of potentials; the identity of those that it saved may not change.
    directory, record = unpack("surrogates/potentials", tmp_path)
    old = load_surrogate(directory)
    assert old.with_facts(scores={"test/mae": 0.5}).fingerprint == record["fingerprint"]
    new = old.with_facts(hashed_scores={})
    assert new.fingerprint == new.with_facts(scores={"test/mae": 0.5}).fingerprint != record["fingerprint"]
