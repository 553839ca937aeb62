"""The 2D molecular surrogate: it predicts properties with calibrated intervals from SMILES."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Annotated, Any

import jax
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Float

from data.errors import InputError
from data.molecules.featurise import encode
from data.molecules.graph_tables import GraphTable, empty_table
from data.molecules.graphs import GraphBatch, GraphSize, assign, filled, pad, plan_batches, with_room
from data.plain import OMIT_DEFAULT, Form
from data.spec import SimulationError, Spec, Variable, check, dataset
from surrogates.learning.box import IN_DOMAIN
from surrogates.learning.conformal import Conformal
from surrogates.learning.devices import local_mesh, replicate, shard_batch
from surrogates.learning.normalise import Standardise
from surrogates.learning.program_work import CountedProgram
from surrogates.learning.rung import RungColumns, Standing, ask_here, flat
from surrogates.learning.step import count_compilations
from surrogates.learning.teaching import Teacher
from surrogates.properties.head_spread import mean_and_spread
from surrogates.properties.mpnn import Ensemble, Inputs, MPNNConfig, read
from surrogates.properties.probability import ProbabilityCalibration, sigmoid
from surrogates.properties.training_domain import Domain
from surrogates.trained import TrainedSurrogate, refuse_not_finite

#: Molecules in a batch of predictions; few enough for the caches of a CPU, and used on accelerators too.
BATCH = 256
#: Half-width of a central 90% interval of a normal distribution, in standard deviations.
NORMAL_90 = 1.6448536269514722

SMILES = Variable("smiles", (), "1", "str", "SMILES")


@dataclass(frozen=True)
class PropertyConfig:
    """Settings of the ensemble and of its loss.

    Attributes:
        network: hyperparameters of the network of each member.
        ensemble: number of members.
        buckets: number of padded sizes of molecules; each is compiled once.
        loss: loss of standardised targets, "l1", "l2" or "huber".
        spread: where standard deviations come from: "members", whose answers differ, or also the "last_layer" of each
            (see `head_spread`), which a single network needs.

    Raises:
        ValueError: a count is below 1, or the loss or the spread is unknown.
    """

    network: MPNNConfig = field(default_factory=MPNNConfig)
    ensemble: int = 3
    buckets: int = 3
    loss: str = "huber"
    #: Surrogates of earlier versions lack it, and must keep their fingerprint.
    spread: str = field(default="members", metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        if min(self.ensemble, self.buckets) < 1:
            raise ValueError(f"ensemble and buckets must be at least 1; got {self}")
        if self.loss not in ("l1", "l2", "huber"):
            raise ValueError(f"loss must be l1, l2 or huber, got {self.loss!r}")
        if self.spread not in ("members", "last_layer"):
            raise ValueError(f"spread must be members or last_layer, got {self.spread!r}")


#: Padded sizes are written as pairs of numbers of atoms and bonds.
BUCKETS = Form(
    list[tuple[int, int]],
    write=lambda buckets: [(b.atoms, b.bonds) for b in buckets],
    read=lambda pairs: tuple(GraphSize(*pair) for pair in pairs),
)


@dataclass(frozen=True)
class PropertyFacts:
    """Metadata that is saved with the weights.

    Attributes:
        config: settings of the ensemble.
        units: unit of each target, in the order of the targets.
        standardise: mean and scale of each target.
        conformal: calibration of each target; a target without calibration has no entry.
        buckets: padded sizes, chosen from the training molecules.
        domain: neighbourhoods and sizes of the training molecules; see `surrogates.properties.training_domain`.
        labels_fingerprint: fingerprint of the simulator, or of the table, whose labels were learned last.
        pretrained_on: fingerprints of the labels that were learned earlier, oldest first.
        scores: errors on held-out data, by metric, with the unit in the key where it is known.
        on: the cheaper simulator whose answers are further inputs, and the line through them to which the networks
            learn differences, which `standardise` scales; None if there is none.
        classification: targets that are binary labels. The networks predict logits of the probability of 1, which
            `standardise` leaves as they are.
        probabilities: calibration of the probabilities; a target without calibration has no entry.
        taught_by: the teacher whose answers were learned, beside labels or without any; None for labels alone.
    """

    config: PropertyConfig
    units: Mapping[str, str]
    standardise: Standardise
    conformal: Mapping[str, Conformal]
    buckets: Annotated[tuple[GraphSize, ...], BUCKETS]
    domain: Domain
    labels_fingerprint: str
    pretrained_on: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    on: Standing | None = field(default=None, metadata=OMIT_DEFAULT)
    classification: tuple[str, ...] = field(default=(), metadata=OMIT_DEFAULT)
    probabilities: Mapping[str, ProbabilityCalibration] = field(default_factory=dict, metadata=OMIT_DEFAULT)
    taught_by: Teacher | None = field(default=None, metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        if self.on is not None and len(self.on.line.offset) != len(self.standardise.names):
            raise ValueError(f"the line must give {', '.join(self.standardise.names)}")
        names = set(self.standardise.names)
        if set(self.units) != names or not set(self.conformal) <= names:
            raise ValueError(f"units and conformal must be of {', '.join(self.standardise.names)}")
        if not set(self.classification) <= names or not set(self.probabilities) <= set(self.classification):
            raise ValueError("classification must be targets, and probabilities be of these")
        if not self.buckets or any(not 0 < b.atoms <= 1 << 16 or not 0 <= b.bonds <= 1 << 16 for b in self.buckets):
            raise ValueError("buckets must have 1 atom or more and 0 bonds or more, at most 65,536 of each")

    def model(self, seed: int = 0) -> Ensemble:
        """An ensemble with initial weights."""
        extra = 0 if self.on is None else len(self.on.scale.names)
        config, targets = self.config, len(self.standardise.names)
        spread = config.spread == "last_layer"
        return Ensemble(config.network, targets, config.ensemble, nnx.Rngs(seed), extra, spread=spread)


class PropertySurrogate(TrainedSurrogate[Ensemble, PropertyFacts]):
    """A calibrated ensemble of message-passing networks, which implements `surrogates.trained.Surrogate`.

    Args:
        model: the networks with their weights.
        facts: settings, scales, domain and calibration.
    """

    KIND = "properties"
    FACTS = PropertyFacts
    PROGRAMS = ("_read", "_forward")

    def __init__(self, model: Ensemble, facts: PropertyFacts) -> None:
        super().__init__(model, facts)
        self.buckets = with_room(facts.buckets)
        # One program serves all members, one after the other: run together they would exceed the caches of a CPU,
        # and compilation would take longer by the number of members.
        graph, _ = nnx.split(model.members[0])
        self._binary = [self.targets.index(name) for name in facts.classification]
        self._mesh = local_mesh()
        self._members = [replicate(nnx.state(member), self._mesh) for member in model.members]
        self.batch_size = -(-BATCH // self._mesh.size) * self._mesh.size

        def forward(weights: Any, inputs: Inputs) -> jax.Array:
            return nnx.merge(graph, weights).answers(inputs)

        # On a CPU several batches are computed at a time, each by one thread: splitting so small a batch between
        # threads costs a third more processor time than it saves. Accelerators ignore the option.
        one_thread = {"xla_cpu_multi_thread_eigen": False}
        self._read = CountedProgram(partial(read, lookup=True), compiler_options=one_thread)
        self._forward = CountedProgram(forward, compiler_options=one_thread)

    # Identity

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the predicted properties."""
        return self.facts.standardise.names

    @cached_property
    def spec(self) -> Spec:
        """The input is a SMILES string; outputs are each target with its standard deviation, and `in_domain`.

        A calibrated target has the bounds of its 90% interval too. A binary label has the probability of 1, and, once
        it is calibrated, the smallest and the largest label that cannot be excluded.
        """
        outputs = []
        for name in self.targets:
            if name in self.facts.classification:
                outputs += _of_a_probability(name, calibrated=name in self.facts.probabilities)
                continue
            unit = self.facts.units[name]
            outputs.append(Variable(name, (), unit, "float64", name.replace("_", " ")))
            outputs.append(Variable(f"{name}_std", (), unit, "float64", f"standard deviation of {name}"))
            if name in self.facts.conformal:
                outputs.append(Variable(f"{name}_low", (), unit, "float64", f"lower end of the interval of {name}"))
                outputs.append(Variable(f"{name}_high", (), unit, "float64", f"upper end of the interval of {name}"))
        outputs.append(Variable(IN_DOMAIN, (), "1", "bool", "whether the request looks like what was learned from"))
        return Spec((SMILES,), tuple(outputs), (), self.stands_on)

    @property
    def name(self) -> str:
        """A name such as "properties:gap,dipole_moment"."""
        return f"properties:{','.join(self.targets)}"

    # Prediction

    @property
    def compilations(self) -> int:
        """Number of shapes that have been compiled."""
        return count_compilations(self._forward)

    def compile(self, buckets: Sequence[GraphSize] | None = None) -> None:
        """Compile for some padded sizes ahead of the first prediction; by default for those of the training."""
        none = empty_table()
        for bucket in self.facts.buckets if buckets is None else buckets:
            batch = pad(none, np.zeros(0, np.int64), bucket, self.batch_size)
            if self.facts.on is not None:
                batch = replace(batch, extra=filled(np.zeros((0, len(self.facts.on.scale.names))), self.batch_size))
            jax.block_until_ready(self._ask(batch))

    def predict(self, batch: GraphBatch) -> dict[str, np.ndarray]:
        """Outputs for the molecules of a padded batch, without those of padding.

        `in_domain` is left out, because a batch does not hold the neighbourhoods of its atoms; `predict_table` and
        `simulate` give it. A surrogate that stands on another one needs the answers of that one as `extra`, divided by
        their scale.

        Raises:
            InputError: the batch lacks these answers.
        """
        if self.facts.on is not None and batch.extra is None:
            raise self._lacking()
        members = np.stack([np.asarray(answer, np.float64) for answer in self._ask(batch)])
        mask = np.asarray(batch.mask)
        mean, std = self._in_units(members[:, mask])
        if self.facts.on is not None and batch.extra is not None:
            mean = mean + self.facts.on.line.apply(np.asarray(batch.extra)[mask])
        answer: dict[str, np.ndarray] = {}
        for k, name in enumerate(self.targets):
            calibrated, low, high = self._calibrate(name, mean[:, k], std[:, k])
            answer |= {name: self._center(name, mean[:, k]), f"{name}_std": calibrated}
            if name in self.facts.conformal or name in self.facts.probabilities:
                answer |= {f"{name}_low": low, f"{name}_high": high}
        return answer

    def predict_table(
        self, table: GraphTable, on: Float[np.ndarray, "molecule column"] | None = None
    ) -> dict[str, np.ndarray]:
        """Predict for a table of molecules, in its order.

        Args:
            table: the molecules.
            on: for a surrogate that stands on another one, the columns of that one's answers (see `ask_rung`).

        Returns:
            For each target t, in its unit: `t`, `t_std`, and the bounds `t_low`, `t_high` of the calibrated
            90% interval, (molecule,) float64; and `in_domain`, bool. For a binary label, `t` is the calibrated
            probability of 1, `t_std` its standard deviation over the members, and `t_low` and `t_high` are the smallest
            and the largest label that cannot be excluded (see `surrogates.properties.probability`).

        Raises:
            InputError: the surrogate stands on another one, whose answers are missing.
        """
        mean, std = self.raw(table, on)
        answer: dict[str, np.ndarray] = {}
        for k, name in enumerate(self.targets):
            calibrated, low, high = self._calibrate(name, mean[:, k], std[:, k])
            value = self._center(name, mean[:, k])
            answer |= {name: value, f"{name}_std": calibrated, f"{name}_low": low, f"{name}_high": high}
        answer[IN_DOMAIN] = self.facts.domain.holds(table)
        return answer

    def domain_counts(self, table: GraphTable) -> dict[str, int]:
        """Counts of molecules in and outside of the training domain; see `Domain.counts`."""
        return self.facts.domain.counts(table)

    def ask_rung(self, smiles: Sequence[str]) -> RungColumns:
        """The answers for molecules of the simulator on which this surrogate stands, computed in this process.

        Raises:
            InputError: it stands on none, or that one cannot be rebuilt.
        """
        if self.facts.on is None:
            raise InputError("the surrogate stands on no other simulator")
        rung, outputs = self.rung, self.facts.on.variables(self.rung)
        requests = [dataset(rung.spec.inputs, {"smiles": text}) for text in smiles]
        return RungColumns.of(rung, outputs, ask_here(rung, requests, [v.name for v in outputs]))

    def raw(
        self, table: GraphTable, on: Float[np.ndarray, "molecule column"] | None = None
    ) -> tuple[Float[np.ndarray, "molecule target"], Float[np.ndarray, "molecule target"]]:
        """Mean and standard deviation over the members before calibration, in the units of the targets.

        Those of a binary label are of the members' probabilities.

        Args:
            table: the molecules.
            on: see `predict_table`.
        """
        extra = None
        if self.facts.on is not None:
            if on is None:
                raise self._lacking()
            extra = self.facts.on.scale.apply(on)
        columns = len(self.targets) * (2 if self.facts.config.spread == "last_layer" else 1)
        predictions = np.zeros((len(self._members), len(table), columns))
        # All batches are handed to the device before the first result is fetched.
        waiting = [(rows, self._ask(batch)) for rows, batch in self._batches(table, extra)]
        for rows, answers in waiting:
            for member, answer in enumerate(answers):
                predictions[member, rows] = np.asarray(answer)[: len(rows)]
        mean, std = self._in_units(predictions)
        return (mean if self.facts.on is None or extra is None else mean + self.facts.on.line.apply(extra)), std

    def _lacking(self) -> InputError:
        assert self.facts.on is not None
        return InputError(
            f"the surrogate stands on {self.facts.on.name}, whose answers are not given",
            where="surrogate",
            remedy="Ask it as a simulator, one molecule after the other, which asks that one too",
        )

    def _ask(self, batch: GraphBatch) -> list[jax.Array]:
        """Start the predictions of each member, which are standardised; does not wait for them."""
        inputs = self._read(shard_batch(batch, self._mesh))
        return [self._forward(weights, inputs) for weights in self._members]

    def _batches(
        self, table: GraphTable, extra: Float[np.ndarray, "molecule column"] | None
    ) -> Iterator[tuple[np.ndarray, GraphBatch]]:
        bucket = assign(table, self.buckets)
        members = {int(b): np.flatnonzero(bucket == b) for b in np.unique(bucket)}
        for place, rows in plan_batches(members, self.buckets, self.batch_size):
            batch = pad(table, rows, self.buckets[place], self.batch_size)
            yield rows, batch if extra is None else replace(batch, extra=filled(extra[rows], self.batch_size))

    def _in_units(self, members: Float[np.ndarray, "member molecule answer"]) -> tuple[np.ndarray, np.ndarray]:
        if self._binary:
            # Scale 1 and mean 0 of these targets leave probabilities as they are.
            members, count = members.copy(), len(self.targets)
            members[..., self._binary] = share = sigmoid(members[..., self._binary])
            if members.shape[-1] > count:
                members[..., [count + k for k in self._binary]] *= share * (1 - share)
        mean, std = mean_and_spread(members, len(self.targets))
        return self.facts.standardise.invert(mean), std * np.array(self.facts.standardise.scale)

    def _center(self, name: str, mean: np.ndarray) -> np.ndarray:
        """The prediction; only probabilities change by calibration."""
        calibration = self.facts.probabilities.get(name)
        return mean if calibration is None else calibration.apply(mean)

    def _calibrate(self, name: str, mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if name in self.facts.classification:
            calibration = self.facts.probabilities.get(name)
            if calibration is None:
                return std, np.zeros_like(mean), np.ones_like(mean)
            return calibration.spread(mean, std), *calibration.labels(mean)
        if name not in self.facts.conformal:
            return std, mean - NORMAL_90 * std, mean + NORMAL_90 * std
        low, high = self.facts.conformal[name].interval(mean, std)
        return (high - low) / (2 * NORMAL_90), low, high

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Predict for one request.

        Raises:
            SimulationError: `invalid_input`: the SMILES cannot be read; `not_converged`: the prediction is not finite;
                or that of the simulator on which the surrogate stands.
            InputError: that simulator cannot be rebuilt.
        """
        check(inputs, self.spec.inputs)
        table, rejected = encode([str(inputs["smiles"].item())])
        if rejected:
            raise SimulationError("invalid_input", f"{inputs['smiles'].item()!r}: {rejected[0][1]}")
        on = None
        if self.facts.on is not None:
            outputs = self.facts.on.variables(self.rung)
            answer = self.rung.simulate(inputs)
            on = np.array([flat(outputs, {v.name: answer[v.name].values for v in outputs})])
        columns = self.predict_table(table, on)
        answer = dataset(self.spec.outputs, {v.name: columns[v.name][0] for v in self.spec.outputs})
        refuse_not_finite(answer)
        return answer

    # Storage

    def hashed(self, weights: str, facts: Mapping[str, Any]) -> list[Any]:
        """What the fingerprint hashes, in the order of the first version, so that saved surrogates keep theirs."""
        return [{name: value for name, value in facts.items() if name != "scores"}, weights]


def _of_a_probability(name: str, *, calibrated: bool) -> list[Variable]:
    """The outputs of a binary label."""
    words = {
        "": f"probability that {name} is 1",
        "_std": f"standard deviation of the probability that {name} is 1",
        "_low": f"smallest label of {name} that cannot be excluded",
        "_high": f"largest label of {name} that cannot be excluded",
    }
    ends = list(words) if calibrated else ["", "_std"]
    return [Variable(f"{name}{end}", (), "1", "float64", words[end]) for end in ends]
