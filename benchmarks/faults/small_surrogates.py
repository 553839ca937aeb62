"""An untrained surrogate of each kind, small enough to be saved, damaged and asked hundreds of times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from flax import nnx

from data.fields.layout import Layout
from data.meshes.mesh_samples import MeshLayout
from data.molecules.featurise import encode
from data.molecules.graphs import GraphSize
from data.parameters import ParameterLayout
from data.spec import Coordinate, Variable, dataset
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.structures.structures import Structures
from surrogates.fields.bands import Bands
from surrogates.fields.facts import FieldConfig, FieldFacts
from surrogates.fields.networks.fno import FNOConfig
from surrogates.fields.scale import FieldScale
from surrogates.fields.surrogate import FieldSurrogate
from surrogates.fields.units import Affine, FieldUnits
from surrogates.forecasts.facts import ForecastConfig, ForecastFacts, LeadBands
from surrogates.forecasts.model import ForecastScale
from surrogates.forecasts.networks.conv import ConvConfig
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.learning.box import Box
from surrogates.learning.conformal import Conformal
from surrogates.learning.normalise import Standardise
from surrogates.meshes.facts import MeshConfig, MeshFacts, MeshScale
from surrogates.meshes.network import MeshNetworkConfig
from surrogates.meshes.surrogate import MeshSurrogate
from surrogates.mixture.facts import MixtureConfig
from surrogates.mixture.fit import fit_mixture_surrogate
from surrogates.mixture.surrogate import MixtureSurrogate
from surrogates.parameters.facts import InputScale, ParameterFacts
from surrogates.parameters.network import ParameterConfig
from surrogates.parameters.surrogate import ParameterSurrogate
from surrogates.potentials.atom_energies import References
from surrogates.potentials.facts import Head, PotentialConfig, PotentialFacts
from surrogates.potentials.networks.painn import PaiNNConfig
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.properties.mpnn import Ensemble, MPNNConfig
from surrogates.properties.surrogate import PropertyConfig, PropertyFacts, PropertySurrogate
from surrogates.properties.training_domain import Domain

SCORES = {"test/mae": 0.25}
CALIBRATED = Conformal(1.7, 0.1, 0.2, 30)


def properties() -> PropertySurrogate:
    """A gap of molecules of up to eight atoms."""
    config = PropertyConfig(MPNNConfig(features=4, layers=1, readout=4), ensemble=2, buckets=1)
    domain = Domain.of(encode(["CCO", "CC=O"])[0])
    facts = PropertyFacts(
        config, {"gap": "eV"}, Standardise(("gap",), (7.0,), (1.5,)), {"gap": CALIBRATED}, (GraphSize(8, 8),), domain,
        "ab" * 32, scores=SCORES,
    )  # fmt: skip
    return PropertySurrogate(Ensemble(config.network, 1, 2, nnx.Rngs(0)), facts)


def potentials() -> PotentialSurrogate:
    """Energies and forces of water."""
    network = PaiNNConfig(features=2, layers=1, cutoff_angstrom=3.0, basis_size=2)
    head = Head(References((1, 8), (-13.0, -2040.0), (-13.0, -2040.0)), "ab" * 32, energy=CALIBRATED, forces=CALIBRATED)
    facts = PotentialFacts(PotentialConfig(network=network), 0.5, {"main": head}, "main", 1.0, SCORES)
    return PotentialSurrogate(facts.model(), facts)


def fields() -> FieldSurrogate:
    """Three times of a height on eight points."""
    layout = Layout(
        output=Variable("u", ("time", "channel", "x"), "m", "float32", "height"),
        initial=Variable("initial", ("channel", "x"), "m", "float32", "height at the start"),
        static=(),
        parameters=(Variable("speed", (), "m s-1", "float64", "speed"),),
        axes=(
            Coordinate("time", (0.0, 1.0, 2.0), "s", "time"),
            Coordinate("channel", ("height",), "1", "component"),
            Coordinate("x", tuple(i / 8 for i in range(8)), "m", "position"),
        ),
        periodic=(True,),
    )
    scale = FieldScale((0.0,), (1.0,), (0.5,), (), (), (0.05,), (0.02,), (False,))
    bands = Bands((1.5,) * 3, ((0.1,),) * 3, (1.0,) * 3, 0.1, 30)
    units = FieldUnits(Affine((0.0,), (2.0,)), Affine((), ()), Affine((0.0,), (1.0,)), (False,))
    config = FieldConfig(network=FNOConfig(width=2, layers=1, modes=(2,)), ensemble=2)
    facts = FieldFacts(config, layout, scale, "ab" * 32, bands, SCORES, units=units)
    return FieldSurrogate(facts.model(), facts)


def meshes() -> MeshSurrogate:
    """A pressure and a drag on triangles."""
    layout = MeshLayout(
        geometry=(
            Variable("nodes", ("node", "plane"), "m", "float64", "vertices"),
            Variable("elements", ("element", "corner"), "1", "int32", "triangles"),
            Variable("boundary", ("node",), "1", "int32", "kinds of vertices"),
        ),
        parameters=(Variable("speed", (), "m s-1", "float64", "speed"),),
        fields=(Variable("pressure", ("node",), "m2 s-2", "float32", "pressure"),),
        scalars=(Variable("drag", (), "1", "float64", "drag coefficient"),),
        axes=(
            Coordinate("plane", ("x", "y"), "1", "coordinate"),
            Coordinate("corner", ("0", "1", "2"), "1", "corner"),
        ),
        kinds=2,
        attrs={},
    )
    scale = MeshScale(((0.0, 1.0),), ((0.5, 0.3),), ((1.0, 0.3),), 0.5)
    bands = {"pressure": CALIBRATED, "drag": CALIBRATED}
    facts = MeshFacts(MeshConfig(MeshNetworkConfig(4, 1, 1), ensemble=2), layout, scale, "ab" * 32, bands, SCORES)
    return MeshSurrogate(facts.model(), facts)


def parameters() -> ParameterSurrogate:
    """A force of a speed and two amplitudes."""
    layout = ParameterLayout(
        (
            Variable("speed", (), "m s-1", "float64", "speed"),
            Variable("wave", ("mode",), "1", "float64", "amplitudes"),
        ),
        (Variable("force", (), "N", "float64", "force"),),
        (Coordinate("mode", (3.0, 4.0), "1", "waves"),),
        {},
    )
    inputs = InputScale((0.0,) * 3, (1.0,) * 3, (True, False, False), (False,) * 3, 0)
    box = Box(layout.columns, (0.1, -1.0, -1.0), (10.0, 1.0, 1.0))
    facts = ParameterFacts(
        ParameterConfig(ensemble=2, width=4, layers=1), layout, inputs, Standardise(("force",), (3.0,), (2.0,)), box,
        "ab" * 32, {"force": CALIBRATED}, SCORES,
    )  # fmt: skip
    return ParameterSurrogate(facts.model(), facts)


def forecasts() -> ForecastSurrogate:
    """Temperature and pressure on a grid of 4 x 8."""
    grid = WeatherGrid((-67.5, -22.5, 22.5, 67.5), tuple(45.0 * i for i in range(8)))
    channels = (WeatherChannel("temperature", 500.0), WeatherChannel("surface_pressure"))
    layout = WeatherLayout(grid, channels, calendar=False)
    scale = ForecastScale((5.0, 100.0), (1.0, 20.0), (0,))
    bands = LeadBands(((1.0, 20.0),) * 2, ((1.5, 1.5),) * 2, 0.1, 30)
    config = ForecastConfig(network=ConvConfig(width=2, blocks=1), steps=2)
    facts = ForecastFacts(config, layout, scale, "ab" * 32, (270.0, 99_000.0), (290.0, 101_000.0), bands, SCORES)
    usual = np.broadcast_to(np.array([280.0, 1e5], np.float32), (1, 4, 8, 2))
    return ForecastSurrogate(facts.model(usual), facts)


def mixture() -> MixtureSurrogate:
    """Energies and forces of water by one potential, and of hydrogen peroxide by another of twice the width."""
    narrow = potentials()
    network = replace(narrow.facts.config.network, features=4)
    wide = replace(narrow.facts, config=replace(narrow.facts.config, network=network))
    place = np.eye(4, 3)
    learned = {
        "water": Structures.from_arrays([np.array([8, 1, 1])] * 2, [place[:3]] * 2),
        "peroxide": Structures.from_arrays([np.array([8, 8, 1, 1])] * 2, [place] * 2),
    }
    experts = {"water": narrow, "peroxide": PotentialSurrogate(wide.model(), wide)}
    return fit_mixture_surrogate(experts, learned, MixtureConfig()).with_facts(scores=SCORES)


#: Kind of surrogate -> what makes one.
MAKERS: Mapping[str, Callable[[], Any]] = {
    "properties": properties,
    "potentials": potentials,
    "fields": fields,
    "meshes": meshes,
    "parameters": parameters,
    "forecasts": forecasts,
    "mixture": mixture,
}


def question(kind: str) -> dict[str, Any]:
    """Inputs, by name, that the surrogate of a kind answers."""
    nodes = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    questions: dict[str, dict[str, Any]] = {
        "properties": {"smiles": "CCO"},
        "potentials": {
            "numbers": np.array([8, 1, 1], np.int32),
            "positions": np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.0, -0.76, -0.47]]),
        },
        "fields": {"initial": np.sin(np.arange(8) / 8 * 2 * np.pi)[None], "speed": 0.05},
        "meshes": {
            "nodes": nodes,
            "elements": np.array([[0, 1, 2], [0, 2, 3]], np.int32),
            "boundary": np.array([0, 1, 1, 0], np.int32),
            "speed": 1.0,
        },
        "parameters": {"speed": 1.0, "wave": np.array([0.5, -0.5])},
        "mixture": {
            "numbers": np.array([8, 1, 1], np.int32),
            "positions": np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.0, -0.76, -0.47]]),
        },
        "forecasts": {
            "temperature": np.full((1, 4, 8), 281.0, np.float32),
            "surface_pressure": np.full((4, 8), 100_100.0, np.float32),
        },
    }
    return questions[kind]


def asked(surrogate: Any, kind: str) -> dict[str, np.ndarray]:
    """What a surrogate answers to the question of its kind, by name."""
    values, spec = question(kind), surrogate.spec
    molecules = kind in ("properties", "potentials", "mixture")
    record: xr.Dataset = dataset(spec.inputs, values) if molecules else spec.request(values)
    return {str(name): np.asarray(array.values) for name, array in surrogate.simulate(record).items()}
