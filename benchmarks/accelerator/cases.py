"""The networks that are measured, with fresh weights, and inputs of any batch size that need no file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data.molecules.featurise import encode
from data.molecules.graphs import GraphSize
from data.molecules.graphs import pad as pad_graphs
from data.sphere.weather_layout import WeatherGrid
from data.structures.batches import Shape
from data.structures.batches import pad as pad_structures
from data.structures.structures import Structures
from simulators.precision import jit_float32
from surrogates.fields.networks.architectures import ARCHITECTURES as OPERATORS
from surrogates.fields.networks.architectures import FieldShape
from surrogates.forecasts.networks.architectures import ARCHITECTURES as FORECASTERS
from surrogates.forecasts.networks.architectures import SphereShape
from surrogates.potentials.energy import EnergyModel, evaluate
from surrogates.potentials.networks.architectures import ARCHITECTURES as POTENTIALS
from surrogates.properties.mpnn import MPNN, MPNNConfig, read

#: Atoms of a molecule of the potentials' batches, about those of a drug-like fragment.
ATOMS = 21
#: Energies of isolated atoms, eV, which no measured number depends on.
ISOLATED = {1: -13.0, 6: -1030.0, 8: -2040.0}
#: Scaffolds and ends of the molecules that are enumerated; a scaffold takes two ends.
SCAFFOLDS = (
    "C9CC({0})CC({1})C9", "c9cc({0})ccc9{1}", "C({0})C(=O)N{1}", "c9nc({0})ccc9{1}", "O=C9N({0})CCC9{1}",
    "C9CN({0})CCN9{1}", "c9c({0})oc(C)c9{1}", "C({0})OC(=O)C{1}", "c9cc({0})sc9{1}", "C9OC({0})C({1})C9",
)  # fmt: skip
ENDS = (
    "C", "CC", "CCC", "C(C)C", "CO", "CCO", "C#N", "CF", "C(F)(F)F", "CCl", "CN", "CCN", "C(N)=O", "C(O)=O", "CS",
    "C=C", "C1CC1", "C1CCC1", "C1CCCC1", "C1CCOC1", "c1ccccc1", "c1ccncc1", "c1ccoc1", "c1ccsc1", "CC#N", "CCCO",
    "COC", "CCF", "CC(C)C", "CC(=O)C", "CC(F)F", "CCC#N",
)  # fmt: skip
LINKERS = (
    "", "CCC", "CCO", "CCN", "CNC", "COC", "CSC", "C(C)", "C(O)", "C(F)", "C=CC", "C(=O)N", "CCCC", "CC(C)C", "NC",
    "OC",
)  # fmt: skip


@dataclass(frozen=True)
class AcceleratorCase:
    """A network and what it is asked.

    Attributes:
        name: kind and architecture.
        counted: what a batch has so many of.
        fresh: precision of the mixing products -> a network with fresh weights.
        ask: network and inputs -> arrays of answers.
        inputs: batch size -> the arguments after the network.
        batches: batch sizes, small to large.
    """

    name: str
    counted: str
    fresh: Callable[[str], nnx.Module]
    ask: Callable[..., Any]
    inputs: Callable[[int], tuple[Any, ...]]
    batches: tuple[int, ...]

    def program(self, precision: str) -> tuple[Callable[..., Any], Any]:
        """The compiled function of (weights, *inputs), and the weights."""
        graph, state = nnx.split(self.fresh(precision))
        return jit_float32(lambda state, *inputs: self.ask(nnx.merge(graph, state), *inputs)), state


def enumerated_molecules(count: int) -> list[str]:
    """Different SMILES from scaffolds, linkers and two ends each: `count`, or all, which are some 150,000."""
    names = (s.format(a, link + b) for link in LINKERS for a in ENDS for b in ENDS for s in SCAFFOLDS)
    different: dict[str, None] = {}
    for name in names:
        different[name] = None
        if len(different) == count:
            break
    return list(different)


def clusters(count: int, atoms: int = ATOMS, seed: int = 0) -> Structures:
    """Random clusters of H, C and O, about as dense as molecules, with no two atoms closer than 0.9 Angstrom."""
    rng = np.random.default_rng(seed)
    numbers: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    while len(numbers) < count:
        x = rng.uniform(-0.6, 0.6, (4 * atoms, 3)) * atoms ** (1 / 3) * 1.6
        chosen = [0]
        for i in range(1, len(x)):
            if len(chosen) < atoms and np.linalg.norm(x[chosen] - x[i], axis=1).min() > 0.9:
                chosen.append(i)
        if len(chosen) == atoms:
            numbers.append(rng.choice(list(ISOLATED), atoms))
            positions.append(x[chosen])
    return Structures.from_arrays(numbers, positions)


def repeated(values: Structures, count: int) -> Structures:
    """The structures again and again, `count` in all."""
    return values.take(np.arange(count) % len(values))


def potential(name: str, batches: tuple[int, ...], **changes: Any) -> AcceleratorCase:
    """Energies and forces of clusters by a potential."""
    config, molecules = replace(POTENTIALS.kinds[name](), **changes), clusters(16)

    def fresh(precision: str) -> nnx.Module:
        return EnergyModel(replace(config, precision=precision), 1, 1.0, [ISOLATED], nnx.Rngs(0))

    def inputs(batch: int) -> tuple[Any, ...]:
        table = repeated(molecules, batch)
        return (pad_structures(table, np.arange(batch), Shape(batch, ATOMS, None), config.cutoff_angstrom),)

    return AcceleratorCase(f"potential {name}", "molecules", fresh, evaluate, inputs, batches)


def properties(batches: tuple[int, ...], **changes: Any) -> AcceleratorCase:
    """A property of molecular graphs, as in screening."""
    config, graphs = MPNNConfig(**changes), encode(enumerated_molecules(256))[0]

    def inputs(batch: int) -> tuple[Any, ...]:
        return (read(pad_graphs(graphs, np.arange(batch) % 256, GraphSize(32, 32), batch)),)

    return AcceleratorCase(
        "properties mpnn",
        "molecules",
        lambda p: MPNN(replace(config, precision=p), 1, nnx.Rngs(0)),
        call,
        inputs,
        batches,
    )


def operator(points: int, batches: tuple[int, ...], **changes: Any) -> AcceleratorCase:
    """A Fourier neural operator in two dims with one channel."""
    config, shape = OPERATORS.kinds["fno"](**changes), FieldShape(2, 1, 1, 0, (True, True))

    def inputs(batch: int) -> tuple[Any, ...]:
        waves = np.random.default_rng(0).standard_normal((batch, points, points, 1)).astype(np.float32)
        return jnp.asarray(waves), None

    def fresh(precision: str) -> nnx.Module:
        return OPERATORS.network(replace(config, precision=precision), shape, nnx.Rngs(0))

    return AcceleratorCase(f"operator fno {points} x {points}", "fields", fresh, call, inputs, batches)


def forecaster(latitudes: int, batches: tuple[int, ...], **changes: Any) -> AcceleratorCase:
    """One step of a spherical Fourier neural operator with 8 channels on a Gaussian grid."""
    config, channels = FORECASTERS.kinds["sfno"](**changes), 8
    latitude = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(latitudes)[0]))
    grid = WeatherGrid(tuple(latitude), tuple(np.arange(2 * latitudes) * 180 / latitudes))

    def inputs(batch: int) -> tuple[Any, ...]:
        states = np.random.default_rng(0).standard_normal((batch, latitudes, 2 * latitudes, channels))
        return jnp.asarray(states, jnp.float32), None

    def fresh(precision: str) -> nnx.Module:
        shape = SphereShape(grid, channels, channels)
        return FORECASTERS.network(replace(config, precision=precision), shape, nnx.Rngs(0))

    return AcceleratorCase(f"forecaster sfno {latitudes} x {2 * latitudes}", "steps", fresh, call, inputs, batches)


def call(network: Any, *inputs: Any) -> Any:
    """The answer of a network that is called with its inputs."""
    return network(*inputs)


def cases(*, small: bool) -> Mapping[str, AcceleratorCase]:
    """The networks with the default sizes of their configurations, or small ones for a CPU, by a short name."""
    if small:
        return {
            "ace": potential("ace", (4, 16), features=16, degree=2),
            "painn": potential("painn", (4, 16), features=16, layers=1),
            "mpnn": properties((64, 256), features=16, layers=1),
            "fno": operator(32, (2, 8), width=8, layers=2),
            "sfno": forecaster(16, (1, 4), width=8, blocks=1),
        }
    return {
        "ace": potential("ace", (16, 128, 1024)),
        "painn": potential("painn", (16, 128, 1024)),
        "mpnn": properties((256, 4096, 32768)),
        "fno": operator(128, (1, 16, 128)),
        "sfno": forecaster(64, (1, 8, 32)),
    }


def float64_answer(case: AcceleratorCase, inputs: tuple[Any, ...]) -> Any:
    """What the network answers if its weights, its inputs and all that it computes have 64 bits."""

    def widened(leaf: Any) -> Any:
        return jnp.asarray(leaf, jnp.float64) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf

    program, state = case.program("float32")
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, program(jax.tree.map(widened, state), *jax.tree.map(widened, inputs)))
