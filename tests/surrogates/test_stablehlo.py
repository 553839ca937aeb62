"""Surrogates as StableHLO programs: what is loaded from the files gives the answers of the surrogate."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ase.data import chemical_symbols
from saved_files import unpack
from small_potential import WATER

from data.errors import CorruptStoreError, InputError
from data.meshes.graphs import Mesh
from data.meshes.graphs import pad as pad_meshes
from data.molecules.featurise import encode
from data.molecules.graphs import pad
from data.spec import Variable
from data.store.records import RecordStore
from data.structures.structures import Structures
from experiments.exporting.surrogate_programs import export_surrogate
from surrogates.forecasts.sun import clock
from surrogates.learning.label_source import label_sources, read_label_sources, save_label_sources
from surrogates.learning.normalise import Standardise
from surrogates.learning.rung import Line
from surrogates.saved import load_surrogate
from surrogates.stablehlo import LoadedPrograms, Program, any_number, refuse_few_digits, write_programs


def exported(kind: str, place: Path, sizes: tuple[int, ...] = (), batch: int = 1) -> tuple[Any, LoadedPrograms]:
    directory, _ = unpack(f"surrogates/{kind}", place / "saved")
    export_surrogate(str(directory), place / "out", sizes, batch)
    return load_surrogate(directory), LoadedPrograms(place / "out")


def test_a_potential_gives_the_same_energies_and_forces(tmp_path: Path) -> None:
    potential, programs = exported("potentials", tmp_path, (4,))
    assert programs.names == ("atoms-4",)
    expected = potential.predict_structures(Structures.from_arrays([np.array([8, 1, 1])], [WATER]))
    centred = WATER - WATER.mean(axis=0)
    reference = programs.card["reference_energy_ev"]
    # One row is padding.
    numbers, positions = np.zeros((1, 4), int), np.zeros((1, 4, 3))
    numbers[0, :3], positions[0, :3] = [8, 1, 1], centred
    answer = programs("atoms-4", {"numbers": numbers, "positions": positions, "charge": np.zeros(1)})
    energy = answer["atomic_energy"].astype(float).sum() + sum(reference[chemical_symbols[z]] for z in (8, 1, 1))
    assert energy == pytest.approx(expected.energy[0], abs=1e-5)
    np.testing.assert_allclose(answer["forces"][0, :3], expected.forces, atol=1e-5)
    assert not answer["forces"][0, 3:].any()
    with pytest.raises(InputError, match="numbers has shape"):
        programs("atoms-4", {"numbers": np.zeros((1, 3)), "positions": np.zeros((1, 4, 3)), "charge": np.zeros(1)})
    card = json.loads((tmp_path / "out" / "export.json").read_text())
    assert card["surrogate"] == potential.fingerprint
    assert card["programs"][0]["outputs"]["forces"] == {
        "dtype": "float32", "shape": [1, 4, 3], "meaning": "eV/Angstrom",
    }  # fmt: skip


def test_properties_have_the_same_values(tmp_path: Path) -> None:
    saved, _ = unpack("surrogates/properties", tmp_path / "first")
    smallest = next(b for b in load_surrogate(saved).buckets if b.atoms >= 3 and b.bonds >= 2)
    surrogate, programs = exported("properties", tmp_path, (smallest.atoms,), batch=2)
    table, _ = encode(["CCO", "C"])
    mean, std = surrogate.raw(table)
    buckets = [b for b in surrogate.buckets if b.atoms == smallest.atoms]
    for bucket, name in zip(buckets, programs.names, strict=True):
        batch = pad(table, np.arange(2), bucket, 2)
        arrays = {n: np.asarray(getattr(batch, n)) for n in ("atoms", "bonds", "bond_atoms", "atom_counts")}
        answer = programs(name, arrays)
        np.testing.assert_allclose(answer["value"], mean, rtol=1e-5)
        np.testing.assert_allclose(answer["std"], std, rtol=1e-3, atol=1e-6)
    assert programs.card["units"] == dict(surrogate.facts.units)


def test_fields_have_the_same_trajectory(tmp_path: Path) -> None:
    surrogate, programs = exported("fields", tmp_path, batch=2)
    rng = np.random.default_rng(0)
    initial, speed = rng.normal(size=(2, 8, 1)), np.array([[0.05], [0.1]])
    expected = surrogate.predict_arrays(initial, np.zeros((2, 8, 0)), speed).mean
    answer = programs("grid", {"initial": initial, "parameters": speed})["answer"]
    np.testing.assert_allclose(answer, expected[:, surrogate.facts.layout.lead :], rtol=1e-5, atol=1e-6)


def test_meshes_have_the_same_fields(tmp_path: Path) -> None:
    surrogate, programs = exported("meshes", tmp_path, (16,), batch=2)
    nodes, elements = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]), np.array([[0, 1, 2], [0, 2, 3]])
    speeds = np.array([[1.0], [2.0]])
    meshes = [Mesh(nodes, elements, np.array([0, 1, 1, 0]), speed) for speed in speeds]
    kinds = programs.card["kinds"]
    graphs = pad_meshes(meshes, kinds=kinds, length=programs.card["length"], nodes=16)
    arrays = {n: getattr(graphs, n) for n in ("edge_features", "senders", "receivers", "node_mask", "edge_mask")}
    arrays |= {"node_features": graphs.node_features[..., : 2 * kinds - 1], "parameters": speeds}
    answer = programs("nodes-16", arrays)
    for row, expected in enumerate(surrogate.predict_meshes(meshes)):
        np.testing.assert_allclose(answer["fields"][row, :4], expected.fields, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(answer["fields_std"][row, :4], expected.fields_std, rtol=1e-4, atol=1e-6)
        assert not answer["fields"][row, 4:].any()
    assert np.abs(answer["fields"][0] - answer["fields"][1]).max() > 1e-4


@pytest.mark.parametrize("change", ["none", "curves"])
def test_tables_have_the_same_values(tmp_path: Path, change: str) -> None:
    directory, _ = unpack("surrogates/parameters", tmp_path / "saved")
    surrogate = load_surrogate(directory)
    if change == "curves":
        # Angles, products, a first estimate, logarithms and shares, with the initial weights of a network.
        old = surrogate.facts
        layout = replace(old.layout, outputs=(Variable("share", ("mode",), "1", "float64", "share"),))
        facts = replace(
            old,
            config=replace(old.config, logarithms={"share": 1e-3}, shares=("share",), harmonics=2, products=True),
            layout=layout,
            inputs=replace(old.inputs, angular=(False, True, False), harmonics=2, products=True),
            outputs=Standardise(layout.targets, (-2.0, -1.0), (0.5, 0.7)),
            line=Line((0.1, -0.2), tuple(tuple(0.1 * np.arange(13) - k) for k in range(2))),
            conformal={},
        )
        surrogate = type(surrogate)(facts.model(), facts)
        shutil.rmtree(directory)
        surrogate.save(directory)
    export_surrogate(str(directory), tmp_path / "out", (), 3)
    programs = LoadedPrograms(tmp_path / "out")
    table = np.array([[0.2, 0.5, -0.5], [1.0, 0.1, 0.9], [9.0, -0.7, 0.0]])
    mean, std = surrogate.predict_quantities(table)
    values = surrogate.facts.quantities.outputs(mean)
    answer = programs("table", {"parameters": table})
    np.testing.assert_allclose(answer["value"], values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(answer["std"], surrogate.facts.quantities.spread(values, std), rtol=1e-3, atol=1e-6)
    assert programs.card["columns"] == list(surrogate.columns)
    assert programs.card["domain"]["speed"] == [0.1, 10.0]


def test_a_step_of_a_forecaster_repeats_to_the_same_forecast(tmp_path: Path) -> None:
    surrogate, programs = exported("forecasts", tmp_path, batch=0)
    rng = np.random.default_rng(0)
    layout = surrogate.layout
    size = (*layout.grid.shape, len(layout.channels))
    past = np.asarray(surrogate.model.usual[...])[:1, None] + rng.normal(size=(2, surrogate.history, *size))
    times = np.array(["2001-01-01T00:00", "2001-07-01T18:00"], "datetime64[s]")
    expected = surrogate.forecast_arrays(past, times, 3)[:, 0]
    days, seconds = clock(times)
    arrays = {"past": np.repeat(past[None], surrogate.model.members, axis=0), "days": days, "seconds": seconds}
    for lead in range(3):
        arrays = programs("step", arrays)
        np.testing.assert_allclose(arrays["state"], expected[:, lead], rtol=1e-5, atol=1e-5)
    assert np.abs(expected[:, 2] - past[:, -1]).max() > 1e-2
    hours = (np.array([0, 18]) + 3 * layout.step_hours) % 24
    np.testing.assert_array_equal(arrays["seconds"], 3600 * hours)
    assert programs.card["step_hours"] == layout.step_hours
    assert programs.card["precision"]["mixing_products"] == "float32"
    assert programs.card["programs"][0]["inputs"]["days"]["shape"] == ["batch"]


def test_experts_of_a_mixture_are_programs_and_a_table_says_which_takes_a_molecule(tmp_path: Path) -> None:
    mixture, programs = exported("mixture", tmp_path, (4,), batch=0)
    card, gate = programs.card["experts"], programs.card["gate"]
    assert list(card) == list(mixture.names)
    molecules = [np.array([8, 1, 1]), np.array([1, 1]), np.array([8, 8])]
    asked = 0
    for numbers in molecules:
        structure = Structures.from_arrays([numbers], [WATER[: len(numbers)]])
        symbols = [chemical_symbols[z] for z in numbers]
        can = [set(symbols) <= set(one["elements"]) and 0 in one["charges_e"] for one in card.values()]
        assert can == mixture.eligible(structure)[0].tolist()
        if not any(can):
            continue
        counts = np.array([symbols.count(symbol) for symbol in gate["elements"]], float)
        described = np.array([*np.log1p(counts), np.log1p(counts.sum()), 0.0])
        score = np.where(can, described @ np.array(gate["kernel"]) + np.array(gate["bias"]), -np.inf)
        share = np.exp(score - score.max()) / np.exp(score - score.max()).sum()
        chosen = int(mixture.route(structure)[0])
        if share.max() >= gate["certain"]:
            assert int(share.argmax()) == chosen
        expert = card[mixture.names[chosen]]
        padded = {"numbers": np.zeros((1, 4), int), "positions": np.zeros((1, 4, 3)), "charge": np.zeros(1)}
        padded["numbers"][0, : len(numbers)] = numbers
        padded["positions"][0, : len(numbers)] = WATER[: len(numbers)] - WATER[: len(numbers)].mean(axis=0)
        answer = programs(expert["programs"][0], padded)
        energy = answer["atomic_energy"].astype(float).sum()
        energy += sum(expert["reference_energy_ev"][symbol] for symbol in symbols)
        assert energy == pytest.approx(mixture.predict_structures(structure).energy[0], abs=1e-5)
        asked += 1
    assert asked


def test_one_program_takes_batches_of_any_size_and_refuses_unlike_ones(tmp_path: Path) -> None:
    surrogate, programs = exported("parameters", tmp_path, batch=0)
    table = np.array([[0.2, 0.5, -0.5], [1.0, 0.1, 0.9], [9.0, -0.7, 0.0]])
    mean, _ = surrogate.predict_quantities(table)
    for rows in (1, 3):
        answer = programs("table", {"parameters": table[:rows]})
        expected = surrogate.facts.quantities.outputs(mean)[:rows]
        np.testing.assert_allclose(answer["value"], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match=r"parameters has shape \(3, 2\), not \(3, 3\)"):
        programs("table", {"parameters": table[:, :2]})
    with pytest.raises(InputError, match="parameters has shape"):
        programs("table", {"parameters": table[:0]})
    inputs = {"x": jax.ShapeDtypeStruct((any_number(),), "float32")}
    fixed = Program("fixed", lambda arrays: {"y": arrays["x"] * len(arrays["x"])}, inputs, {"x": "1", "y": "1"})
    with pytest.raises(InputError, match="the network of fixed cannot be computed for a batch of any size"):
        write_programs(tmp_path / "fixed", [fixed], {})


def test_the_card_says_what_made_the_labels_and_how_products_are_computed(tmp_path: Path) -> None:
    directory, _ = unpack("surrogates/parameters", tmp_path / "saved")
    assert read_label_sources(directory) is None
    provenance = {"simulator": "pyscf", "version": "2.10", "settings": {"xc": "pbe"}, "fingerprint": "ab"}
    x, y = (Variable(name, (), "1", "float64", name) for name in "xy")
    RecordStore.create(tmp_path / "labels.zarr", (x,), (y,), provenance=provenance).close()
    sources = label_sources([tmp_path / "labels.zarr", Path("gaps.csv")], "B3LYP/6-31G(2df,p)")
    save_label_sources(directory, sources)
    export_surrogate(str(directory), tmp_path / "out", (), 1)
    card = LoadedPrograms(tmp_path / "out").card
    assert card["labels"] == [
        {"file": "labels.zarr", **provenance, "level": "B3LYP/6-31G(2df,p)"},
        {"file": "gaps.csv", "level": "B3LYP/6-31G(2df,p)"},
    ]
    assert card["precision"] == {"arrays": "float32", "mixing_products": "float32", "other_products": "float32"}


def test_what_cannot_be_exported_is_refused_and_a_changed_program_too(tmp_path: Path) -> None:
    directory, _ = unpack("surrogates/potentials", tmp_path / "saved")
    with pytest.raises(InputError, match="numbers of atoms are not named"):
        export_surrogate(str(directory), tmp_path / "none", (), 1)
    meshes, _ = unpack("surrogates/meshes", tmp_path / "meshes")
    with pytest.raises(InputError, match="numbers of nodes are not named"):
        export_surrogate(str(meshes), tmp_path / "none", (), 1)
    mixture, _ = unpack("surrogates/mixture", tmp_path / "mixture")
    with pytest.raises(InputError, match="numbers of atoms are not named"):
        export_surrogate(str(mixture), tmp_path / "none", (), 1)
    forecaster, _ = unpack("surrogates/forecasts", tmp_path / "forecaster")
    with pytest.raises(InputError, match="the grid is that of training"):
        export_surrogate(str(forecaster), tmp_path / "none", (3,), 1)
    with pytest.raises(InputError, match=r"temperature varies by 0\.01 about 300"):
        refuse_few_digits(["speed", "temperature"], [(1.0, 0.5), (300.0, 0.01)])
    export_surrogate(str(directory), tmp_path / "out", (2,), 1)
    file = tmp_path / "out" / "atoms-2.stablehlo"
    file.write_bytes(file.read_bytes()[:-8] + b"\0" * 8)
    with pytest.raises(CorruptStoreError, match="is not what was exported"):
        LoadedPrograms(tmp_path / "out")
