"""Runs each part of a network alone, with inputs of the same shapes as inside the network.

The calls of the parts are recorded while the whole network is traced, so only the names of the parts have to be
known. If a part calls another part, the inner call is replaced by its recorded answer.
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

from surrogates.learning.machine import MeasuredCost, best, cost

#: Approximate number of seconds over which a part is timed.
LONG = 0.3


@dataclass(frozen=True)
class Leaf:
    """Description of an array argument of a part.

    Attributes:
        shape, dtype: shape and dtype of the array.
        moves: whether it depends on the variables by which the whole network is differentiated.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    moves: bool

    def filled(self, rng: np.random.Generator) -> jax.Array:
        """A new array of this shape and dtype: ones for integers, else positive random numbers."""
        if jnp.issubdtype(self.dtype, jnp.floating):
            return jnp.asarray(rng.uniform(0.5, 1.5, self.shape), self.dtype)
        return jnp.ones(self.shape, self.dtype)


@dataclass(frozen=True)
class Tree:
    """The structure of a tree of values and its leaves, with a `Leaf` in place of each array."""

    structure: Any
    leaves: tuple[Any, ...]

    @staticmethod
    def of(values: Any) -> Tree:
        """The tree of arguments or of a result."""
        leaves, structure = jax.tree.flatten(values)
        return Tree(structure, tuple(map(_leaf, leaves)))


@dataclass(frozen=True)
class Call:
    """One recorded call of a part.

    Attributes:
        function: function of the part.
        arguments: positional and keyword arguments of the call.
        inside: for each inner call of another part, in order: its target (see `find`) and its answer.
    """

    function: Callable[..., Any]
    arguments: Tree
    inside: tuple[tuple[str, Tree], ...]

    def program(self, *, gradient: bool) -> tuple[Any, tuple[Any, ...]]:
        """A function to compile and its inputs: the part alone, or the part with its gradient by all moving leaves.

        Inner parts return their recorded answers. Their arguments count as outputs of this part, so that XLA cannot
        remove the work that computes them.
        """
        trees = [self.arguments, *(tree for _, tree in self.inside)]
        leaves = [leaf for tree in trees for leaf in tree.leaves]
        rng = np.random.default_rng(0)
        arrays = [leaf.filled(rng) if isinstance(leaf, Leaf) else None for leaf in leaves]
        moving = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Leaf) and leaf.moves]

        def run(moved: list[jax.Array], fixed: list[jax.Array | None]) -> list[jax.Array]:
            filled = [leaf if array is None else array for leaf, array in zip(leaves, fixed, strict=True)]
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
                outputs = jax.tree.leaves(self.function(*map(_module, args), **kwargs))
            input_ids = {id(x) for x in filled}
            outputs += [x for x in jax.tree.leaves(asked) if isinstance(x, jax.Array) and id(x) not in input_ids]
            return [x for x in outputs if jnp.issubdtype(x.dtype, jnp.floating)]

        def both(moved: list[jax.Array], fixed: list[jax.Array | None]) -> tuple[Any, Any]:
            out, pull = jax.vjp(lambda m: run(m, fixed), moved)
            return out, pull([jnp.ones_like(x) for x in out])

        return (both if gradient and moving else run), ([arrays[i] for i in moving], arrays)


@dataclass(frozen=True)
class Measured:
    """Seconds and cost of a part, summed over all of its calls."""

    seconds: float
    cost: MeasuredCost

    def __sub__(self, other: Measured) -> Measured:
        """The difference to `other`; negative differences become zero."""
        return Measured(max(0.0, self.seconds - other.seconds), self.cost - other.cost)

    def __add__(self, other: Measured) -> Measured:
        return Measured(self.seconds + other.seconds, self.cost + other.cost)


NOTHING = Measured(0.0, MeasuredCost(0.0, 0.0, 0.0))


def find(target: str) -> tuple[Any, str, Callable[..., Any]]:
    """Look up "package.module:Class.method"; return its owner, its name there, and the function itself.

    Raises:
        LookupError: nothing has that name.
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
def record_calls(targets: Mapping[str, str]) -> Iterator[dict[str, list[Call]]]:
    """Record, within the context, each call of the functions in `targets` (label to target, see `find`), by label."""
    calls: dict[str, list[Call]] = {label: [] for label in targets}
    inside: list[list[tuple[str, Tree]]] = [[]]

    def wrap(label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **kwargs: Any) -> Any:
            arguments = Tree.of((tuple(map(_split, args)), kwargs))
            inside.append([])
            try:
                answer = function(*args, **kwargs)
            finally:
                inner_calls = inside.pop()
            calls[label].append(Call(function, arguments, tuple(inner_calls)))
            inside[-1].append((targets[label], Tree.of(answer)))
            return answer

        return noting

    with _replaced({target: wrap(label, find(target)[2]) for label, target in targets.items()}):
        yield calls


@contextmanager
def _answering(answers: Sequence[tuple[str, Any]], asked: list[Any]) -> Iterator[None]:
    """Make functions return recorded answers one after the other, and append their arguments to `asked`."""
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
    """Replace the functions at these targets within the context."""
    before = [find(target) for target in functions]
    try:
        for (owner, name, _), function in zip(before, functions.values(), strict=True):
            setattr(owner, name, function)
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def compile_call(call: Call, *, gradient: bool) -> tuple[Any, tuple[Any, ...]]:
    """Compile a call, and return the program with its inputs; with `gradient`, the part and its gradient together."""
    function, inputs = call.program(gradient=gradient)
    return jax.jit(function).lower(*inputs).compile(), inputs


def measure(calls: Sequence[Call], *, gradient: bool) -> Measured:
    """Run each call alone, one after the other, and add up their times and costs."""
    total = NOTHING
    for call in calls:
        compiled, inputs = compile_call(call, gradient=gradient)

        def once(run: Any = compiled, inputs: tuple[Any, ...] = inputs) -> None:
            jax.block_until_ready(run(*inputs))

        rounds = max(3, int(LONG / max(best(once, 3), 1e-6)))
        total = total + Measured(best(once, rounds), cost(compiled))
    return total


@dataclass(frozen=True)
class _Split:
    """A module as an argument, split into its graph and its state."""

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
