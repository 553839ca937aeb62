"""Shapes and dtypes of array arguments, results and dataclass fields, checked while the tests run.

`jaxtyping` binds the axis names of a call ("batch", "M N 3") and says whether an array fits its annotation. This module
asks it for each array, alone or within tuples and unions; what is no array is left to mypy.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jaxtyping
import numpy as np
from jax import Array
from jaxtyping import AbstractArray, AbstractDtype

#: The packages whose annotations are checked.
PACKAGES = ("data", "simulators", "surrogates", "experiments", "understudy")

_NAME = re.compile(r"[A-Za-z_]\w*")
#: What opens a scope of axis names; the hook's own decorator is replaced by `install`.
_axes = functools.partial(jaxtyping.jaxtyped, "context")


def install() -> None:
    """Check every function and dataclass of `PACKAGES` that is imported from now on.

    The hook of jaxtyping decorates all of them with `jaxtyping.jaxtyped`, which compiles two functions for each and
    binds the arguments of every call. Nine in ten name no array: `checked` returns those as they are.
    """
    jaxtyping.jaxtyped = lambda typechecker: checked
    jaxtyping.install_import_hook(list(PACKAGES), None)


def checked(target: Any) -> Any:
    """A function, or a dataclass, that raises a TypeError where an array does not fit its annotation."""
    if isinstance(target, type):
        if dataclasses.is_dataclass(target) and "__init__" in vars(target) and _names_arrays(target.__init__):
            setattr(target, "__init__", _checked_fields(target.__init__))  # noqa: B010
        return target
    if isinstance(target, (classmethod, staticmethod)):
        return type(target)(checked(target.__func__))
    if isinstance(target, property):
        return property(*(f and checked(f) for f in (target.fget, target.fset, target.fdel)), target.__doc__)
    return _checked_call(target) if isinstance(target, types.FunctionType) and _names_arrays(target) else target


def _checked_call(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.cache
    def signature() -> inspect.Signature:
        return inspect.signature(function)

    @functools.cache
    def positional() -> tuple[str, ...] | None:
        """Names of the arguments by place; None where `*` collects some, whose binding takes longer than a check."""
        parameters = signature().parameters.values()
        collects = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
        return None if collects else tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)

    @functools.wraps(function)
    def checking(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        hints = _hints(function)
        with _axes():
            names = positional()
            # Wrong numbers of arguments are refused by the call itself.
            values = (
                signature().bind(*args, **kwargs).arguments
                if names is None
                else {**dict(zip(names, args, strict=False)), **kwargs}
            )
            for name, value in values.items():
                if name in hints:
                    _check(value, hints[name], function, name)
            result = function(*args, **kwargs)
            if "return" in hints:
                _check(result, hints["return"], function, "the result")
        return result

    return checking


def _checked_fields(init: Callable[..., None]) -> Callable[..., None]:
    """The fields are checked once they are set, so that `__post_init__` refuses first what users may get wrong."""

    @functools.wraps(init)
    def checking(self: Any, *args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        init(self, *args, **kwargs)
        with _axes():
            for name, hint in _hints(init).items():
                # JAX builds dataclasses that are pytrees from placeholders, too.
                if _is_array(value := getattr(self, name)):
                    _check(value, hint, init, name)

    return checking


def _names_arrays(function: Callable[..., Any]) -> bool:
    """Whether an annotation uses a name that stands for arrays, as `Float` or an alias; cheap, and resolves nothing."""
    return any(_stands_for_arrays(x) for hint in function.__annotations__.values() for x in _names(hint, function))


def _names(hint: Any, function: Callable[..., Any]) -> list[Any]:
    """What the names within an annotation stand for in the function's module."""
    return [function.__globals__.get(name) for name in _NAME.findall(str(hint))]


def _stands_for_arrays(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, (AbstractArray, AbstractDtype))


@functools.cache
def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Annotations that hold arrays, resolved at the first call because they may name later definitions."""
    resolved = {name: _resolved(hint, function) for name, hint in function.__annotations__.items()}
    return {name: hint for name, hint in resolved.items() if _holds_arrays(hint)}


def _resolved(hint: Any, function: Callable[..., Any]) -> Any:
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, function.__globals__)  # of this repository's own source
    except (NameError, AttributeError, TypeError):
        if any(map(_stands_for_arrays, _names(hint, function))):
            raise
        return None  # It names what is imported for mypy only.


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic, Array))


def _is_hint(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


def _holds_arrays(hint: Any) -> bool:
    return _is_hint(hint) or any(_holds_arrays(part) for part in typing.get_args(hint))


@functools.cache
def _numpy(hint: Any) -> Any:
    """The annotation for NumPy's arrays of the same shape and dtype."""
    return hint.dtype[np.ndarray, hint.dim_str] if hint.array_type is Array else hint


def _check(value: Any, hint: Any, function: Callable[..., Any], name: str) -> None:
    problem = _problem(value, hint)
    if problem:
        place = f"{function.__module__}.{function.__qualname__}"
        what = f"{value.dtype}{list(value.shape)}" if _is_array(value) else type(value).__name__
        raise TypeError(f"{place}: {name} must be {hint}, got {what}: {problem}")


def _problem(value: Any, hint: Any) -> str:
    """Why a value does not fit an annotation; empty where it does."""
    if _is_hint(hint):
        # Where an array would have no dims, NumPy returns a scalar.
        value = np.asarray(value) if isinstance(value, np.generic) else value
        # NumPy's arrays are taken for JAX's where a function is called outside of a compiled program.
        return (_numpy(hint) if isinstance(value, np.ndarray) else hint).__instancecheck_str__(value)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _problem(value, parts[0])
    if origin in (typing.Union, types.UnionType):
        problems = [_problem(value, part) for part in parts if _holds_arrays(part)]
        return "" if not _is_array(value) or "" in problems else problems[0]
    if origin is tuple and isinstance(value, tuple) and Ellipsis not in parts and len(parts) == len(value):
        pairs = zip(value, parts, strict=True)
        return next(filter(None, (_problem(v, part) for v, part in pairs if _holds_arrays(part))), "")
    return _problem_within(value, parts)


def _problem_within(value: Any, parts: tuple[Any, ...]) -> str:
    """The first problem of the arrays in a list, a tuple of any length or a mapping; each has axis names of its own."""
    if isinstance(value, (list, tuple)):
        hint, items = parts[0], value
    elif isinstance(value, Mapping):
        hint, items = parts[-1], value.values()
    else:
        return ""
    for item in items:
        with _axes():
            if problem := _problem(item, hint):
                return problem
    return ""
