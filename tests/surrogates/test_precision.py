"""Every product of every network has a stated precision, and a lower one reaches only products that mix channels."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data.meshes.graphs import pad as pad_meshes
from data.molecules.featurise import encode
from data.molecules.graphs import GraphSize
from data.molecules.graphs import pad as pad_graphs
from data.plain import from_plain, to_plain
from data.sphere.weather_layout import WeatherGrid
from data.structures.batches import Shape
from data.structures.batches import pad as pad_structures
from simulators.precision import jit_float32
from surrogates.fields.networks.architectures import ARCHITECTURES as OPERATORS
from surrogates.fields.networks.architectures import FieldShape
from surrogates.forecasts.networks.architectures import ARCHITECTURES as FORECASTERS
from surrogates.forecasts.networks.layers import SphereShape
from surrogates.learning.nn.precision import PRECISIONS
from surrogates.meshes.network import MeshNetwork, MeshNetworkConfig
from surrogates.parameters.network import ParameterConfig, Perceptron
from surrogates.potentials.energy import EnergyModel, evaluate
from surrogates.properties.mpnn import MPNN, MPNNConfig, read
from tests.helpers.small_meshes import channel
from tests.helpers.small_potential import SMALL as POTENTIALS
from tests.helpers.small_potential import scattered

EXACT, LOWER = jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGH
FOLDERS = [Path(__file__).parents[2] / name for name in ("simulators", "surrogates", "experiments")]
CONFIGS: dict[str, Any] = {
    **{f"potentials {name}": config for name, config in POTENTIALS.items()},
    "properties": MPNNConfig(features=8, layers=1, readout=8),
    "parameters": ParameterConfig(ensemble=1, width=8, layers=2),
    "meshes": MeshNetworkConfig(8, 1, 1),
    **{f"fields {name}": settings() for name, settings in OPERATORS.kinds.items()},
    **{f"forecasts {name}": settings(width=8, blocks=1) for name, settings in FORECASTERS.kinds.items()},
}


def call(network: Any, *inputs: Any) -> Any:
    return network(*inputs)


def case(name: str, precision: str) -> tuple[Callable[[], nnx.Module], Any, tuple[Any, ...]]:
    """What makes a network with fresh weights, a function of it and its inputs, and the inputs."""
    config = replace(CONFIGS[name], precision=precision)
    kind = name.partition(" ")[0]
    if kind == "potentials":
        batch = pad_structures(scattered(2, 5), np.arange(2), Shape(2, 8, None), 3.0)
        return lambda: EnergyModel(config, 1, 1.0, [{1: -1.0, 6: -2.0, 8: -3.0}], nnx.Rngs(0)), evaluate, (batch,)
    if kind == "properties":
        inputs = read(pad_graphs(encode(["CCO", "c1ccccc1"])[0], np.arange(2), GraphSize(8, 8), 2))
        return lambda: MPNN(config, 1, nnx.Rngs(0)), call, (inputs,)
    if kind == "parameters":
        return lambda: Perceptron(3, 2, config, nnx.Rngs(0)), call, (jnp.ones((4, 3)),)
    if kind == "meshes":
        mesh = pad_meshes([channel(0)], kinds=3, length=0.2)
        sizes = {"kinds": 3, "parameters": 1, "fields": 3, "scalars": 1}
        return lambda: MeshNetwork(config, **sizes, rngs=nnx.Rngs(0)), call, (mesh,)
    if kind == "fields":
        shape = FieldShape(1, 2, 2, 0, (True,))
        return lambda: OPERATORS.network(config, shape, nnx.Rngs(0)), call, (jnp.ones((2, 64, 2)), None)
    latitude = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(16)[0]))
    sphere = SphereShape(WeatherGrid(tuple(latitude), tuple(np.arange(32) * 360 / 32)), 3, 2)
    return lambda: FORECASTERS.network(config, sphere, nnx.Rngs(0)), call, (jnp.ones((1, 16, 32, 3)), None)


def products(jaxpr: Any) -> Iterator[Any]:
    """The matrix products and convolutions of a program, those of the programs that it calls among them."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            if hasattr(inner, "eqns"):
                yield from products(getattr(inner, "jaxpr", inner))


def of_network(name: str, declared: str) -> list[tuple[Any, Any]]:
    """Precision and dtypes of the factors of each product of floats."""
    fresh, ask, inputs = case(name, declared)
    graph, state = nnx.split(nnx.eval_shape(fresh))
    program = jit_float32(lambda state, *inputs: ask(nnx.merge(graph, state), *inputs))
    precisions = []
    for each in products(jax.make_jaxpr(program)(state, *inputs).jaxpr):
        dtypes = {variable.aval.dtype for variable in each.invars}
        if all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
            stated = each.params["precision"]
            # Attention names the algorithm of its products, one for both factors.
            (precision,) = {*stated} if isinstance(stated, tuple) else {stated}
            precisions.append((precision, dtypes))
    return precisions


@pytest.mark.parametrize("name", CONFIGS)
def test_every_product_has_the_precision_that_is_declared(name: str) -> None:
    exact = of_network(name, "float32")
    assert exact
    assert {precision for precision, _ in exact} == {EXACT}
    lower = of_network(name, "tensorfloat32")
    assert len(lower) == len(exact)
    assert {precision for precision, _ in lower} <= {EXACT, LOWER}
    assert any(precision == LOWER for precision, _ in lower)
    short = {jnp.dtype(jnp.bfloat16)}
    rounded = of_network(name, "bfloat16")
    assert all(precision == EXACT or dtypes == short for precision, dtypes in rounded)
    assert any(dtypes == short for _, dtypes in rounded)


def test_a_product_without_a_precision_is_exact_and_a_stated_one_stays() -> None:
    def both(a: Any) -> Any:
        return a @ a + jnp.matmul(a, a, precision="tensorfloat32")

    program = jax.make_jaxpr(jit_float32(jax.grad(lambda a: both(a).sum())))(jnp.ones((2, 2)))
    precisions = [each.params["precision"] for each in products(program.jaxpr)]
    assert {*precisions} == {(EXACT, EXACT), (LOWER, LOWER)}
    outside = jax.make_jaxpr(lambda a: a @ a)(jnp.ones((2, 2)))
    assert [each.params["precision"] for each in products(outside.jaxpr)] == [None]


def test_nothing_is_compiled_at_the_precision_of_the_device() -> None:
    """A call of `jax.jit` would multiply in TensorFloat-32 on a recent GPU."""
    for path in (path for folder in FOLDERS for path in folder.rglob("*.py") if path.name != "precision.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Attribute) and node.attr in ("jit", "pmap")), (path, node.lineno)


@pytest.mark.parametrize("name", ["potentials painn", "parameters"])
def test_rounded_mixing_is_close_to_exact_mixing(name: str) -> None:
    """Rounding factors to 8 bits changes answers, by less than if sums or distances were rounded too."""
    answers = []
    for precision in ("float32", "bfloat16"):
        fresh, ask, inputs = case(name, precision)
        leaves = jax.tree.leaves(nnx.jit(ask)(nnx.jit(fresh)(), *inputs))
        assert all(leaf.dtype == jnp.float32 for leaf in leaves)
        answers.append(np.concatenate([np.ravel(leaf) for leaf in leaves]))
    error = np.linalg.norm(answers[1] - answers[0]) / np.linalg.norm(answers[0])
    assert 0 < error < 0.03


@pytest.mark.parametrize("name", CONFIGS)
def test_a_precision_is_part_of_the_settings_and_a_wrong_one_is_refused(name: str) -> None:
    config = CONFIGS[name]
    for precision in PRECISIONS:
        other = replace(config, precision=precision)
        assert from_plain(type(config), to_plain(other)) == other
    plain = [to_plain(replace(config, precision=precision)) for precision in PRECISIONS]
    assert plain[0] != plain[1] != plain[2]
    with pytest.raises(ValueError, match="precision must be one of float32, tensorfloat32, bfloat16"):
        replace(config, precision="float16")
