"""What is served, as JSON: the answer of GET /spec, and what stands in every answer."""

from __future__ import annotations

from typing import Any

from data.plain import to_plain
from data.spec import Variable
from experiments.serving.kinds.answerer import Answerer
from experiments.serving.limits import RequestLimits

#: Endings of the names of the outputs that say how certain another one is.
ENDINGS = {"std": "_std", "low": "_low", "high": "_high"}


def identity(kind: str, answerer: Answerer) -> dict[str, str]:
    """The name, the kind and the fingerprint, which stand in every answer."""
    return {
        "surrogate": str(answerer.simulator.name),
        "kind": kind,
        "fingerprint": str(answerer.simulator.fingerprint),
    }


def described(kind: str, answerer: Answerer, limits: RequestLimits) -> dict[str, Any]:
    """What is served, with its inputs and outputs, its scores and the limits of the server."""
    simulator = answerer.simulator
    names = {variable.name for variable in answerer.outputs}
    certain = {
        name: {word: f"{name}{ending}" for word, ending in ENDINGS.items() if f"{name}{ending}" in names}
        for name in names
    }
    return {
        **identity(kind, answerer),
        "labels_fingerprint": str(getattr(simulator, "labels_fingerprint", "")),
        "inputs": [_variable(v) | {"optional": v.name in answerer.optional} for v in answerer.inputs],
        "outputs": [_variable(v) for v in answerer.outputs],
        "uncertainties": {name: columns for name, columns in sorted(certain.items()) if columns},
        "sizes": dict(simulator.spec.sizes),
        "coordinates": [to_plain(coordinate) for coordinate in simulator.spec.coords],
        "attributes": dict(simulator.spec.attrs),
        "scores": {name: float(value) for name, value in sorted(getattr(simulator, "scores", {}).items())},
        "limits": {
            "max_batch": limits.max_batch,
            "max_wait_ms": limits.max_wait_ms,
            "queue": limits.queue,
            "body_mb": limits.body_mb,
            "timeout_s": limits.timeout_s,
        },
        "programs": {name: str(value) for name, value in answerer.settings.items()},
    }


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "dims": list(variable.dims),
        "units": variable.units,
        "dtype": variable.dtype,
        "long_name": variable.long_name,
    }
