"""Compares the physics of two sets of fields: time step, size of the domain, boundary and units of the axes.

The grids may differ, but a network trained for steps of 0.2 s on 1 m has no answer for steps of 0.4 s or for 10 m.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data.errors import InputError
from data.fields.layout import Layout
from data.spec import Coordinate

#: Relative difference up to which two steps, or two lengths, are the same.
SAME = 1e-3


def refuse_other_physics(sample_layout: Layout, layout: Layout, where: str) -> None:
    """Refuse samples of another time step, domain, boundary or unit of length or time than a layout's.

    Args:
        sample_layout: layout of the samples.
        layout: layout that the samples have to match.
        where: file that the samples come from, for errors.

    Raises:
        InputError: names what differs, with both values.
    """
    for what, mine, theirs in _differences(sample_layout, layout):
        raise InputError(
            f"its {what} is {mine}, {theirs} has been learned",
            where=where,
            remedy="Give samples of the same question: another grid may do, another physics may not",
        )


def refuse_other_boundary(sample_attrs: Mapping[str, str], attrs: Mapping[str, str], where: str) -> None:
    """Refuse samples with another description of the boundary; where either has none, the samples are accepted.

    Args:
        sample_attrs: attributes of the samples.
        attrs: attributes that they have to match.
        where: file that the samples come from, for errors.

    Raises:
        InputError: the descriptions differ; the message quotes both.
    """
    mine, theirs = (x.get("boundary_conditions", "") for x in (sample_attrs, attrs))
    if mine and theirs and mine != theirs:
        raise InputError(
            f"its boundary is {mine!r}, {theirs!r} has been learned",
            where=where,
            remedy="Give samples of the same question: another mesh may do, another physics may not",
        )


def time_step(layout: Layout) -> float | None:
    """The time step in the unit of the axis `time`; None where nothing evolves or no times are given."""
    if not layout.evolves or not _has_coordinate(layout.axis("time")):
        return None
    values = layout.axis("time").values
    if len(values) > 1:
        return float(values[1]) - float(values[0])
    return float(values[0]) if layout.lead else None


def _differences(sample_layout: Layout, layout: Layout) -> list[tuple[str, str, str]]:
    differences = []
    for axis in layout.axes:
        if axis.name == "channel":
            continue
        mine = sample_layout.axis(axis.name)
        if "1" not in (mine.units, axis.units) and mine.units != axis.units:
            differences.append((f"unit of {axis.name}", mine.units, axis.units))
        elif axis.name != "time" and _has_coordinate(mine) and _has_coordinate(axis) and not _same_length(mine, axis):
            differences.append((f"length along {axis.name}", f"{_lengths(mine)[0]:g}", f"{_lengths(axis)[0]:g}"))
    steps = time_step(sample_layout), time_step(layout)
    if steps[0] is not None and steps[1] is not None and not _close(steps[0], steps[1]):
        differences.append(("time step", f"{steps[0]:g}", f"{steps[1]:g}"))
    bounds = [x.attrs.get("boundary_conditions", "") for x in (sample_layout, layout)]
    if all(bounds):
        # A description says more than `periodic`, which a user may have overridden.
        differences += [("boundary", repr(bounds[0]), repr(bounds[1]))] if bounds[0] != bounds[1] else []
    elif sample_layout.periodic != layout.periodic:
        said = ["periodic" if all(x.periodic) else "not periodic" for x in (sample_layout, layout)]
        differences.append(("boundary", said[0], said[1]))
    return differences


def _has_coordinate(axis: Coordinate) -> bool:
    """Whether an axis has coordinates; indices without a unit do not count."""
    return axis.units != "1" or axis.values != tuple(float(i) for i in range(len(axis.values)))


def _lengths(axis: Coordinate) -> tuple[float, float]:
    """The length of a domain if its points are centres of cells, and if they run from end to end."""
    first, last, count = float(axis.values[0]), float(axis.values[-1]), len(axis.values)
    if count < 2:
        return 0.0, 0.0
    return (last - first) * count / (count - 1), last - first


def _same_length(mine: Coordinate, theirs: Coordinate) -> bool:
    """Whether two grids may cover one domain, by either length; a single point has none, and is accepted."""
    if 1 in (len(mine.values), len(theirs.values)):
        return True
    return any(_close(a, b) for a, b in zip(_lengths(mine), _lengths(theirs), strict=True))


def _close(a: float, b: float) -> bool:
    return bool(np.isclose(a, b, rtol=SAME, atol=0.0))
