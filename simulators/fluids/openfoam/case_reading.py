"""Report of what is read from a user's OpenFOAM case, which a campaign prints before it begins."""

from __future__ import annotations

from pathlib import Path

from data.errors import InputError
from data.reading_summary import Reading
from simulators.fluids.openfoam.contents import without_comments
from simulators.fluids.openfoam.directory import Directory
from simulators.fluids.openfoam.files import header
from simulators.fluids.openfoam.start import TIME
from simulators.fluids.openfoam.template import UNREAD

#: Largest number of time folders that are listed individually.
NAMED = 6


def reading_of(case: Directory) -> Reading:
    """Files of a case, its start time, parameters and fields, and the results of earlier runs that are left out."""
    template = case.template
    kept, lost = len(template.files), sum(count for _, count in template.left_out)
    places = template.placeholders
    # No name of a case has a space in it.
    quantities = {"begins from": f"time {template.start}"}
    quantities |= {n: f"{units}, parameter, at {places[n]}" for n, units in case.parameters.items()}
    quantities |= {n: f"{value:.6g} in each run, at {places[n]}" for n, value in case.constants.items()}
    when = "the last time written" if case.times is None else f"times {', '.join(f'{t:g}' for t in case.times)} s"
    for variable in case.outputs:
        if variable.name in case.fields:
            kind = "vector" if {"channel", "axis", "component"} & set(variable.dims) else "scalar"
            quantities[variable.name] = f"{variable.units}, {kind} of the cells, read at {when}"
    quantities |= {
        n: f"{v.units}, {v.column} of the function object {v.object}" for n, v in (case.scalars or {}).items()
    }
    if case.cells is not None:
        kinds = ", ".join(f"{k} {name}" for k, name in enumerate(case.cells.patches, 1))
        quantities["mesh of cells"] = f"along {' and '.join(case.cells.axes)}, with the kinds of boundary {kinds}"
    elif case.fields:
        quantities["mesh of cells"] = (
            "as the mesh of each run has them, with their centres in m"
            if case.grid is None
            else "grid of "
            + ", ".join(f"{n} from {low:g} to {high:g} m in {cells}" for n, (low, high, cells) in case.grid.items())
        )
    return Reading(
        source=case.path,
        format="OpenFOAM case",
        unit="files",
        total=kept + lost,
        used=kept,
        quantities=quantities,
        left_out=_left_out(case),
        unused=_unused(case),
        assumed=tuple(f"{{{{{n}}}}} at {place} changes nothing there" for n, place in template.idle.items()),
    )


def _left_out(case: Directory) -> dict[str, int]:
    """Reason for leaving files out -> number of files."""
    counts: dict[str, int] = {}
    times = sorted((h for h, _ in case.template.left_out if TIME.fullmatch(h)), key=float)
    shown = ", ".join(times if len(times) <= NAMED else [*times[: NAMED - 1], "...", times[-1]])
    for head, count in case.template.left_out:
        reason = f"results of an earlier run at {'time' if len(times) == 1 else 'times'} {shown}"
        reason = reason if head in times else f"{head}, of an earlier run"
        counts[reason] = counts.get(reason, 0) + count
    return counts


def _unused(case: Directory) -> dict[str, str]:
    """Initial fields that are not read, and values on patches."""
    reasons = {}
    for name in case.template.names():
        head, _, rest = name.partition("/")
        if head not in (case.template.start, "0", "0.orig") or not rest or "/" in rest or UNREAD.fullmatch(rest):
            continue
        if rest in case.fields or rest in reasons:
            continue
        text = without_comments(case.template.text(name))
        if "internalField" not in text:
            continue
        try:
            kind, units, components = header(Path(case.path) / name, text)
        except InputError:
            reasons[rest] = "of a kind that is not read"
            continue
        if kind.startswith("vol") and components in (1, 3):
            reasons[rest] = f"a field in {units}; simulator.case.fields takes it"
    return dict(sorted(reasons.items())) | {"patches": "values on boundaries are not stored, only those of cells"}
