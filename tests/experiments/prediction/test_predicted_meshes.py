"""`understudy predict` on meshes: every record of a store has its answer beside the mesh, or a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_meshes
from predicting import predicted_by
from saved_files import unpack

from data.errors import InputError
from data.store.records import RecordStore
from experiments.prediction import mesh_records
from surrogates.saved import load_surrogate


@pytest.fixture(scope="module")
def saved(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The directory of the saved surrogate of meshes with two kinds of vertices."""
    return once("saved-meshes", lambda place: unpack("surrogates/meshes", place))


def test_a_store_of_meshes_becomes_one_with_answers_beside_the_truth(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = small_meshes.samples(3)
    for k, mesh in enumerate(samples.meshes):
        # The surrogate knows two kinds of vertices; the last mesh keeps a third one.
        if k < 2:
            mesh.flags[mesh.flags == 2] = 1
    small_meshes.write_store(tmp_path / "in.zarr", samples)
    truly, asked = mesh_records._answer, []

    def stopping(surrogate: Any, record: Any, names: Any) -> Any:
        asked.append(float(record["speed"]))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return truly(surrogate, record, names)

    monkeypatch.setattr(mesh_records, "_answer", stopping)
    with pytest.raises(KeyboardInterrupt):
        predicted_by(saved, tmp_path / "in.zarr", tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()
    run_dir = predicted_by(saved, tmp_path / "in.zarr", tmp_path / "out.zarr")
    assert len(asked) == 4
    surrogate: Any = load_surrogate(saved)
    error = []
    with RecordStore.open(tmp_path / "out.zarr") as store:
        records = [record for _, record in store.records(None)]
    assert [str(r["status"]) for r in records] == ["ok", "ok", "invalid_input"]
    for record, mesh in zip(records[:2], samples.meshes, strict=False):
        direct = surrogate.simulate(
            surrogate.spec.request(
                {"nodes": mesh.nodes, "elements": mesh.elements, "boundary": mesh.flags, "speed": mesh.parameters[0]}
            )
        )
        for name in ("pressure", "pressure_low", "drag", "drag_std"):
            np.testing.assert_allclose(record[name], direct[name].values, rtol=1e-5)
        np.testing.assert_allclose(record["pressure_true"], mesh.fields[:, 2], rtol=1e-6)
        error.append(abs(float(record["drag"]) - mesh.scalars[0]))
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["predict/answered"] == 2
    assert metrics["predict/drag/mae"] == pytest.approx(np.mean(error))
    assert "Predicted against true pressure" in (run_dir / "report.html").read_text()
    with pytest.raises(InputError, match=r"out=NAME\.zarr"):
        predicted_by(saved, tmp_path / "in.zarr", tmp_path / "out.csv")
