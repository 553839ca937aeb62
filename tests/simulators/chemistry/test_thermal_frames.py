"""Geometries in thermal motion have the energy of their temperature, and are the same for the same molecule."""

from __future__ import annotations

import numpy as np
import pytest
from ase.units import kB, kcal, mol
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from data.spec import SimulationError
from simulators.chemistry.thermal_frames import ThermalConfig, thermal_frames, thermal_frames_foreign


def test_the_potential_energy_is_half_kt_a_vibration() -> None:
    # Equipartition: water has three vibrations, which are nearly harmonic at 600 K.
    kelvin, count = 600.0, 300
    frames = thermal_frames("O", ThermalConfig(count, (kelvin,), 150))
    molecule = Chem.AddHs(Chem.MolFromSmiles("O"))
    rdDistGeom.EmbedMolecule(molecule, randomSeed=1)
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(molecule)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(molecule, properties)
    field.Initialize()
    field.Minimize(maxIts=500)
    lowest = field.CalcEnergy()
    energies = np.array([field.CalcEnergy(frame.positions.ravel().tolist()) - lowest for frame in frames]) * kcal / mol
    # The deviation of the mean is sqrt(3 / 2) kT / sqrt(300), 0.05 of the mean.
    assert energies.mean() == pytest.approx(1.5 * kB * kelvin, rel=0.2)


def test_one_molecule_has_the_same_frames_however_it_is_written() -> None:
    config = ThermalConfig(2, (300.0,), 5)
    first, second = thermal_frames("OCC", config), thermal_frames("C(C)O", config)
    assert [frame.positions.tolist() for frame in first] == [frame.positions.tolist() for frame in second]
    assert np.abs(first[0].positions - first[1].positions).max() > 0.01
    other = thermal_frames("CCO", ThermalConfig(2, (300.0,), 5, seed=1))
    assert np.abs(first[0].positions - other[0].positions).max() > 0.01


def test_a_molecule_without_geometries_is_answered_with_the_reason() -> None:
    good, bad, unknown = thermal_frames_foreign(["CO", "C(", "[He]"], ThermalConfig(1, (300.0,), 2))
    assert not isinstance(good, str)
    assert len(good[0].numbers) == 6
    assert isinstance(bad, str)
    assert "C(" in bad
    assert isinstance(unknown, str)
    with pytest.raises(SimulationError, match="invalid_input"):
        thermal_frames("C(", ThermalConfig())
    with pytest.raises(ValueError, match="above 0"):
        ThermalConfig(temperatures_kelvin=(0.0,))
