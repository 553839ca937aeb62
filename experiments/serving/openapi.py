"""The OpenAPI document of a server, made from the inputs and outputs of what it serves (OpenAPI 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from data.spec import Variable
from experiments.serving import arrow_bodies, json_bodies, metrics
from experiments.serving.kinds.answerer import Answerer
from experiments.serving.limits import RequestLimits

#: Status -> what it means.
PROBLEMS = {
    "400": "The body is no JSON or no stream of Arrow, or the request is none of HTTP.",
    "406": "None of the types of Accept can be written.",
    "408": "The body did not arrive in time.",
    "413": "The body or its number of rows is too large.",
    "415": "The type of the body is not read.",
    "429": "Too many rows wait; Retry-After says when to ask again.",
    "500": "The server has a fault, which stands in its log.",
    "503": "The rows were not answered in time.",
}


def openapi(kind: str, answerer: Answerer, limits: RequestLimits) -> dict[str, Any]:
    """The document.

    Args:
        kind: word of the kind of what is served.
        answerer: what is served.
        limits: the limits of the server.
    """
    sizes = answerer.simulator.spec.sizes
    error = {"description": "", "content": {json_bodies.CONTENT_TYPE: {"schema": _reference("Error")}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Understudy: {answerer.simulator.name}",
            "version": version("understudy"),
            "description": f"A surrogate of {kind} with the fingerprint {answerer.simulator.fingerprint}. Each output "
            "comes with its unit and, where it is calibrated, with its deviation and the ends of its interval.",
        },
        "paths": {
            "/predict": {
                "post": {
                    "summary": "Answer rows of inputs",
                    "description": f"At most {limits.queue:,} rows and {limits.body_mb:g} MB. Rows that cannot be "
                    "answered are named with the reason, and the others are answered. The status is 422 if no row is.",
                    "operationId": "predict",
                    "requestBody": {"required": True, "content": _content("Question", "a column for each input")},
                    "responses": {
                        "200": {
                            "description": "The answers, in the type of Accept, or else in that of the body.",
                            "content": _content("Answer", "a column for each output, error_kind and reason"),
                        },
                        "422": {
                            "description": "No row can be answered: an Answer whose rows all have errors, or an Error.",
                            "content": {
                                json_bodies.CONTENT_TYPE: {
                                    "schema": {"anyOf": [_reference("Answer"), _reference("Error")]}
                                }
                            },
                        },
                        **{status: {**error, "description": text} for status, text in PROBLEMS.items()},
                    },
                }
            },
            "/health": _get("Whether the server answers", "health", json_bodies.CONTENT_TYPE, {"type": "object"}),
            "/spec": _get("Inputs, outputs, scores and limits", "spec", json_bodies.CONTENT_TYPE, {"type": "object"}),
            "/openapi.json": _get("This document", "openapi", json_bodies.CONTENT_TYPE, {"type": "object"}),
            "/metrics": _get("Metrics for Prometheus", "metrics", metrics.CONTENT_TYPE, {"type": "string"}),
        },
        "components": {"schemas": _schemas(answerer, sizes)},
    }


def _schemas(answerer: Answerer, sizes: Mapping[str, int]) -> dict[str, Any]:
    inputs = {v.name: _schema(v, sizes) for v in answerer.inputs}
    outputs = {v.name: _schema(v, sizes) for v in answerer.outputs}
    either = {"oneOf": [{"required": [json_bodies.ROWS]}, {"required": [json_bodies.COLUMNS]}]}
    required = [v.name for v in answerer.inputs if v.name not in answerer.optional]
    row = {"type": "object", "properties": inputs, "required": required, "additionalProperties": False}
    error = {name: {"type": "string"} for name in ("kind", "problem", "where", "remedy")}
    answer = {"type": "object", "properties": outputs}
    return {
        "Question": {
            "type": "object",
            "properties": {
                json_bodies.ROWS: {"type": "array", "minItems": 1, "items": row},
                json_bodies.COLUMNS: {
                    "type": "object",
                    "properties": {name: {"type": "array", "items": schema} for name, schema in inputs.items()},
                    "additionalProperties": False,
                },
            },
            **either,
        },
        "Answer": {
            "type": "object",
            "properties": {
                **{name: {"type": "string"} for name in ("surrogate", "kind", "fingerprint")},
                "units": {"type": "object", "additionalProperties": {"type": "string"}},
                "answered": {"type": "integer", "minimum": 0},
                json_bodies.ROWS: {"type": "array", "items": {"anyOf": [answer, {"type": "null"}]}},
                json_bodies.COLUMNS: {
                    "type": "object",
                    "properties": {
                        name: {"type": "array", "items": {"anyOf": [schema, {"type": "null"}]}}
                        for name, schema in outputs.items()
                    },
                },
                "errors": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"row": {"type": "integer", "minimum": 0}, **error},
                        "required": ["row", *error],
                    },
                },
            },
            "required": ["fingerprint", "units", "answered", "errors"],
            **either,
        },
        "Error": {
            "type": "object",
            "properties": {"error": {"type": "object", "properties": error, "required": list(error)}},
            "required": ["error"],
        },
    }


def _schema(variable: Variable, sizes: Mapping[str, int]) -> dict[str, Any]:
    """The schema of a variable: a number, a text or a truth value, in as many lists as it has dims."""
    kind = "U" if variable.dtype == "str" else np.dtype(variable.dtype).kind
    word = {"U": "string", "b": "boolean", "i": "integer", "u": "integer"}.get(kind, "number")
    schema: dict[str, Any] = {"type": word}
    for dim in reversed(variable.dims):
        length = {"minItems": sizes[dim], "maxItems": sizes[dim]} if dim in sizes else {}
        schema = {"type": "array", "items": schema, **length, "x-dim": dim}
    schema["description"] = variable.long_name
    if variable.units != "1":
        schema |= {"description": f"{variable.long_name}, {variable.units}", "x-units": variable.units}
    return schema


def _content(schema: str, columns: str) -> dict[str, Any]:
    stream = {"type": "string", "contentEncoding": "binary", "description": f"A stream of Arrow (IPC) with {columns}"}
    return {
        json_bodies.CONTENT_TYPE: {"schema": _reference(schema)},
        arrow_bodies.CONTENT_TYPE: {"schema": stream},
    }


def _get(summary: str, name: str, content: str, schema: dict[str, Any]) -> dict[str, Any]:
    answer = {"description": summary, "content": {content.partition(";")[0]: {"schema": schema}}}
    return {"get": {"summary": summary, "operationId": name, "responses": {"200": answer}}}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
