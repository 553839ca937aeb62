"""The check of array annotations that runs beside every other test: what it refuses, and what it lets through."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from array_checks import checked
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float, Int

import data.molecules.graphs

Rows = Float[np.ndarray, "row column"]


@checked
def weighted(rows: Rows, weights: Float[np.ndarray, " row"]) -> Float[np.ndarray, " column"]:
    return weights @ rows


@checked
def summed(x: Float[Array, "batch n"], y: Float[Array, " n"] | None = None) -> Float[Array, " batch"]:
    return (x if y is None else x + y).sum(1)


@checked
def halves(x: Int[np.ndarray, " n"]) -> tuple[int, Int[np.ndarray, " half"]]:
    return len(x) // 2, x[::2] if len(x) < 9 else x / 2


@checked
def total(parts: list[Float[np.ndarray, " n"]], named: Mapping[str, Int[np.ndarray, "a b"]]) -> int:
    return len(parts) + len(named)


@checked
def doubled(x: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    return 2 * x


@checked
def transposed(x: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "column row"]:
    return x


@dataclass(frozen=True)
class Points:
    place: Float[Any, "point 3"]
    kind: Int[Any, " point"]

    def __post_init__(self) -> None:
        if np.ndim(self.place) == 1:
            raise ValueError("refused by the class")


register_dataclass(Points, data_fields=["place", "kind"], meta_fields=[])
checked(Points)
PLACE, KIND = np.zeros((4, 3)), np.zeros(4, int)


def test_what_fits_is_let_through() -> None:
    assert weighted(np.ones((2, 3)), np.ones(2)).tolist() == [2, 2, 2]
    assert halves(np.arange(4))[1].tolist() == [0, 2]
    # NumPy's arrays stand for JAX's outside of a compiled program.
    assert summed(np.ones((2, 3))).tolist() == [3, 3]  # type: ignore[arg-type]
    assert jax.jit(summed)(jnp.ones((2, 3)), jnp.ones(3)).tolist() == [6, 6]
    assert jax.vmap(summed)(jnp.ones((4, 2, 3))).shape == (4, 2)
    assert total([np.ones(2), np.ones(3)], {"a": np.ones((2, 3), int)}) == 3
    # Of an array of no dims NumPy makes a scalar.
    assert doubled(np.array(2.0)) == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: weighted(np.ones(3), np.ones(3)), "weighted: rows must be .* has 1 dimensions, not the 2"),
        (lambda: weighted(np.ones((2, 3), int), np.ones(2)), "weighted: rows must be .* dtype int64"),
        (lambda: weighted(np.ones((2, 3)), np.ones(3)), "weighted: weights must be .* row is 3 .* value of 2"),
        (lambda: weighted([[1.0]], np.ones(1)), "weighted: rows must be .*, got list"),
        (lambda: weighted(jnp.ones((2, 3)), np.ones(2)), "weighted: rows must be .*ndarray"),
        (lambda: summed(jnp.ones((2, 3)), jnp.ones(2)), "summed: y must be"),
        (lambda: jax.jit(summed)(jnp.ones((2, 3)), jnp.ones(2)), "summed: y must be"),
        (lambda: transposed(np.ones((2, 3))), "transposed: the result must be"),
        (lambda: halves(np.arange(10)), "halves: the result must be"),
        (lambda: total([np.ones(2), np.ones((2, 2))], {}), "total: parts must be"),
        (lambda: total([], {"a": np.ones((2, 3))}), "total: named must be"),
        (lambda: Points(PLACE, KIND[:3]), "Points.*: kind must be .* dimension point is 3"),
        (lambda: Points(PLACE, PLACE[:, 0]), "Points.*: kind must be .* dtype float64"),
    ],
)  # fmt: skip
def test_another_shape_or_dtype_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_a_dataclass_refuses_first_and_passes_through_jax() -> None:
    with pytest.raises(ValueError, match="refused by the class"):
        Points(np.zeros(3), KIND)
    points = Points(PLACE, KIND)
    assert jax.tree.map(lambda _: None, points) == Points(None, None)
    assert jax.jit(lambda p: p.place.sum())(points) == 0


def test_an_annotation_that_names_nothing_is_an_error() -> None:
    def misspelt(x: Float[np.ndarrray, " n"]) -> None: ...  # type: ignore[name-defined]

    with pytest.raises(AttributeError, match="ndarrray"):
        checked(misspelt)(np.ones(3))


def test_what_names_no_array_is_left_alone() -> None:
    def plain(x: int, y: list[str]) -> None: ...

    assert checked(plain) is plain


def test_the_packages_are_checked() -> None:
    assert hasattr(data.molecules.graphs.assign, "__wrapped__")


def test_axes_are_written_as_text(repository: Path) -> None:
    """Ruff takes the quotes from "3" and "a *b", which are expressions too: those begin with a space."""
    unquoted = re.compile(r"\b(?:Bool|Complex|Float|Int|Shaped|UInt)\d*\[[^\[\],\n]+, [^\"\n]*\]")
    packages = ("data", "simulators", "surrogates", "experiments", "understudy")
    modules = [path for package in packages for path in (repository / package).rglob("*.py")]
    bad = [f"{path}: {match[0]}" for path in modules for match in unquoted.finditer(path.read_text())]
    assert bad == []
