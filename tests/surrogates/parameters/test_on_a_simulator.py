"""Surrogates of numbers that stand on a cheaper simulator or surrogate: what they learn, ask, save and refuse."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr
from asked_here import Here

from data.errors import InputError
from data.parameters import ParameterLayout, ParameterTable
from data.rejects import RejectLog
from data.spec import SimulationError, Spec, Variable, content_hash, dataset
from experiments.screening.designs import designs_in
from experiments.screening.library_screen import ScreenConfig, screen_library
from experiments.screening.objective import Objective
from surrogates.learning.loop import TrainConfig
from surrogates.learning.sample_task import SampleSets
from surrogates.parameters.cheaper_answers import with_own_answers
from surrogates.parameters.network import ParameterConfig
from surrogates.parameters.scores import score_parameters
from surrogates.parameters.surrogate import ParameterSurrogate
from surrogates.parameters.task import ParameterData, ParameterTask
from surrogates.saved import load_surrogate

INPUTS = tuple(Variable(name, (), unit, "float64", name) for name, unit in (("a", "m"), ("b", "1")))
LAYOUT = ParameterLayout(INPUTS, (Variable("force", (), "N", "float64", "force"),), (), {})
RIPPLE = Variable("ripple", (), "N", "float64", "what a few samples do not show")


@dataclass(frozen=True)
class Cheap:
    """A simulator that knows the ripple, in another scale, and fails for large b."""

    scale: float = 2.0
    fails_above: float = 9.0
    units: str = "m"
    name = "cheap"

    @cached_property
    def spec(self) -> Spec:
        return Spec((Variable("a", (), self.units, "float64", "a"), INPUTS[1]), (RIPPLE,))

    @property
    def provenance(self) -> dict[str, Any]:
        return {"simulator": self.name, "version": "1", "settings": {"scale": self.scale}}

    @property
    def fingerprint(self) -> str:
        return content_hash(self.provenance)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        if float(inputs["b"]) > self.fails_above:
            raise SimulationError("not_converged", "b is too large")
        return dataset((RIPPLE,), {"ripple": self.scale * np.sin(40.0 * float(inputs["a"])) + 1.0})


def table(count: int, seed: int = 0) -> ParameterTable:
    values = np.random.default_rng(seed).uniform(0.0, 1.0, (count, 2))
    a, b = values.T
    labels = 5.0 * np.sin(40.0 * a) + 2.0 * a * b
    return ParameterTable(LAYOUT, values, labels[:, None], "ab" * 32, np.full(count, 0.5), {})


def task(on: Any, epochs: int = 60) -> ParameterTask:
    recipe = TrainConfig(epochs=epochs, learning_rate=5e-3, batch_size=32, ema_decay=0.9, checkpoint_every_s=None)
    data = ParameterData(target=["force"], parts=[0.6, 0.0, 0.2, 0.2])
    return ParameterTask(data, ParameterConfig(ensemble=1, width=16, layers=1), recipe, on=on)


def trained(folder: Path, on: Any, epochs: int = 60) -> tuple[ParameterSurrogate, dict[str, float]]:
    one = task(on, epochs)
    parts = one.split(SampleSets(table(120), {}), folder, progress=False)
    surrogate, result = one.fit(parts, folder, progress=False)
    surrogate = one.calibrate(surrogate, parts)
    return surrogate, one.costs(parts, result) | one.score(surrogate, parts)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> tuple[ParameterSurrogate, dict[str, float]]:
    return trained(tmp_path_factory.mktemp("on"), Here(Cheap(fails_above=0.95)))


def test_it_learns_what_is_wrong_with_the_cheaper_answer(
    standing: tuple[ParameterSurrogate, dict[str, float]],
) -> None:
    surrogate, metrics = standing
    new = table(50, seed=1)
    new = new.take(np.flatnonzero(new.values[:, 1] <= 0.95))
    answer = surrogate.predict_table(new.values)
    error = np.abs(answer["force"] - new.labels[:, 0])
    # The product has a standard deviation of 0.4 about the line through the ripple; the ripple itself one of 3.5.
    assert error.mean() < 0.2
    assert ((answer["force_low"] <= new.labels[:, 0]) & (new.labels[:, 0] <= answer["force_high"])).mean() > 0.7
    failing = float((table(120).values[:, 1] > 0.95).sum())
    assert metrics["on/failed"] == failing > 0
    assert metrics["on/requests"] == 120
    assert metrics["on/core_seconds"] > 0
    assert metrics["train/samples"] + failing < 120
    request = surrogate.spec.request({"a": 0.3, "b": 0.5})
    cheaper = surrogate.ask_rung(np.array([[0.3, 0.5]])).values
    alone = surrogate.predict_table(np.array([[0.3, 0.5]]), cheaper)["force"][0]
    assert float(surrogate.simulate(request)["force"]) == pytest.approx(alone, abs=1e-6)
    with pytest.raises(SimulationError, match="cheap, row 0: b is too large"):
        surrogate.simulate(surrogate.spec.request({"a": 0.3, "b": 0.99}))


@pytest.mark.filterwarnings("ignore::surrogates.learning.box.OutOfDomainWarning")
def test_spec_and_fingerprint_say_what_it_stands_on(
    standing: tuple[ParameterSurrogate, dict[str, float]], tmp_path: Path
) -> None:
    surrogate, _ = standing
    assert surrogate.spec.attrs["on"] == "cheap"
    assert surrogate.spec.attrs["on_fingerprint"] == Cheap().fingerprint
    with pytest.raises(InputError, match="stands on cheap, not on this cheap"):
        surrogate.with_rung(Cheap(scale=3.0))
    surrogate.save(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    assert again.fingerprint == surrogate.fingerprint
    request = surrogate.spec.request({"a": 0.3, "b": 0.5})
    answers = [float(s.with_rung(Cheap()).simulate(request)["force"]) for s in (again, surrogate)]  # type: ignore[attr-defined]
    assert answers[0] == answers[1]
    # One that stands on a surrogate is saved with it.
    above, _ = trained(tmp_path / "above", Here(again.with_rung(Cheap(fails_above=1.0))), epochs=1)  # type: ignore[attr-defined]
    above.save(tmp_path / "t")
    nested = load_surrogate(tmp_path / "t")
    assert nested.spec.attrs["on_fingerprint"] == surrogate.fingerprint
    assert (tmp_path / "t" / "on").is_dir()


def test_a_screen_of_designs_asks_the_simulator_and_lists_what_it_does_not_answer(
    standing: tuple[ParameterSurrogate, dict[str, float]], tmp_path: Path
) -> None:
    (tmp_path / "designs.csv").write_text("a,b\n0.1,0.2\n0.3,0.97\n0.5,0.6\nx,1\n")
    library = designs_in(tmp_path / "designs.csv", ("a", "b"), ("m", "1"))
    config = ScreenConfig(workers=1, objective=Objective(maximize="force"), distinct=False)
    summary = screen_library(standing[0], library, tmp_path / "out", config, progress=False)
    assert (summary.read, summary.valid) == (4, 2)
    rejects = (tmp_path / "out" / "rejects.csv").read_text()
    assert '3,"0.3,0.97",cheap: not_converged: b is too large' in rejects
    (part,) = (tmp_path / "out" / "results").glob("*.parquet")
    results = pq.read_table(part).to_pydict()
    assert results["line"] == [2, 4]
    expected = standing[0].predict_table(np.array([[0.1, 0.2], [0.5, 0.6]]))["force"]
    np.testing.assert_allclose(results["prediction"], expected, rtol=1e-5)


def test_a_test_leaves_out_what_the_simulator_does_not_answer(
    standing: tuple[ParameterSurrogate, dict[str, float]], tmp_path: Path
) -> None:
    new = table(40, seed=2)
    with RejectLog(tmp_path / "rejects.csv") as rejects:
        some = with_own_answers(standing[0], new, Path("new.zarr"), rejects)
    failing = np.flatnonzero(new.values[:, 1] > 0.95)
    assert len(failing)
    np.testing.assert_array_equal(some.values, np.delete(new.values, failing, axis=0))
    assert some.cheaper_costs["on/failed"] == len(failing)
    assert score_parameters(standing[0], some, "test")["test/mae"] < 0.2
    assert (tmp_path / "rejects.csv").read_text().count("b is too large") == len(failing)


def test_a_simulator_of_other_inputs_or_without_an_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cheap takes a in mm, and the data has it in m"):
        trained(tmp_path, Here(Cheap(units="mm")))
    with pytest.raises(InputError, match="cheap answers for none of 120 samples: not_converged: b is too large"):
        trained(tmp_path, Here(Cheap(fails_above=-1.0)))
