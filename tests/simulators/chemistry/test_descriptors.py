"""RDKit's descriptors as a simulator: published numbers, sums, what it refuses, and surrogates that stand on them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from simulator_contract import assert_promises

from data.errors import InputError
from data.spec import SimulationError, dataset
from experiments.cli import main as command
from simulators.chemistry.descriptors import AREAS, NAMES, Descriptors
from simulators.chemistry.from_smiles import SMILES
from surrogates.properties.surrogate import PropertySurrogate

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def asked(smiles: str) -> xr.Dataset:
    return dataset((SMILES,), {"smiles": smiles})


def values(smiles: str) -> dict[str, float]:
    return dict(zip(NAMES, Descriptors().simulate(asked(smiles))["descriptors"].values.tolist(), strict=True))


def test_it_keeps_its_promises() -> None:
    assert_promises(Descriptors(), Descriptors(("tpsa",)), asked(ASPIRIN), asked("C("))


def test_aspirin_has_the_published_descriptors() -> None:
    # Ertl et al. 2000 give 63.6 Angstrom^2 for acetylsalicylic acid; C9H8O4 weighs 180.16 Da.
    assert values(ASPIRIN)["tpsa"] == pytest.approx(63.6, abs=0.05)
    assert values(ASPIRIN)["amw"] == pytest.approx(9 * 12.011 + 8 * 1.008 + 4 * 15.999, abs=0.01)
    counts = {"NumHeavyAtoms": 13, "NumAtoms": 21, "NumHBD": 1, "NumAromaticRings": 1, "FractionCSP3": 1 / 9}
    assert {name: values(ASPIRIN)[name] for name in counts} == pytest.approx(counts)
    # Kier's first shape index of n-alkanes is their number of heavy atoms.
    assert values("CCCCCC")["kappa1"] == pytest.approx(6.0)


def test_the_areas_of_every_range_add_up_to_the_same_surface() -> None:
    sums = [sum(values(ASPIRIN)[f"{prefix}{k + 1}"] for k in range(count)) for prefix, (_, count) in AREAS.items()]
    assert np.allclose(sums, sums[0])
    # Labute's surface also counts the hydrogens, which the ranges leave out.
    assert 0.9 * values(ASPIRIN)["labuteASA"] < sums[0] <= values(ASPIRIN)["labuteASA"]


def test_the_order_of_atoms_in_a_smiles_changes_nothing() -> None:
    assert values(ASPIRIN) == pytest.approx(values("OC(=O)c1ccccc1OC(C)=O"), abs=1e-9)


def test_chosen_descriptors_come_in_their_order() -> None:
    some = Descriptors(("tpsa", "amw"))
    assert some.simulate(asked(ASPIRIN))["descriptor"].values.tolist() == ["tpsa", "amw"]
    assert some.simulate(asked(ASPIRIN))["descriptors"].values.tolist() == [
        values(ASPIRIN)[name] for name in ("tpsa", "amw")
    ]


@pytest.mark.parametrize("smiles", ["", "C(", "C" * 10_000])
def test_what_is_no_molecule_is_refused(smiles: str) -> None:
    with pytest.raises(SimulationError, match="no molecule"):
        Descriptors().simulate(asked(smiles))


@pytest.mark.parametrize("names", [("logs",), (), ("tpsa", "tpsa")])
def test_names_are_those_of_descriptors(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"simulator\.names"):
        Descriptors(names)


def test_a_surrogate_that_stands_on_them_answers_what_a_line_through_one_of_them_says(tmp_path: Path) -> None:
    smiles = [f"{'C' * length}{end}" for length in range(1, 16) for end in ("C", "O", "N", "OC", "C#N")]
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([("smiles", "area"), *((one, 3 * values(one)["tpsa"] - 1) for one in smiles)])
    arguments = [
        "train", "task=molecules/properties", f"data.file={tmp_path / 'labels.csv'}", "data.target=area",
        "on=descriptors",
        "rung.settings=['simulator.names=[tpsa,CrippenClogP]']", "train.epochs=1", "train.mlflow=false",
        "model.network.features=8", "model.network.layers=1", "model.ensemble=1", "model.buckets=1",
        "data.parts=[0.7,0.0,0.2,0.1]", f"run.dir={tmp_path / 'run'}",
    ]  # fmt: skip
    assert command(arguments) == 0
    # It was asked in the process of the training, so that there is no store of a campaign.
    assert not (tmp_path / "run" / "on.zarr").exists()
    surrogate = PropertySurrogate.load(tmp_path / "run" / "surrogate")
    assert surrogate.facts.on is not None
    assert surrogate.facts.on.scale.names == ("tpsa", "CrippenClogP")
    # Labels on a line leave nothing for the network to learn but zeros of a scale of rounding errors.
    assert float(surrogate.simulate(asked(ASPIRIN))["area"]) == pytest.approx(3 * 63.6 - 1, abs=0.5)
