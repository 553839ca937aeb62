"""What travels with the weights of a potential: its settings, its heads, and what they learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from flax import nnx
from jaxtyping import Float
from numpy import ndarray

from data.frame_names import FrameKeys
from data.plain import decode, within
from data.structures import Structures
from surrogates.graph.energy import EnergyForcesLoss, EnergyModel
from surrogates.graph.networks import NetworkConfig, config_from_json, config_to_json
from surrogates.graph.painn import PaiNNConfig
from surrogates.graph.references import References
from surrogates.uncertainty import Conformal


@dataclass(frozen=True)
class PotentialSettings:
    """How a potential is trained, and on batches of which shape.

    Attributes:
        ensemble: number of members; from 2 on, each output has a standard deviation.
        committee: where there is one member, output layers drawn from the posterior of its last one, which give
            it standard deviations (see `last_layer`); 0 for none.
        energy_weight, forces_weight, final_energy_weight, final_forces_weight, final_from, final_ramp,
            stress_weight: see `EnergyForcesLoss`.
        repulsion: add the repulsion of nuclei at short range (see `repulsion`).
        long_range: add the Coulomb energy of latent charges (see `coulomb`); isolated molecules only.
        buckets: number of sizes to which molecules are padded.
    """

    ensemble: int = 1
    committee: int = 0
    energy_weight: float = 1.0
    forces_weight: float = 1.0
    final_energy_weight: float | None = None
    final_forces_weight: float | None = None
    final_from: float = 0.75
    final_ramp: float = 0.0
    stress_weight: float = 1.0
    repulsion: bool = False
    long_range: bool = False
    buckets: int = 4

    def __post_init__(self) -> None:
        if min(self.ensemble, self.buckets) < 1:
            raise ValueError(f"ensemble and buckets must be at least 1; got {self}")
        self.loss()
        if self.committee < 0 or self.committee == 1:
            raise ValueError(f"committee must be 0, or at least 2 to have a spread; got {self.committee}")

    @property
    def draws(self) -> int:
        """Output layers that are drawn: an ensemble has a spread without any."""
        return self.committee if self.ensemble == 1 else 0

    def loss(self) -> EnergyForcesLoss:
        """What training minimises."""
        return EnergyForcesLoss(
            self.energy_weight,
            self.forces_weight,
            self.final_energy_weight,
            self.final_forces_weight,
            self.final_from,
            self.final_ramp,
            self.stress_weight,
        )


@dataclass(frozen=True)
class PotentialConfig(PotentialSettings):
    """The settings, and the network of each member."""

    network: NetworkConfig = field(default_factory=PaiNNConfig)

    def to_json(self) -> dict[str, Any]:
        """A plain dict, from which `from_json` makes an equal configuration."""
        return {**asdict(self), "network": config_to_json(self.network)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> PotentialConfig:
        """The configuration that `to_json` described."""
        with within("network"):
            network = config_from_json(value.get("network"))
        return replace(decode(PotentialConfig, {k: v for k, v in value.items() if k != "network"}), network=network)


@dataclass(frozen=True)
class Head:
    """One set of labels that was learned.

    Attributes:
        references: energies of atoms.
        labels_fingerprint: of the method, or the hash of the files, whose labels were learned.
        has_energy: whether energies were learned; otherwise only forces are answered.
        charges: total charges that occurred, ascending.
        energy: calibration of the energy's interval; None if no frames were set aside for it.
        forces: calibration of the interval of a force component; likewise.
        baseline: what the labels are differences to: the provenance of a cheaper simulator; None if to nothing.
        keys: under which names the labels stood beside the frames; None for the usual ones.
    """

    references: References
    labels_fingerprint: str
    has_energy: bool = True
    charges: tuple[int, ...] = (0,)
    energy: Conformal | None = None
    forces: Conformal | None = None
    baseline: Mapping[str, Any] | None = None
    keys: FrameKeys | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict, from which `from_json` makes an equal head."""
        # Potentials of before lack it, and are to have the fingerprint that they had.
        more = {} if self.keys is None else {"keys": self.keys.to_json()}
        return {
            **more,
            "references": self.references.to_json(),
            "labels_fingerprint": self.labels_fingerprint,
            "has_energy": self.has_energy,
            "charges": list(self.charges),
            "energy": None if self.energy is None else self.energy.to_json(),
            "forces": None if self.forces is None else self.forces.to_json(),
            "baseline": None if self.baseline is None else dict(self.baseline),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Head:
        """The head that `to_json` described."""
        return decode(Head, value)


@dataclass(frozen=True)
class Facts:
    """What travels with the weights.

    Attributes:
        config: how they were trained.
        scale: eV; see `EnergyModel`.
        heads: by name, in the order of the weights.
        active: the head that answers.
        novelty: the distance (see `novelty`) up to which a structure is inside the domain; None if unknown.
        scores: held-out errors, flat keys with units.
    """

    config: PotentialConfig
    scale: float
    heads: Mapping[str, Head]
    active: str
    novelty: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.active not in self.heads:
            raise ValueError(f"no head {self.active!r}; there are {', '.join(self.heads)}")
        if not self.scale > 0:
            raise ValueError(f"scale must be above 0, got {self.scale}")

    @property
    def head(self) -> Head:
        """The head that answers."""
        return self.heads[self.active]

    @property
    def index(self) -> int:
        """The place of the head that answers among the weights."""
        return list(self.heads).index(self.active)

    @property
    def references(self) -> References:
        """Energies of atoms of the head that answers."""
        return self.head.references

    def reference_energy(self, structures: Structures) -> Float[ndarray, " M"]:
        """sum_a t[z_a] of the head that answers, eV, in float64."""
        return self.references.energy(structures)

    def with_head(self, **changes: Any) -> Facts:
        """Other facts of the head that answers, such as `energy` or `forces`."""
        return replace(self, heads={**self.heads, self.active: replace(self.head, **changes)})

    def to_json(self) -> dict[str, Any]:
        """A plain dict, from which `from_json` makes equal facts."""
        return {
            "config": self.config.to_json(),
            "scale": self.scale,
            "heads": {name: head.to_json() for name, head in self.heads.items()},
            "active": self.active,
            "novelty": self.novelty,
            "scores": dict(self.scores),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Facts:
        """The facts that `to_json` described.

        Raises:
            KeyError, TypeError, ValueError: something lacks or is of a wrong kind.
        """
        return decode(Facts, value)

    def model(self, seed: int = 0) -> EnergyModel:
        """A model of this configuration with fresh weights."""
        return EnergyModel(
            self.config.network,
            self.config.ensemble,
            self.scale,
            [head.references.release() for head in self.heads.values()],
            nnx.Rngs(seed),
            repulsive=self.config.repulsion,
            long_range=self.config.long_range,
        )
