"""The training domain of a surrogate of fields: ranges of the parameters and of statistics of the fields."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from data.fields.layout import Layout
from data.fields.samples import Fields
from surrogates.learning.box import Box

#: Statistics of each field.
STATISTICS = ("mean", "spread", "smallest", "largest")
#: Statistics may lie outside the range of training by these shares of the range and of the spread of the field.
MARGIN, SMALL = 0.25, 0.01


def domain_of(fields: Fields) -> Box:
    """The box around training samples: exact for parameters, with a margin for the statistics of fields.

    Unlike derivatives, these statistics of a field hardly depend on its grid.
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
    """The columns of `domain_of`, one row for each request."""
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
