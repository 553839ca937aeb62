"""Answers of the cheaper method on which a surrogate of meshes stands: at the vertices, and numbers of the whole.

The method takes the mesh of a request, so that its answer lies at the same vertices: a cheaper surrogate of meshes, or
a solver that takes a mesh. Numbers of the whole are repeated at every vertex.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.errors import InputError
from data.meshes.graphs import Mesh
from data.meshes.mesh_samples import MeshLayout, MeshSamples
from data.plain import to_plain
from data.rejects import RejectLog
from data.spec import Variable
from simulators.adapter import Simulator
from simulators.rebuild import describe
from surrogates.learning.normalise import Standardise
from surrogates.learning.rung import Line, Rung, RungAnswers, Standing, ask_here

LOG = logging.getLogger(__name__)


def answers_wanted(layout: MeshLayout) -> tuple[str, ...]:
    """Names of the outputs that the method has to give."""
    return tuple(v.name for v in (*layout.fields, *layout.scalars))


def column_names(layout: MeshLayout) -> tuple[str, ...]:
    """Names of the columns of the answers: channels of the fields, and the numbers of the whole."""
    return (*layout.channels, *(v.name for v in layout.scalars))


def refuse_unfit(simulator: Simulator, layout: MeshLayout) -> list[Variable]:
    """The outputs that are used, of a method that answers requests of this layout.

    Raises:
        InputError: it lacks an output or takes another input, or has one in another unit or along other dims; the
            message names it.
    """
    ours = {v.name: v for v in (*layout.geometry, *layout.parameters)}
    for variable in simulator.spec.inputs:
        mine = ours.get(variable.name)
        if mine is None:
            raise InputError(
                f"{simulator.name} takes {variable.name}, which the meshes do not have",
                where="on",
                remedy="Name a method that takes a mesh, such as another surrogate of meshes",
            )
        _refuse_unlike(simulator, "takes", variable, mine)
    theirs = {v.name: v for v in simulator.spec.outputs}
    for variable in (*layout.fields, *layout.scalars):
        answer = theirs.get(variable.name)
        if answer is None:
            raise InputError(
                f"{simulator.name} gives no {variable.name}", where="on", remedy=f"It gives {', '.join(theirs)}"
            )
        _refuse_unlike(simulator, "gives", answer, variable)
    return [theirs[name] for name in answers_wanted(layout)]


def _refuse_unlike(simulator: Simulator, verb: str, theirs: Variable, ours: Variable) -> None:
    if (theirs.units, theirs.dims) != (ours.units, ours.dims):
        raise InputError(
            f"{simulator.name} {verb} {theirs.name} in {theirs.units} along {theirs.dims}, and the data has it in "
            f"{ours.units} along {ours.dims}",
            where="on",
        )


def requests_of(simulator: Simulator, layout: MeshLayout, meshes: Sequence[Mesh]) -> list[xr.Dataset]:
    """Requests to the method for meshes in the units of the layout."""
    requests = []
    for mesh in meshes:
        values = dict(zip((v.name for v in layout.geometry), (mesh.nodes, mesh.elements, mesh.flags), strict=True))
        values |= {v.name: mesh.parameters[k] for k, v in enumerate(layout.parameters)}
        requests.append(simulator.spec.request({v.name: values[v.name] for v in simulator.spec.inputs}))
    return requests


def columns(layout: MeshLayout, count: int, answer: RungAnswers, row: int) -> Float[np.ndarray, "node column"]:
    """The columns of one answer at `count` vertices."""
    values = answer.values[row]
    flat = layout.flat(values) if layout.fields else np.zeros((count, 0))
    numbers = np.array([float(values[v.name]) for v in layout.scalars])
    return np.concatenate([np.asarray(flat, np.float64), np.broadcast_to(numbers, (count, len(numbers)))], axis=1)


def with_answers(samples: MeshSamples, answers: RungAnswers, simulator: Simulator) -> tuple[MeshSamples, list[str]]:
    """The samples that have an answer, with it, and why each sample has none; "" where it has one."""
    meshes, reasons, kept = [], [], []
    for row, mesh in enumerate(samples.meshes):
        reason = answers.reasons[row]
        if not reason:
            extra = columns(samples.layout, len(mesh.nodes), answers, row)
            reason = "" if np.isfinite(extra).all() else "not_converged: not finite"
            if not reason:
                meshes.append(replace(mesh, extra=extra))
                kept.append(row)
        reasons.append(reason)
    if not meshes:
        raise InputError(f"{simulator.name} answers for none of {len(samples):,} samples: {reasons[0]}", where="on")
    costs = {
        "on/core_seconds": answers.core_seconds,
        "on/requests": float(len(samples)),
        "on/failed": float(len(samples) - len(kept)),
    }
    rows = np.array(kept)
    return replace(samples.take(rows), meshes=tuple(meshes), cheaper_costs=costs), reasons


def asked(rung: Rung, samples: MeshSamples, store: Path, *, progress: bool) -> MeshSamples:
    """The samples with the answers of a method; those that it does not answer are left out with a warning.

    Raises:
        InputError: see `refuse_unfit`; or it answers for no sample.
    """
    simulator = rung.simulator
    refuse_unfit(simulator, samples.layout)
    requests = requests_of(simulator, samples.layout, samples.meshes)
    answers = rung.ask(requests, answers_wanted(samples.layout), store, progress=progress)
    answered, reasons = with_answers(samples, answers, simulator)
    lost = [row for row, reason in enumerate(reasons) if reason]
    if lost:
        LOG.warning(
            "%s does not answer for %d of %d samples, which are left out, such as number %d: %s",
            simulator.name, len(lost), len(samples), lost[0], reasons[lost[0]],
        )  # fmt: skip
    return answered


def asked_of_own(simulator: Simulator, samples: MeshSamples, path: Path, rejects: RejectLog | None) -> MeshSamples:
    """Samples of a test with the answers of the method of a surrogate; those without an answer are rejects."""
    requests = requests_of(simulator, samples.layout, samples.meshes)
    answered, reasons = with_answers(samples, ask_here(simulator, requests, answers_wanted(samples.layout)), simulator)
    for row, reason in enumerate(reasons):
        if reason and rejects is not None:
            rejects.add(path, row, f"mesh of {len(samples.meshes[row].nodes)} vertices", f"{simulator.name}: {reason}")
    return answered


def standing_of(rung: Rung, train: MeshSamples) -> Standing:
    """What is saved of the method, with lines through its answers: one for the fields, one for the numbers."""
    layout, outputs = train.layout, refuse_unfit(rung.simulator, train.layout)
    extra = [np.asarray(m.extra, np.float64) for m in train.meshes]
    scale = Standardise.fit(column_names(layout), np.concatenate(extra))
    width, numbers = len(layout.channels), len(layout.scalars)
    scaled = [scale.apply(values) for values in extra]
    fields = [m.fields for m in train.meshes if m.fields is not None]
    nodes = Line.fit(
        np.concatenate([values[:, :width] for values in scaled]),
        np.concatenate(fields) if width else np.zeros((sum(map(len, scaled)), 0)),
    )
    whole = Line.fit(np.stack([values[0, width:] for values in scaled]), np.stack([m.scalars for m in train.meshes]))
    weights = [(*row, *(0.0,) * numbers) for row in nodes.weights]
    weights += [(*(0.0,) * width, *row) for row in whole.weights]
    line = Line((*nodes.offset, *whole.offset), tuple(weights))
    costs = train.cheaper_costs
    cost = costs["on/core_seconds"] / max(costs["on/requests"], 1.0)
    units = {v.name: v.units for v in outputs}
    return Standing(to_plain(describe(rung.simulator)), units, scale, line, cost)


def first_estimate(
    standing: Standing, mesh: Mesh, width: int
) -> tuple[Float[np.ndarray, "node channel"], Float[np.ndarray, " scalar"]]:
    """The lines through the answers to one mesh: fields of so many channels, and numbers."""
    assert mesh.extra is not None
    both = standing.line.apply(standing.scale.apply(mesh.extra))
    return both[:, :width], both[0, width:]


def residual(standing: Standing, samples: MeshSamples) -> MeshSamples:
    """The samples with what the lines leave, and with the answers in units of their spread."""
    meshes = []
    for mesh in samples.meshes:
        fields, scalars = first_estimate(standing, mesh, len(samples.layout.channels))
        meshes.append(
            replace(
                mesh,
                fields=None if mesh.fields is None else mesh.fields - fields,
                scalars=mesh.scalars - scalars,
                extra=standing.scale.apply(np.asarray(mesh.extra, np.float64)),
            )
        )
    return replace(samples, meshes=tuple(meshes))
