"""The lines of the guide to potentials, on water and other triatomic molecules, with real xTB and PySCF."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import kcal, mol
from guide_lines import NO_STEP, GuideRun, guide_lines
from teachers import has_environment

from data.store.records import RecordStore

#: PySCF in a minimal basis.
MINIMAL = ["simulator.basis=sto-3g", "simulator.method=hf"]
#: Trainings that differ in their labels alone compile nothing new: they have the same sizes, and read programs that the
#: first of them compiled.
NETWORK = ["model.network.features=8", "model.network.layers=1"]
SMALLEST = ["model.network.degree=1", "model.network.hidden_degree=0", "model.network.radial_hidden=8"]
SIZES = {
    "runs/md17": [NO_STEP],
    "runs/weighted": [NO_STEP],
    "runs/tuned": [NO_STEP],
    "runs/difference": [NO_STEP],
    # The shipped potential is trained further by a test of its own.
    "runs/few": [NO_STEP, "tune.surrogate=runs/weighted"],
    "runs/from_body": [NO_STEP],
    "runs/ace": ["data.calibration=0.3", *SMALLEST],
    "labels.zarr": MINIMAL,
    "runs/from_dft": [NO_STEP, "data.valid=0.4"],
    "triplets.zarr": MINIMAL,
    "fresh.zarr": MINIMAL,
    "runs/ladder": [
        "risk.alpha=0.5", "campaign.workers=1", "rungs.pyscf_forces.basis=sto-3g", "rungs.pyscf_forces.method=hf",
        "drop=false",
    ],
    "runs/two": ["old.test=[b.xyz]", "data.calibration=0.3", NO_STEP, "train.mlflow=false"],
    "runs/three": [
        "data.calibration=0.3", NO_STEP, "train.mlflow=false", *NETWORK, *SMALLEST, "model.buckets=1",
        "model.committee=0",
    ],
    "runs/one": [NO_STEP, "train.mlflow=false", "copies=0"],
    "runs/ethanol": [
        "start=O", *MINIMAL, *NETWORK, "model.buckets=1", "model.ensemble=2", "initial.count=4", "explore.walkers=2",
        "explore.steps=4", "explore.record_every=2", "choose.batch=1", "choose.audit=1", "stop.labels=5",
        "stop.rounds=1", "first.epochs=1", "again.epochs=1", "first.mlflow=false", "again.mlflow=false",
    ],
    "teacher.zarr": ["inputs=fresh.extxyz"],
    "runs/student": [NO_STEP, "data.valid=0.1", "data.calibration=0.75"],
    "runs/ace-stablehlo": ["sizes=[3]", "batch=1"],
}  # fmt: skip
WATER = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.0, -0.76, -0.47]])


def molecules(symbols: str, count: int, seed: int) -> list[Atoms]:
    """Shaken molecules of three atoms, whose pairs are springs of 5 eV/Angstrom^2 with a length of 1 Angstrom."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        x = WATER * 1.2 + 0.05 * rng.normal(size=(3, 3))
        apart = x[:, None] - x
        length = np.linalg.norm(apart, axis=-1) + np.eye(3)
        energy = float(1.25 * np.sum((length - 1) ** 2))
        forces = -5.0 * np.sum(((length - 1) / length)[..., None] * apart, axis=1)
        atoms = Atoms(symbols, x)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    return frames


def write_files(folder: Path) -> None:
    """The files that the lines read."""
    for seed, (name, symbols, count) in enumerate(
        (("a.xyz", "OH2", 36), ("b.xyz", "OH2", 4), ("ccsd.xyz", "OH2", 20), ("aspirin.xyz", "SH2", 36),
         ("aspirin_test.xyz", "SH2", 12), ("third.xyz", "FOF", 36), ("third_test.xyz", "FOF", 12))
    ):  # fmt: skip
        frames = molecules(symbols, count, seed)
        for i, atoms in enumerate(frames):
            atoms.info["config_type"] = "slab" if i % 2 else "gas"
        ase.io.write(folder / name, frames, format="extxyz")
    for seed, (name, count) in enumerate((("frames.extxyz", 5), ("fresh.extxyz", 12))):
        bare = [
            Atoms(atoms.get_chemical_symbols(), atoms.positions / 1.2) for atoms in molecules("OH2", count, 50 + seed)
        ]
        ase.io.write(folder / name, bare, format="extxyz")
    ase.io.write(folder / "oxygen.extxyz", Atoms("O2", [[0, 0, 0], [0, 0, 1.2]]), format="extxyz")
    ase.io.write(folder / "crystals.extxyz", Atoms("He", [[0, 0, 0]], cell=[4.0] * 3, pbc=True), format="extxyz")
    md17 = molecules("OH2", 36, 9)
    np.savez(
        folder / "md17_ethanol.npz", R=[a.positions for a in md17], z=md17[0].numbers,
        E=[[a.get_potential_energy() / (kcal / mol)] for a in md17], F=[a.get_forces() / (kcal / mol) for a in md17],
    )  # fmt: skip


@pytest.mark.slow
def test_the_lines_on_potentials_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)

    def copied(name: str) -> None:
        """A potential of another line stands for one that the guide trained elsewhere."""
        shutil.copytree("runs/weighted", name)

    before = {
        "runs/ladder": lambda: copied("runs/painn"),
        "runs/from_body": lambda: copied("runs/body"),
        "runs/two": lambda: copied("runs/ethanol"),
    }
    # GFN2-xTB stands for the pre-trained model where that is not installed; its own tests run it.
    teacher = () if has_environment("so3krates_torch") else ("simulator=xtb",)
    sizes = {**SIZES, "teacher.zarr": [*SIZES["teacher.zarr"], *teacher]}
    # The scores of one are asserted, and another is a rung of a ladder, which needs intervals.
    guide = GuideRun(tmp_path, sizes, before, scored=frozenset({"runs/md17", "runs/weighted"}))
    for line in guide_lines("docs/guides/potentials.md"):
        guide.run(line)
    assert set(SIZES) <= set(guide.names)
    # Labels in kcal/mol are those in eV of the same springs, which are below 1 eV.
    metrics = json.loads(Path("runs/md17/metrics.json").read_text())
    assert 0 < metrics["valid/forces_mae_mev_per_angstrom"] < 5000
    answers = ase.io.read("answers.extxyz", ":")
    assert all(np.isfinite(atoms.get_forces()).all() for atoms in answers)
    labels = ase.io.read("labels.extxyz", ":")
    assert len(labels) == len(answers) == 5
    # Where the last rung answers, the ladder's energies are those that PySCF gave to the same frames.
    ladder, simulated = RecordStore.open(Path("answers.zarr")), RecordStore.open(Path("labels.zarr"))
    last = np.asarray(ladder.column("rung")) == 2
    assert last.any()
    np.testing.assert_allclose(
        np.asarray(ladder.column("energy"))[last], np.asarray(simulated.column("energy"))[last], atol=1e-6
    )
