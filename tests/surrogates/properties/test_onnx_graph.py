"""Graphs of ONNX: the answers of the networks, in float32 and with products of 8 bits, by ONNX Runtime."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saved_files import unpack

from data.errors import InputError
from data.molecules.featurise import encode
from experiments.exporting.onnx_files import export_onnx
from surrogates.properties.onnx_graph import onnx_model
from surrogates.properties.quantised import OnnxNetworks, batches_of, quantised
from surrogates.saved import load_surrogate
from surrogates.stablehlo import LoadedPrograms

onnx = pytest.importorskip("onnx", reason="the extra quantised is not installed")
pytest.importorskip("onnxruntime", reason="the extra quantised is not installed")
#: Elements with a feature of their own and others, charges, rings, stereo of atoms and of bonds, a single atom.
SMILES = (
    "C", "CCO", "[Na+]", "C[NH3+]", "CC(=O)[O-]", "F/C=C/F", "F/C=C\\F", "C[C@H](N)O", "C[C@@H](N)O", "c1ccccc1",
    "C1CC1", "C#N", "BrCI", "C[Si](C)(C)Cl", "OS(=O)(=O)O", "CP", "C1CCCCCCCC1", "[Se]=C", "C12C3C4C1C5C2C3C45",
)  # fmt: skip


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_surrogate(unpack("surrogates/properties", tmp_path_factory.mktemp("saved"))[0])


@pytest.fixture(scope="module")
def model(surrogate: Any) -> Any:
    return onnx_model(surrogate)


def test_the_graph_answers_as_the_networks_for_every_feature(surrogate: Any, model: Any) -> None:
    table, rejected = encode(SMILES)
    assert not rejected
    expected, spread = surrogate.raw(table)
    value, std = OnnxNetworks(model).raw(surrogate, table)
    scale = np.array(surrogate.facts.standardise.scale)
    np.testing.assert_allclose(value, expected, atol=3e-6 * float(scale.max()))
    np.testing.assert_allclose(std, spread, atol=3e-6 * float(scale.max()))
    # Molecules that differ by one feature have answers that differ by more than that.
    assert np.abs(np.diff(np.sort(expected[:, 0] / scale[0]))).min() > 3e-6
    rows, batch = next(batches_of(surrogate, table))
    by_file = OnnxNetworks(model)._session.run(
        ["value", "std"], {n: np.asarray(getattr(batch, n)) for n in ("atoms", "bonds", "bond_atoms", "atom_counts")}
    )
    np.testing.assert_allclose(by_file[0][: len(rows)], expected[rows], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_file[1][: len(rows)], spread[rows], rtol=1e-4, atol=1e-5)


def test_matrices_of_8_bits_are_the_nearest_and_answers_near(surrogate: Any, model: Any) -> None:
    table, _ = encode(SMILES)
    small = quantised(model, [batch for _, batch in batches_of(surrogate, table)])
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in small.graph.initializer}
    before = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    rounded = [name for name in before if name.endswith("_kernel")]
    assert rounded
    for name in rounded:
        whole, step = arrays[f"{name}_quantized"], arrays[f"{name}_scale"]
        assert whole.dtype == np.int8
        assert step.shape == (before[name].shape[1],)
        assert (np.abs(whole * step - before[name]) <= 0.501 * step).all()
    exact, _ = surrogate.raw(table)
    near, _ = OnnxNetworks(small).raw(surrogate, table)
    off = np.sqrt(np.mean((near - exact) ** 2)) / exact.std()
    assert 0 < off < 0.05


def test_files_have_a_card_and_what_has_no_graph_is_refused(
    surrogate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, _ = unpack("surrogates/properties", tmp_path / "saved")
    (tmp_path / "some.smi").write_text("\n".join(SMILES))
    export_onnx(str(directory), tmp_path / "out", tmp_path / "some.smi")
    card = LoadedPrograms(tmp_path / "out").card
    assert [one["precision"]["mixing_products"] for one in card["onnx"]] == ["float32", "int8"]
    assert card["surrogate"] == surrogate.fingerprint
    assert card["onnx"][1]["calibration_molecules"] == len(SMILES)
    table, _ = encode(SMILES)
    loaded = OnnxNetworks(onnx.load(tmp_path / "out" / card["onnx"][0]["file"]))
    np.testing.assert_allclose(loaded.raw(surrogate, table)[0], surrogate.raw(table)[0], atol=1e-5)
    fields, _ = unpack("surrogates/fields", tmp_path / "fields")
    with pytest.raises(InputError, match="a surrogate of fields has no graph"):
        export_onnx(str(fields), tmp_path / "none", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="onnx is not installed"):
        onnx_model(surrogate)
