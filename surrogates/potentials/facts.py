"""The metadata of a potential, saved with its weights: settings, heads, and the labels that they learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from flax import nnx
from jaxtyping import Float
from numpy import ndarray

from data.plain import FLAT, OMIT_DEFAULT
from data.structures.frame_names import FrameKeys
from data.structures.structures import Structures
from surrogates.learning.conformal import Conformal
from surrogates.learning.teaching import Teacher
from surrogates.potentials.atom_energies import References
from surrogates.potentials.distance_floor import ends
from surrogates.potentials.energy import EnergyForcesLoss, EnergyModel, Fact
from surrogates.potentials.networks.architectures import ARCHITECTURES, NetworkConfig
from surrogates.potentials.networks.painn import PaiNNConfig
from surrogates.trained import with_weights


@dataclass(frozen=True)
class PotentialSettings:
    """Settings of the ensemble, of the loss and of the padding of batches.

    Attributes:
        ensemble: number of members; with 2 or more, each output has a standard deviation.
        committee: number of output layers that are drawn from the posterior of the last layer of a single network,
            which gives it standard deviations (see `last_layer`); 0 for none.
        repulsion: whether the repulsion of nuclei at short range is added (see `repulsion`).
        repulsion_reach: distance beyond which that repulsion is 0, over the sum of the covalent radii of two atoms.
        distance_floor: share of the shortest distance of two elements in training below which the network sees no
            shorter one, and where the repulsion ends instead of at `repulsion_reach` (see `distance_floor`); 0 for a
            network that sees all distances.
        long_range: whether the Coulomb energy of latent charges is added (see `coulomb`); for isolated molecules only.
        buckets: number of padded sizes of molecules; each is compiled once.
        loss: the loss that training minimises.
    """

    ensemble: int = 1
    committee: int = 0
    repulsion: bool = False
    long_range: bool = False
    buckets: int = 4
    loss: EnergyForcesLoss = field(default_factory=EnergyForcesLoss, metadata=FLAT)
    #: Potentials of earlier versions lack it, and must keep their fingerprint.
    repulsion_reach: float = field(default=1.0, metadata=OMIT_DEFAULT)
    distance_floor: float = field(default=0.0, metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        if min(self.ensemble, self.buckets) < 1:
            raise ValueError(f"ensemble and buckets must be at least 1; got {self}")
        if not 0 < self.repulsion_reach <= 1:
            raise ValueError(f"repulsion_reach must be above 0 and at most 1, got {self.repulsion_reach}")
        if not 0 <= self.distance_floor <= 1:
            raise ValueError(f"distance_floor must lie between 0 and 1, got {self.distance_floor}")
        if self.committee < 0 or self.committee == 1:
            raise ValueError(f"committee must be 0, or at least 2 to have a spread; got {self.committee}")

    @property
    def draws(self) -> int:
        """Number of output layers to draw; an ensemble needs none."""
        return self.committee if self.ensemble == 1 else 0


@dataclass(frozen=True)
class PotentialConfig(PotentialSettings):
    """The settings of training together with those of the network of each member."""

    network: Annotated[NetworkConfig, ARCHITECTURES] = field(default_factory=PaiNNConfig)


@dataclass(frozen=True)
class Head:
    """Metadata of one head, which learned one set of labels.

    Attributes:
        references: reference energies of atoms.
        labels_fingerprint: fingerprint of the method, or hash of the files, that the labels come from.
        has_energy: whether energies were learned; otherwise the head predicts forces only.
        charges: total charges that occurred in training, e, ascending.
        energy: calibration of the interval of the energy; None without calibration frames.
        forces: calibration of the interval of a force component; None without calibration frames.
        baseline: provenance of the cheaper simulator that the labels are differences to; None for plain labels.
        keys: names of the labels in the files of frames; None for the usual names.
    """

    references: References
    labels_fingerprint: str
    has_energy: bool = True
    charges: tuple[int, ...] = (0,)
    energy: Conformal | None = None
    forces: Conformal | None = None
    baseline: Mapping[str, Any] | None = None
    #: Potentials of earlier versions lack it, and must keep their fingerprint.
    keys: FrameKeys | None = field(default=None, metadata=OMIT_DEFAULT)


@dataclass(frozen=True)
class PotentialFacts:
    """Metadata that is saved with the weights.

    Attributes:
        config: settings of training and of the network.
        scale: factor of the outputs of the network, eV; see `EnergyModel`.
        heads: the heads by name, in the order of their weights.
        active: name of the head that answers.
        novelty: largest distance (see `last_layer.distance`) of a structure in the domain; None if unknown. A
            hundredth of the training structures exceeds it (see `fit.DOMAIN_SHARE`), in earlier versions none.
        scores: errors on held-out data, by metric with its unit in the key.
        hashed_scores: scores that the fingerprint includes: those of a potential that was saved by the first version,
            which hashed them. Fingerprints of others do not depend on scores.
        taught_by: the teacher whose answers were learned, beside labels or without any; None for labels alone.
        began_from: fingerprint of the potential whose weights the training began from; None for fresh weights.
        shortest: shortest distances of elements in training (see `distance_floor.shortest_distances`); empty without
            `distance_floor`.
    """

    config: PotentialConfig
    scale: float
    heads: Mapping[str, Head]
    active: str
    novelty: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    hashed_scores: Mapping[str, float] = field(default_factory=dict, metadata=OMIT_DEFAULT)
    taught_by: Teacher | None = field(default=None, metadata=OMIT_DEFAULT)
    began_from: str | None = field(default=None, metadata=OMIT_DEFAULT)
    shortest: Mapping[str, float] = field(default_factory=dict, metadata=OMIT_DEFAULT)

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
        """The index of the head that answers, in the weights."""
        return list(self.heads).index(self.active)

    @property
    def references(self) -> References:
        """Reference energies of atoms of the head that answers."""
        return self.head.references

    def reference_energy(self, structures: Structures) -> Float[ndarray, " M"]:
        """sum_a t[z_a] of the head that answers, eV, in float64."""
        return self.references.energy(structures)

    def with_head(self, **changes: Any) -> PotentialFacts:
        """A copy in which some entries of the head that answers are replaced, such as `energy` or `forces`."""
        return replace(self, heads={**self.heads, self.active: replace(self.head, **changes)})

    def model(self, seed: int = 0) -> EnergyModel:
        """A model of this configuration with initial weights."""
        scale, release, ends = self._of_labels
        return EnergyModel(
            self.config.network,
            self.config.ensemble,
            scale,
            release,
            nnx.Rngs(seed),
            ends=ends,
            repulsive=self.config.repulsion,
            reach=self.config.repulsion_reach,
            long_range=self.config.long_range,
        )

    def weighted(self, weights: Any, model: EnergyModel | None = None) -> EnergyModel:
        """The model with weights that were trained before.

        Args:
            weights: a nested dict; see `weights_of`.
            model: a model of this configuration, of which only the structure counts; None to make it.
        """
        structure = nnx.eval_shape(self.model) if model is None else model
        trained = with_weights(structure, weights)
        trained.state_facts(*self._of_labels)
        return trained

    @property
    def _of_labels(self) -> tuple[float, list[dict[int, float]], Float[ndarray, "Z Z"] | None]:
        config = self.config
        end = ends(self.shortest, config.distance_floor, config.repulsion_reach) if config.distance_floor > 0 else None
        return self.scale, [head.references.release() for head in self.heads.values()], end


def weights_of(state: nnx.State) -> Any:
    """The weights in the state of a model, as a nested dict without what its facts say."""
    return nnx.to_pure_dict(nnx.filter_state(state, nnx.Not(Fact)))
