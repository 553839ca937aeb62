"""A request that does not fit what a Spec says is refused with the dim that does not."""

from __future__ import annotations

import numpy as np
import pytest

from data.spec import Coordinate, SimulationError, Spec, Variable

SPEC = Spec(
    inputs=(Variable("a", ("x",), "m", "float64", "a"), Variable("b", ("x",), "m", "float64", "b")),
    outputs=(),
    coords=(Coordinate("x", (0.0, 0.5, 1.0), "m", "place"),),
)


@pytest.mark.parametrize(
    ("sizes", "said"), [((2, 2), "x must have 3 entries, got 2"), ((3, 2), "conflicting sizes for dimension 'x'")]
)
def test_values_of_other_sizes_are_invalid_input(sizes: tuple[int, int], said: str) -> None:
    with pytest.raises(SimulationError, match=said) as caught:
        SPEC.request({name: np.zeros(size) for name, size in zip("ab", sizes, strict=True)})
    assert caught.value.kind == "invalid_input"
    assert SPEC.request({"a": np.zeros(3), "b": np.ones(3)})["x"].values.tolist() == [0.0, 0.5, 1.0]
