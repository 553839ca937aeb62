"""Answers of the cheaper simulator on which a surrogate of parameters stands, to the samples of a table."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.errors import InputError
from data.parameters import ParameterTable
from data.rejects import RejectLog
from surrogates.learning.rung import Rung, RungColumns, usable_outputs
from surrogates.parameters.surrogate import ParameterSurrogate, requests_of

LOG = logging.getLogger(__name__)


def with_answers(rung: Rung, table: ParameterTable, store: Path, *, progress: bool) -> ParameterTable:
    """The samples with the answers of a simulator; those that it does not answer are left out with a warning.

    Args:
        rung: the simulator, which takes inputs of the table, and how it is asked.
        table: samples.
        store: store of the answers; those in it are not computed again.
        progress: whether to show a progress bar and a table.

    Raises:
        InputError: the simulator takes other inputs, gives no number, or answers for no sample.
    """
    simulator = rung.simulator
    outputs = usable_outputs(simulator, rung.outputs)
    requests = requests_of(simulator, table.layout, table.values)
    answers = RungColumns.of(
        simulator, outputs, rung.ask(requests, [v.name for v in outputs], store, progress=progress)
    )
    if not answers.ok.any():
        raise InputError(
            f"{simulator.name} answers for none of {len(table):,} samples: {answers.reasons[0]}", where="on"
        )
    if not answers.ok.all():
        first = int(np.argmin(answers.ok))
        LOG.warning(
            "%s does not answer for %d of %d samples, which are left out, such as number %d: %s",
            simulator.name, int((~answers.ok).sum()), len(table), first, answers.reasons[first] or "not finite",
        )  # fmt: skip
    rows = np.flatnonzero(answers.ok)
    return replace(table.take(rows), cheaper=answers.values[rows], cheaper_costs=answers.costs())


def with_own_answers(
    surrogate: ParameterSurrogate, table: ParameterTable, path: Path, rejects: RejectLog | None
) -> ParameterTable:
    """Samples of a test with the answers of the simulator on which a surrogate stands, asked in this process.

    Samples that it does not answer are reported as rejects and left out.
    """
    answers = surrogate.ask_rung(table.values)
    for row in np.flatnonzero(~answers.ok).tolist():
        if rejects is None:
            break
        text = ",".join(f"{v:.6g}" for v in table.values[row])
        rejects.add(path, row, text, f"{answers.simulator.name}: {answers.reasons[row] or 'not finite'}")
    rows = np.flatnonzero(answers.ok)
    return replace(table.take(rows), cheaper=answers.values[rows], cheaper_costs=answers.costs())


def columns_of(rung: Rung, table: ParameterTable) -> RungColumns:
    """The answers that a table holds, with the cost of all answers of the training."""
    assert table.cheaper is not None
    costs = table.cheaper_costs
    outputs = usable_outputs(rung.simulator, rung.outputs)
    reasons = [""] * len(table)
    return RungColumns(
        rung.simulator, outputs, table.cheaper, reasons, costs["on/core_seconds"], int(costs["on/requests"])
    )
