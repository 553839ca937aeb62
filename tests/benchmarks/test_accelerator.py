"""The run for an accelerator, on the CPU with small networks: its molecules, its checks, and that checks can fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from rdkit import Chem

from benchmarks.accelerator.__main__ import main
from benchmarks.accelerator.cases import enumerated_molecules, potential
from benchmarks.accelerator.checks import ROUNDING, precisions, symmetries
from benchmarks.accelerator.whole import water


def test_the_enumerated_molecules_are_valid_and_different() -> None:
    names = enumerated_molecules(2_000)
    assert len(names) == len(set(names)) == 2_000
    assert all(Chem.MolFromSmiles(name) is not None for name in names[::7])
    assert all(Chem.MolFromSmiles(name) is not None for name in enumerated_molecules(300_000)[::997])


def test_the_water_has_the_density_of_water() -> None:
    oxygen = water(3_000).positions[::3]
    middle = np.abs(oxygen - oxygen.mean(axis=0)).max(axis=1) < 12.4
    # A molecule of liquid water takes 29.9 cubic Angstrom.
    assert middle.sum() * 29.9 == pytest.approx(24.8**3, rel=0.05)


def test_the_run_checks_and_writes_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main(["--cases", "fno", "--parts", "checks", "training", "--small", "--out", str(tmp_path)])
    rows = {row["name"]: row for row in json.loads((tmp_path / "accelerator.json").read_text())}
    assert rows["operator fno 32 x 32: difference of shifted fields, shifted back"]["value"] < 1e-4
    assert rows["operator fno 32 x 32: training steps, bfloat16, batch of 8"]["value"] > 0
    assert 0 < rows["operator fno 32 x 32: difference from float32, bfloat16"]["value"] < 0.1
    monkeypatch.setattr("benchmarks.accelerator.checks.shift_difference", lambda case: 0.01)
    with pytest.raises(AssertionError, match="of shifted fields, shifted back"):
        main(["--cases", "fno", "--parts", "checks", "--small", "--out", str(tmp_path)])
    main(["--cases", "fno", "--parts", "checks", "--small", "--minutes", "-1", "--out", str(tmp_path)])
    last = json.loads((tmp_path / "accelerator.json").read_text())
    assert any("did not allow: checks of operator fno" in row["name"] for row in last)


def test_a_network_without_the_symmetry_fails_its_check() -> None:
    sound = potential("painn", (2,), features=8, layers=1)

    def lopsided(model, batch):  # type: ignore[no-untyped-def]
        energies, forces = sound.ask(model, batch)
        return energies, forces + jax.numpy.asarray([0.1, 0.0, 0.0])

    name = "of turned molecules, turned back"
    assert symmetries(sound)[name] < ROUNDING < symmetries(replace(sound, ask=lopsided))[name]
    errors = {row.name.rpartition(", ")[2]: row.value for row in precisions(sound, sound.inputs(2), None)}
    assert errors["float32"] < 1e-5 < errors["bfloat16"] < 0.1
