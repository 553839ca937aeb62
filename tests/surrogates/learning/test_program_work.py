"""What compiled programs do is counted as they are called: by call, by shape and by owner."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from data.spec import Spec, Variable, dataset
from experiments.answering.answer_works import surrogate_works
from surrogates.learning.program_work import CountedProgram, metered

X = Variable("x", (), "1", "float64", "a number")


class Product:
    """A part of a surrogate: one product of matrices of some size for each answer."""

    def __init__(self, size: int) -> None:
        self.matrix = np.ones((size, size), np.float32)
        self.run = CountedProgram(lambda a: a @ a)

    def predict(self) -> None:
        self.run(self.matrix)


class Two:
    """A rung of two experts: negative numbers go to the small one, others to the large one."""

    names = ("small", "large")
    spec = Spec((X,), (X,))

    def __init__(self) -> None:
        self.experts = (Product(8), Product(16))
        self.answered = dict.fromkeys(self.names, 0)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        place = int(float(inputs["x"]) >= 0)
        self.experts[place].predict()
        self.answered[self.names[place]] += 1
        return inputs


def test_operations_of_every_call_are_counted() -> None:
    one, other = Product(8), Product(16)
    one.predict()  # not in the block
    with metered() as meter:
        for _ in range(3):
            one.predict()
        other.predict()
    one.predict()
    assert meter.calls == 4
    assert meter.work().flops == 3 * 2 * 8**3 + 2 * 16**3
    assert meter.work(one).flops == 3 * 2 * 8**3
    # At least the matrix once and the result once.
    assert meter.work(other).bytes >= 2 * 4 * 16**2


def test_each_expert_of_a_mixture_states_its_own_work() -> None:
    requests = [dataset((X,), {"x": value}) for value in (-1.0, -2.0, -3.0, 4.0)]
    whole, small, large = surrogate_works(Two(), "mix", requests, 1e-3, 100)  # type: ignore[arg-type]
    assert (small.label, large.label) == ("mix: small", "mix: large")
    assert (small.operations, large.operations) == (2 * 8**3, 2 * 16**3)
    assert whole.operations == (3 * 2 * 8**3 + 2 * 16**3) / 4
    assert (small.answers, large.answers) == (75, 25)
    assert (whole.expert, small.expert) == (False, True)
    spent = [work.core_us * work.answers for work in (whole, small, large)]
    assert spent[0] == pytest.approx(spent[1] + spent[2])
    assert whole.bound in ("arithmetic", "bandwidth", "transcendentals")
