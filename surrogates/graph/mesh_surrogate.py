"""The surrogate of a solver on unstructured meshes: a mesh in, the flow at its vertices and numbers of the whole out.

The mesh is part of the question. What the solver's own mesher makes serves, and so does any triangulation of the
domain with the same kinds of boundary, finer or coarser meshes with the loss of accuracy that a test on them shows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Float

from data.errors import InputError
from data.mesh_records import ELEMENTS, FLAGS, NODES
from data.meshes import Mesh, MeshBatch, pad, padded_nodes
from data.spec import SimulationError, Spec, Variable, check
from surrogates.box import IN_DOMAIN, UNKNOWN, OutOfDomainWarning
from surrogates.graph.mesh_domain import described
from surrogates.graph.mesh_facts import MeshFacts, MeshModel
from surrogates.kept import KeptSurrogate
from surrogates.step import count_compilations

#: Vertices, padding counted, that one batch of answers may hold on a CPU.
BATCH_NODES = 16_384


class MeshAnswer(NamedTuple):
    """Answers for one mesh, in the units of the layout; std is 0 for a single member.

    Attributes:
        fields, fields_std: columns as `MeshLayout.channels` names them.
        scalars, scalars_std: as `MeshLayout.scalars`.
        outside: what of the mesh lies outside of the training; None where that is not known, or is not looked at.
    """

    fields: Float[np.ndarray, "node channel"]
    fields_std: Float[np.ndarray, "node channel"]
    scalars: Float[np.ndarray, " scalar"]
    scalars_std: Float[np.ndarray, " scalar"]
    outside: list[str] | None = None


class MeshSurrogate(KeptSurrogate[MeshModel, MeshFacts]):
    """A trained model with its facts; see `simulators.base.Simulator` for what it promises.

    Args:
        model: its weights.
        facts: what else it is made of.
    """

    KIND = "mesh"
    FACTS = MeshFacts

    def __init__(self, model: MeshModel, facts: MeshFacts) -> None:
        super().__init__(model, facts)
        graph = self._graph

        def answer(state: Any, batch: MeshBatch) -> tuple[Any, ...]:
            fields, scalars = nnx.merge(graph, state)(batch)
            return fields.mean(0), fields.std(0), scalars.mean(0), scalars.std(0)

        self._answer = jax.jit(answer)

    @cached_property
    def spec(self) -> Spec:
        """The mesh and parameters in; fields and numbers out, each with a standard deviation."""
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
            {**layout.attrs, "surrogate": self.fingerprint[:12]},
        )

    @property
    def compilations(self) -> int:
        """How many shapes have been compiled."""
        return count_compilations(self._answer)

    # What it answers

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Answer for one mesh; `attrs["out_of_domain"]` names what lies outside of the training, if anything does.

        Raises:
            SimulationError: `invalid_input`: a variable is missing, of other units or dims or not finite, it is no
                mesh, or a parameter has a sign that was never seen; `not_converged`: the answer is not finite.
        """
        check(inputs, self.spec.inputs, sizes=self.spec.sizes)
        layout = self.facts.layout
        parameters = np.array([float(inputs[v.name]) for v in layout.parameters])
        domain = self.facts.domain
        if domain is not None and (wrong := domain.of_other_sign(parameters)):
            raise SimulationError("invalid_input", "; ".join(wrong))
        try:
            mesh = Mesh(inputs[NODES].values, inputs[ELEMENTS].values, inputs[FLAGS].values, parameters)
            (found,) = self.predict_meshes([mesh])
        except InputError as error:
            raise SimulationError("invalid_input", str(error)) from error
        if not (np.isfinite(found.fields).all() and np.isfinite(found.scalars).all()):
            raise SimulationError("not_converged", "the answer is not finite; the mesh lies far from what was learned")
        named = self._named(found)
        if found.outside is None:
            return self.spec.answer(named).assign_attrs(out_of_domain=UNKNOWN)
        outside = "; ".join(found.outside)
        whole = self.spec.answer(named | {IN_DOMAIN: np.bool_(not outside)})
        if not outside:
            return whole
        warnings.warn(f"an answer is an extrapolation: {outside}", OutOfDomainWarning, stacklevel=2)
        return whole.assign_attrs(out_of_domain=outside)

    def _named(self, answer: MeshAnswer) -> dict[str, Any]:
        """The answer by the names of the outputs."""
        layout, conformal = self.facts.layout, self.facts.conformal
        columns = {"": answer.fields, "_std": answer.fields_std}
        numbers = {"": answer.scalars, "_std": answer.scalars_std}
        if conformal:
            columns |= {end: columns[""].copy() for end in ("_low", "_high")}
            numbers |= {end: numbers[""].copy() for end in ("_low", "_high")}
            names = (layout.channels, tuple(v.name for v in layout.scalars))
            for own, kind in zip(names, (columns, numbers), strict=True):
                for c, name in enumerate(own):
                    band = conformal[name]
                    bounds = band.interval(kind[""][..., c], kind["_std"][..., c])
                    kind["_low"][..., c], kind["_high"][..., c] = bounds
                floors = np.array([conformal[name].floor for name in own])
                kind["_std"] = np.hypot(kind["_std"], floors)
        found: dict[str, Any] = {}
        for end, array in columns.items():
            found |= {f"{name}{end}": values for name, values in layout.named(array).items()}
        for end, array in numbers.items():
            found |= {f"{v.name}{end}": array[c] for c, v in enumerate(layout.scalars)}
        return found

    def batch(self, meshes: Sequence[Mesh], *, batch_size: int | None = None) -> MeshBatch:
        """Meshes in the units of the layout as a batch that `predict` takes."""
        plain = [self.facts.scale.apply(replace(m, fields=None, scalars=np.zeros(0))) for m in meshes]
        return pad(plain, kinds=self.facts.layout.kinds, length=self.facts.scale.length, batch_size=batch_size)

    def predict(self, batch: MeshBatch) -> dict[str, np.ndarray]:
        """Answer a batch: for every output of the spec an array with the mesh first; vertices of padding are 0.

        A batch no longer tells sizes, and so not `in_domain`, which `predict_meshes` and `simulate` do.
        """
        found = [self._named(answer) for answer in self._run(batch)]
        present = np.asarray(batch.node_mask)
        named = {v.name: np.stack([one[v.name] for one in found]) for v in self.spec.outputs if v.name in found[0]}
        for name, array in named.items():
            if array.ndim > 1:
                named[name] = np.where(present.reshape(*present.shape, *[1] * (array.ndim - 2)), array, 0.0)
        return named

    def predict_meshes(self, meshes: Sequence[Mesh]) -> list[MeshAnswer]:
        """Answer meshes, in the units of the layout, in batches of a few shapes.

        Raises:
            InputError: a mesh has kinds of vertices or parameters that were not learned.
        """
        expected = len(self.facts.layout.parameters)
        if wrong := [m for m in meshes if len(m.parameters) != expected]:
            raise InputError(f"{len(wrong[0].parameters)} parameters, {expected} are needed", where="mesh")
        sizes = np.array([padded_nodes(len(m.nodes)) for m in meshes], int)
        answers: list[MeshAnswer | None] = [None] * len(meshes)
        for size in np.unique(sizes):
            rows = np.flatnonzero(sizes == size)
            # Powers of two: a few batch sizes serve any number of meshes.
            step = min(2 ** math.ceil(math.log2(len(rows))), max(1, BATCH_NODES // int(size)))
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                batch = self.batch([meshes[i] for i in part], batch_size=step)
                for i, answer in zip(part, self._run(batch), strict=False):
                    count = len(meshes[i].nodes)
                    answers[i] = answer._replace(fields=answer.fields[:count], fields_std=answer.fields_std[:count])
        domain = self.facts.domain
        if domain is not None and meshes:
            for i, row in enumerate(described(meshes, self.facts.layout.kinds)):
                one = answers[i]
                assert one is not None
                answers[i] = one._replace(outside=domain.outside(row))
        return [a for a in answers if a is not None]

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
