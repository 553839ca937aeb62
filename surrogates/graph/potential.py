"""The surrogate of a quantum-chemical method on geometries: energies and conservative forces, with error bars.

It answers the request of such a method (numbers, positions) with energy and forces, from an ensemble of
networks (see `energy` and `networks`) and reference energies of atoms (see `references`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from ase.data import chemical_symbols
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float, Int

from data.errors import InputError
from data.structure_batches import Shape, StructureBatch, StructureBatches, choose_sizes, round_up, shapes
from data.structures import MAX_ATOMIC_NUMBER, MIN_DISTANCE, Structures
from simulators.base import SimulationError, Spec, Variable, check, content_hash, dataset
from surrogates.base import CARD, load_weights, read_card, save_surrogate
from surrogates.checkpoints import checksum
from surrogates.devices import shard_batch
from surrogates.graph.energy import EnergyForcesLoss, EnergyModel, evaluate
from surrogates.graph.networks import ARCHITECTURES, NetworkConfig, architecture
from surrogates.graph.painn import PaiNNConfig
from surrogates.graph.references import References
from surrogates.uncertainty import Conformal

KIND = "potential"
INPUTS = (
    Variable("numbers", ("atom",), "1", "int32", "atomic numbers"),
    Variable("positions", ("atom", "axis"), "Angstrom", "float64", "positions of the nuclei"),
    Variable("charge", (), "e", "int32", "total charge"),
)
OUTPUTS = {
    "energy": Variable("energy", (), "eV", "float64", "total energy"),
    "energy_std": Variable("energy_std", (), "eV", "float64", "standard deviation of the energy"),
    "energy_low": Variable("energy_low", (), "eV", "float64", "lower bound of the energy"),
    "energy_high": Variable("energy_high", (), "eV", "float64", "upper bound of the energy"),
    "forces": Variable("forces", ("atom", "axis"), "eV/Angstrom", "float64", "forces on the nuclei"),
    "forces_std": Variable(
        "forces_std", ("atom", "axis"), "eV/Angstrom", "float64", "standard deviation of the forces"
    ),
}
#: Atom slots times neighbour slots of one batch of predictions: what a CPU's cache holds, what fills a GPU.
CPU_PAIRS, ACCELERATOR_PAIRS = 8_192, 1_048_576
#: With at most this many sizes of molecules, each has a shape of its own.
EXACT_SIZES = 4
#: Shapes for a table of more sizes than that.
MOST_SIZES = 8


@dataclass(frozen=True)
class PotentialSettings:
    """How a potential is trained, and on batches of which shape.

    Attributes:
        ensemble: number of members; from 2 on, each output has a standard deviation.
        energy_weight, forces_weight, final_energy_weight, final_forces_weight, final_from, final_ramp: see
            `EnergyForcesLoss`.
        buckets: number of sizes to which molecules are padded.
    """

    ensemble: int = 1
    energy_weight: float = 1.0
    forces_weight: float = 1.0
    final_energy_weight: float | None = None
    final_forces_weight: float | None = None
    final_from: float = 0.75
    final_ramp: float = 0.0
    buckets: int = 4

    def __post_init__(self) -> None:
        if min(self.ensemble, self.buckets) < 1:
            raise ValueError(f"ensemble and buckets must be at least 1; got {self}")
        self.loss()

    def loss(self) -> EnergyForcesLoss:
        """What training minimises."""
        return EnergyForcesLoss(
            self.energy_weight,
            self.forces_weight,
            self.final_energy_weight,
            self.final_forces_weight,
            self.final_from,
            self.final_ramp,
        )


@dataclass(frozen=True)
class PotentialConfig(PotentialSettings):
    """The settings, and the network of each member."""

    network: NetworkConfig = field(default_factory=PaiNNConfig)

    def to_json(self) -> dict[str, Any]:
        """A plain dict, from which `from_json` makes an equal configuration."""
        return {**asdict(self), "network": {"architecture": architecture(self.network), **asdict(self.network)}}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> PotentialConfig:
        """The configuration that `to_json` described."""
        network = dict(value["network"])
        made = ARCHITECTURES[network.pop("architecture")][0](**network)
        return PotentialConfig(**{**value, "network": made})


@dataclass(frozen=True)
class Predictions:
    """Answers for a table of structures, in its order and layout.

    Attributes:
        energy: total energies, eV.
        forces: eV/Angstrom.
        energy_std, forces_std: standard deviations over the ensemble; None for a single member.
        energy_low, energy_high: bounds of the calibrated interval, eV; None without calibration.
    """

    energy: Float[np.ndarray, " M"]
    forces: Float[np.ndarray, "A 3"]
    energy_std: Float[np.ndarray, " M"] | None
    forces_std: Float[np.ndarray, "A 3"] | None
    energy_low: Float[np.ndarray, " M"] | None
    energy_high: Float[np.ndarray, " M"] | None


@dataclass(frozen=True)
class Facts:
    """What travels with the weights.

    Attributes:
        config: how they were trained.
        references: energies of atoms.
        scale: eV; see `EnergyModel`.
        labels_fingerprint: of the method, or the hash of the files, whose labels were learned.
        has_energy: whether energies were learned; otherwise only forces are answered.
        scores: held-out errors, flat keys with units.
        calibration: of the energy's interval; None if no frames were set aside for it.
    """

    config: PotentialConfig
    references: References
    scale: float
    labels_fingerprint: str
    has_energy: bool
    scores: Mapping[str, float]
    calibration: Conformal | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict, from which `from_json` makes equal facts."""
        return {
            "config": self.config.to_json(),
            "references": self.references.to_json(),
            "scale": self.scale,
            "labels_fingerprint": self.labels_fingerprint,
            "has_energy": self.has_energy,
            "scores": dict(self.scores),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Facts:
        """The facts that `to_json` described."""
        return Facts(
            config=PotentialConfig.from_json(value["config"]),
            references=References.from_json(value["references"]),
            scale=float(value["scale"]),
            labels_fingerprint=str(value["labels_fingerprint"]),
            has_energy=bool(value["has_energy"]),
            scores={str(k): float(v) for k, v in value["scores"].items()},
            calibration=None if value["calibration"] is None else Conformal.from_json(value["calibration"]),
        )

    def model(self, seed: int = 0) -> EnergyModel:
        """A model of this configuration with fresh weights."""
        return EnergyModel(
            self.config.network,
            self.config.ensemble,
            self.scale,
            self.references.release(),
            nnx.Rngs(seed),
        )


class Potential:
    """Energies and forces of molecules made of the elements that it was trained on."""

    def __init__(self, model: EnergyModel, facts: Facts) -> None:
        self.facts = facts
        self.model = model
        graph, self._state = nnx.split(model)
        elements = list(facts.references.elements)
        self._known = np.zeros(MAX_ATOMIC_NUMBER + 1, bool)
        self._known[[0, *elements]] = True
        self._reference = np.zeros(MAX_ATOMIC_NUMBER + 1)
        self._reference[elements] = facts.references.bonded
        self._compilations = 0

        def run(state: nnx.State, batch: StructureBatch) -> tuple[jax.Array, jax.Array]:
            self._compilations += 1  # Python runs this only while a new shape is traced.
            return evaluate(nnx.merge(graph, state), batch)

        self._run = jax.jit(run)

    @property
    def name(self) -> str:
        """Short and readable."""
        return f"{architecture(self.facts.config.network)}:{self.fingerprint[:8]}"

    @property
    def spec(self) -> Spec:
        """Energies only if some were learned, deviations only of an ensemble, bounds only if calibrated."""
        absent = set() if self.facts.has_energy else {"energy", "energy_std", "energy_low", "energy_high"}
        if self.facts.config.ensemble == 1:
            absent |= {"energy_std", "forces_std"}
        if self.facts.calibration is None:
            absent |= {"energy_low", "energy_high"}
        return Spec(INPUTS, tuple(v for name, v in OUTPUTS.items() if name not in absent))

    @property
    def fingerprint(self) -> str:
        """Hash of the facts and the weights."""
        weights = checksum([np.asarray(leaf) for leaf in jax.tree.leaves(self._state)])
        return content_hash([self.facts.to_json(), weights])

    @property
    def provenance(self) -> dict[str, Any]:
        """What learned from which labels, and how well."""
        return {"simulator": "surrogate:potential", "version": "1", "settings": self.facts.to_json()}

    @property
    def labels_fingerprint(self) -> str:
        """Of the method, or the hash of the files, whose labels were learned."""
        return self.facts.labels_fingerprint

    @property
    def scores(self) -> dict[str, float]:
        """Held-out errors, flat keys with units."""
        return dict(self.facts.scores)

    @property
    def cutoff_angstrom(self) -> float:
        """Atoms farther apart than this do not see each other in one round of messages."""
        return self.facts.config.network.cutoff_angstrom

    @property
    def compilations(self) -> int:
        """How many shapes have been compiled for prediction."""
        return self._compilations

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Answer one request: energy and forces of one molecule.

        Raises:
            SimulationError: `invalid_input` for an element that was not in the training set, a charge,
                or atoms on top of each other.
        """
        check(inputs, INPUTS, optional=("charge",))
        if "charge" in inputs and int(inputs["charge"]) != 0:
            raise SimulationError(
                "invalid_input", f"charge is {int(inputs['charge'])}; only neutral molecules were learned"
            )
        one = Structures.from_arrays([inputs["numbers"].values], [inputs["positions"].values])
        found = self.predict_structures(one, sizes=(round_up(int(one.sizes[0])),))
        answer: dict[str, Any] = {}
        for variable in self.spec.outputs:
            values = getattr(found, variable.name)
            answer[variable.name] = values if variable.dims else values[0]
        return dataset(self.spec.outputs, answer)

    def predict(self, batch: StructureBatch) -> dict[str, np.ndarray]:
        """Answer a batch of fixed shape; see `data.structure_batches.pad`.

        Returns:
            `energy` (M,) in eV, float64; `forces` (M, N, 3) in eV/Angstrom; 0 where padded; and of an
            ensemble `energy_std` and `forces_std`, of a calibrated one `energy_low` and `energy_high`.
        """
        unlabelled = batch._replace(
            energy=np.zeros(0), energy_known=np.zeros(0), forces=np.zeros(0), forces_known=np.zeros(0)
        )
        energy, forces = (np.asarray(x, np.float64) for x in self._run(self._state, unlabelled))
        reference = self._reference[np.asarray(batch.numbers)].sum(axis=-1)
        answer = {"energy": energy.mean(axis=0) + reference, "forces": forces.mean(axis=0)}
        if len(energy) > 1:
            answer["energy_std"] = energy.std(axis=0, ddof=1)
            answer["forces_std"] = forces.std(axis=0, ddof=1)
        if self.facts.calibration is not None:
            std = answer.get("energy_std", np.zeros_like(answer["energy"]))
            bounds = self.facts.calibration.interval(answer["energy"], std)
            answer["energy_low"], answer["energy_high"] = bounds
        return answer

    def predict_structures(
        self,
        structures: Structures,
        *,
        sizes: Sequence[int] | None = None,
        mesh: Mesh | None = None,
    ) -> Predictions:
        """Answer a table of any length and mixture of sizes, in batches of few shapes.

        Args:
            structures: their energies and forces, where they have any, are not looked at.
            sizes: atoms of the shapes to use; by default chosen from `structures`.
            mesh: devices to share each batch among; None for one device.

        Raises:
            SimulationError: `invalid_input`, as `simulate`.
        """
        self.refuse_unknown(structures)
        batches = self.batches(structures, sizes=sizes, devices=1 if mesh is None else mesh.size)
        found: dict[str, np.ndarray] = {}
        for (_, rows), batch in zip(batches.plan(0), batches.epoch(0), strict=True):
            answer = self.predict(batch if mesh is None else shard_batch(batch, mesh))
            inside = batch.numbers[: len(rows)] > 0
            atoms = structures.atoms_of(rows)
            for name, values in answer.items():
                per_atom = "atom" in OUTPUTS[name].dims
                if name not in found:
                    size = (len(structures.numbers), 3) if per_atom else (len(structures),)
                    found[name] = np.zeros(size)
                found[name][atoms if per_atom else rows] = (
                    values[: len(rows)][inside] if per_atom else values[: len(rows)]
                )
        return Predictions(**{name: found.get(name) for name in OUTPUTS})  # type: ignore[arg-type]

    def batches(
        self, structures: Structures, *, sizes: Sequence[int] | None = None, devices: int = 1
    ) -> StructureBatches:
        """The batches in which `predict_structures` answers a table, in their order.

        Args:
            structures: any.
            sizes: atoms of the shapes to use; by default chosen from `structures`.
            devices: molecules of each batch are a multiple of this.
        """
        cutoff = self.cutoff_angstrom
        chosen = sizes or _sizes(structures.sizes)
        made, which = shapes(structures, cutoff, chosen, molecules=None, pairs=pairs_budget(), multiple=devices)
        counts = np.bincount(which, minlength=len(made))
        made = [
            Shape(min(s.molecules, -(-round_up(int(n)) // devices) * devices), s.atoms, s.neighbours)
            for s, n in zip(made, counts, strict=True)
        ]
        return StructureBatches(structures, tuple(made), which, cutoff, seed=None)

    def refuse_unknown(self, structures: Structures) -> None:
        """Refuse what the potential cannot answer.

        Raises:
            SimulationError: `invalid_input`, naming elements that it was not trained on, or the first
                structure with atoms on top of each other.
        """
        unknown = np.unique(structures.numbers[~self._known[np.clip(structures.numbers, 0, MAX_ATOMIC_NUMBER)]])
        if len(unknown):
            names = ", ".join(f"{chemical_symbols[z]} ({z})" for z in unknown.tolist())
            learned = ", ".join(chemical_symbols[z] for z in self.facts.references.elements)
            raise SimulationError("invalid_input", f"unknown element {names}; the potential knows {learned}")
        close = structures.shortest_distances() < MIN_DISTANCE
        if close.any():
            raise SimulationError(
                "invalid_input",
                f"structure {int(np.flatnonzero(close)[0])} has two atoms closer than {MIN_DISTANCE} Angstrom",
            )

    def with_facts(self, **changes: Any) -> Potential:
        """The same weights with other facts, such as `scores` or `calibration`."""
        return Potential(self.model, replace(self.facts, **changes))

    def save(self, directory: Path) -> None:
        """Write it to a directory, from which `surrogates.base.load_surrogate` reads it."""
        card = {
            "spec": self.spec.to_json(),
            "facts": self.facts.to_json(),
            "labels_fingerprint": self.labels_fingerprint,
            "scores": self.scores,
        }
        save_surrogate(directory, KIND, nnx.to_pure_dict(self._state), card)

    @staticmethod
    def load(directory: Path) -> Potential:
        """The potential that `save` wrote; runs no code from the directory.

        Raises:
            InputError: there is no potential, or its card lacks something.
            CorruptStoreError: weights are missing or changed.
        """
        card = read_card(directory)
        if card["kind"] != KIND:
            raise InputError(f"a {card['kind']} surrogate, not a {KIND}", where=str(directory / CARD))
        try:
            facts = Facts.from_json(card["facts"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the description is incomplete: {error}",
                where=str(directory / CARD),
                remedy="Train it again",
            ) from error
        graph, state = nnx.split(facts.model())
        nnx.replace_by_pure_dict(state, load_weights(directory, nnx.to_pure_dict(state)))
        return Potential(nnx.merge(graph, state), facts)


def pairs_budget() -> int:
    """Atom slots times neighbour slots of one batch of predictions on this machine."""
    return CPU_PAIRS if jax.default_backend() == "cpu" else ACCELERATOR_PAIRS


def _sizes(sizes: Int[np.ndarray, " M"]) -> tuple[int, ...]:
    """Shapes for molecules of these sizes: the sizes themselves if they are few, else a few even ones.

    Even ones, so that tables that differ little share what is compiled.
    """
    distinct = np.unique(sizes)
    if len(distinct) <= EXACT_SIZES:
        return tuple(int(n) for n in distinct)
    return choose_sizes(sizes + sizes % 2, MOST_SIZES)
