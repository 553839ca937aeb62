"""The surrogate of a solver on unstructured meshes: from a mesh to fields at its vertices and global scalars.

The mesh is part of the request. It may come from the solver's mesher or be any triangulation of the domain with the
same kinds of boundary. The error grows on meshes that are finer or coarser than those of training.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Float

from data.errors import InputError
from data.meshes.graphs import Mesh, MeshBatch, pad, padded_nodes
from data.meshes.mesh_samples import ELEMENTS, FLAGS, NODES, mesh_key
from data.spec import ErrorKind, SimulationError, Spec, Variable, check
from surrogates.learning.box import IN_DOMAIN, UNKNOWN, OutOfDomainWarning
from surrogates.learning.program_work import CountedProgram
from surrogates.learning.rung import ask_here
from surrogates.learning.step import count_compilations
from surrogates.meshes.cheaper_answers import answers_wanted, columns, first_estimate, requests_of
from surrogates.meshes.facts import MeshFacts, MeshModel
from surrogates.meshes.training_domain import domain_columns
from surrogates.trained import TrainedSurrogate

#: Largest number of vertices, including padding, of one batch of predictions on a CPU.
BATCH_NODES = 16_384


class MeshAnswer(NamedTuple):
    """Predictions for one mesh, in the units of the layout.

    Attributes:
        fields, fields_std: mean and standard deviation of the members at each node, in the order of
            `MeshLayout.channels`; the deviation is 0 for a single member.
        scalars, scalars_std: likewise for the scalars, in the order of `MeshLayout.scalars`.
        outside: descriptions of the quantities that lie outside of the training domain; None where it is unknown or
            was not checked.
    """

    fields: Float[np.ndarray, "node channel"]
    fields_std: Float[np.ndarray, "node channel"]
    scalars: Float[np.ndarray, " scalar"]
    scalars_std: Float[np.ndarray, " scalar"]
    outside: list[str] | None = None


class MeshSurrogate(TrainedSurrogate[MeshModel, MeshFacts]):
    """A trained ensemble on meshes, which implements `simulators.adapter.Simulator`.

    Args:
        model: the networks with their weights.
        facts: settings, scales and calibration.
    """

    KIND = "meshes"
    FACTS = MeshFacts
    PROGRAMS = ("_answer",)

    def __init__(self, model: MeshModel, facts: MeshFacts) -> None:
        super().__init__(model, facts)
        graph = self._graph

        def answer(state: Any, batch: MeshBatch) -> tuple[Any, ...]:
            fields, scalars = nnx.merge(graph, state)(batch)
            return fields.mean(0), fields.std(0), scalars.mean(0), scalars.std(0)

        self._answer = CountedProgram(answer)

    @cached_property
    def spec(self) -> Spec:
        """Inputs are the mesh and parameters; outputs are fields and scalars, each with a standard deviation."""
        layout = self.facts.layout
        outputs: list[Variable] = []
        for variable in (*layout.fields, *layout.scalars):
            base = variable
            outputs += [base, _about(base, "std", "standard deviation")]
            if self.facts.conformal:
                outputs += [_about(base, "low", "lower end of the interval"), _about(base, "high", "upper end")]
        if self.facts.domain is not None:
            outputs.append(Variable(IN_DOMAIN, (), "1", "bool", "whether the request looks like what was learned from"))
        return Spec(
            (*layout.geometry, *layout.parameters),
            tuple(outputs),
            tuple(layout.axes),
            {**layout.attrs, "surrogate": self.fingerprint[:12], **self.stands_on},
        )

    @property
    def compilations(self) -> int:
        """Number of shapes that have been compiled."""
        return count_compilations(self._answer)

    # Prediction

    def compile(self, largest: int) -> None:
        """Compile for single meshes of up to so many vertices ahead of the first prediction."""
        layout, on = self.facts.layout, self.facts.on
        triangles = self.spec.sizes[layout.geometry[1].dims[1]] == 3
        mesh = Mesh(
            np.eye(3, layout.plane),
            np.array([[0, 1, 2]] if triangles else [[0, 1], [1, 2]], np.int32),
            np.zeros(3, np.int32),
            np.zeros(len(layout.parameters)),
            extra=None if on is None else np.zeros((3, len(on.scale.names))),
        )
        nodes, last = padded_nodes(0), padded_nodes(largest)
        while True:
            self._run(pad([mesh], kinds=layout.kinds, length=self.facts.scale.length, batch_size=1, nodes=nodes))
            if nodes == last:
                return
            nodes = padded_nodes(nodes + 1)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Predict for one mesh; `attrs["out_of_domain"]` names the quantities outside of the training domain, if any.

        Raises:
            SimulationError: `invalid_input`: a variable is missing, has other units or dims or is not finite, the mesh
                is invalid, or a parameter has a sign that training did not contain; `not_converged`: the prediction
                is not finite.
        """
        mesh, domain = self._mesh(inputs), self.facts.domain
        if domain is not None and (wrong := domain.of_other_sign(mesh.parameters)):
            raise SimulationError("invalid_input", "; ".join(wrong))
        try:
            (answer,) = self.predict_meshes([mesh])
        except InputError as error:
            raise SimulationError("invalid_input", str(error)) from error
        if not (np.isfinite(answer.fields).all() and np.isfinite(answer.scalars).all()):
            raise SimulationError(
                "not_converged", "the answer is not finite; the mesh lies far outside of the training domain"
            )
        named = self._by_name(answer)
        if answer.outside is None:
            return self.spec.answer(named).assign_attrs(out_of_domain=UNKNOWN)
        outside = "; ".join(answer.outside)
        whole = self.spec.answer(named | {IN_DOMAIN: np.bool_(not outside)})
        if not outside:
            return whole
        warnings.warn(f"an answer is an extrapolation: {outside}", OutOfDomainWarning, stacklevel=2)
        return whole.assign_attrs(out_of_domain=outside)

    def request_key(self, inputs: xr.Dataset) -> str:
        """See `simulators.adapter.KeysRequests`."""
        return mesh_key(self._mesh(inputs))

    def _mesh(self, inputs: xr.Dataset) -> Mesh:
        """The mesh of a request with its parameters.

        Raises:
            SimulationError: it does not fit, or the mesh is invalid.
        """
        check(inputs, self.spec.inputs, sizes=self.spec.sizes)
        parameters = np.array([float(inputs[v.name]) for v in self.facts.layout.parameters])
        try:
            return Mesh(inputs[NODES].values, inputs[ELEMENTS].values, inputs[FLAGS].values, parameters)
        except InputError as error:
            raise SimulationError("invalid_input", str(error)) from error

    def _by_name(self, answer: MeshAnswer) -> dict[str, Any]:
        """The predictions by name of the output, with bounds where the surrogate is calibrated."""
        layout, conformal = self.facts.layout, self.facts.conformal
        columns = {"": answer.fields, "_std": answer.fields_std}
        numbers = {"": answer.scalars, "_std": answer.scalars_std}
        if conformal:
            columns |= {end: columns[""].copy() for end in ("_low", "_high")}
            numbers |= {end: numbers[""].copy() for end in ("_low", "_high")}
            names = (layout.channels, tuple(v.name for v in layout.scalars))
            for group, arrays in zip(names, (columns, numbers), strict=True):
                for c, name in enumerate(group):
                    band = conformal[name]
                    bounds = band.interval(arrays[""][..., c], arrays["_std"][..., c])
                    arrays["_low"][..., c], arrays["_high"][..., c] = bounds
                    arrays["_std"][..., c] = band.sigma(arrays["_std"][..., c])
        outputs: dict[str, Any] = {}
        for end, array in columns.items():
            outputs |= {f"{name}{end}": values for name, values in layout.named(array).items()}
        for end, array in numbers.items():
            outputs |= {f"{v.name}{end}": array[c] for c, v in enumerate(layout.scalars)}
        return outputs

    def batch(self, meshes: Sequence[Mesh], *, batch_size: int | None = None) -> MeshBatch:
        """Meshes in the units of the layout, as a padded batch for `predict`."""
        on = self.facts.on
        if on is not None:
            meshes = [replace(m, extra=None if m.extra is None else on.scale.apply(m.extra)) for m in meshes]
        plain = [self.facts.scale.apply(replace(m, fields=None, scalars=np.zeros(0))) for m in meshes]
        return pad(plain, kinds=self.facts.layout.kinds, length=self.facts.scale.length, batch_size=batch_size)

    def predict(self, batch: MeshBatch) -> dict[str, np.ndarray]:
        """Predict for a batch: an array for each output of the spec, with the mesh along its first axis; 0 for padding.

        `in_domain` is left out, because a batch does not hold the sizes of its meshes; `predict_meshes` and `simulate`
        give it.

        Raises:
            InputError: the surrogate stands on another method, whose answers a batch does not hold in their units.
        """
        if self.facts.on is not None:
            raise InputError(
                f"the surrogate stands on {self.facts.on.name}", where="surrogate", remedy="Use predict_meshes"
            )
        answers = [self._by_name(answer) for answer in self._run(batch)]
        present = np.asarray(batch.node_mask)
        named = {v.name: np.stack([one[v.name] for one in answers]) for v in self.spec.outputs if v.name in answers[0]}
        for name, array in named.items():
            if array.ndim > 1:
                named[name] = np.where(present.reshape(*present.shape, *[1] * (array.ndim - 2)), array, 0.0)
        return named

    def predict_meshes(self, meshes: Sequence[Mesh]) -> list[MeshAnswer]:
        """Predict for meshes in the units of the layout, in batches of few shapes.

        A surrogate that stands on another method asks it about the meshes without `extra`.

        Raises:
            InputError: a mesh has an unknown kind of vertex or another number of parameters.
            SimulationError: the method on which it stands fails for a mesh.
        """
        expected = len(self.facts.layout.parameters)
        if wrong := [m for m in meshes if len(m.parameters) != expected]:
            raise InputError(f"{len(wrong[0].parameters)} parameters, {expected} are needed", where="mesh")
        meshes = self._with_cheaper(meshes)
        sizes = np.array([padded_nodes(len(m.nodes)) for m in meshes], int)
        answers: list[MeshAnswer | None] = [None] * len(meshes)
        for size in np.unique(sizes):
            rows = np.flatnonzero(sizes == size)
            # Batch sizes are powers of two, so that few shapes serve any number of meshes.
            step = min(2 ** math.ceil(math.log2(len(rows))), max(1, BATCH_NODES // int(size)))
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                batch = self.batch([meshes[i] for i in part], batch_size=step)
                for i, answer in zip(part, self._run(batch), strict=False):
                    count = len(meshes[i].nodes)
                    answers[i] = answer._replace(fields=answer.fields[:count], fields_std=answer.fields_std[:count])
        if self.facts.on is not None:
            for i, mesh in enumerate(meshes):
                left = answers[i]
                assert left is not None
                fields, scalars = first_estimate(self.facts.on, mesh, left.fields.shape[1])
                answers[i] = left._replace(fields=left.fields + fields, scalars=left.scalars + scalars)
        domain = self.facts.domain
        if domain is not None and meshes:
            for i, row in enumerate(domain_columns(meshes, self.facts.layout.kinds)):
                one = answers[i]
                assert one is not None
                answers[i] = one._replace(outside=domain.outside(row))
        return [a for a in answers if a is not None]

    def _with_cheaper(self, meshes: Sequence[Mesh]) -> Sequence[Mesh]:
        """The meshes with the answers of the method on which the surrogate stands, where they lack them."""
        lacking = [i for i, mesh in enumerate(meshes) if mesh.extra is None]
        if self.facts.on is None or not lacking:
            return meshes
        rung, layout = self.rung, self.facts.layout
        self.facts.on.variables(rung)
        requests = requests_of(rung, layout, [meshes[i] for i in lacking])
        answers = ask_here(rung, requests, answers_wanted(layout))
        filled = list(meshes)
        for row, i in enumerate(lacking):
            if reason := answers.reasons[row]:
                kind, _, message = reason.partition(": ")
                raise SimulationError(cast(ErrorKind, kind), f"{rung.name}, mesh {i}: {message}")
            filled[i] = replace(meshes[i], extra=columns(layout, len(meshes[i].nodes), answers, row))
        return filled

    def _run(self, batch: MeshBatch) -> list[MeshAnswer]:
        scale = self.facts.scale
        fields, fields_std, scalars, scalars_std = (np.asarray(a, np.float64) for a in self._answer(self._state, batch))
        (f_mean, f_std), (s_mean, s_std) = (np.array(pairs).reshape(-1, 2).T for pairs in (scale.fields, scale.scalars))
        return [
            MeshAnswer(
                f_mean + f_std * fields[m], f_std * fields_std[m], s_mean + s_std * scalars[m], s_std * scalars_std[m]
            )
            for m in range(len(fields))
        ]


def _about(base: Variable, end: str, phrase: str) -> Variable:
    return replace(base, name=f"{base.name}_{end}", long_name=f"{phrase} of {base.long_name}")
