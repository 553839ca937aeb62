"""What a surrogate of fields has seen: the ranges of its numbers, and of the sizes of its fields."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from data.fields import Fields, Layout
from surrogates.box import Box

#: What is looked at of each field.
STATISTICS = ("mean", "spread", "smallest", "largest")
#: Shares of a range, and of the spread of a field, by which its statistics may lie outside.
MARGIN, SMALL = 0.25, 0.01


def domain_of(fields: Fields) -> Box:
    """The box around training samples: exact for numbers, with a margin for the statistics of fields.

    Statistics of a field do not change with its grid, unlike its derivatives.
    """
    layout = fields.layout
    numbers = np.asarray(fields.parameters, np.float64)
    initial = fields.states[:, 0] if layout.initial is not None else None
    box = Box.of([v.name for v in layout.parameters], numbers)
    names = _names(layout)
    if not names:
        return box
    values = _statistics(initial, fields.static)
    sizes = [a[..., c] for a in (initial, fields.static) if a is not None for c in range(a.shape[-1])]
    typical = np.repeat([float(np.std(a, dtype=np.float64)) for a in sizes], len(STATISTICS))
    margin = MARGIN * (values.max(axis=0) - values.min(axis=0)) + SMALL * typical
    return box.join(Box.of(names, values, margin))


def domain_columns(
    layout: Layout,
    initial: Float[np.ndarray, "sample *space channel"] | None,
    static: Float[np.ndarray, "sample *space static"],
    parameters: Float[np.ndarray, "sample parameter"],
) -> Float[np.ndarray, "sample column"]:
    """The columns of `domain_of` for some requests."""
    start = initial if layout.initial is not None else None
    return np.concatenate([np.asarray(parameters, np.float64), _statistics(start, static)], axis=1)


def _names(layout: Layout) -> list[str]:
    fields = []
    if layout.initial is not None:
        inner = layout.axis("channel").values if "channel" in layout.output.dims else None
        fields += [layout.initial.name] if inner is None else [f"{layout.initial.name} {c}" for c in inner]
    fields += [v.name for v in layout.static]
    return [f"{statistic} of {name}" for name in fields for statistic in STATISTICS]


def _statistics(initial: np.ndarray | None, static: np.ndarray) -> Float[np.ndarray, "sample column"]:
    columns = [np.zeros((len(static), 0))]
    for fields in (initial, static):
        for c in range(0 if fields is None else fields.shape[-1]):
            assert fields is not None
            one = fields[..., c].reshape(len(fields), -1)
            mean, spread = one.mean(axis=1, dtype=np.float64), one.std(axis=1, dtype=np.float64)
            columns.append(np.stack([mean, spread, one.min(axis=1), one.max(axis=1)], axis=1))
    return np.concatenate(columns, axis=1)
