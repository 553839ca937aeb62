"""The lines of the guide to fluids, and those of the README for its reader, with real NGSolve and exponax."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from guide_lines import NO_STEP, GuideLine, GuideRun, guide_lines, readme_lines
from torch_dictionaries import save, saved_dict, tensor

from data.store.records import RecordStore

COARSE = ["simulator.order=2", "simulator.maxh=0.4", "simulator.body_maxh=0.06"]
#: One size smaller: the outflow has to have a vertex between its corners.
MESHED = [*COARSE[:1], "simulator.maxh=0.2", "simulator.body_maxh=0.06"]
NUMBERS = "data.parts=[4,2,9,1]"
SIZES = {
    "runs/bodies.zarr": ["sampling.count=16", *COARSE],
    "runs/drag": [NUMBERS],
    "runs/slender": ["sampling.count=200", "recheck.top=1", "recheck.random=1"],
    "runs/slender#2": ["sampling.count=200", "recheck.top=1", "recheck.random=1"],
    "runs/drag_on_coarse": [NUMBERS],
    "runs/burgers.zarr": ["sampling.count=20", "simulator.points=32", "simulator.steps=4"],
    "runs/burgers": ["data.parts=[6,2,9,3]"],
    "runs/burgers-corrected": ["data.parts=[6,2,9,3]", "model.loss.unroll=1"],
    "runs/burgers-comparison": [
        "comparison.count=2", "comparison.simulator.points=32", "comparison.simulator.steps=4",
        "comparison.reference.points=64", "comparison.finer.points=128", "comparison.rungs=[{points: 16, dt: 0.025}]",
        "comparison.batch_sizes=[1]", "comparison.repeats=1", "comparison.grids=[32]",
    ],
    "runs/pdebench": ["data.parts=[6,2,9,3]", NO_STEP],
    "runs/well": ["data.parts=[6,2,9,3]", NO_STEP],
    "runs/neuraloperator": ["data.parts=[6,2,9,3]", NO_STEP],
    "runs/flows.zarr": ["sampling.count=6", *MESHED],
    "runs/mesh": ["data.parts=[3,1,0,2]"],
    "runs/fresh.zarr": ["sampling.count=16", *MESHED],
    "runs/ladder": [*(f"rungs.ngsolve.{size.partition('.')[2]}" for size in MESHED), "risk.alpha=0.3", "drop=false"],
    "runs/mesh_on_p2": ["data.parts=[3,1,0,2]", NO_STEP],
}  # fmt: skip
#: Lines that run OpenFOAM, or read what it wrote.
WITH_OPENFOAM = ("runs/mycase.zarr", "runs/cells", "runs/finished.zarr", "runs/drop.zarr", "runs/drop", "runs/best")


def page_of(openfoam: bool) -> list[GuideLine]:
    return [line for line in guide_lines("docs/guides/cfd.md") if (line.name in WITH_OPENFOAM) is openfoam]


def write_arrays(folder: Path) -> None:
    """Files of PDEBench, The Well and neuraloperator with the same 20 waves."""
    h5py = import_module("h5py")
    x, t = np.arange(16) / 16, np.arange(4) * 0.1
    waves = np.sin(2 * np.pi * (x - t[:, None] + np.linspace(0, 1, 20)[:, None, None])).astype(np.float32)
    with h5py.File(folder / "1D_Burgers_Sols_Nu0.01.hdf5", "w") as file:
        file["tensor"], file["x-coordinate"], file["t-coordinate"] = waves, x, t
    with h5py.File(folder / "turbulence.hdf5", "w") as file:
        file.attrs.update(
            {"dataset_name": "waves", "grid_type": "cartesian", "n_spatial_dims": 1, "n_trajectories": 20}
        )
        file.attrs["simulation_parameters"] = []
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x"]
        for name, values in (("time", t), ("x", x)):
            dimensions[name] = values.astype(np.float32)
            dimensions[name].attrs["sample_varying"] = False
        wall = file.create_group("boundary_conditions/x_periodic")
        wall.attrs["bc_type"], wall.attrs["associated_dims"] = "PERIODIC", ["x"]
        wall["mask"] = np.zeros(16, bool)
        field = file.create_dataset("t0_fields/height", data=waves)
        field.attrs.update({"sample_varying": True, "time_varying": True, "dim_varying": [True]})
    storages = {key: np.ascontiguousarray(waves[:, at]).tobytes() for key, at in (("0", 0), ("1", -1))}
    tensors = {name: tensor(key, "FloatStorage", 320, 0, (20, 16), (16, 1)) for name, key in (("x", "0"), ("y", "1"))}
    save(folder / "burgers_train_16.pt", saved_dict(tensors), storages)


@pytest.mark.slow
def test_the_lines_on_fluids_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ngsolve", reason="NGSolve is not installed: the extra ngsolve")
    monkeypatch.chdir(tmp_path)
    write_arrays(tmp_path)
    # A circle and an ellipse with a wave.
    columns = ("aspect", "angle", *(f"{name}_{mode}" for name in ("cosine", "sine") for mode in (3, 4, 5)))
    pd.DataFrame([[1.0, *[0.0] * 7], [2.0, 0.3, 0.05, *[0.0] * 5]], columns=columns).to_csv("designs.csv", index=False)
    guide = GuideRun(tmp_path, SIZES)
    for line in [*readme_lines("cfd"), *page_of(openfoam=False)[2:]]:
        guide.run(line)
    assert set(guide.names) == {name for name in SIZES if name.partition("#")[0] not in WITH_OPENFOAM} | {
        "answers.nc", "answers.zarr", "flows.pvd", "waves.pvd", "solved.pvd"
    }  # fmt: skip
    assert len(pd.read_csv("runs/slender/top.csv")) == 20
    assert len(pd.read_csv("runs/slender/recheck.csv")) == 2
    for name, files in (("flows.pvd", 6), ("solved.pvd", 6), ("waves.pvd", 20 * 5)):
        assert len(list(Path(f"{name}.files").iterdir())) == files
    for name in ("burgers", "pdebench", "well", "neuraloperator", "mesh"):
        assert (Path("runs") / name / "surrogate").is_dir()
    assert Path("runs/burgers/report.html").is_file()
    assert Path("runs/ladder/cascade.json").is_file()
    assert len(RecordStore.open("answers.zarr")) == 2
