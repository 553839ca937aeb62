"""The sphere: harmonics with known answers, a mesh that closes, and networks that commute with turns of the Earth."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data.errors import InputError
from data.sphere.weather_layout import WeatherGrid
from surrogates.forecasts.networks.architectures import ARCHITECTURES, SphereShape
from surrogates.forecasts.networks.conv import ConvConfig, pad_sphere
from surrogates.forecasts.networks.harmonics import Harmonics
from surrogates.forecasts.networks.icosahedral_mesh import SphereMeshConfig
from surrogates.forecasts.networks.icosahedron import (
    edge_features,
    grid_points,
    grid_to_mesh,
    mesh_to_grid,
    multi_mesh_edges,
    refinements,
)
from surrogates.forecasts.networks.sfno import SFNOConfig, SphericalFilter
from surrogates.learning.nn.fourier_layers import FACTORISATIONS


def gaussian(rows: int, columns: int) -> WeatherGrid:
    latitude = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(rows)[0]))
    return WeatherGrid(tuple(latitude), tuple(np.arange(columns) * 360 / columns))


EVEN = WeatherGrid(tuple(np.linspace(-90, 90, 17)), tuple(np.arange(24) * 15.0))
BETWEEN = WeatherGrid(tuple(-90 + (np.arange(16) + 0.5) * 180 / 16), tuple(np.arange(24) * 15.0))
GAUSS = gaussian(16, 32)
REGION = WeatherGrid(tuple(np.linspace(50, 58, 9)), tuple(np.linspace(-10, 2, 7)))


@pytest.mark.parametrize("grid", [GAUSS, EVEN, BETWEEN])
def test_known_harmonics_are_exact_and_what_is_band_limited_comes_back(grid: WeatherGrid) -> None:
    transform = Harmonics(grid, 7)
    latitude = np.deg2rad(np.array(grid.latitude))[:, None]
    longitude = np.deg2rad(np.array(grid.longitude))[None]
    flat = np.zeros(grid.shape)
    # Y_00 = 1/sqrt(4 pi), Y_10 = sqrt(3/4pi) sin(lat), and the real Y_22 = sqrt(15/16pi) cos(lat)^2 cos(2 lon).
    fields = np.stack(
        [
            flat + 1 / np.sqrt(4 * np.pi),
            flat + np.sqrt(3 / (4 * np.pi)) * np.sin(latitude),
            np.sqrt(15 / (16 * np.pi)) * np.cos(latitude) ** 2 * np.cos(2 * longitude),
        ],
        axis=-1,
    )
    coefficients = np.asarray(jax.jit(transform.forward)(jnp.asarray(fields[None], jnp.float32)))[0]
    want = np.zeros_like(coefficients)
    # Orders are 0, 1, -1, 2, -2, ...
    want[0, 0, 0] = want[0, 1, 1] = want[3, 2, 2] = 1
    np.testing.assert_allclose(np.abs(coefficients), want, atol=2e-6)
    waves = np.random.default_rng(0).normal(size=(2, *coefficients.shape[:2], 3)).astype(np.float32)
    waves *= transform.mask[..., None]
    again = jax.jit(lambda z: transform.forward(transform.backward(z)))(jnp.asarray(waves))
    np.testing.assert_allclose(np.asarray(again), waves, atol=2e-5)


def test_the_basis_is_orthonormal() -> None:
    transform = Harmonics(GAUSS, 7)
    waves = np.random.default_rng(0).normal(size=transform.mask.shape) * transform.mask
    smooth = np.asarray(jax.jit(transform.backward)(jnp.asarray(waves, jnp.float32)[None, ..., None]))[0, ..., 0]
    # Gauss's quadrature of the square is exact: Parseval.
    area = np.polynomial.legendre.leggauss(16)[1][:, None] * 2 * np.pi / 32
    assert (smooth.astype(np.float64) ** 2 * area).sum() == pytest.approx((waves**2).sum(), rel=1e-5)


@pytest.mark.parametrize(
    ("grid", "truncation", "exact"),
    [(GAUSS, 10, True), (EVEN, 8, True), (EVEN, 10, False), (BETWEEN, 7, True), (BETWEEN, 8, False)],
)
def test_coefficients_come_back_where_the_transform_says_so(grid: WeatherGrid, truncation: int, exact: bool) -> None:
    transform = Harmonics(grid, truncation)
    waves = np.random.default_rng(0).normal(size=(1, *transform.mask.shape, 1)) * transform.mask[..., None]
    again = jax.jit(lambda z: transform.forward(transform.backward(z)))(jnp.asarray(waves, jnp.float32))
    assert transform.is_exact == exact == bool(np.abs(np.asarray(again) - waves).max() < 2e-5)


def test_products_of_harmonics_are_not_rounded_by_devices() -> None:
    for factorisation in FACTORISATIONS:
        filter_ = SphericalFilter(Harmonics(GAUSS, 3), 4, nnx.Rngs(0), factorisation=factorisation)
        program = str(jax.make_jaxpr(lambda x, f=filter_: f(x))(jnp.zeros((*GAUSS.shape[::-1], 1, 4))))
        assert program.count("dot_general") > 3
        assert program.count("dot_general") == program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)")


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_filters_commute_with_every_turn_of_the_sphere(factorisation: str) -> None:
    filter_ = SphericalFilter(Harmonics(GAUSS, 5), 4, nnx.Rngs(0), factorisation=factorisation)
    x, y, z = grid_points(GAUSS).T.reshape(3, *GAUSS.shape)
    weights = np.asarray(filter_.weights())
    matrices = np.stack([np.diag(w[:, 0]) if factorisation == "separable" else w for w in weights])
    mixed = np.array([0.3, -1.0, 0.5, 2.0], np.float32)
    # Turns take fields of one total wavenumber to each other: x, y and z for 1; for 2 the products of two of them.
    for degree, fields in ((1, (x, y, z)), (2, (x * y, y * z, z * x, x**2 - y**2, 3 * z**2 - 1))):
        points = np.stack(fields).T[..., None]  # (longitude, latitude, field, 1)
        filtered = np.asarray(nnx.jit(filter_)(jnp.asarray(points * mixed, jnp.float32)))
        np.testing.assert_allclose(filtered, points * (mixed @ matrices[degree]), atol=2e-5)


def test_grids_without_harmonics_are_refused_with_a_way_out() -> None:
    with pytest.raises(InputError, match="model=latlon_conv"):
        Harmonics(REGION, 2)
    with pytest.raises(InputError, match="wavenumbers up to 15"):
        Harmonics(GAUSS, 16)
    with pytest.raises(InputError, match="model=latlon_conv"):
        ARCHITECTURES.network(SphereMeshConfig(), SphereShape(REGION, 1, 1), nnx.Rngs(0))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_mesh_closes(count: int) -> None:
    meshes = refinements(count)
    mesh = meshes[-1]
    vertices, edges, faces = len(mesh.vertices), len(mesh.edges) // 2, len(mesh.faces)
    assert (vertices, edges, faces) == (10 * 4**count + 2, 30 * 4**count, 20 * 4**count)
    assert vertices - edges + faces == 2
    neighbours = np.bincount(mesh.edges[:, 1])
    assert sorted(np.unique(neighbours, return_counts=True)[0].tolist()) == ([5] if count == 0 else [5, 6])
    assert (neighbours == 5).sum() == 12
    assert mesh.areas.sum() == pytest.approx(4 * np.pi, rel=1e-12)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 1.0)
    both = multi_mesh_edges(meshes)
    assert len(both) == sum(60 * 4**k for k in range(count + 1))
    assert (np.diff(both[:, 1]) >= 0).all()


def test_grid_and_mesh_hear_of_each_other_everywhere() -> None:
    mesh = refinements(2)[-1]
    near = grid_to_mesh(EVEN, mesh)
    points = grid_points(EVEN)
    assert set(near[:, 0]) == set(range(len(points)))
    assert set(near[:, 1]) == set(range(len(mesh.vertices)))
    around = mesh_to_grid(EVEN, mesh)
    # A point inside a triangle is a combination of its corners with weights of 0 or more.
    shares = np.stack([np.linalg.solve(mesh.vertices[c].T, p) for c, p in zip(around, points, strict=True)])
    assert shares.min() > -1e-9
    # An edge looks alike when both its ends are turned about the axis.
    turn = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]])
    # The frame of a receiver at a pole is a choice.
    ends = mesh.vertices[[e for e in mesh.edges if abs(mesh.vertices[e[1], 2]) < 0.99][:40]]
    np.testing.assert_allclose(
        edge_features(ends[:, 0] @ turn.T, ends[:, 1] @ turn.T), edge_features(ends[:, 0], ends[:, 1]), atol=1e-12
    )


def test_beyond_a_pole_the_other_side_goes_on() -> None:
    # Height over a plane through the axis is smooth over the poles.
    points = grid_points(gaussian(6, 8)).reshape(6, 8, 3)
    wide = np.asarray(pad_sphere(jnp.asarray(points[None]), 1, circle=True, poles=True))[0]
    np.testing.assert_allclose(wide[0, 1:-1], np.roll(points[0], 4, 0), atol=1e-7)
    np.testing.assert_allclose(wide[1:-1, 0], points[:, -1], atol=1e-7)
    # A row on a pole is not met again.
    on_pole = grid_points(EVEN).reshape(17, 24, 3)
    edges = {"circle": True, "poles": True, "on_pole": (True, True)}
    wide = np.asarray(pad_sphere(jnp.asarray(on_pole[None]), 2, **edges))[0]
    np.testing.assert_allclose(wide[:2, 2:-2], np.roll(on_pole[[2, 1]], 12, 1), atol=1e-7)
    np.testing.assert_allclose(wide[-2:, 2:-2], np.roll(on_pole[[-2, -3]], 12, 1), atol=1e-7)
    kept = np.asarray(pad_sphere(jnp.asarray(points[None]), 1, circle=False, poles=False))[0]
    np.testing.assert_allclose(kept[0, 0], points[0, 0], atol=1e-7)


def outlined(config: Any, shape: SphereShape) -> Any:
    """A network without the numbers of its weights, which take longest to make."""
    return nnx.eval_shape(lambda: ARCHITECTURES.network(config, shape, nnx.Rngs(0)))


def test_settings_that_do_not_fit_the_grid_are_refused_with_a_way_out() -> None:
    for config, key in (
        (ConvConfig(patch=5), "model.network.patch"),
        (ConvConfig(patch=4, dilations=(5,)), "model.network.dilations"),
    ):
        with pytest.raises(InputError, match=key):
            outlined(config, SphereShape(GAUSS, 1, 1))
    # 17 rows, of which 16 lie beyond the pole that one of them is on.
    outlined(ConvConfig(width=2, blocks=1, dilations=(16,)), SphereShape(EVEN, 1, 1))
    with pytest.raises(InputError, match="16 rows lie beyond a pole"):
        outlined(ConvConfig(width=2, blocks=1, dilations=(17,)), SphereShape(EVEN, 1, 1))
    with pytest.raises(InputError, match="factorisation must be one of"):
        ARCHITECTURES.read({"architecture": "sfno", "factorisation": "sparse"})


@pytest.mark.parametrize("conditions", [0, 2])
def test_conditions_that_are_missing_or_for_nothing_are_refused(conditions: int) -> None:
    def ask() -> jax.Array:
        net = ARCHITECTURES.network(ConvConfig(width=2, blocks=1), SphereShape(GAUSS, 3, 2, conditions), nnx.Rngs(0))
        answer: jax.Array = net(jnp.zeros((1, *GAUSS.shape, 3)), None if conditions else jnp.zeros((1, 2)))
        return answer

    with pytest.raises(ValueError, match="the network takes"):
        nnx.eval_shape(ask)


NETWORKS: list[Any] = [
    ConvConfig(width=8, blocks=2, patch=2, dilations=(1, 2)),
    SFNOConfig(width=8, blocks=2, factorisation="tucker"),
    SphereMeshConfig(width=8, blocks=2, refinements=1),
]


def lively(config: Any, grid: WeatherGrid, conditions: int = 0) -> Any:
    """A network whose last layer is not small, so that differences show."""
    net = ARCHITECTURES.network(config, SphereShape(grid, 3, 2, conditions), nnx.Rngs(0))
    weight = net.decode.last.kernel
    weight[...] = jax.random.normal(jax.random.key(1), weight.shape)
    return net


@pytest.mark.parametrize("config", NETWORKS, ids=lambda c: type(c).__name__)
def test_networks_turn_with_the_earth_where_they_promise_it(config: Any) -> None:
    net = nnx.jit(lively(config, GAUSS, 2))
    x = jax.random.normal(jax.random.key(2), (2, 16, 32, 3))
    noise = jax.random.normal(jax.random.key(3), (2, 2))
    first, turned = net(x, noise), net(jnp.roll(x, config.patch if isinstance(config, ConvConfig) else 1, 2), noise)
    off = float(jnp.abs(jnp.roll(first, config.patch if isinstance(config, ConvConfig) else 1, 2) - turned).max())
    # The vertices of a mesh stay where they are.
    assert off < 1e-4 if not isinstance(config, SphereMeshConfig) else off > 1e-3
    # What conditions one sample changes it alone.
    other = net(x, noise.at[0].add(1.0))
    assert float(jnp.abs(other[0] - first[0]).max()) > 1e-5
    np.testing.assert_allclose(np.asarray(other[1]), np.asarray(first[1]), atol=1e-6)
    assert ARCHITECTURES.from_plain(ARCHITECTURES.to_plain(config)) == config


@pytest.mark.parametrize("grid", [EVEN, BETWEEN])
def test_without_patches_convolutions_turn_by_one_point_and_do_not_know_north(grid: WeatherGrid) -> None:
    net = lively(ConvConfig(width=8, blocks=2, dilations=(1, 2)), grid)
    # Which pole is which is told by the sine of the latitude; without it and with kernels that are even from south to
    # north, a field that is turned over gives the answer turned over, if both poles are treated alike.
    first_kernel = net.encode.mlp.first.kernel
    first_kernel[...] = first_kernel[...].at[-2].set(0.0)
    for block in net.blocks:
        kernel = block.conv.kernel
        kernel[...] = (kernel[...] + kernel[...][::-1]) / 2
    net = nnx.jit(net)
    x = jax.random.normal(jax.random.key(2), (1, *grid.shape, 3))
    first = np.asarray(net(x))
    np.testing.assert_allclose(np.asarray(net(jnp.roll(x, 1, 2))), np.roll(first, 1, 2), atol=1e-4)
    np.testing.assert_allclose(np.asarray(net(x[:, ::-1])), first[:, ::-1], atol=1e-4)


def test_the_first_answer_is_small_and_a_region_is_answered_whatever_its_size() -> None:
    net = ARCHITECTURES.network(ConvConfig(width=8, blocks=1, patch=2), SphereShape(REGION, 3, 2), nnx.Rngs(0))
    answer = nnx.jit(net)(jax.random.normal(jax.random.key(0), (2, 9, 7, 3)))
    assert answer.shape == (2, 9, 7, 2)
    assert float(jnp.abs(answer).max()) < 0.5
    with pytest.raises(ValueError, match="takes fields of shape"):
        net(jnp.zeros((1, 9, 8, 3)))


def test_recomputing_blocks_changes_no_gradient() -> None:
    grid = gaussian(6, 12)
    x = jax.random.normal(jax.random.key(0), (1, 6, 12, 3))
    answers = []
    for remat in (False, True):
        net = ARCHITECTURES.network(SFNOConfig(width=4, blocks=1, remat=remat), SphereShape(grid, 3, 2), nnx.Rngs(0))
        gradient = nnx.jit(nnx.grad(lambda m: (m(x) ** 2).sum()))(net)
        answers.append(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)]))
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-4, atol=1e-6)
