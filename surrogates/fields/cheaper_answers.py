"""Answers of the cheaper surrogate on which a surrogate of fields stands, to the samples of a table."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.fields.layout import Layout
from data.fields.samples import Fields
from surrogates.fields.surrogate import FieldSurrogate
from surrogates.learning.rung import Rung, Standing


def rung_of_fields(rung: Rung) -> FieldSurrogate:
    """The surrogate that a rung asks.

    Raises:
        InputError: it is no surrogate of fields.
    """
    if not isinstance(rung.simulator, FieldSurrogate):
        raise InputError(
            f"{rung.simulator.name} is no surrogate of fields",
            where="on",
            remedy="Name the directory of a cheaper one, on=DIR, or on=coarse for Darcy flow",
        )
    return rung.simulator


def with_answers(rung: Rung, fields: Fields) -> Fields:
    """The samples with the answers of a cheaper surrogate, and what these cost.

    Args:
        rung: the surrogate, which takes the inputs of the samples and gives their output.
        fields: samples of a field that does not evolve, on any grid.

    Raises:
        InputError: the samples evolve, the surrogate lacks an output or an input or has it in another unit, or an
            answer is not finite; the message names it.
    """
    cheaper = rung_of_fields(rung)
    refuse_unfit(cheaper, fields.layout)
    began = time.process_time()
    answer = cheaper.predict_fields(fields).mean[:, 0]
    spent = time.process_time() - began
    if not np.isfinite(answer).all():
        bad = int(np.argmin(np.isfinite(answer.reshape(len(answer), -1)).all(axis=1)))
        raise InputError(f"the answer of {cheaper.name} to sample {bad} is not finite", where="on")
    costs = {"on/core_seconds": spent, "on/requests": float(len(fields)), "on/failed": 0.0}
    return replace(fields, cheaper=answer, cheaper_costs=costs)


def refuse_unfit(cheaper: FieldSurrogate, layout: Layout) -> None:
    """Refuse a surrogate that answers another question than samples of this layout.

    Raises:
        InputError: it names what differs.
    """
    if layout.evolves:
        raise InputError(
            f"{layout.output.name} evolves, and the answer of another surrogate is known for whole fields only",
            where="on",
            remedy="Train without it",
        )
    empty = Fields(
        layout,
        np.zeros((0, 1, *layout.points, layout.channels)),
        np.zeros((0, *layout.points, len(layout.static))),
        np.zeros((0, len(layout.parameters))),
        "",
        np.zeros(0),
    )
    try:
        empty.refuse_other(cheaper.facts.layout, "on", same_grid=False)
    except InputError as error:
        raise InputError(
            f"{cheaper.name} answers another question than the samples: {error.problem}",
            where="on",
            remedy="Name a surrogate that learned the same output from the same inputs",
        ) from error


def standing_of(rung: Rung, train: Fields) -> Standing:
    """What is saved of the cheaper surrogate, with the line through its answers, point by point."""
    assert train.cheaper is not None
    cheaper, layout = rung_of_fields(rung), train.layout
    labels = train.states[:, 0].reshape(-1, layout.channels)
    costs = train.cheaper_costs
    return Standing.fit(
        cheaper,
        [cheaper.spec.output(layout.output.name)],
        train.cheaper.reshape(-1, layout.channels),
        labels,
        costs["on/core_seconds"] / max(costs["on/requests"], 1.0),
        names=[f"{layout.output.name}_{k}" for k in range(layout.channels)],
    )


def residual(standing: Standing, fields: Fields) -> Fields:
    """The samples with what the line leaves of the output, and with the answers among their input fields."""
    assert fields.cheaper is not None
    left = fields.states[:, 0] - first_estimate(standing, fields.cheaper)
    static = np.concatenate([fields.static, fields.cheaper], axis=-1)
    return replace(fields, states=left[:, None], static=static)


def first_estimate(standing: Standing, cheaper: Float[np.ndarray, "sample *space channel"]) -> np.ndarray:
    """The line through answers, at each point."""
    channels = cheaper.shape[-1]
    flat: Any = standing.line.apply(standing.scale.apply(cheaper.reshape(-1, channels)))
    return np.asarray(flat).reshape(cheaper.shape)
