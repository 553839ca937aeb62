"""Ignition of a gas by a detailed mechanism, in a closed adiabatic reactor of Cantera (https://cantera.org).

A mechanism lists species with their thermodynamics and reactions with their rates. The default is the
hydrogen-oxygen mechanism that Cantera ships: 10 species and 29 reactions, with argon and nitrogen. The state is
integrated by CVODES, an implicit method of variable order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml  # type: ignore[import-untyped]
from jaxtyping import Float

from data.errors import InputError
from data.extras import install_command
from data.spec import Coordinate, SimulationError, Spec, Variable, check, content_hash

REACTORS = {"constant_volume": "IdealGasReactor", "constant_pressure": "IdealGasConstPressureReactor"}
#: Absolute tolerance of mass fractions over the relative one.
ABSOLUTE = 1e-6
#: Largest absolute tolerance of mass fractions.
LARGEST = 1e-13
INPUTS = (
    Variable("temperature_0", (), "K", "float64", "initial temperature"),
    Variable("pressure_0", (), "Pa", "float64", "initial pressure"),
    Variable("equivalence_ratio", (), "1", "float64", "fuel over oxidiser, 1 where both are used up"),
    Variable("dilution", (), "1", "float64", "mole fraction of the diluent"),
)


@dataclass(frozen=True)
class Mechanism:
    """Species and temperature of a reacting gas at logarithmically spaced times.

    Attributes:
        mechanism: a file of Cantera in YAML: a path, or the name of one that Cantera ships.
        fuel, oxidizer, diluent: compositions such as "H2:1", by moles.
        reactor: one of `REACTORS`.
        times: first and last saved time, s.
        points: number of saved times.
        tolerance: relative tolerance of the integration; the absolute one of mass fractions is `ABSOLUTE` times as
            large, and at most `LARGEST`, because traces of radicals begin the ignition.
        max_steps: largest number of internal steps between two saved times.

    Raises:
        InputError: a setting is invalid.
    """

    mechanism: str = "h2o2.yaml"
    fuel: str = "H2:1"
    oxidizer: str = "O2:1"
    diluent: str = "AR:1"
    reactor: str = "constant_volume"
    times: tuple[float, float] = (1e-6, 1e-1)
    points: int = 41
    tolerance: float = 1e-9
    max_steps: int = 100_000

    def __post_init__(self) -> None:
        if self.reactor not in REACTORS:
            raise InputError(
                f"no reactor {self.reactor!r}", where="simulator.reactor", remedy=f"Choose from {', '.join(REACTORS)}"
            )
        object.__setattr__(self, "times", tuple(map(float, self.times)))
        if len(self.times) != 2 or not 0 < self.times[0] < self.times[1] < np.inf:
            raise InputError(f"must be two, 0 < first < last, got {list(self.times)}", where="simulator.times")
        if self.points < 2 or self.max_steps < 1:
            raise InputError(
                f"2 or more points and 1 or more steps are needed, got {self.points} and {self.max_steps}",
                where="simulator",
            )
        if not 0 < self.tolerance < 1:
            raise InputError(f"must lie between 0 and 1, got {self.tolerance}", where="simulator.tolerance")

    def __reduce__(self) -> tuple[Any, ...]:
        # Objects of Cantera are not pickled.
        return type(self), tuple(getattr(self, f.name) for f in fields(self))

    @property
    def name(self) -> str:
        """Such as "cantera:h2o2"."""
        return f"cantera:{Path(self.mechanism).stem}"

    @cached_property
    def saved_times(self) -> Float[np.ndarray, " time"]:
        """The saved times, s."""
        return np.geomspace(*self.times, self.points)

    @cached_property
    def _cantera(self) -> Any:
        try:
            import cantera
        except ImportError as error:
            raise SimulationError(
                "missing_component", f"cantera cannot be loaded: {error}. Install it: {install_command('kinetics')}"
            ) from error
        return cantera

    @cached_property
    def _file(self) -> Path:
        """The file of the mechanism.

        Raises:
            InputError: there is none, or it needs other files or code.
        """
        places = [Path(), *map(Path, self._cantera.get_data_directories())]
        files = [place / self.mechanism for place in places if (place / self.mechanism).is_file()]
        if not files:
            raise InputError(
                f"no such file: {self.mechanism}",
                where="simulator.mechanism",
                remedy="Give the path of a mechanism of Cantera in YAML; `ck2yaml` converts CHEMKIN files",
            )
        try:
            content = yaml.load(files[0].read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (yaml.YAMLError, ValueError, OSError) as error:
            text = " ".join(str(error).split())
            raise InputError(f"cannot be read: {text}", where=self.mechanism, remedy="Give a file in YAML") from error
        if not isinstance(content, Mapping) or "phases" not in content:
            raise InputError("has no entry `phases`", where=self.mechanism, remedy="Give a mechanism of Cantera")
        # Cantera would import the modules that `extensions` names, and another file would escape the fingerprint.
        others = [text for text in _texts(content["phases"]) if ".yaml" in text or ".yml" in text]
        if "extensions" in content or others:
            what = "code (`extensions`)" if "extensions" in content else f"another file ({others[0]})"
            raise InputError(f"needs {what}", where=self.mechanism, remedy="Give a mechanism that is whole in one file")
        return files[0]

    @cached_property
    def gas(self) -> Any:
        """The `cantera.Solution`."""
        try:
            return self._cantera.Solution(str(self._file))
        except (self._cantera.CanteraError, ValueError) as error:
            raise InputError(_line(error), where=self.mechanism, remedy="Correct the mechanism") from error

    @cached_property
    def spec(self) -> Spec:
        """The inputs are the initial state; the outputs are mass fractions and the temperature."""
        species = tuple(map(str, self.gas.species_names))
        return Spec(
            INPUTS,
            (
                Variable("mass_fraction", ("time", "species"), "1", "float64", "mass fraction of each species"),
                Variable("temperature", ("time",), "K", "float64", "temperature"),
            ),
            (
                Coordinate("time", tuple(self.saved_times.tolist()), "s", "time"),
                Coordinate("species", species, "1", "species"),
            ),
            {"solver": f"cantera {self._cantera.__version__}, {self.reactor}, tolerance {self.tolerance:g}"},
        )

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Program, version, settings, and the SHA-256 of the file of the mechanism."""
        settings = asdict(self) | {"mechanism": Path(self.mechanism).name}
        return {
            "simulator": self.name,
            "version": f"cantera {self._cantera.__version__}",
            "settings": json.loads(json.dumps(settings)),
            "mechanism_sha256": sha256(self._file.read_bytes()).hexdigest(),
        }

    @property
    def fingerprint(self) -> str:
        """Hash of the provenance."""
        return content_hash(self.provenance)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """One reactor; see `simulators.adapter.Simulator`.

        The log gives the largest change of the mass of an element, relative to the mass of the gas.

        Raises:
            SimulationError: `invalid_input`: the initial state is not one of this gas; `not_converged`: the integration
                fails; `missing_component`: Cantera is not installed.
        """
        check(inputs, self.spec.inputs, sizes=self.spec.sizes)
        fraction, temperature, log = self.integrate(*(float(inputs[v.name]) for v in INPUTS))
        answer = self.spec.answer({"mass_fraction": fraction, "temperature": temperature})
        return answer.assign_attrs(log=json.dumps(log))

    def integrate(
        self, temperature: float, pressure: float, ratio: float, dilution: float
    ) -> tuple[Float[np.ndarray, "time species"], Float[np.ndarray, " time"], dict[str, float]]:
        """Mass fractions and temperatures (K) at the saved times, and the log of the integration.

        Negative mass fractions down to -10 times the tolerance, which are errors of the integration, are set to 0.

        Args:
            temperature: initial temperature, K.
            pressure: initial pressure, Pa.
            ratio: equivalence ratio.
            dilution: mole fraction of the diluent.

        Raises:
            SimulationError: see `simulate`.
        """
        self._set_state(temperature, pressure, ratio, dilution)
        gas = self.gas
        reactor = getattr(self._cantera, REACTORS[self.reactor])(gas, clone=False)
        network = self._cantera.ReactorNet([reactor])
        network.rtol, network.atol = self.tolerance, min(ABSOLUTE * self.tolerance, LARGEST)
        network.max_steps = self.max_steps
        before = self.elements(gas.Y)
        fractions, temperatures = [], []
        try:
            for time in self.saved_times:
                network.advance(time)
                fractions.append(gas.Y)
                temperatures.append(gas.T)
        except self._cantera.CanteraError as error:
            raise SimulationError("not_converged", _line(error)) from error
        fraction, kelvin = np.array(fractions), np.array(temperatures)
        if not (np.isfinite(fraction).all() and np.isfinite(kelvin).all()) or fraction.min() < -10 * self.tolerance:
            raise SimulationError("not_converged", f"a mass fraction is {fraction.min():.3g}; lower the tolerance")
        drift = float(np.abs(self.elements(fraction) - before).max())
        log = {"steps": float(network.solver_stats["steps"]), "element_drift": drift}
        return np.maximum(fraction, 0.0), kelvin, log

    def _set_state(self, temperature: float, pressure: float, ratio: float, dilution: float) -> None:
        """Set the gas to the initial state.

        Raises:
            SimulationError: `invalid_input`.
        """
        gas = self.gas
        if not gas.min_temp <= temperature <= gas.max_temp:
            raise SimulationError(
                "invalid_input",
                f"temperature_0 must lie between {gas.min_temp:g} and {gas.max_temp:g} K, got {temperature:g}",
            )
        if not (pressure > 0 and ratio >= 0 and 0 <= dilution < 1):
            raise SimulationError(
                "invalid_input",
                f"pressure_0 > 0, equivalence_ratio >= 0 and 0 <= dilution < 1 are needed, got {pressure:g}, {ratio:g} "
                f"and {dilution:g}",
            )
        try:
            gas.set_equivalence_ratio(
                ratio, self.fuel, self.oxidizer, diluent=self.diluent, fraction={"diluent": dilution}
            )
            gas.TP = temperature, pressure
        except (self._cantera.CanteraError, ValueError) as error:
            raise SimulationError("invalid_input", _line(error)) from error

    def elements(self, fractions: Float[np.ndarray, "*batch species"]) -> Float[np.ndarray, "*batch element"]:
        """Mass fraction of each element, which reactions do not change."""
        return np.asarray(fractions) @ self._element_shares

    @cached_property
    def _element_shares(self) -> Float[np.ndarray, "species element"]:
        gas = self.gas
        atoms = np.array([[gas.n_atoms(s, e) for e in range(gas.n_elements)] for s in range(gas.n_species)])
        weights = np.array([gas.atomic_weight(e) for e in range(gas.n_elements)])
        return np.asarray(atoms * weights / gas.molecular_weights[:, None])


def _texts(value: Any) -> Iterator[str]:
    """All strings of a nested value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _texts(str(key))
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)


def _line(error: Exception) -> str:
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    return "; ".join(line for line in lines if line.strip("* "))[:300]
