"""A potential behind a socket: i-PI's protocol, spoken by ASE's client to ASE's own driver and to i-PI itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.socketio import SocketClient, SocketIOCalculator
from small_potential import morse, potential, scattered

from data.structures.structures import Structures
from surrogates.potentials.calculator import PotentialCalculator

#: Rows are lattice vectors in the orientation that i-PI demands: an upper triangle.
SKEW = np.array([[7.0, 0.0, 0.0], [1.5, 6.5, 0.0], [-1.0, 0.8, 7.5]])
#: Eight atoms at the corners of a cube, close to the minimum of the Morse potential.
CUBE = 1.45 * np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)], float) + 2.0
NAME = f"understudy-{uuid.uuid4().hex[:8]}"

INPUT = """<simulation verbosity='low'>
  <output prefix='md'>
    <properties stride='1' filename='out'>
      [ step, conserved{{electronvolt}}, potential{{electronvolt}}, kinetic_md{{electronvolt}} ]
    </properties>
    <trajectory stride='1' filename='pos' format='xyz'> positions{{angstrom}} </trajectory>
    <trajectory stride='1' filename='for' format='xyz'> forces{{ev/ang}} </trajectory>
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>7</seed></prng>
  <ffsocket name='potential' mode='unix'>
    <address>{name}</address> <latency>0.001</latency> <timeout>60</timeout>
  </ffsocket>
  <system>
    <initialize nbeads='1'>
      <file mode='ase'> start.extxyz </file>
      <velocities mode='thermal' units='kelvin'> 400 </velocities>
    </initialize>
    <forces> <force forcefield='potential'/> </forces>
    <motion mode='dynamics'>
      <dynamics mode='nve'> <timestep units='femtosecond'> 0.5 </timestep> </dynamics>
    </motion>
  </system>
</simulation>
"""


@pytest.fixture
def sockets() -> Iterator[None]:
    """Removes what a driver that failed leaves."""
    yield
    Path(f"/tmp/ipi_{NAME}").unlink(missing_ok=True)


def connected(atoms: Atoms, calculator: PotentialCalculator) -> threading.Thread:
    """A client that answers a driver which listens already; it ends with the driver."""
    atoms.calc = calculator
    for wait in (0.1, 1.0, 5.0, 0.0):
        try:
            client = SocketClient(unixsocket=NAME, timeout=120)
            break
        except ConnectionRefusedError:
            # The file of a socket is there a moment before its driver listens.
            if not wait:
                raise
            time.sleep(wait)
    thread = threading.Thread(target=client.run, args=(atoms,), kwargs={"use_stress": bool(atoms.pbc.any())})
    thread.start()
    return thread


@pytest.mark.usefixtures("sockets")
def test_energies_forces_and_stresses_over_a_socket_are_those_of_the_potential() -> None:
    surrogate = potential(scale=20.0)
    one = scattered(1, 9, 3, fewest=9)
    atoms = Atoms(one.numbers, one.positions, cell=SKEW, pbc=True)
    directly, rng = PotentialCalculator(surrogate), np.random.default_rng(0)
    with SocketIOCalculator(unixsocket=NAME, timeout=120) as driver:
        thread = connected(atoms.copy(), PotentialCalculator(surrogate))
        for _ in range(10):
            atoms.positions += 0.02 * rng.normal(size=atoms.positions.shape)
            # Cells that change: i-PI's barostats send others at each step.
            atoms.set_cell(atoms.cell[:] * (1 + 0.002 * rng.normal()), scale_atoms=True)
            driver.calculate(atoms, ["energy", "forces", "stress"], ["positions", "cell"])
            directly.calculate(atoms, ["energy", "forces", "stress"])
            # Positions come back from Bohr with the rounding of a double, and the network computes in float32.
            assert driver.results["energy"] == pytest.approx(directly.results["energy"], rel=0, abs=1e-4)
            largest = np.abs(np.asarray(directly.results["forces"])).max()
            assert largest > 1
            assert np.abs(driver.results["forces"] - directly.results["forces"]).max() < 1e-5 * largest
            stress = np.asarray(directly.results["stress"])
            assert np.abs(driver.results["stress"] - stress).max() < 1e-5 * np.abs(stress).max()
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.usefixtures("sockets")
def test_dynamics_of_ipi_conserve_the_energy_of_the_potential(tmp_path: Path) -> None:
    program = shutil.which("i-pi", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("i-PI is not installed: the extra ipi")
    surrogate = morse()
    atoms = Atoms("C8", CUBE, cell=2 * SKEW, pbc=True)
    ase.io.write(tmp_path / "start.extxyz", atoms)
    (tmp_path / "input.xml").write_text(INPUT.format(steps=300, name=NAME))
    with (tmp_path / "log").open("w") as log:
        driver = subprocess.Popen([program, "input.xml"], cwd=tmp_path, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while not Path(f"/tmp/ipi_{NAME}").exists():
                assert driver.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            connected(atoms.copy(), PotentialCalculator(surrogate)).join(240)
            assert driver.wait(60) == 0, (tmp_path / "log").read_text()
        finally:
            driver.kill()
    _, conserved, energies, kinetic = np.loadtxt(tmp_path / "md.out").T
    positions, forces = (
        np.stack([frame.positions for frame in ase.io.read(tmp_path / f"md.{name}_0.xyz", index=":")])
        for name in ("pos", "for")
    )
    assert len(energies) == len(positions) == 301
    table = Structures.from_arrays([atoms.numbers] * 301, list(positions), lattice=[2 * SKEW] * 301)
    expected = surrogate.predict_structures(table)
    # i-PI writes positions and forces with six digits.
    assert np.abs(energies - expected.energy).max() < 1e-3
    assert np.abs(forces.reshape(-1) - expected.forces.reshape(-1)).max() < 1e-3 * np.abs(expected.forces).max()
    print(
        f"spread of the total energy {np.ptp(conserved) / 8:.2g} eV/atom, of the kinetic one {np.ptp(kinetic) / 8:.2g}"
    )
    assert np.ptp(kinetic) / 8 > 0.01
    assert np.ptp(conserved) < 0.02 * np.ptp(kinetic)
