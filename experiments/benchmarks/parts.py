"""The parts of a network, each taken out of it and run alone with inputs of the shapes that it has inside.

Calls are noted while the whole is traced, so this asks nothing of a network but the names of its parts. A part that
calls another is run without it: the other's answers are given to it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.benchmarks.machine import Cost, best, cost

#: Seconds over which a part is timed, about.
LONG = 0.3


@dataclass(frozen=True)
class Leaf:
    """An array that a part was given.

    Attributes:
        shape, dtype: its own.
        moves: whether it depends on what the whole is differentiated by.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    moves: bool

    def filled(self, rng: np.random.Generator) -> jax.Array:
        """An array like it: positive random numbers, so that nothing is skipped or slow; ones for integers."""
        if jnp.issubdtype(self.dtype, jnp.floating):
            return jnp.asarray(rng.uniform(0.5, 1.5, self.shape), self.dtype)
        return jnp.ones(self.shape, self.dtype)


@dataclass(frozen=True)
class Tree:
    """A tree of values: its structure, and its leaves, with a `Leaf` for each array."""

    structure: Any
    leaves: tuple[Any, ...]

    @staticmethod
    def of(values: Any) -> Tree:
        """The tree of arguments or of a result; modules are taken apart."""
        leaves, structure = jax.tree.flatten(values)
        return Tree(structure, tuple(map(_leaf, leaves)))


@dataclass(frozen=True)
class Call:
    """One call of a part.

    Attributes:
        function: the part.
        given: its positional and its named arguments.
        inside: what other parts returned to it, with where they are (see `find`), in the order of their calls.
    """

    function: Callable[..., Any]
    given: Tree
    inside: tuple[tuple[str, Tree], ...]

    def program(self, *, gradient: bool) -> tuple[Any, tuple[Any, ...]]:
        """A function to jit and what to give it: the part alone, or also its gradient by all that moves.

        Parts inside return what they are told to, and what they are asked counts as a result of this one.
        """
        trees = [self.given, *(tree for _, tree in self.inside)]
        leaves = [leaf for tree in trees for leaf in tree.leaves]
        rng = np.random.default_rng(0)
        arrays = [leaf.filled(rng) if isinstance(leaf, Leaf) else None for leaf in leaves]
        moving = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Leaf) and leaf.moves]

        def run(moved: list[jax.Array], held: list[jax.Array | None]) -> list[jax.Array]:
            filled = [leaf if array is None else array for leaf, array in zip(leaves, held, strict=True)]
            for i, array in zip(moving, moved, strict=True):
                filled[i] = array
            rest = iter(filled)
            (args, kwargs), *answers = (
                jax.tree.unflatten(tree.structure, [next(rest) for _ in tree.leaves]) for tree in trees
            )
            asked: list[Any] = []
            with _answering(
                [(target, answer) for (target, _), answer in zip(self.inside, answers, strict=True)], asked
            ):
                found = jax.tree.leaves(self.function(*map(_module, args), **kwargs))
            known = {id(x) for x in filled}
            found += [x for x in jax.tree.leaves(asked) if isinstance(x, jax.Array) and id(x) not in known]
            return [x for x in found if jnp.issubdtype(x.dtype, jnp.floating)]

        def both(moved: list[jax.Array], held: list[jax.Array | None]) -> tuple[Any, Any]:
            out, pull = jax.vjp(lambda m: run(m, held), moved)
            return out, pull([jnp.ones_like(x) for x in out])

        return (both if gradient and moving else run), ([arrays[i] for i in moving], arrays)


@dataclass(frozen=True)
class Measured:
    """Seconds and cost of a part, over all of its calls."""

    seconds: float
    cost: Cost

    def __sub__(self, other: Measured) -> Measured:
        """What is left without `other`, nothing less than nothing."""
        return Measured(max(0.0, self.seconds - other.seconds), self.cost - other.cost)

    def __add__(self, other: Measured) -> Measured:
        return Measured(self.seconds + other.seconds, self.cost + other.cost)


NOTHING = Measured(0.0, Cost(0.0, 0.0, 0.0))


def find(target: str) -> tuple[Any, str, Callable[..., Any]]:
    """What "package.module:Class.method" names: its owner, its name there, and itself.

    Raises:
        LookupError: there is none of that name.
    """
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for step in outer:
        owner = getattr(owner, step, None)
    function = getattr(owner, name, None)
    if function is None:
        raise LookupError(f"{module} has no {path}")
    return owner, name, function


@contextmanager
def recorded(targets: Mapping[str, str]) -> Iterator[dict[str, list[Call]]]:
    """While inside, notes each call of the functions that `targets` names (label -> see `find`), by label."""
    calls: dict[str, list[Call]] = {label: [] for label in targets}
    inside: list[list[tuple[str, Tree]]] = [[]]

    def wrap(label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **kwargs: Any) -> Any:
            given = Tree.of((tuple(map(_split, args)), kwargs))
            inside.append([])
            try:
                found = function(*args, **kwargs)
            finally:
                own = inside.pop()
            calls[label].append(Call(function, given, tuple(own)))
            inside[-1].append((targets[label], Tree.of(found)))
            return found

        return noting

    with _replaced({target: wrap(label, find(target)[2]) for label, target in targets.items()}):
        yield calls


@contextmanager
def _answering(answers: Sequence[tuple[str, Any]], asked: list[Any]) -> Iterator[None]:
    """While inside, these functions return these answers, one after the other, and note what they were given."""
    waiting: dict[str, list[Any]] = {}
    for target, answer in answers:
        waiting.setdefault(target, []).append(answer)

    def stub(target: str) -> Callable[..., Any]:
        def answer(*args: Any, **kwargs: Any) -> Any:
            asked.append(([a for a in args if not isinstance(a, nnx.Module)], kwargs))
            return waiting[target].pop(0)

        return answer

    with _replaced({target: stub(target) for target in waiting}):
        yield


@contextmanager
def _replaced(functions: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """While inside, other functions stand at these places."""
    before = [find(target) for target in functions]
    try:
        for (owner, name, _), function in zip(before, functions.values(), strict=True):
            setattr(owner, name, function)
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def compile_call(call: Call, *, gradient: bool) -> tuple[Any, tuple[Any, ...]]:
    """A call as a compiled program, and what to give it; with `gradient` the part and its gradient together."""
    function, given = call.program(gradient=gradient)
    return jax.jit(function).lower(*given).compile(), given


def measure(calls: Sequence[Call], *, gradient: bool) -> Measured:
    """Run calls one after the other, each alone, and add up."""
    total = NOTHING
    for call in calls:
        compiled, given = compile_call(call, gradient=gradient)

        def once(run: Any = compiled, given: tuple[Any, ...] = given) -> None:
            jax.block_until_ready(run(*given))

        rounds = max(3, int(LONG / max(best(once, 3), 1e-6)))
        total = total + Measured(best(once, rounds), cost(compiled))
    return total


@dataclass(frozen=True)
class _Split:
    """A module taken apart, as an argument."""

    graph: Any
    state: Any


jax.tree_util.register_dataclass(_Split, data_fields=["state"], meta_fields=["graph"])


def _split(value: Any) -> Any:
    return _Split(*nnx.split(value)) if isinstance(value, nnx.Module) else value


def _module(value: Any) -> Any:
    return nnx.merge(value.graph, value.state) if isinstance(value, _Split) else value


def _leaf(value: Any) -> Any:
    if not isinstance(value, (jax.Array, np.ndarray)):
        return value
    # Values that carry a derivative are tracers of automatic differentiation.
    moves = isinstance(value, jax.core.Tracer) and type(value).__module__.endswith(".ad")
    return Leaf(tuple(value.shape), np.dtype(value.dtype), bool(moves and jnp.issubdtype(value.dtype, jnp.floating)))
