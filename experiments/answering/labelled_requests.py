"""The labels of a cascade for answers: requests and answers of a store, without those that a rung has learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data.costs import core_seconds
from data.errors import InputError
from data.identity import frame_keys, molecule_keys
from data.spec import SimulationError, dataset
from data.store.records import RecordStore
from data.structures.structures import Structures
from experiments.answering.answer_rungs import is_surrogate
from simulators.adapter import KeysRequests, Simulator
from simulators.campaigns.campaign import AGAIN
from surrogates.cascade.difficulty import Answer
from surrogates.learning.learned_from import hash_keys, read_hashes
from surrogates.saved import surrogate_directory


@dataclass(frozen=True)
class LabelledRequests:
    """Requests to the last rung with its answers.

    Attributes:
        keys: of the requests, in the order of the store.
        requests: the requests.
        labels: the answers, or why there is none.
        cost_s: mean cost of an answer, core-seconds.
        seen: number of requests that were left out because a rung had learned from them.
        unknown: rungs of which it is not known what they learned from.
    """

    keys: tuple[str, ...]
    requests: tuple[xr.Dataset, ...]
    labels: tuple[Answer, ...]
    cost_s: float
    seen: int = 0
    unknown: tuple[str, ...] = ()


def count_labels(path: Path) -> int:
    """Number of different requests of a store, without reading them."""
    with RecordStore.open(path) as store:
        keys = store.keys()
    return len({str(key).partition(AGAIN)[0] for key in keys})


def read_labels(path: Path, last: Simulator, label: str, outputs: Sequence[str]) -> LabelledRequests:
    """The requests and the answers of the store of the last rung.

    Args:
        path: store that `understudy simulate` made.
        last: the last rung.
        label: how the user named it.
        outputs: outputs to read.

    Raises:
        InputError: the store is of another simulator, or of other settings.
    """
    with RecordStore.open(path) as store:
        if store.attrs.get("fingerprint") != last.fingerprint:
            raise InputError(
                f"its labels are of {store.attrs.get('simulator', 'another simulator')} with other settings or another "
                f"version than those of the last rung, {label}",
                where=str(path),
                remedy="Name the simulator that made the labels, with its settings in rungs.NAME.KEY, as the last rung",
            )
        inputs = [v.name for v in last.spec.inputs]
        costs = core_seconds(store.facts(), str(path))
        rows: dict[str, dict[str, Any]] = {}
        spent: dict[str, float] = {}
        read = store.records(status=None, names=("message", *inputs, *outputs))
        for cost, (key, values) in zip(costs, read, strict=True):
            # A retry of a failed request is stored after it, under a key that begins with the same hash.
            first = key.partition(AGAIN)[0]
            rows[first] = values
            spent[first] = spent.get(first, 0.0) + float(np.nan_to_num(cost))
    requests: list[xr.Dataset] = []
    labels: list[Answer] = []
    for values in rows.values():
        requests.append(last.spec.request({name: values[name] for name in inputs}))
        if str(values["status"]) == "ok":
            variables = tuple(last.spec.output(name) for name in outputs)
            labels.append(dataset(variables, {name: values[name] for name in outputs}))
        else:
            labels.append(SimulationError("crashed", f"{values['status']}: {values['message']}"))
    declared = getattr(last, "declared_cost_s", None)
    cost_s = sum(spent.values()) / max(1, len(rows)) if declared is None else float(declared)
    return LabelledRequests(tuple(rows), tuple(requests), tuple(labels), cost_s)


def without_learned(labelled: LabelledRequests, labels: Sequence[str], rungs: Sequence[Simulator]) -> LabelledRequests:
    """The labels that no surrogate among the rungs has learned from.

    Args:
        labelled: all labels.
        labels: how the user named the rungs.
        rungs: the rungs of these names.
    """
    seen, unknown = np.zeros(len(labelled.requests), bool), []
    for label, rung in zip(labels, rungs, strict=True):
        if not is_surrogate(label):
            continue
        hashes = read_hashes(surrogate_directory(label, "cascade"))
        keys = None if hashes is None else _identities(labelled.requests, rung)
        if hashes is None or keys is None:
            unknown.append(label)
            continue
        seen |= np.isin(hash_keys(keys), hashes)
    keep = np.flatnonzero(~seen).tolist()
    return replace(
        labelled,
        keys=tuple(labelled.keys[i] for i in keep),
        requests=tuple(labelled.requests[i] for i in keep),
        labels=tuple(labelled.labels[i] for i in keep),
        seen=int(seen.sum()),
        unknown=tuple(unknown),
    )


def _identities(requests: Sequence[xr.Dataset], rung: Simulator) -> list[str] | None:
    """Keys as the training of a rung saved them; None for requests of which it does not say them."""
    if not requests:
        return []
    if isinstance(rung, KeysRequests):
        return [_key(rung, request) for request in requests]
    if "smiles" in requests[0]:
        return molecule_keys([str(request["smiles"].item()) for request in requests])
    if not {"numbers", "positions"} <= set(requests[0]):
        return None
    return frame_keys(
        Structures.from_arrays(
            [request["numbers"].values for request in requests],
            [request["positions"].values for request in requests],
            charge=[int(request["charge"]) if "charge" in request else 0 for request in requests],
            lattice=[request["cell"].values if "cell" in request else np.zeros((3, 3)) for request in requests],
        )
    )


def _key(rung: KeysRequests, request: xr.Dataset) -> str:
    """The key of a request; "" where the rung does not take it, so that it cannot have learned from it."""
    try:
        return rung.request_key(request)
    except SimulationError:
        return ""
