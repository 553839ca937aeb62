"""Networks that correct the steps of a coarse solver: gradients through it, what they learn, save and refuse."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from asked_here import Here
from flax import nnx

from data.errors import CorruptStoreError, InputError
from data.fields.batches import FieldBatch
from data.fields.layout import Layout
from data.fields.samples import Fields
from data.files import write_json
from data.spec import Coordinate, Variable
from simulators.adapter import AdvancesStates
from simulators.fluids.spectral.exponax import Exponax
from simulators.fluids.spectral.resample import resample
from surrogates.fields.coarse_solver import CoarseSolver
from surrogates.fields.facts import FieldConfig
from surrogates.fields.fit import fit_field_surrogate
from surrogates.fields.loss import FieldLoss, FieldLossSettings
from surrogates.fields.networks.corrector import CorrectorConfig, fold, unfold
from surrogates.fields.scores import score_fields
from surrogates.fields.surrogate import FieldSurrogate
from surrogates.fields.task import FieldData, FieldTask
from surrogates.learning.loop import TrainConfig, _Loop
from surrogates.learning.sample_task import SampleSets
from surrogates.learning.step import count_compilations
from surrogates.saved import load_surrogate

POINTS, TIMES, SAVE_DT = 16, 5, 0.1
COARSE = Exponax("burgers", 12, save_dt=SAVE_DT, steps=TIMES - 1, dt=0.025, varied=("viscosity",))
FINE = replace(COARSE, points=32, dt=0.0125)
LINEAR = CorrectorConfig(width=8, fold=1, dilations=(), activation="identity")
SMALL = CorrectorConfig(width=8, fold=2, dilations=(1,), activation="tanh")
RECIPE = TrainConfig(epochs=2, learning_rate=1e-2, batch_size=8, ema_decay=0.9, checkpoint_every_s=None)


def layout(equation: str = "") -> Layout:
    return Layout(
        output=Variable("u", ("time", "channel", "x"), "1", "float32", "velocity"),
        initial=Variable("initial", ("channel", "x"), "1", "float32", "velocity at the start"),
        static=(),
        parameters=(Variable("viscosity", (), "1", "float64", "viscosity"),),
        axes=(
            Coordinate("time", tuple(SAVE_DT * t for t in range(TIMES)), "1", "time"),
            Coordinate("channel", ("u",), "1", "component"),
            Coordinate("x", tuple(i / POINTS for i in range(POINTS)), "1", "position"),
        ),
        periodic=(True,),
        attrs={"boundary_conditions": "periodic"} | ({"equation": equation} if equation else {}),
    )


@functools.cache
def burgers(count: int, seed: int = 0) -> Fields:
    """Trajectories of a solver with 32 points and a short step, from waves 1 to 3."""
    if count < 12:  # all are computed with one program
        return burgers(12, seed).take(np.arange(count))
    rng = np.random.default_rng(seed)
    x = np.arange(POINTS) / POINTS
    waves = np.stack([np.sin(2 * np.pi * k * x + p) for k in (1, 2, 3) for p in (0.3, 1.9)])
    initial = (rng.normal(size=(count, 6)) @ waves * 0.3).astype(np.float32)[:, None]
    viscosity = np.exp(rng.uniform(np.log(0.01), np.log(0.2), count))
    states = np.asarray(FINE.trajectories(resample(initial, 32, dim=1), {"viscosity": viscosity}))
    return Fields(
        layout(),
        np.moveaxis(np.asarray(resample(states, POINTS, dim=1)), 2, -1),
        np.zeros((count, POINTS, 0), np.float32),
        viscosity[:, None],
        "ab" * 32,
        np.full(count, 1.0),
    )


def fitted(folder: Path, *, epochs: int = 0, solver: Any = COARSE, network: Any = SMALL, **more: Any) -> FieldSurrogate:
    config = FieldConfig(constraint="mean", loss=FieldLossSettings(unroll=2), network=network, **more)
    recipe = replace(RECIPE, epochs=max(epochs, 1))
    return fit_field_surrogate(burgers(12), burgers(4, 1), config, recipe, folder, on=Here(solver), progress=False)[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> FieldSurrogate:
    return fitted(tmp_path_factory.mktemp("run"), epochs=2, corrections=2)


def without_network(surrogate: FieldSurrogate) -> FieldSurrogate:
    """The same surrogate, whose network answers zero."""
    graph, state = nnx.split(surrogate.model)
    return FieldSurrogate(nnx.merge(graph, jax.tree.map(jnp.zeros_like, state)), surrogate.facts)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_folding_moves_points_of_a_block_into_channels_and_back(dims: int) -> None:
    x = np.arange(2 * 6**dims * 3, dtype=np.float32).reshape(2, *(6,) * dims, 3)
    folded = fold(jnp.asarray(x), 2)
    assert folded.shape == (2, *(3,) * dims, 3 * 2**dims)
    corner = folded[(0, *(1,) * dims)].reshape(2**dims, 3)
    assert corner[0].tolist() == x[(0, *(2,) * dims)].tolist()
    assert corner[-1].tolist() == x[(0, *(3,) * dims)].tolist()
    np.testing.assert_array_equal(unfold(folded, 2), x)
    with pytest.raises(ValueError, match="do not fill"):
        fold(jnp.asarray(x), 4)


def _pairs(answer: np.ndarray, truth: np.ndarray) -> Any:
    """Each sample of two sets of trajectories, without the first time."""
    return zip(answer[:, 1:], truth[:, 1:], strict=True)


def test_without_its_network_it_is_the_coarse_solver(trained: FieldSurrogate) -> None:
    """With a viscosity of each sample, however often the network would correct, and on a grid that it has not seen."""
    bare, samples = without_network(trained), burgers(3, 2)
    for points in (POINTS, 20):
        initial = np.asarray(resample(np.moveaxis(samples.states[:, 0], -1, 1), points, dim=1))
        alone = COARSE.trajectories(resample(initial, 12, dim=1), {"viscosity": samples.parameters[:, 0]})
        expected = np.moveaxis(np.asarray(resample(alone, points, dim=1)), 2, -1)
        static = np.zeros((3, points, 0), np.float32)
        answer = bare.predict_arrays(np.moveaxis(initial, 1, -1), static, samples.parameters).mean
        np.testing.assert_allclose(answer[:, 1:], expected[:, 1:], atol=2e-6)
        if points == POINTS:
            error = np.mean([np.linalg.norm(a - t) / np.linalg.norm(t) for a, t in _pairs(expected, samples.states)])
            scores = score_fields(trained, samples, "test")
            assert scores["test/solver_alone/relative_l2"] == pytest.approx(error, rel=1e-4)
            assert scores["test/relative_l2"] != scores["test/solver_alone/relative_l2"]
    assert np.abs(trained.predict_fields(samples).mean - bare.predict_fields(samples).mean).max() > 1e-3


def test_the_gradient_of_the_loss_goes_through_the_solver(trained: FieldSurrogate) -> None:
    """Along random directions of the weights it is the difference of the losses; cut between steps it is not."""
    units, samples = trained.facts.units, burgers(4, 3)
    assert units is not None
    inner = units.apply(samples)
    batch = FieldBatch(inner.states[:, :4], inner.static, inner.parameters, np.ones(4, np.float32))
    graph, weights = nnx.split(trained.model)

    def gradient(**settings: Any) -> tuple[Any, Any]:
        loss = FieldLoss(FieldLossSettings(unroll=3, **settings), (1.0,), (True,))

        def value(weights: Any) -> Any:
            return loss(nnx.merge(graph, weights), batch, jax.random.key(0), jnp.ones(()))[0]

        return jax.jit(value), jax.jit(jax.grad(value))(weights)

    value, through = gradient()
    _, cut = gradient(cut_gradient=True)
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda w: jnp.asarray(rng.normal(size=w.shape), w.dtype), weights)
    at = [float(value(jax.tree.map(lambda w, d, s=s: w + s * d, weights, direction))) for s in (-2e-3, 2e-3)]
    along = [
        sum(jax.tree.leaves(jax.tree.map(lambda g, d: float((g * d).sum()), g, direction))) for g in (through, cut)
    ]
    difference = (at[1] - at[0]) / 4e-3
    assert along[0] == pytest.approx(difference, rel=2e-2)
    assert abs(along[1] - difference) > 0.05 * abs(difference)


def test_it_learns_the_exact_correction_of_a_linear_equation(tmp_path: Path) -> None:
    """The solver has other coefficients than the truth, so that a filter of a few points is the exact correction."""
    speed, decay, count = 1.0, 0.02, 24
    rng = np.random.default_rng(0)
    x, t = np.arange(POINTS) / POINTS, SAVE_DT * np.arange(TIMES)
    u = np.zeros((count, TIMES, POINTS))
    for k in (1, 2):
        size, phase = rng.uniform(0.5, 1.5, (count, 1, 1)), rng.uniform(0, 2 * np.pi, (count, 1, 1))
        angle = 2 * np.pi * k * (x - speed * t[:, None]) + phase
        u += size * np.exp(-decay * (2 * np.pi * k) ** 2 * t)[:, None] * np.sin(angle)
    samples = replace(
        burgers(1),
        layout=replace(layout(), parameters=()),
        states=u[..., None].astype(np.float32),
        static=np.zeros((count, POINTS, 0), np.float32),
        parameters=np.zeros((count, 0)),
        seconds=np.full(count, 1.0),
    )
    rough = {"velocity_x": 0.7, "diffusivity": 0.03}
    solver = Exponax("advection_diffusion", 8, save_dt=SAVE_DT, steps=TIMES - 1, parameters=rough)
    config = FieldConfig(loss=FieldLossSettings(unroll=2), network=LINEAR)
    recipe = TrainConfig(epochs=60, learning_rate=3e-2, batch_size=24, checkpoint_every_s=None)
    surrogate, _ = fit_field_surrogate(
        samples.take(np.arange(16)), None, config, recipe, tmp_path, on=Here(solver), progress=False
    )
    new = samples.take(np.arange(16, count))
    size = np.linalg.norm(new.states[:, 1:])
    error = np.linalg.norm(surrogate.predict_fields(new).mean - new.states) / size
    alone = np.linalg.norm(without_network(surrogate).predict_fields(new).mean - new.states) / size
    assert alone > 0.3
    assert error < 0.01


def test_the_correction_keeps_the_mean(trained: FieldSurrogate) -> None:
    samples = burgers(3, 4)
    samples = replace(samples, states=samples.states + np.float32(0.1))
    means = trained.predict_fields(samples).mean.mean(axis=2)
    np.testing.assert_allclose(means, np.broadcast_to(means[:, :1], means.shape), atol=1e-6)


def test_saved_and_loaded_it_is_equal_and_says_what_it_corrects(trained: FieldSurrogate, tmp_path: Path) -> None:
    trained.save(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    samples = burgers(3, 5)
    np.testing.assert_array_equal(again.predict_fields(samples).mean, trained.predict_fields(samples).mean)
    assert again.fingerprint == trained.fingerprint
    assert again.stands_on == {"on": COARSE.name, "on_fingerprint": COARSE.fingerprint}
    assert again.stands_on.items() <= again.spec.attrs.items()
    other = CoarseSolver.of(replace(COARSE, dt=0.0125), trained.facts.layout)
    assert trained.with_facts(solver=other).fingerprint != trained.fingerprint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"simulator": "os:system"}, "cannot be rebuilt from its name"),
        ({"fingerprint": "0" * 64}, "is of exponax:burgers-1d by exponax"),
        ({"settings": {"colour": "red"}}, "are not those of the installed version"),
    ],
)
def test_a_card_with_another_solver_is_refused(
    trained: FieldSurrogate, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    trained.save(tmp_path)
    card = json.loads((tmp_path / "surrogate.json").read_text())
    card["facts"]["solver"]["simulator"] |= changes
    write_json(tmp_path / "surrogate.json", card)
    with pytest.raises((CorruptStoreError, InputError), match=words):
        load_surrogate(tmp_path)


def test_a_stopped_training_resumes_to_the_same_weights(trained: FieldSurrogate, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    calls = 0
    recipe = replace(RECIPE, epochs=2, checkpoint_every_s=0.0)
    config = trained.facts.config
    parts = burgers(12), burgers(4, 1)

    def run() -> FieldSurrogate:
        return fit_field_surrogate(*parts, config, recipe, tmp_path, on=Here(COARSE), progress=False)[0]

    end_epoch = _Loop.end_epoch

    def stopped(loop: Any, *values: Any, **more: Any) -> None:
        nonlocal calls
        end_epoch(loop, *values, **more)
        calls += 1
        if calls == 1:
            raise StopError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Loop, "end_epoch", stopped)
        with pytest.raises(StopError):
            run()
    resumed = run()
    assert calls == 1
    for mine, theirs in zip(*(jax.tree.leaves(s.arrays()) for s in (resumed, trained)), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_answers_of_any_samples_are_compiled_once(trained: FieldSurrogate) -> None:
    surrogate = FieldSurrogate(trained.model, trained.facts)
    for seed in (6, 7):
        surrogate.predict_fields(burgers(4, seed))
    (program,) = surrogate._compiled.values()
    assert count_compilations(program) == 1


@pytest.mark.parametrize(
    ("solver", "words"),
    [
        (replace(COARSE, varied=()), "the parameters of exponax:burgers-1d: none; of the samples: viscosity"),
        (replace(COARSE, save_dt=0.2), "its time step is 0.2, 0.1 has been learned"),
        (replace(COARSE, length=2.0), "its length along x is 2, 1 has been learned"),
        (replace(COARSE, dim=2), "the number of components"),
        (replace(COARSE, dt=0.1), "1 time steps between saved states cannot be divided into 2 equal parts"),
        (replace(COARSE, dtype="float64"), "float64 needs JAX in that precision"),
        (replace(COARSE, equation="diffusion", varied=("diffusivity",)), "diffusivity; of the samples: viscosity"),
    ],
)
def test_a_solver_of_another_question_is_refused(tmp_path: Path, solver: Exponax, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fitted(tmp_path, solver=solver, corrections=2)


def test_a_solver_of_another_equation_or_without_an_ability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the equation of exponax:burgers-1d: u_t .* of the samples: u_t = 0"):
        CoarseSolver.of(COARSE, layout("u_t = 0"))
    with pytest.raises(InputError, match="steps states of trajectories on a cubic grid"):
        CoarseSolver.of(COARSE, replace(layout(), static=(Variable("f", ("x",), "1", "float32", "load"),)))
    assert isinstance(COARSE, AdvancesStates)
    config = FieldConfig(corrections=2, network=SMALL)
    with pytest.raises(InputError, match="corrections need a solver"):
        fit_field_surrogate(burgers(4), None, config, RECIPE, tmp_path, progress=False)


def test_a_solver_that_blows_up_is_refused_before_training(tmp_path: Path) -> None:
    samples = burgers(4)
    loud = replace(samples, states=samples.states * np.float32(1e12))
    with pytest.raises(InputError, match="blows up within a step"):
        fit_field_surrogate(loud, None, FieldConfig(network=SMALL), RECIPE, tmp_path, on=Here(COARSE), progress=False)


def test_a_task_stands_on_a_solver_and_a_resumed_run_needs_the_same(tmp_path: Path) -> None:
    def task(solver: Exponax) -> FieldTask:
        return FieldTask(FieldData(file="x", parts=[8, 2, 0, 2]), FieldConfig(network=SMALL), RECIPE, on=Here(solver))

    one = task(COARSE)
    parts = one.split(SampleSets(burgers(12), {}), tmp_path, progress=False)
    assert parts.whole.samples.cheaper is None
    assert one.identity(parts)["network"] != task(replace(COARSE, dt=0.05)).identity(parts)["network"]
