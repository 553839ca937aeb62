"""The surrogate of a quantum-chemical method on geometries: energies, forces and stresses, with error bars.

It takes the same request as the method (numbers, positions, charge, cell). The answer is the sum of the outputs of a
network or an ensemble of networks (see `energy` and `networks`), reference energies of atoms (see `references`) and, if
the labels were differences to a cheaper simulator, the answer of that simulator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float, Int

from data.errors import InputError
from data.plain import entry
from data.spec import SimulationError, Spec, check
from data.structures.batches import StructureBatch, StructureBatches, System, round_up, shapes
from data.structures.frame_names import FrameKeys
from data.structures.structures import MAX_ATOMIC_NUMBER, Structures
from simulators.adapter import Simulator
from surrogates.learning.devices import shard_batch, side_by_side
from surrogates.learning.program_work import CountedProgram
from surrogates.learning.step import count_compilations
from surrogates.potentials.baseline import baseline_answers
from surrogates.potentials.energy import EnergyModel
from surrogates.potentials.facts import PotentialFacts, weights_of
from surrogates.potentials.fixed_shapes import FixedShapes
from surrogates.potentials.last_layer import LastLayer, distance, spread
from surrogates.potentials.networks.architectures import ARCHITECTURES
from surrogates.potentials.padding import padded_sizes, pairs_budget
from surrogates.potentials.potential_spec import INPUTS, OPTIONAL, OUTPUTS, StructurePredictions
from surrogates.potentials.refusals import refuse_unlearned
from surrogates.potentials.structure_answers import answer_of, answer_requests, structures_of
from surrogates.trained import TrainedSurrogate


class PotentialSurrogate(TrainedSurrogate[EnergyModel, PotentialFacts]):
    """A trained potential for structures of the elements and total charges that occurred in training.

    Args:
        model: the networks with their weights.
        facts: settings, heads and scores.
        last_layer: posterior of the last layer (see `last_layer`); without it a single network has no standard
            deviations, and no potential has a domain.
        baseline: the simulator that the labels of the active head are differences to; None for plain labels.
    """

    KIND = "potentials"
    FACTS = PotentialFacts
    PROGRAMS = ("_measure", "_run")

    def __init__(
        self,
        model: EnergyModel,
        facts: PotentialFacts,
        last_layer: LastLayer | None = None,
        baseline: Simulator | None = None,
    ) -> None:
        super().__init__(model, facts)
        self.last_layer = last_layer
        self.baseline = baseline
        #: The only shapes of batches that are asked; None for those that suit the structures.
        self.fixed_shapes: FixedShapes | None = None
        graph = self._graph
        self._reference = np.zeros(MAX_ATOMIC_NUMBER + 1)
        self._reference[list(facts.references.elements)] = facts.references.bonded
        self._arrays = None if last_layer is None else jax.tree.map(jnp.asarray, last_layer.arrays())

        def run(state: nnx.State, arrays: dict[str, jax.Array] | None, batch: StructureBatch) -> dict[str, Any]:
            model = nnx.merge(graph, state)
            system = batch.system
            members = model(system)
            answer: dict[str, Any] = {"atomic": members.atomic, "forces": members.forces.mean(axis=0)}
            if members.virial is not None:
                answer["stress"] = members.virial.mean(axis=0) / batch.volume[:, None, None]
            if members.forces.shape[0] > 1:
                answer["forces_std"] = members.forces.std(axis=0, ddof=1)
            if arrays is not None:
                answer["distance"] = distance(model, arrays["whitening"], system)
                answer["squeeze"] = model.squeeze(system)
                if facts.config.draws:
                    std = spread(model, arrays["covariance"], arrays["deviations"], system)
                    answer["energy_std"], answer["forces_std"] = std
            return answer

        def measure(state: nnx.State, whitening: jax.Array, system: System) -> tuple[jax.Array, jax.Array]:
            model = nnx.merge(graph, state)
            return distance(model, whitening, system), model.squeeze(system)

        self._measure = CountedProgram(measure)
        # On a CPU one thread computes a batch, and several batches run at a time; see `predict_structures`.
        self._run = CountedProgram(run, compiler_options={"xla_cpu_multi_thread_eigen": False})

    @property
    def name(self) -> str:
        """Architecture and the first digits of the fingerprint, such as "painn:0123abcd"."""
        return f"{ARCHITECTURES.name_of(self.facts.config.network)}:{self.fingerprint[:8]}"

    @property
    def stands_on(self) -> Mapping[str, str]:
        """See `TrainedSurrogate.stands_on`."""
        baseline = self.facts.head.baseline
        return {} if baseline is None else {"on": str(baseline["name"]), "on_fingerprint": str(baseline["fingerprint"])}

    @property
    def spec(self) -> Spec:
        """Inputs and outputs; energies, deviations, bounds and `in_domain` only if the active head has them."""
        head, config = self.facts.head, self.facts.config
        absent = {"stress"}
        if not head.has_energy:
            absent |= {"energy", "energy_std", "energy_low", "energy_high"}
        if config.ensemble == 1 and not (config.draws and self.last_layer is not None):
            absent |= {"energy_std", "forces_std"}
        if head.energy is None:
            absent |= {"energy_low", "energy_high"}
        if head.forces is None:
            absent |= {"forces_low", "forces_high"}
        if self.facts.novelty is None or self.last_layer is None:
            absent |= {"in_domain"}
        return Spec(INPUTS, tuple(v for name, v in OUTPUTS.items() if name not in absent), (), self.stands_on)

    @property
    def labels_fingerprint(self) -> str:
        """Fingerprint of the method, or hash of the files, whose labels the active head learned."""
        return self.facts.head.labels_fingerprint

    @property
    def cutoff_angstrom(self) -> float:
        """The cutoff, Angstrom; atoms farther apart exchange no messages."""
        return self.facts.config.network.cutoff_angstrom

    @property
    def frame_keys(self) -> FrameKeys | None:
        """Names of the labels of the active head in the files of frames; None for the usual names."""
        return self.facts.head.keys

    @property
    def needs_spin(self) -> bool:
        """Whether spins matter: a potential itself does not distinguish them, but its baseline may."""
        return self.facts.head.baseline is not None

    @property
    def compilations(self) -> int:
        """Number of shapes that have been compiled for prediction."""
        return count_compilations(self._run)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Predict energy and forces of one structure, and its stress if the cell has three vectors.

        Raises:
            SimulationError: `invalid_input`: an element or the charge did not occur in training, or two atoms nearly
                coincide; `missing_component`: the potential needs a baseline and has none (see `with_baseline`);
                `not_converged`: the prediction is not finite.
        """
        check(inputs, INPUTS, optional=OPTIONAL)
        one = structures_of([inputs])
        predictions = self.predict_structures(one, sizes=(round_up(int(one.sizes[0])),))
        return answer_of(self, predictions, one, 0)

    def simulate_many(self, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
        """Predict many structures in batches; see `simulators.adapter.AnswersMany`."""
        return answer_requests(self, inputs)

    def predict(self, batch: StructureBatch, *, error_bars: bool = True) -> dict[str, np.ndarray]:
        """Predict for a batch of fixed shape (see `data.structures.batches.pad`), without the baseline.

        Args:
            batch: padded structures; labels are ignored.
            error_bars: False for energies, forces and stresses alone. The standard deviations of forces from a
                committee cost a backward pass for each of its draws.

        Returns:
            `energy` (M,) in eV, float64, and `forces` (M, N, 3) in eV/Angstrom, 0 where padded; `stress`
            (M, 3, 3) of a periodic batch, in eV/Angstrom^3; and `energy_std`, `forces_std`, bounds and `in_domain` as
            in `spec`.
        """
        bare = np.zeros(0)
        arrays = self._arrays if error_bars else None
        batch = batch._replace(
            head=np.full(len(batch.numbers), self.facts.index, np.int32) if len(self.facts.heads) > 1 else batch.head,
            energy=bare, energy_known=bare, forces=bare, forces_known=bare, stress=bare, stress_known=bare,
            weight=bare,
        )  # fmt: skip
        outputs = {k: np.asarray(v, np.float64) for k, v in self._run(self._state, arrays, batch).items()}
        reference = self._reference[np.asarray(batch.numbers)].sum(axis=-1)
        # Energies of atoms have the precision of the network; they are summed in double precision.
        members = outputs.pop("atomic").sum(axis=-1)
        answer = {"energy": members.mean(axis=0) + reference}
        if len(members) > 1:
            answer["energy_std"] = members.std(axis=0, ddof=1)
        far, squeeze = outputs.pop("distance", None), outputs.pop("squeeze", None)
        answer |= outputs
        for name, calibration in (("energy", self.facts.head.energy), ("forces", self.facts.head.forces)):
            if calibration is not None and error_bars:
                std = answer.get(f"{name}_std", np.zeros_like(answer[name]))
                answer[f"{name}_low"], answer[f"{name}_high"] = calibration.interval(answer[name], std)
        if far is not None and squeeze is not None and self.facts.novelty is not None:
            answer["in_domain"] = (far <= self.facts.novelty) & (squeeze <= 1)
        return answer

    def predict_structures(
        self,
        structures: Structures,
        *,
        sizes: Sequence[int] | None = None,
        mesh: Mesh | None = None,
        error_bars: bool = True,
    ) -> StructurePredictions:
        """Predict for a table of structures of any sizes, in batches of few shapes.

        Args:
            structures: the structures; labels are ignored.
            sizes: number of atoms of each padded shape; by default chosen from `structures`.
            mesh: devices that share each batch; None for one device.
            error_bars: see `predict`.

        Raises:
            SimulationError: as `simulate`.
        """
        self.refuse_unknown(structures)
        batches = self.batches(structures, sizes=sizes, devices=1 if mesh is None else mesh.size)
        # A table without structures has these columns too.
        columns = {"energy": np.zeros(len(structures)), "forces": np.zeros((len(structures.numbers), 3))}

        def ask(item: tuple[int, Int[np.ndarray, " m"]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            batch = batches.pad(*item)
            answer = self.predict(batch if mesh is None else shard_batch(batch, mesh), error_bars=error_bars)
            return batch.numbers[: len(item[1])] > 0, answer

        plan = batches.plan(0)
        for (_, rows), (inside, answer) in zip(plan, side_by_side(ask, plan, kind=lambda item: item[0]), strict=True):
            atoms = structures.atoms_of(rows)
            for name, values in answer.items():
                per_atom = OUTPUTS[name].dims[:1] == ("atom",)
                if name not in columns:
                    shape = (len(structures.numbers), 3) if per_atom else (len(structures), *values.shape[1:])
                    columns[name] = np.full(shape, np.nan) if name == "stress" else np.zeros(shape, values.dtype)
                columns[name][atoms if per_atom else rows] = (
                    values[: len(rows)][inside] if per_atom else values[: len(rows)]
                )
        if "stress" in columns:
            columns["stress"][structures.volume == 0] = np.nan
        if self.facts.head.baseline is not None:
            energy, forces = baseline_answers(self._baseline(), structures)
            for name in ("energy", "energy_low", "energy_high"):
                if name in columns:
                    columns[name] = columns[name] + energy
            for name in ("forces", "forces_low", "forces_high"):
                if name in columns:
                    columns[name] = columns[name] + forces
        return StructurePredictions(**columns)

    def novelty(self, batch: StructureBatch) -> Float[np.ndarray, " M"]:
        """Distance of each structure of a batch to the training data, over the largest within the domain.

        Where two atoms are closer than the network follows (see `distance_floor`), it is at least the distance there
        over that of the atoms, which is above 1. It takes the energy of the network without its gradient. Without a
        domain it is infinite.
        """
        if self.last_layer is None or not self.facts.novelty:
            return np.full(len(batch.numbers), np.inf)
        head = np.full(len(batch.numbers), self.facts.index, np.int32)
        far, squeeze = self._measure(self._state, self.last_layer.whitening, batch.system._replace(head=head))
        over, near = np.asarray(far, np.float64) / self.facts.novelty, np.asarray(squeeze, np.float64)
        return np.where(near > 1, np.maximum(over, near), over)

    def novelties(self, structures: Structures) -> Float[np.ndarray, " M"]:
        """`novelty` for a table of structures of any sizes.

        Raises:
            SimulationError: as `simulate`.
        """
        self.refuse_unknown(structures)
        batches = self.batches(structures)
        far = np.full(len(structures), np.inf)
        for kind, rows in batches.plan(0):
            far[rows] = self.novelty(batches.pad(kind, rows))[: len(rows)]
        return far

    def batches(
        self, structures: Structures, *, sizes: Sequence[int] | None = None, devices: int = 1
    ) -> StructureBatches:
        """The batches that `predict_structures` computes for a table, in their order.

        Args:
            structures: the structures.
            sizes: number of atoms of each padded shape; by default chosen from `structures`.
            devices: number of devices; the number of molecules of each batch is a multiple of it.
        """
        cutoff = self.cutoff_angstrom
        if self.fixed_shapes is not None:
            return StructureBatches(structures, *self.fixed_shapes.choose(structures), cutoff, seed=None)
        chosen = sizes or padded_sizes(structures.sizes)
        batch_shapes, which = shapes(structures, cutoff, chosen, molecules=None, pairs=pairs_budget(), multiple=devices)
        counts = np.bincount(which, minlength=len(batch_shapes))
        batch_shapes = [
            s._replace(molecules=min(s.molecules, -(-round_up(int(n)) // devices) * devices))
            for s, n in zip(batch_shapes, counts, strict=True)
        ]
        return StructureBatches(structures, tuple(batch_shapes), which, cutoff, seed=None)

    def refuse_unknown(self, structures: Structures) -> None:
        """Refuse structures that the potential cannot predict; see `refusals.refuse_unlearned`."""
        refuse_unlearned(self.facts, structures)

    def with_facts(self, **changes: Any) -> Self:
        """A copy with the same weights in which some facts are replaced, such as `scores` or `active`.

        Settings and shortest distances that are replaced change what it answers.

        Raises:
            InputError: `active` is not one of the heads.
        """
        if changes.get("active", self.facts.active) not in self.facts.heads:
            raise InputError(f"no head {changes['active']!r}", remedy=f"There are {', '.join(self.facts.heads)}")
        facts = replace(self.facts, **changes)
        if {"config", "shortest"} & set(changes):
            return type(self)(facts.weighted(weights_of(self._state)), facts, self.last_layer, self.baseline)
        return type(self)(self.model, facts, self.last_layer, self.baseline)._with_programs_of(self)

    def with_last_layer(self, layer: LastLayer) -> Self:
        """A copy with another posterior of its last layer."""
        return type(self)(self.model, self.facts, layer, self.baseline)._with_programs_of(self)

    def with_baseline(self, baseline: Simulator) -> PotentialSurrogate:
        """A copy that adds the answers of this simulator.

        Raises:
            InputError: the labels were differences to another simulator, or no differences.
        """
        expected = self.facts.head.baseline
        if expected is None or expected["fingerprint"] != baseline.fingerprint:
            what = "no baseline" if expected is None else f"the baseline {expected['name']}"
            raise InputError(f"the potential learned differences to {what}, not to {baseline.name}")
        return PotentialSurrogate(self.model, self.facts, self.last_layer, baseline)._with_programs_of(self)

    def _baseline(self) -> Simulator:
        if self.baseline is None:
            expected = self.facts.head.baseline
            assert expected is not None
            raise SimulationError(
                "missing_component",
                f"the potential learned differences to {expected['name']}; add that simulator with `with_baseline`",
            )
        return self.baseline

    # Storage

    def hashed(self, weights: str, facts: Mapping[str, Any]) -> list[Any]:
        """What the fingerprint hashes, in the order of the first version, so that saved potentials keep theirs."""
        hashed = {name: value for name, value in facts.items() if name != "hashed_scores"}
        return [hashed | {"scores": dict(self.facts.hashed_scores)}, weights]

    def arrays(self) -> dict[str, Any]:
        """The arrays of a saved potential: those of the networks and of the last layer."""
        config = self.facts.config
        layer = self.last_layer or LastLayer.empty(config.network.features, config.draws)
        return {"networks": weights_of(self._state), "last_layer": layer.arrays()}

    def card_entries(self) -> dict[str, Any]:
        """Whether the last layer was fitted."""
        return {"last_layer": self.last_layer is not None}

    @classmethod
    def arrays_like(cls, facts: PotentialFacts, model: Any) -> dict[str, Any]:
        """Shapes and dtypes of `arrays`."""
        layer = LastLayer.empty(facts.config.network.features, facts.config.draws)
        return {"networks": weights_of(nnx.split(model)[1]), "last_layer": layer.arrays()}

    @classmethod
    def restore(cls, facts: PotentialFacts, arrays: Any, card: Mapping[str, Any], model: Any = None) -> Self:
        """The potential of these facts, without its baseline."""
        if card.get("format", 0) < 2:
            facts = replace(facts, hashed_scores=facts.scores)
        layer = LastLayer.of(arrays["last_layer"]) if entry(card, "last_layer", bool) else None
        return cls(facts.weighted(arrays["networks"], model), facts, layer)
