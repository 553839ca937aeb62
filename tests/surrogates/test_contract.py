"""What every kind of surrogate promises, one test a promise; a new kind adds a line to the table.

The surrogates are those in tests/saved: calibrated, with the domain of a training.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import xarray as xr
from flax import nnx
from saved_files import unpack

from data.errors import CorruptStoreError, InputError
from data.fields.batches import FieldBatch
from data.files import write_json
from data.meshes.graphs import Mesh
from data.molecules import graphs
from data.molecules.featurise import encode
from data.plain import from_plain, to_plain
from data.spec import SimulationError, Spec, check, content_hash, dataset
from data.structures import batches as structure_batches
from data.structures.batches import Shape
from data.structures.structures import Structures
from simulators.adapter import Simulator
from surrogates.family import FAMILIES
from surrogates.fields.coarse_darcy import CoarseDarcy
from surrogates.forecasts.batches import ForecastBatch
from surrogates.forecasts.linear_step import LinearStepFacts
from surrogates.learning.box import IN_DOMAIN
from surrogates.learning.normalise import Standardise
from surrogates.learning.rung import Line, Standing
from surrogates.saved import CARD, load_surrogate
from surrogates.trained import Surrogate, TrainedSurrogate, with_weights

Question = dict[str, Any]


class Kind(NamedTuple):
    """A kind of surrogate.

    Attributes:
        refused: changes of the request that make it one to refuse, by what is wrong with it.
        far: changes of the request that move it out of the training domain; None where it is outside as it is.
        batch: three times the request, as a batch for `predict`.
        left_out: outputs that a batch does not have.
    """

    refused: dict[str, Question]
    far: Question | None
    batch: Callable[[Any, Question], Any]
    left_out: tuple[str, ...] = ()


def molecules(surrogate: Any, question: Question) -> Any:
    return graphs.pad(encode([question["smiles"]] * 3)[0], np.arange(3), graphs.GraphSize(8, 8), 8)


def structures(surrogate: Any, question: Question) -> Any:
    three = Structures.from_arrays(*([np.asarray(question[n])] * 3 for n in ("numbers", "positions")))
    return structure_batches.pad(three, np.arange(3), Shape(3, 4, None), surrogate.cutoff_angstrom)


def states(surrogate: Any, question: Question) -> FieldBatch:
    start = np.repeat(np.asarray(question["initial"], np.float32).T[None, None], 3, axis=0)
    return FieldBatch(start, np.zeros((3, 8, 0)), np.full((3, 1), question["speed"]), np.ones(3))


def flows(surrogate: Any, question: Question) -> Any:
    mesh = Mesh(*(np.asarray(question[n]) for n in ("nodes", "elements", "boundary")), np.array([question["speed"]]))
    return surrogate.batch([mesh] * 3)


def rows(surrogate: Any, question: Question) -> Any:
    return np.repeat([[question["speed"], *question["wave"]]], 3, axis=0)


def weather(surrogate: Any, question: Question) -> ForecastBatch:
    fields = [np.asarray(question["temperature"])[0], np.asarray(question["surface_pressure"])]
    none = np.zeros(3, np.int32)
    return ForecastBatch(np.repeat(np.stack(fields, -1)[None, None], 3, axis=0), none, none, np.ones(3))


KINDS = {
    "properties": Kind(
        {"no molecule": {"smiles": "C("}, "no text": {"smiles": ""}},
        {"smiles": "c1ccccc1N"},
        molecules,
        (IN_DOMAIN,),
    ),
    "potentials": Kind(
        {
            "an unknown element": {"numbers": [92, 1, 1]},
            "NaN": {"positions": np.full((3, 3), np.nan)},
            "atoms on one another": {"positions": np.zeros((3, 3))},
        },
        None,
        structures,
    ),
    "fields": Kind(
        {"NaN": {"initial": np.full((1, 8), np.nan)}, "infinity": {"speed": np.inf}},
        {"speed": 5.0},
        states,
    ),
    "meshes": Kind(
        {
            "a missing vertex": {"elements": [[0, 1, 9], [0, 2, 3]]},
            "NaN": {"speed": np.nan},
            "a sign that was not learned": {"speed": -1.0},
        },
        {"speed": 5.0},
        flows,
        (IN_DOMAIN,),
    ),
    "parameters": Kind({"NaN": {"speed": np.nan}, "infinity": {"wave": [np.inf, 0.0]}}, {"speed": 500.0}, rows),
    "forecasts": Kind(
        {"NaN": {"surface_pressure": np.full((4, 8), np.nan)}, "another planet": {"temperature": np.zeros((1, 4, 8))}},
        None,
        weather,
        (IN_DOMAIN,),
    ),
}
#: A mixture of potentials is asked as they are.
KINDS["mixture"] = KINDS["potentials"]
EVERY = pytest.mark.parametrize("kind", KINDS)


@cache
def surrogate_of(kind: str) -> tuple[Any, Question]:
    """The saved surrogate of a kind, and the request that it answers."""
    with TemporaryDirectory() as place:
        directory, record = unpack(f"surrogates/{kind}", Path(place))
        return load_surrogate(directory), record["question"]


def request(surrogate: Any, question: Question) -> xr.Dataset:
    values = {name: np.asarray(value) for name, value in question.items()}
    inputs = [v for v in surrogate.spec.inputs if v.name in values]
    request: xr.Dataset = surrogate.spec.request(values) if surrogate.spec.coords else dataset(inputs, values)
    return request


def asked(kind: str, **changes: Any) -> xr.Dataset:
    surrogate, question = surrogate_of(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer: xr.Dataset = surrogate.simulate(request(surrogate, question | changes))
    return answer


def measured(surrogate: Any) -> list[str]:
    """Names of the outputs that a simulator has too."""
    names = [v.name for v in surrogate.spec.outputs]
    return [n for n in names if n != IN_DOMAIN and n.rpartition("_")[2] not in ("std", "low", "high")]


def beside(surrogate: Any) -> list[Any]:
    """What a surrogate is made of beside its model and facts."""
    return [getattr(surrogate, name) for name in ("last_layer", "experts") if hasattr(surrogate, name)]


def with_other_weights(surrogate: Any) -> Any:
    weights = jax.tree.map(lambda leaf: leaf + 0.01, nnx.to_pure_dict(nnx.state(surrogate.model)))
    model = with_weights(surrogate.model, weights)
    return type(surrogate)(model, surrogate.facts, *beside(surrogate))


def test_every_kind_is_in_the_table() -> None:
    assert set(KINDS) == set(FAMILIES)


@EVERY
def test_it_is_a_simulator_and_builds_on_the_base(kind: str) -> None:
    surrogate, _ = surrogate_of(kind)
    assert isinstance(surrogate, Simulator)
    assert isinstance(surrogate, Surrogate)
    assert isinstance(surrogate, TrainedSurrogate)
    assert FAMILIES[kind].surrogate is type(surrogate)


@EVERY
def test_an_answer_holds_what_the_spec_says_in_its_units(kind: str) -> None:
    surrogate, _ = surrogate_of(kind)
    answer = asked(kind)
    check(answer, surrogate.spec.outputs)
    assert set(answer.data_vars) == {v.name for v in surrogate.spec.outputs}
    for variable in surrogate.spec.outputs:
        assert answer[variable.name].attrs == variable.attrs()
        assert answer[variable.name].dims == variable.dims


@EVERY
def test_a_calibrated_output_has_a_standard_deviation_and_an_interval_around_it(kind: str) -> None:
    surrogate, _ = surrogate_of(kind)
    answer, outputs = asked(kind), {v.name: v for v in surrogate.spec.outputs}
    for name in measured(surrogate):
        for end in ("std", "low", "high"):
            other = outputs[f"{name}_{end}"]
            assert (other.units, other.dims) == (outputs[name].units, outputs[name].dims)
        assert (answer[f"{name}_std"].values >= 0).all()
        assert (answer[f"{name}_low"].values <= answer[name].values).all()
        assert (answer[name].values <= answer[f"{name}_high"].values).all()
        assert (answer[f"{name}_low"].values < answer[f"{name}_high"].values).any()


@EVERY
def test_a_batch_is_answered_like_its_requests(kind: str) -> None:
    surrogate, question = surrogate_of(kind)
    row, answer = KINDS[kind], asked(kind)
    batch = surrogate.predict(row.batch(surrogate, question))
    assert {v.name for v in surrogate.spec.outputs} - set(row.left_out) <= set(batch)
    for name in set(answer.data_vars) - set(row.left_out):
        assert len(batch[name]) == 3
        inside = tuple(slice(n) for n in answer[name].shape)
        for each in batch[name]:
            np.testing.assert_allclose(
                np.asarray(each, float)[inside], answer[name].values.astype(float), rtol=2e-5, atol=2e-5, err_msg=name
            )


@EVERY
def test_it_says_whether_a_request_lies_in_its_domain(kind: str) -> None:
    row = KINDS[kind]
    if row.far is None:
        # The water of the potential is far from its made-up training data; another planet is refused altogether.
        assert bool(asked(kind)[IN_DOMAIN]) == (kind == "forecasts")
        return
    assert bool(asked(kind)[IN_DOMAIN])
    assert not bool(asked(kind, **row.far)[IN_DOMAIN])


@EVERY
def test_bad_requests_are_refused_as_invalid_input(kind: str) -> None:
    surrogate, question = surrogate_of(kind)
    for wrong, changes in KINDS[kind].refused.items():
        with pytest.raises(SimulationError) as caught:
            asked(kind, **changes)
        assert caught.value.kind == "invalid_input", wrong
    whole = request(surrogate, question)
    for name in whole.data_vars:
        with pytest.raises(SimulationError) as caught:
            surrogate.simulate(whole.drop_vars(name))
        assert caught.value.kind == "invalid_input", f"without {name}"
        if whole[name].attrs.get("units") not in (None, "1"):
            other = whole.assign({name: whole[name].assign_attrs(units="furlong")})
            with pytest.raises(SimulationError) as caught:
                surrogate.simulate(other)
            assert caught.value.kind == "invalid_input", f"{name} in furlongs"


@EVERY
def test_an_answer_that_is_not_finite_never_leaves_it(kind: str) -> None:
    surrogate, question = surrogate_of(kind)
    weights = nnx.to_pure_dict(nnx.state(surrogate.model))
    broken = with_weights(surrogate.model, jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), weights))
    with pytest.raises(SimulationError) as caught:
        type(surrogate)(broken, surrogate.facts, *beside(surrogate)).simulate(request(surrogate, question))
    assert caught.value.kind == "not_converged"


@EVERY
def test_it_comes_back_from_its_directory_as_it_was(kind: str, tmp_path: Path) -> None:
    surrogate, question = surrogate_of(kind)
    surrogate.save(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    assert type(again) is type(surrogate)
    assert to_plain(again.facts) == to_plain(surrogate.facts)
    assert (again.name, again.fingerprint, again.labels_fingerprint) == (
        surrogate.name,
        surrogate.fingerprint,
        surrogate.labels_fingerprint,
    )
    assert dict(again.scores) == dict(surrogate.scores) == {"test/mae": 0.25}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, values in again.simulate(request(again, question)).items():
            np.testing.assert_array_equal(values, asked(kind)[name], err_msg=str(name))
    card = json.loads((tmp_path / "s" / CARD).read_text())
    assert card["kind"] == kind
    assert from_plain(Spec, card["spec"]) == surrogate.spec

    # Without its card it is none; with a card from the future it is refused, not guessed at.
    write_json(tmp_path / "s" / CARD, {**card, "format": card["format"] + 1})
    with pytest.raises(InputError, match="Upgrade"):
        load_surrogate(tmp_path / "s")
    write_json(tmp_path / "s" / CARD, {**card, "weights_sha256": "0" * 64})
    with pytest.raises(CorruptStoreError, match="another surrogate"):
        load_surrogate(tmp_path / "s")
    (tmp_path / "s" / CARD).unlink()
    with pytest.raises(InputError, match=CARD):
        load_surrogate(tmp_path / "s")


@EVERY
def test_its_fingerprint_changes_with_weights_and_not_with_scores(kind: str) -> None:
    surrogate, _ = surrogate_of(kind)
    assert len(surrogate.fingerprint) == 64
    assert surrogate.with_facts(scores={"test/mae": 7.0}).fingerprint == surrogate.fingerprint
    assert with_other_weights(surrogate).fingerprint != surrogate.fingerprint


CHEAP = {"name": "cheap", "fingerprint": "cd" * 32}
#: Facts of a surrogate of each kind that stands on something -> what its Spec says of that.
STANDING: dict[str, Callable[[Any, str], dict[str, Any]]] = {
    "properties": lambda facts, digest: {
        "on": Standing(
            {**CHEAP, "fingerprint": digest},
            {"cheap": "eV"},
            Standardise(("cheap",), (0.0,), (1.0,)),
            Line((0.0,) * len(facts.standardise.names), ((1.0,),) * len(facts.standardise.names)),
            0.1,
        )
    },
    "meshes": lambda facts, digest: {
        "on": Standing(
            {**CHEAP, "fingerprint": digest},
            {"cheap": "m"},
            Standardise(("cheap",), (0.0,), (1.0,)),
            Line(
                (0.0,) * (len(facts.layout.channels) + len(facts.layout.scalars)),
                ((1.0,),) * (len(facts.layout.channels) + len(facts.layout.scalars)),
            ),
            0.1,
        )
    },
    "potentials": lambda facts, digest: {
        "heads": {facts.active: replace(facts.head, baseline={**CHEAP, "fingerprint": digest})}
    },
}
#: The same for methods that are fitted to the training samples, and so are a part of the surrogate.
FITTED: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "fields": (
        "coarse",
        lambda facts: {
            "coarse": CoarseDarcy(4.0, 1.0, 0.0, 1.0),
            "scale": replace(
                facts.scale,
                static_mean=(*facts.scale.static_mean, 0.0),
                static_std=(*facts.scale.static_std, 1.0),
            ),
        },
    ),
    "parameters": (
        "linear",
        lambda facts: {
            "line": Line(
                (0.0,) * len(facts.layout.targets), ((0.5,) * facts.inputs.features,) * len(facts.layout.targets)
            )
        },
    ),
    "forecasts": ("damped_persistence", lambda facts: {"first": LinearStepFacts("damped_persistence")}),
}


@EVERY
def test_its_spec_and_fingerprint_say_what_it_stands_on(kind: str) -> None:
    surrogate, _ = surrogate_of(kind)
    assert "on" not in surrogate.spec.attrs
    assert not surrogate.stands_on
    prints = {surrogate.fingerprint}
    if kind in STANDING:
        for digest in ("cd" * 32, "ef" * 32):
            above = surrogate.with_facts(**STANDING[kind](surrogate.facts, digest))
            assert {k: v for k, v in above.spec.attrs.items() if k.startswith("on")} == above.stands_on
            assert above.stands_on == {"on": "cheap", "on_fingerprint": digest}
            assert digest in json.dumps(above.provenance if kind == "properties" else to_plain(above.facts))
            prints.add(above.fingerprint)
        assert len(prints) == 3  # another version of what it stands on makes another surrogate
    elif kind in FITTED:
        name, changes = FITTED[kind]
        above = surrogate.with_facts(**changes(surrogate.facts))
        assert above.spec.attrs["on"] == name
        assert above.fingerprint not in prints
        assert name in FAMILIES[kind].task.FITTED_RUNGS
    else:
        assert not FAMILIES[kind].task.FITTED_RUNGS
        assert FAMILIES[kind].task.RUNG_OUTPUTS is None


@EVERY
def test_its_provenance_says_what_made_it(kind: str) -> None:
    surrogate, _ = surrogate_of(kind)
    provenance = json.loads(json.dumps(surrogate.provenance))
    assert {"simulator", "version", "settings", "labels_fingerprint"} <= set(provenance)
    assert provenance["labels_fingerprint"] == surrogate.labels_fingerprint == "ab" * 32
    assert len(content_hash(surrogate.provenance)) == 64
