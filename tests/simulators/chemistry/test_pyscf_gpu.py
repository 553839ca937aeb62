"""Where each part of a calculation runs with `device=gpu`, on a stand-in for gpu4pyscf."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from small_molecules import WATER, bent, run, stretched

from data.spec import SimulationError
from simulators.chemistry.pyscf import PySCF
from simulators.chemistry.pyscf_properties import polarizability


class OnGPU:
    """Stands in for gpu4pyscf: PySCF's own fields, which say where they are asked for what."""

    log: list[tuple[str, str]]

    def kernel(self, *arguments: Any, **keywords: Any) -> Any:
        self.log.append(("field", "gpu"))
        return super().kernel(*arguments, **keywords)  # type: ignore[misc]

    def nuc_grad_method(self) -> Any:
        self.log.append(("gradient", "gpu"))
        return super().nuc_grad_method()  # type: ignore[misc]

    def to_cpu(self) -> Any:
        from pyscf import lib

        self.log.append(("moved", "cpu"))
        return lib.view(self, lib.drop_class(type(self), OnGPU))


@pytest.fixture
def gpu_log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    from pyscf import dft, lib, scf

    log: list[tuple[str, str]] = []

    def to_gpu(mf: Any) -> Any:
        field = lib.set_class(mf, (OnGPU, type(mf)))
        field.log = log
        return field

    monkeypatch.setattr("simulators.chemistry.pyscf.find_spec", lambda name: name)
    for kind in (scf.hf.RHF, dft.rks.RKS):
        monkeypatch.setattr(kind, "to_gpu", to_gpu)
        plain = kind.nuc_grad_method

        def watched(self: Any, plain: Any = plain) -> Any:
            if not isinstance(self, OnGPU):
                log.append(("gradient", "cpu"))
            return plain(self)

        monkeypatch.setattr(kind, "nuc_grad_method", watched)
    return log


@pytest.mark.parametrize("method", ["hf", "pbe"])
def test_what_takes_long_is_done_on_the_gpu(method: str, gpu_log: list[tuple[str, str]]) -> None:
    outputs = ("energy", "gap", "dipole", "forces", "polarizability", "mulliken_charges")
    settings = {"method": method, "outputs": outputs, "grid": 1, "keep_orbitals": False}
    answer = run(WATER, device="gpu", **settings)
    # One field, its gradient, and a field for each side of each axis; then the CPU.
    assert gpu_log == [("field", "gpu"), ("gradient", "gpu"), *[("field", "gpu")] * 6, ("moved", "cpu")]
    for name, values in run(WATER, **settings).items():
        assert answer[name].values == pytest.approx(values.values, abs=1e-8), name


def test_a_relaxation_stays_on_the_gpu(gpu_log: list[tuple[str, str]]) -> None:
    answer = run(stretched(0.8), device="gpu", method="pbe", grid=1, optimize=True, outputs=("energy",))
    steps = json.loads(answer.attrs["log"])["relaxation_steps"]
    assert steps > 2
    assert gpu_log == [("field", "gpu"), ("gradient", "gpu")] * steps + [("field", "gpu"), ("moved", "cpu")]


def test_correlation_is_done_on_the_cpu_from_a_field_of_the_gpu(gpu_log: list[tuple[str, str]]) -> None:
    answer = run(bent(), device="gpu", method="mp2", outputs=("energy", "forces", "dipole"))
    # The gradient of MP2 has that of the field in it, which is done where the rest is.
    assert gpu_log == [("field", "gpu"), ("moved", "cpu"), *[("gradient", "cpu")] * 2]
    assert float(answer.energy) == pytest.approx(float(run(bent(), method="mp2", outputs=("energy",)).energy), abs=1e-8)


def test_a_matrix_of_a_gpu_is_read_into_memory_and_a_field_is_handed_back_where_it_lies() -> None:
    class Distant:
        """An array that, like CuPy's, NumPy cannot read unasked."""

        def __init__(self, values: Any) -> None:
            self.values = np.asarray(values)

        def get(self) -> np.ndarray:
            return self.values

        def __array__(self, *arguments: Any, **keywords: Any) -> np.ndarray:
            raise TypeError("an implicit copy off the device")

        def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Distant:
            assert function is np.asarray
            return Distant(*arguments)

    class Field:
        """Feels a field as PySCF does, on a device."""

        converged = True

        def __init__(self, mf: Any) -> None:
            self.mf, self.mol = mf, mf.mol

        def copy(self) -> Field:
            return Field(self.mf.copy())

        def get_hcore(self) -> Distant:
            return Distant(self.mf.get_hcore())

        def make_rdm1(self) -> Distant:
            return Distant(self.mf.make_rdm1())

    def rerun(field: Field) -> Field:
        dressed = field.get_hcore()
        assert isinstance(dressed, Distant)
        field.mf.get_hcore = lambda *_: dressed.get()
        field.mf.kernel()
        return field

    from pyscf import scf

    mf = scf.RHF(PySCF(basis="6-31g")._molecule(WATER)).run(conv_tol=1e-11)
    tensor = polarizability(Field(mf), rerun)
    assert tensor == pytest.approx(
        run(WATER, basis="6-31g", outputs=("polarizability",)).polarizability.values, abs=2e-4
    )


def test_a_gpu_that_is_not_there_names_its_command() -> None:
    with pytest.raises(SimulationError, match=r"pip install .*\[gpu\]") as caught:
        run(WATER, device="gpu")
    assert caught.value.kind == "missing_component"
