"""Compiled programs that tell what they do: operations, bytes moved and transcendental functions of an answer.

XLA counts them in each program after fusion (`surrogates.learning.machine.cost`). What a prediction calls is recorded
while it runs, so that padding, members of an ensemble and experts count as they are used.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from simulators.precision import jit_float32
from surrogates.learning.machine import MeasuredCost, cost

_LOCK = threading.Lock()
_METERS: list[Meter] = []


class CountedProgram:
    """A function that `simulators.precision.jit_float32` compiles, whose calls a `metered` block records.

    Args:
        function: the function.
        options: of `jax.jit`.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self._jitted = jit_float32(function, **options)

    def __call__(self, *arguments: Any) -> Any:
        """Run the program."""
        for meter in _METERS:
            meter.note(self, arguments)
        return self._jitted(*arguments)

    def work(self, arguments: Any) -> MeasuredCost:
        """The work of one call with arrays of such shapes."""
        return cost(self._jitted.lower(*arguments).compile())

    def twin(self) -> CountedProgram:
        """The same program, already compiled for the same shapes, of which a meter counts the calls apart."""
        twin = object.__new__(CountedProgram)
        twin._jitted = self._jitted
        return twin

    def _cache_size(self) -> int:
        return int(self._jitted._cache_size())  # type: ignore[attr-defined]


class Meter:
    """The calls of programs, by program and by the shapes of their arguments."""

    def __init__(self) -> None:
        self._calls: Counter[Any] = Counter()
        self._asked: dict[Any, tuple[CountedProgram, Any]] = {}

    def note(self, program: CountedProgram, arguments: Any) -> None:
        """Note one call."""
        shapes = jax.tree.map(_shape, arguments)
        leaves, structure = jax.tree.flatten(shapes)
        key = (id(program), structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves))
        with _LOCK:
            self._calls[key] += 1
            self._asked.setdefault(key, (program, shapes))

    @property
    def calls(self) -> int:
        """Number of calls."""
        return sum(self._calls.values())

    def work(self, owner: object = None) -> MeasuredCost:
        """The work of all calls; each shape is compiled once more, or read from the compilation cache.

        Args:
            owner: object whose attributes the programs are that count, such as one expert of a mixture; None for all.
        """
        mine = None if owner is None else {id(value) for value in vars(owner).values()}
        total = MeasuredCost(0.0, 0.0, 0.0)
        for key, (program, shapes) in self._asked.items():
            if mine is None or id(program) in mine:
                total = total + program.work(shapes).times(self._calls[key])
        return total


def _shape(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(jax.numpy.shape(leaf), jax.numpy.result_type(leaf))


@contextmanager
def metered() -> Iterator[Meter]:
    """Record, within the block, what programs of this process are called, in all of its threads."""
    meter = Meter()
    with _LOCK:
        _METERS.append(meter)
    try:
        yield meter
    finally:
        with _LOCK:
            _METERS.remove(meter)
