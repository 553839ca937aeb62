"""What every surrogate promises; a new one adds a line to the table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import small_fields
import small_meshes
import small_potential
import xarray as xr
from flax import nnx

from data.errors import InputError
from data.fields.batches import FieldBatches
from data.files import write_json
from data.meshes import graphs as meshes
from data.molecules import graphs
from data.molecules.featurise import encode
from data.plain import from_plain
from data.spec import SimulationError, Spec, check, content_hash, dataset
from data.structures import batches as structure_batches
from data.structures.batches import Shape
from data.structures.table import Structures
from simulators.adapter import Simulator
from surrogates.family import FAMILIES
from surrogates.fields.bands import Bands
from surrogates.fields.facts import FieldConfig, FieldFacts
from surrogates.fields.networks.fno import FNOConfig
from surrogates.fields.scale import FieldScale
from surrogates.fields.surrogate import FieldSurrogate
from surrogates.learning.conformal import Conformal
from surrogates.learning.normalise import Standardise
from surrogates.meshes.facts import MeshConfig, MeshFacts, MeshScale
from surrogates.meshes.network import MeshNetworkConfig
from surrogates.meshes.surrogate import MeshSurrogate
from surrogates.properties.domain import Domain
from surrogates.properties.mpnn import Ensemble, MPNNConfig
from surrogates.properties.surrogate import Facts, MolecularConfig, MolecularSurrogate
from surrogates.saved import CARD, load_surrogate
from surrogates.trained import Surrogate

GRAPHS = encode(["CCO", "CC=O", "c1ccccc1O"])[0]
WATER = {"numbers": np.array([8, 1, 1], np.int32), "positions": small_potential.WATER}

WAVE = small_fields.waves(3, 1)
THREE = Structures.from_arrays([WATER["numbers"]] * 3, [WATER["positions"]] * 3)


def molecular(seed: int) -> MolecularSurrogate:
    """Two targets, one of them calibrated."""
    config = MolecularConfig(MPNNConfig(features=8, layers=1, readout=8), ensemble=2, buckets=1)
    facts = Facts(
        config,
        {"gap": "eV", "dipole_moment": "Debye"},
        Standardise(("gap", "dipole_moment"), (7.0, 2.0), (1.5, 1.0)),
        {"gap": Conformal(1.7, 0.1, 0.2, 30)},
        graphs.choose_buckets(GRAPHS.atom_counts, GRAPHS.bond_counts, 1),
        Domain.of(GRAPHS),
        "ab" * 32,
        scores={"test/mae": 0.25},
    )
    return MolecularSurrogate(Ensemble(config.network, 2, 2, nnx.Rngs(seed)), facts)


def potential(seed: int) -> Any:
    """Energies and forces of an ensemble; another seed is another scale, and so another surrogate."""
    model = small_potential.potential(members=2, scale=0.5 + 0.1 * seed)
    return model.with_facts(scores={"test/mae": 0.25})


def a_field(seed: int) -> Any:
    """Trajectories of a wave, calibrated."""
    fields = small_fields.waves(4, 0)
    config = FieldConfig(network=FNOConfig(width=4, layers=1, modes=(2,)), ensemble=2)
    times = len(fields.layout.axis("time").values)
    bands = Bands((1.5,) * times, ((0.1,),) * times, (1.0,) * times, 0.1, 30)
    facts = FieldFacts(config, fields.layout, FieldScale.fit(fields), "ab" * 32, bands, {"test/mae": 0.25})
    return FieldSurrogate(facts.model(seed), facts)


CHANNEL = small_meshes.channel(0)
SHEAR = {"nodes": CHANNEL.nodes, "elements": CHANNEL.elements, "boundary": CHANNEL.flags, "speed": 1.0}


def a_mesh(seed: int) -> MeshSurrogate:
    """Shear flows on meshes, calibrated; parameters enter as they are."""
    config = MeshConfig(MeshNetworkConfig(8, 1, 1), ensemble=2)
    scale = MeshScale(((0.0, 1.0),), ((0.5, 0.3), (0.0, 1.0), (1.0, 0.5)), ((1.0, 0.3),), 0.2)
    names = ("velocity_x", "velocity_y", "pressure", "drag")
    bands = {name: Conformal(1.5, 0.1, 0.1, 30) for name in names}
    facts = MeshFacts(config, small_meshes.layout(), scale, "ab" * 32, bands, {"test/mae": 0.25})
    return MeshSurrogate(facts.model(seed), facts)


class Row(NamedTuple):
    """A kind of surrogate, how one is made, a request that it answers, one that it refuses, and a batch of three."""

    kind: str
    make: Callable[[int], Any]
    good: Callable[[Any], xr.Dataset]
    bad: Callable[[Any], xr.Dataset]
    batch: Any


TABLE = [
    Row(
        "properties",
        molecular,
        lambda s: dataset(s.spec.inputs, {"smiles": "CCO"}),
        lambda s: dataset(s.spec.inputs, {"smiles": "C("}),
        graphs.pad(GRAPHS, np.arange(3), graphs.Bucket(8, 8), 8),
    ),
    Row(
        "potentials",
        potential,
        lambda s: dataset(s.spec.inputs, WATER),
        lambda s: dataset(s.spec.inputs, {**WATER, "numbers": np.array([92, 1, 1])}),
        structure_batches.pad(THREE, np.arange(3), Shape(3, 4, None), 3.0),
    ),
    Row(
        "fields",
        a_field,
        lambda s: s.spec.request({"initial": WAVE.states[0, 0].T, "speed": float(WAVE.parameters[0, 0])}),
        lambda s: s.spec.request({"initial": np.full((1, 16), np.nan), "speed": 0.05}),
        next(FieldBatches(WAVE, 3, 2, seed=None, stride=9).epoch(0)),
    ),
    Row(
        "meshes",
        a_mesh,
        lambda s: s.spec.request(SHEAR),
        lambda s: s.spec.request({**SHEAR, "elements": CHANNEL.elements + 1}),
        meshes.pad([CHANNEL] * 3, kinds=3, length=0.2),
    ),
]


def test_every_kind_is_in_the_table() -> None:
    # Numbers from numbers and forecasts have batteries of their own, in test_parametric.py and test_forecaster.py.
    assert sorted([*(row.kind for row in TABLE), "parameters", "forecasts"]) == sorted(FAMILIES)


@pytest.mark.parametrize("row", TABLE, ids=[row.kind for row in TABLE])
def test_a_surrogate_keeps_its_promises(row: Row, tmp_path: Path) -> None:
    surrogate = row.make(0)
    assert isinstance(surrogate, Simulator)
    assert isinstance(surrogate, Surrogate)

    # It answers like a simulator, in units, and with an error bar in the same unit.
    answer = surrogate.simulate(row.good(surrogate))
    check(answer, surrogate.spec.outputs)
    outputs = {v.name: v for v in surrogate.spec.outputs}
    for name, variable in outputs.items():
        assert answer[name].attrs == variable.attrs()
        if f"{name}_std" in outputs:
            assert (outputs[f"{name}_std"].units, outputs[f"{name}_std"].dims) == (variable.units, variable.dims)
            assert (answer[f"{name}_std"].values >= 0).all()
    assert any(name.endswith("_std") for name in outputs)
    with pytest.raises(SimulationError) as caught:
        surrogate.simulate(row.bad(surrogate))
    assert caught.value.kind == "invalid_input"

    # A batch gives the same as a request.
    batch = surrogate.predict(row.batch)
    for name in outputs:
        assert len(batch[name]) == 3
        inside = tuple(slice(n) for n in answer[name].shape)
        np.testing.assert_allclose(batch[name][0][inside], answer[name].values, rtol=2e-5, atol=2e-5, err_msg=name)

    # It lives in a directory that says all about it, and comes back as it was.
    surrogate.save(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    assert type(again) is type(surrogate)
    for name, values in again.simulate(row.good(again)).items():
        assert np.array_equal(values, answer[name]), name
    assert again.fingerprint == surrogate.fingerprint != row.make(1).fingerprint
    assert dict(again.scores) == {"test/mae": 0.25}
    assert again.labels_fingerprint == surrogate.labels_fingerprint
    card = json.loads((tmp_path / "s" / CARD).read_text())
    assert card["kind"] == row.kind
    assert from_plain(Spec, card["spec"]) == surrogate.spec
    assert {"simulator", "version", "settings"} <= set(json.loads(json.dumps(surrogate.provenance)))
    assert len(content_hash(surrogate.provenance)) == 64

    # Without its card it is none; with a card from the future it is refused, not guessed at.
    write_json(tmp_path / "s" / CARD, {**card, "format": card["format"] + 1})
    with pytest.raises(InputError, match="Upgrade"):
        load_surrogate(tmp_path / "s")
    (tmp_path / "s" / CARD).unlink()
    with pytest.raises(InputError, match=CARD):
        load_surrogate(tmp_path / "s")
