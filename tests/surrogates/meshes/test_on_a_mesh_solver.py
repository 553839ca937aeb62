"""Surrogates of meshes that stand on a cheaper method of the same mesh: what they learn, ask, save and refuse."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_meshes
import xarray as xr
from asked_here import Here

from data.errors import InputError
from data.meshes.mesh_samples import MeshSamples
from data.rejects import RejectLog
from data.spec import SimulationError, Spec, Variable, content_hash
from surrogates.learning.loop import TrainConfig
from surrogates.learning.sample_task import SampleSets
from surrogates.meshes.cheaper_answers import asked_of_own
from surrogates.meshes.facts import MeshConfig
from surrogates.meshes.network import MeshNetworkConfig
from surrogates.meshes.surrogate import MeshSurrogate
from surrogates.meshes.task import MeshData, MeshTask
from surrogates.saved import load_surrogate


def hidden(nodes: np.ndarray) -> float:
    """A number of each mesh that no network can see: it depends on a hash."""
    return int(content_hash(np.asarray(nodes).tolist())[:8], 16) / 16**8 * 4.0 - 2.0


@dataclass(frozen=True)
class Cheap:
    """A solver that knows the hidden number, in other scales, and fails for fast lids."""

    fails_above: float = 9.0
    fields: tuple[Variable, ...] = small_meshes.FLOW
    inputs: tuple[Variable, ...] = (*small_meshes.GEOMETRY, small_meshes.SPEED)
    asked: list[float] = field(default_factory=list, compare=False)
    name = "cheap"

    @cached_property
    def spec(self) -> Spec:
        return Spec(self.inputs, (*self.fields, small_meshes.DRAG), small_meshes.COORDS)

    @property
    def provenance(self) -> dict[str, Any]:
        return {"simulator": self.name, "version": "1", "settings": {"fails_above": self.fails_above}}

    @property
    def fingerprint(self) -> str:
        return content_hash(self.provenance)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        speed = float(inputs["speed"])
        self.asked.append(speed)
        if speed > self.fails_above:
            raise SimulationError("not_converged", "the lid is too fast")
        coefficient, count = hidden(inputs["nodes"].values), inputs.sizes["node"]
        flow = {"velocity": np.full((count, 2), 3.0 * coefficient + 1.0), "pressure": np.full(count, -coefficient)}
        return self.spec.answer({**flow, "drag": 2.0 * coefficient})


def samples(count: int, first: int = 0) -> MeshSamples:
    """Shear flows to which the hidden number is added, and to their drag."""
    plain = small_meshes.samples(count, first)
    meshes = []
    for mesh in plain.meshes:
        assert mesh.fields is not None
        more = hidden(mesh.nodes)
        meshes.append(replace(mesh, fields=mesh.fields + more, scalars=mesh.scalars + more))
    return replace(plain, meshes=tuple(meshes))


def trained(folder: Path, on: Any, epochs: int = 30) -> tuple[MeshSurrogate, dict[str, float]]:
    recipe = TrainConfig(
        epochs=epochs, learning_rate=5e-3, batch_size=8, ema_decay=0.9, checkpoint_every_s=None, validate_every=epochs
    )
    config = MeshConfig(MeshNetworkConfig(12, 1, 1), buckets=1)
    task = MeshTask(MeshData(file="x", parts=[0.7, 0.0, 0.0, 0.3]), config, recipe, on=on)
    parts = task.split(SampleSets(samples(40), {}), folder, progress=False)
    surrogate, result = task.fit(parts, folder, progress=False)
    return surrogate, task.costs(parts, result) | task.score(surrogate, parts)


@pytest.mark.filterwarnings("ignore::surrogates.learning.box.OutOfDomainWarning")
def test_it_learns_what_is_wrong_with_the_cheaper_answer(tmp_path: Path) -> None:
    rung = Cheap(fails_above=1.45)
    surrogate, metrics = trained(tmp_path, Here(rung))
    fast = sum(mesh.parameters[0] > 1.45 for mesh in samples(40).meshes)
    assert metrics["on/failed"] == fast > 0
    assert metrics["on/requests"] == 40
    new = samples(12, 300)
    slow = replace(new, meshes=tuple(m for m in new.meshes if m.parameters[0] <= 1.45))
    answers = surrogate.predict_meshes(slow.meshes)
    # The hidden number has a standard deviation of 1.15, the flow one of 0.4 and the drag one of 0.3.
    error = [np.abs(a.fields - m.fields).mean() for a, m in zip(answers, slow.meshes, strict=True)]
    assert np.mean(error) < 0.2
    assert np.mean([abs(a.scalars[0] - m.scalars[0]) for a, m in zip(answers, slow.meshes, strict=True)]) < 0.4
    mesh = slow.meshes[0]
    geometry = {"nodes": mesh.nodes, "elements": mesh.elements, "boundary": mesh.flags}
    request = surrogate.spec.request({**geometry, "speed": mesh.parameters[0]})
    answer = surrogate.simulate(request)
    np.testing.assert_allclose(answer["pressure"].values, answers[0].fields[:, 2], atol=1e-4)
    with pytest.raises(SimulationError, match="cheap, mesh 0: the lid is too fast"):
        surrogate.simulate(surrogate.spec.request({**geometry, "speed": 1.49}))
    assert surrogate.spec.attrs["on_fingerprint"] == rung.fingerprint
    with RejectLog(tmp_path / "rejects.csv") as rejects:
        tested = asked_of_own(rung, new, Path("new.zarr"), rejects)
    assert len(tested) == len(slow)
    assert (tmp_path / "rejects.csv").read_text().count("the lid is too fast") == len(new) - len(slow)
    surrogate.save(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    assert again.fingerprint == surrogate.fingerprint
    same = again.with_rung(rung).predict_meshes(slow.meshes)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(same[0].fields, answers[0].fields)
    with pytest.raises(InputError, match="stands on cheap, not on this cheap"):
        surrogate.with_rung(Cheap())


@pytest.mark.parametrize(
    ("rung", "words"),
    [
        (Cheap(fields=small_meshes.FLOW[:1]), "cheap gives no pressure"),
        (
            Cheap(fields=(small_meshes.FLOW[0], replace(small_meshes.FLOW[1], units="Pa"))),
            "cheap gives pressure in Pa .* and the data has it in m2 s-2",
        ),
        (Cheap(inputs=(*small_meshes.GEOMETRY, Variable("spin", (), "1", "int32", "spin"))), "cheap takes spin, which"),
        (Cheap(fails_above=0.0), "cheap answers for none of 40 samples: not_converged: the lid is too fast"),
    ],
)
def test_a_method_of_another_question_is_refused_by_name(tmp_path: Path, rung: Cheap, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        trained(tmp_path, Here(rung), epochs=1)
    assert caught.value.where == "on"
