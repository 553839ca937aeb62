"""What is asked of a simulator: each molecule of a file once, the rest written down, the end known ahead."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from omegaconf import OmegaConf

from data.errors import InputError
from data.molecules.files import Row
from data.molecules.writing import write_sdf
from data.store.records import RecordStore
from experiments.application.choices import CONF
from experiments.pipelines.molecule_labelling import label
from experiments.stages.pipeline import canonical
from experiments.stages.simulate import simulate
from simulators.adapter import Simulator
from simulators.campaigns.campaign import CampaignConfig
from simulators.campaigns.summary import CampaignSummary, Reasons
from simulators.chemistry.from_smiles import FromSmiles
from simulators.chemistry.xtb import XTB
from simulators.fluids.openfoam.cases import CASES


def run(path: Path, run_dir: Path, **changes: Any) -> None:
    node = {
        "stage": "simulate",
        "run": {"dir": str(run_dir)},
        "inputs": str(path),
        "smiles": "smiles",
        "limit": None,
        "out": str(run_dir / "labels.zarr"),
        "simulator": {"_target_": "simulators.chemistry.xtb.XTB"},
        "campaign": {"workers": 1},
        "conformers": {},
    }
    run_dir.mkdir(exist_ok=True)
    simulate(OmegaConf.create(node | changes), run_dir)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[xr.Dataset], int | None]]:
    """The inputs and the total of each campaign, none of which is run."""
    seen: list[tuple[list[xr.Dataset], int | None]] = []

    def campaign(
        simulator: Simulator,
        inputs: Iterable[xr.Dataset],
        store: Path,
        config: CampaignConfig,
        *,
        total: int | None,
        none_answered: bool,
    ) -> CampaignSummary:
        seen.append((list(inputs), total))
        return CampaignSummary(len(seen[-1][0]), 0, {}, 0, 0.0, 0.0, store)

    monkeypatch.setattr("experiments.stages.simulate.run_campaign", campaign)
    return seen


def test_the_campaign_knows_how_many_inputs_there_will_be(
    asked: list[tuple[list[xr.Dataset], int | None]], tmp_path: Path
) -> None:
    path = tmp_path / "m.csv"
    path.write_text("smiles\n" + "\n".join("C" * i for i in range(1, 31)) + "\n")
    run(path, tmp_path / "run")
    run(path, tmp_path / "run", limit=7)
    assert [(len(inputs), total) for inputs, total in asked] == [(30, 30), (7, 7)]


@pytest.mark.parametrize("limit", [0, -1, "many"])
def test_a_limit_that_is_no_number_of_inputs_is_refused(limit: object, tmp_path: Path) -> None:
    (tmp_path / "m.smi").write_text("C\n")
    with pytest.raises(InputError, match="limit"):
        run(tmp_path / "m.smi", tmp_path / "run", limit=limit)


def test_designs_of_a_table_are_simulated_and_rows_that_are_none_are_listed(tmp_path: Path) -> None:
    header = "name,rate_1,rate_2,rate_3,initial_b,initial_c\n"
    rows = "a,0.04,1e4,3e7,0,0\nb,nothing,1e4,3e7,0,0\nc,0.05,1e4,3e7,0,0.1\nd,0.06,1e4,3e7,0,0.1\n"
    (tmp_path / "designs.csv").write_text(header + rows)
    kinetics = OmegaConf.load(CONF / "simulator" / "robertson.yaml")
    run(tmp_path / "designs.csv", tmp_path / "run", simulator=kinetics, limit=2)
    with RecordStore.open(tmp_path / "run" / "labels.zarr") as store:
        dataset = store.dataset()
    assert sorted(dataset["rate_1"].values.tolist()) == [0.04, 0.05]
    assert set(dataset["status"].values.tolist()) == {"ok"}
    (rejected,) = csv.DictReader((tmp_path / "run" / "rejects.csv").read_text().splitlines())
    assert rejected["line"] == "3"
    assert "rate_1 is no finite number" in rejected["reason"]
    (reading,) = json.loads((tmp_path / "run" / "reading.json").read_text())
    assert (reading["used"], reading["total"]) == (2, 4)
    assert reading["quantities"]["rate_1"] == "parameter, taken in s-1"


def test_a_file_for_a_simulator_that_takes_no_molecules_is_refused_and_the_way_told(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("viscosity\n0.1\n")
    with pytest.raises(InputError, match=r"takes initial, which is no number.*sampling=KIND"):
        run(
            tmp_path / "m.csv",
            tmp_path / "run",
            simulator={
                "_target_": "simulators.fluids.spectral.exponax.Exponax",
                "equation": "burgers",
                "points": 32,
                "save_dt": 0.05,
                "steps": 1,
                "dt": 0.0025,
                "varied": ["viscosity"],
            },
        )


WATER = Row(0, None, np.array([8, 1, 1], np.int32), np.array([[0, 0, 0.1], [0, 0.8, -0.5], [0, -0.8, -0.5]]))
ETHANOL = Row(0, "CCO", properties={"name": "ethanol"})


@pytest.mark.parametrize(
    ("rows", "text", "missing"),
    [([WATER, ETHANOL, WATER], "CCO ethanol", "geometry"), ([ETHANOL, WATER, ETHANOL], "", "SMILES")],
    ids=["geometries", "SMILES"],
)
def test_a_row_without_what_is_simulated_is_written_down_and_the_rest_goes_on(
    rows: list[Row],
    text: str,
    missing: str,
    asked: list[tuple[list[xr.Dataset], int | None]],
    tmp_path: Path,
) -> None:
    write_sdf(tmp_path / "m.sdf", rows)
    run(tmp_path / "m.sdf", tmp_path / "run")
    assert len(asked[0][0]) == 2
    with open(tmp_path / "run" / "rejects.csv", newline="") as file:
        rejects = list(csv.DictReader(file))
    line = (tmp_path / "m.sdf").read_text().splitlines().index("$$$$") + 2
    assert [(r["line"], r["text"]) for r in rejects] == [(str(line), text)]
    assert rejects[0]["file"].endswith("m.sdf")
    assert f"no {missing}" in rejects[0]["reason"]


def test_a_molecule_is_simulated_once_however_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "m.smi").write_text("OCC\nCCO ethanol\nC(O)C\nN\n")
    run(tmp_path / "m.smi", tmp_path / "run")
    store = tmp_path / "run" / "labels.zarr"
    with RecordStore.open(store) as records:
        assert records.column("smiles").tolist() == ["CCO", "N"]
    (reading,) = json.loads((tmp_path / "run" / "reading.json").read_text())
    assert reading["assumed"] == ["4 rows name 2 molecules; each molecule is simulated once"]
    # The same store answers for labels asked for in yet another spelling.
    names = ["C(C)O", "CCO", "C(", "[NH3]"]
    labels, summary = label(FromSmiles(XTB()), names, ["gap"], store, CampaignConfig(workers=1))
    assert (summary.requested, summary.cached, summary.failed) == (3, 2, {"invalid_input": 1})
    assert labels.smiles == ["C(C)O", "CCO", "[NH3]"]
    assert labels.values["gap"][0] == labels.values["gap"][1] != labels.values["gap"][2]
    assert [(name, kind) for name, kind, _ in labels.failed] == [("C(", "invalid_input")]
    with RecordStore.open(store) as records:
        assert labels.core_seconds == pytest.approx(float(records.column("core_seconds").sum()))
        assert labels.core_seconds > 0
        assert len(records) == 3


def test_frames_are_asked_for_with_their_cell_and_spin_or_written_down(
    asked: list[tuple[list[xr.Dataset], int | None]], tmp_path: Path
) -> None:
    oxygen = "2\nProperties=species:S:1:pos:R:3 {}\nO 0 0 0\nO 0 0 1.2\n"
    slab = '1\nLattice="2.5 0 0 0 2.5 0 0 0 20" pbc="T T F" Properties=species:S:1:pos:R:3\nCu 0 0 0\n'
    path = tmp_path / "a.xyz"
    path.write_text(oxygen.format("multiplicity=3") + slab + oxygen.format("spin=3") + oxygen.format("charge=0"))
    run(path, tmp_path / "run")
    inputs, total = asked[0]
    assert [int(one["spin"]) for one in inputs] == [2, 0]
    assert total == 2
    reading = json.loads((tmp_path / "run" / "reading.json").read_text())[0]
    assert (reading["total"], reading["used"]) == (4, 2)
    assert any("repeats along 2 directions" in reason for reason in reading["left_out"])
    assert (tmp_path / "run" / "rejects.csv").read_text().count("\n") == 3
    emt = {"_target_": "simulators.chemistry.ase_calculator.ASECalculator", "calculator": "ase.calculators.emt.EMT"}
    path.write_text(slab + oxygen.format("spin=1"))
    run(path, tmp_path / "emt", simulator=emt, spin_convention="multiplicity")
    repeated, isolated = asked[1][0]
    np.testing.assert_array_equal(repeated["cell"], np.diag([2.5, 2.5, 0]))
    assert not isolated["cell"].values.any()
    assert int(isolated["spin"]) == 0


def test_a_campaign_without_any_answer_ends_the_stage_in_an_error_and_its_metrics_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = Reasons()
    for _ in range(3):
        reasons.add("not_converged", "50 cycles")

    def campaign(*_: object, **__: object) -> CampaignSummary:
        return CampaignSummary(3, 0, {"not_converged": 3}, 0, 1.0, 1.0, tmp_path / "s", 0, reasons)

    monkeypatch.setattr("experiments.stages.simulate.run_campaign", campaign)
    (tmp_path / "m.smi").write_text("CCO\nN\nO\n")
    with pytest.raises(InputError, match="all 3 requests failed: 3 not_converged: 50 cycles"):
        run(tmp_path / "m.smi", tmp_path / "run")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["simulate/failed/not_converged"] == 3


def test_molecules_that_are_simulated_in_another_form_are_counted(
    asked: list[tuple[list[xr.Dataset], int | None]], tmp_path: Path
) -> None:
    (tmp_path / "a.smi").write_text("CC[NH3+].[Cl-]\nCCN\nCCO\nCC(=O)[O-].[Na+]\n")
    run(tmp_path / "a.smi", tmp_path / "r", conformers={"standardise": ["largest_fragment", "neutral"]})
    [reading] = json.loads((tmp_path / "r" / "reading.json").read_text())
    said = "standardise=largest_fragment,neutral: 2 molecules are taken in another form than that of the file "
    said += "(2 of them without counter-ions or solvents)"
    assert reading["assumed"] == [said]
    # The store knows them by what the file says.
    assert [str(x["smiles"].item()) for x in asked[0][0]] == ["CC[NH3+].[Cl-]", "CCN", "CCO", "CC(=O)[O-].[Na+]"]
    run(tmp_path / "a.smi", tmp_path / "s")
    assert json.loads((tmp_path / "s" / "reading.json").read_text())[0]["assumed"] == []


def test_a_pipeline_draws_the_forms_that_its_screen_asks_about() -> None:
    written = [("CC[NH3+].[Cl-]", 1), ("CCN", 2), ("OCC", 3), ("C1CC", 5), ("\0CCO", 6)]
    refused: list[tuple[int, str, str]] = []
    assert canonical(written, ("largest_fragment", "neutral"), lambda *row: refused.append(row)) == ["CCN", "CCO"]
    assert [row[:2] for row in refused] == [(5, "C1CC"), (6, "\0CCO")]
    assert canonical(written, (), lambda *row: None) == ["CC[NH3+].[Cl-]", "CCN", "CCO"]


def test_what_was_read_is_shown_also_where_the_campaign_stops_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def campaign(simulator: Simulator, inputs: Iterable[xr.Dataset], *_: object, **__: object) -> CampaignSummary:
        for _ in zip(range(2), inputs, strict=False):
            pass
        raise InputError("2 of the first 2 requests failed")

    monkeypatch.setattr("experiments.stages.simulate.run_campaign", campaign)
    (tmp_path / "m.csv").write_text("smiles,gap\nCCO,1\n???,2\nN,3\nO,4\n")
    with pytest.raises(InputError, match="2 of the first 2 requests failed"):
        run(tmp_path / "m.csv", tmp_path / "run")
    [reading] = json.loads((tmp_path / "run" / "reading.json").read_text())
    assert (reading["used"], sum(reading["left_out"].values())) == (2, 1)
    assert reading["assumed"] == ["the campaign stopped early: what follows in the file was not read"]
    assert "the campaign stopped early" in " ".join(capsys.readouterr().out.split())


def test_a_case_of_openfoam_is_shown_before_it_is_run(
    asked: list[tuple[list[xr.Dataset], int | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulators.fluids.openfoam.simulator.version", lambda: "OpenFOAM 0")
    case = Path(shutil.copytree(CASES / "channel", tmp_path / "case"))
    for name in ("0.5/U", "1/U", "log.icoFoam", "0/T"):
        (case / name).parent.mkdir(exist_ok=True)
        shutil.copy(case / "0" / "U", case / name)
    parameters = {"viscosity": "m2 s-1", "pressure_drop": "m2 s-2", "wall_velocity": "m s-1"}
    settings = {
        "_target_": "simulators.fluids.openfoam.simulator.OpenFOAM",
        "case": {
            "_target_": "simulators.fluids.openfoam.directory.Directory",
            "path": str(case),
            "parameters": parameters,
            "commands": ["blockMesh", "icoFoam"],
            "fields": ["U"],
            "constants": {"cells": 32, "step": 0.05, "interval": 5.0, "end": 10.0},
        },
    }
    ranges = {name: {"low": 0.1, "high": 0.2} for name in parameters}
    run(case, tmp_path / "run", inputs=None, simulator=settings, sampling={"count": 1, "ranges": ranges})
    assert len(asked) == 1
    [reading] = json.loads((tmp_path / "run" / "reading.json").read_text())
    assert reading["format"] == "OpenFOAM case"
    assert reading["total"] - reading["used"] == sum(reading["left_out"].values()) == 3
    assert reading["left_out"] == {
        "results of an earlier run at times 0.5, 1": 2,
        "log.icoFoam, of an earlier run": 1,
    }
    quantities = reading["quantities"]
    assert quantities["begins from"] == "time 0"
    assert quantities["viscosity"].startswith("m2 s-1, parameter, at constant/transportProperties:")
    assert quantities["cells"] == "32 in each run, at system/blockMeshDict:25"
    assert quantities["mesh of cells"].startswith("as the mesh of each run has them")
    assert quantities["U"] == "m s-1, vector of the cells, read at the last time written"
    assert reading["unused"]["p"] == "a field in m2 s-2; simulator.case.fields takes it"
    assert "T" in reading["unused"]


def test_a_charge_and_a_spin_are_given_to_frames_that_state_none(
    asked: list[tuple[list[xr.Dataset], int | None]], tmp_path: Path
) -> None:
    path = tmp_path / "a.xyz"
    oxygen = "2\nProperties=species:S:1:pos:R:3 {}\nO 0 0 0\nO 0 0 1.2\n"
    path.write_text(oxygen.format("") + oxygen.format("spin=0") + oxygen.format("charge=-1"))
    run(path, tmp_path / "triplet", spin=2)
    assert [(int(r.charge), int(r.spin)) for r in asked[-1][0]] == [(0, 2)]
    reasons = [row["reason"] for row in csv.DictReader((tmp_path / "triplet" / "rejects.csv").open())]
    assert reasons == [
        "its spin is 0, and the command says spin=2",
        "17 electrons (charge -1) cannot have 2 unpaired",
    ]
    run(path, tmp_path / "cation", charge=1)
    assert [(int(r.charge), int(r.spin)) for r in asked[-1][0]] == [(1, 1)]
    # A singlet of an odd number of electrons is refused by name, not turned into a doublet.
    with pytest.raises(InputError, match=r"15 electrons \(charge \+1\) cannot have 0 unpaired"):
        run(path, tmp_path / "singlet", charge=1, spin=0)
