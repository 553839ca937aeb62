"""Samples on meshes come out of a store as they went in, and what cannot be learned from is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_meshes

from data.errors import InputError
from data.meshes.graphs import node_areas
from data.meshes.mesh_samples import MeshLayout, read_meshes
from data.plain import from_plain, to_plain
from data.spec import Coordinate
from data.store.records import RecordStore


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three samples; then a failure and one whose pressure is NaN at a vertex."""
    path = small_meshes.write_store(tmp_path_factory.mktemp("meshes") / "m.zarr", small_meshes.samples(3))
    mesh = small_meshes.channel(9, 30)
    assert mesh.fields is not None
    pressure = mesh.fields[:, 2].copy()
    pressure[4] = np.nan
    with RecordStore.open(path, "a") as store:
        store.append("late", {"speed": 1.0}, status="timeout", seconds=8.0, threads=2)
        values = {"speed": 1.0, "nodes": mesh.nodes, "elements": mesh.elements, "boundary": mesh.flags, "drag": 1.0}
        store.append("nan", {**values, "velocity": mesh.fields[:, :2], "pressure": pressure}, seconds=1.0, threads=1)
    return path


def test_what_was_stored_is_read(stored: Path) -> None:
    samples, bad = read_meshes(stored, None, ["drag"], ["speed"])
    truth = small_meshes.samples(3)
    assert samples.layout == small_meshes.layout()
    assert samples.layout.channels == ("velocity_x", "velocity_y", "pressure")
    assert from_plain(MeshLayout, json.loads(json.dumps(to_plain(samples.layout)))) == samples.layout
    for mesh, true in zip(samples.meshes, truth.meshes, strict=True):
        assert mesh.fields is not None
        assert true.fields is not None
        for name in ("nodes", "elements", "flags", "parameters", "scalars"):
            np.testing.assert_array_equal(getattr(mesh, name), getattr(true, name))
        np.testing.assert_allclose(mesh.fields, true.fields, atol=1e-6)
        np.testing.assert_array_equal(samples.layout.flat(samples.layout.named(mesh.fields)), mesh.fields)
    assert bad == [(3, "timeout"), (4, "pressure is not finite")]
    assert (samples.failed, samples.failed_seconds, samples.seconds.tolist()) == (2, 17.0, [1.0, 1.0, 1.0])
    assert samples.fingerprint == "f" * 64


def test_the_table_of_what_was_read_names_units_domain_and_variables(stored: Path) -> None:
    samples, _ = read_meshes(stored, ["velocity"], [], ["speed"])
    assert samples.reading is not None
    assert (samples.reading.used, samples.reading.total) == (4, 5)
    assert samples.reading.left_out == {"timeout": 1}
    nodes = np.concatenate([m.nodes for m in samples.meshes])
    quantities = samples.reading.quantities
    assert f"x {nodes[:, 0].min():.6g} to {nodes[:, 0].max():.6g}" in quantities["nodes"]
    kinds = sorted({int(k) for m in samples.meshes for k in m.flags})
    assert quantities["boundary"].startswith(f"kinds {', '.join(map(str, kinds))} occur")
    speeds = [float(m.parameters[0]) for m in samples.meshes]
    assert quantities["speed"].endswith(f"number that decides it, {min(speeds):.6g} to {max(speeds):.6g}")
    assert samples.reading.unused == {
        "pressure": "known at the vertices, m2 s-2; data.fields takes it",
        "drag": "a number, 1; data.scalars or data.parameters takes it",
    }


def test_a_part_of_the_answers_can_be_learned(stored: Path) -> None:
    samples, _ = read_meshes(stored, ["velocity"])
    assert samples.layout.channels == ("velocity_x", "velocity_y")
    assert not samples.layout.scalars
    # A NaN in what is not learned costs no sample.
    assert len(samples) == 4


@pytest.mark.parametrize(
    ("fields", "scalars", "parameters", "complaint"),
    [
        (["vorticity"], [], [], "no variable vorticity"),
        (["drag"], [], [], "drag is not known at the vertices"),
        (None, ["pressure"], [], "pressure is no number"),
        (None, [], ["velocity"], "velocity is no number"),
        ([], [], [], "nothing to learn"),
    ],
)
def test_what_cannot_be_learned_is_named(stored, fields, scalars, parameters, complaint) -> None:
    with pytest.raises(InputError, match=complaint):
        read_meshes(stored, fields, scalars, parameters)


def test_a_store_without_meshes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no store of a campaign"):
        read_meshes(tmp_path)
    with RecordStore.create(tmp_path / "s", (small_meshes.SPEED,), (small_meshes.DRAG,), provenance={}) as store:
        store.append("0", {"speed": 1.0, "drag": 1.0})
    with pytest.raises(InputError, match=r"no nodes and no elements and no boundary.*simulator.fields=true"):
        read_meshes(tmp_path / "s")


def test_another_question_is_refused() -> None:
    samples = small_meshes.samples(2)
    samples.refuse_other(samples.layout, "here")
    with pytest.raises(InputError, match=r"here: .*are needed"):
        samples.refuse_other(replace(samples.layout, scalars=()), "here")
    with pytest.raises(InputError, match="boundary reaches 2, up to 1"):
        samples.refuse_other(replace(samples.layout, kinds=2), "here")
    # Components in another order, and another boundary, are another question too.
    turned = tuple(replace(a, values=a.values[::-1]) if a.name == "component" else a for a in samples.layout.axes)
    with pytest.raises(InputError, match=r"\('component', \('y', 'x'\)\).*are needed"):
        samples.refuse_other(replace(samples.layout, axes=turned), "here")
    walls, slip = (replace(samples.layout, attrs={"boundary_conditions": words}) for words in ("no slip", "slip"))
    with pytest.raises(InputError, match="its boundary is 'slip', 'no slip' has been learned"):
        replace(samples, layout=slip).refuse_other(walls, "here")
    replace(samples, layout=walls).refuse_other(walls, "here")
    assert samples.content() != small_meshes.samples(2, 5).content() != small_meshes.samples(3).content()


def test_areas_of_vertices_integrate_linear_functions_exactly() -> None:
    mesh = small_meshes.channel(3, 60)
    corners = mesh.nodes[mesh.elements]
    area = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1])) / 2
    linear = mesh.nodes @ [0.3, -0.7] + 0.2
    assert node_areas(mesh).sum() == pytest.approx(area.sum())
    assert node_areas(mesh) @ linear == pytest.approx(area @ linear[mesh.elements].mean(axis=1))


def test_several_times_of_a_vector_are_columns_with_names_and_come_back() -> None:
    base = small_meshes.layout()
    time = Coordinate("time", (0.5, 2.0), "s", "time")
    velocity = replace(base.fields[0], dims=("node", "time", "component"))
    layout = replace(base, fields=(velocity, base.fields[1]), axes=(*base.axes, time))
    assert layout.channels == ("velocity_0.5_x", "velocity_0.5_y", "velocity_2_x", "velocity_2_y", "pressure")
    record = {"velocity": np.arange(12.0).reshape(3, 2, 2), "pressure": np.arange(3.0)}
    named = layout.named(layout.flat(record))
    for name, values in record.items():
        np.testing.assert_array_equal(named[name], values)
