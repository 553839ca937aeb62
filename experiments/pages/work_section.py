"""Where the core-seconds and the bytes of a cascade went, as two figures and a table of its rungs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from data.json_files import read_plain
from data.plain import from_plain
from experiments.application.answer_work import UNKNOWN, WORK, AnswerWork
from experiments.pages.formatting import core_time, escape, number, percent
from experiments.pages.style import BLUE, GREEN, GREY, INK, ORANGE, draw

#: Kind of bytes -> its colour.
BYTES: Mapping[str, str] = {
    "moved in caches and memory": BLUE,
    "read from files": GREEN,
    "stored": ORANGE,
}
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
NOTE = (
    "Operations and moved bytes are those that XLA counts in the compiled programs, padding included; transcendental "
    "functions are counted apart. A simulator that is no such program tells neither. Read and stored bytes are sizes of "
    "files over the number of answers. The last column names the resource of a core of this machine that needs the "
    "longest time for this work, and its share of the processor time: the rest is overhead, such as parsing, packing "
    "and waiting for memory."
)


def read_works(run_dir: Path) -> list[AnswerWork]:
    """What the rungs of a cascade did; empty for one of an earlier version."""
    path = run_dir / WORK
    if not path.is_file():
        return []
    plain = read_plain(path, dict[str, list[dict[str, object]]], remedy="Run the cascade again, which writes it anew")
    return [from_plain(AnswerWork, rung) for rung in plain["rungs"]]


def work_section(works: Sequence[AnswerWork]) -> str:
    """The figures and the table."""
    height = 1.2 + 0.62 * len(works)
    time = draw(
        lambda axes: _core_seconds(axes, works),
        name="work-time",
        label="Core-seconds of each rung: " + ", ".join(f"{work.label} {core_time(_seconds(work))}" for work in works),
        width=5.6,
        height=height,
    )
    moved = draw(
        lambda axes: _bytes(axes, works),
        name="work-bytes",
        label="Bytes of each rung: " + ", ".join(f"{work.label} {size(sum(_amounts(work)))}" for work in works),
        width=5.6,
        height=height + 0.25 * len(works),
    )
    figures = "".join(
        f"<figure><h3>{heading}</h3>{drawing.inline()}<figcaption>{caption}</figcaption></figure>"
        for heading, drawing, caption in (
            (
                "Processor time",
                time,
                "All answers of each rung, on a logarithmic axis; grey where the cost is declared.",
            ),
            ("Bytes", moved, "All answers of each rung, on a logarithmic axis."),
        )
    )
    return f'<div class="panels">{figures}</div>{_table(works)}<p class="note">{escape(NOTE)}</p>'


def size(value: float) -> str:
    """Bytes in the unit that fits."""
    place = 0
    while value >= 1000 and place < len(UNITS) - 1:
        value, place = value / 1000, place + 1
    return f"{number(value)} {UNITS[place]}"


def _seconds(work: AnswerWork) -> float:
    return 1e-6 * work.core_us * work.answers


def _amounts(work: AnswerWork) -> tuple[float, float, float]:
    moved = 0.0 if work.bytes_moved is None else work.bytes_moved
    return (moved * work.answers, work.bytes_read * work.answers, work.bytes_stored * work.answers)


def _core_seconds(axes: Axes, works: Sequence[AnswerWork]) -> None:
    seconds = [_seconds(work) for work in works]
    whole = sum(value for value, work in zip(seconds, works, strict=True) if not work.expert)
    shown = [max(value, 1e-12) for value in seconds]
    axes.barh(range(len(works)), shown, color=[GREY if work.declared else BLUE for work in works], height=0.55)
    for place, value in enumerate(seconds):
        share = f" ({percent(value / whole)})" if whole > 0 else ""
        axes.text(shown[place] * 1.25, place, f"{core_time(value)}{share}", va="center", color=INK)
    _scale(axes, works, shown)
    axes.set_xlabel("core-seconds")


def _bytes(axes: Axes, works: Sequence[AnswerWork]) -> None:
    every: list[float] = []
    for place, work in enumerate(works):
        for row, (value, colour) in enumerate(zip(_amounts(work), BYTES.values(), strict=True)):
            height = place + (row - 1) * 0.26
            if value > 0:
                every.append(value)
                axes.barh(height, value, color=colour, height=0.23)
                axes.text(value * 1.3, height, size(value), va="center", color=INK, fontsize=8.5)
    for name, colour in BYTES.items():
        axes.barh(-10, 0, color=colour, label=name)
    _scale(axes, works, every or [1.0])
    axes.set_xlabel("bytes")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3, handlelength=1.0, columnspacing=1.0)


def _scale(axes: Axes, works: Sequence[AnswerWork], values: Sequence[float]) -> None:
    axes.set_xscale("log")
    low, high = min(values), max(values)
    # The longest bar ends in the middle, so that its text fits beside it.
    axes.set_xlim(low / 10, low / 10 * (10 * high / low) ** 2)
    axes.set_ylim(len(works) - 0.45, -0.55)
    axes.set_yticks(range(len(works)), [_short(name) for name in _names(works)])
    axes.grid(visible=False, axis="y")


def _names(works: Sequence[AnswerWork]) -> list[str]:
    """Rungs by their number, and experts below their mixture."""
    names, number_of_rung = [], -1
    for work in works:
        number_of_rung += not work.expert
        names.append(work.label.rpartition(": ")[2] if work.expert else f"{number_of_rung} {work.label}")
    return names


def _short(label: str) -> str:
    """The end of a long path, which tells rungs apart."""
    return label if len(label) <= 22 else f"{label[:2]}…{label[-19:]}"


def _table(works: Sequence[AnswerWork]) -> str:
    head = ("rung", "answers", "core-µs", "operations", "transcendental", "moved", "read", "stored", "bound by")
    rows = []
    for name, work in zip(_names(works), works, strict=True):
        verdict = work.bound if work.share is None else f"{work.bound}, {percent(work.share)}"
        cells = (
            f"expert {name}" if work.expert else name,
            f"{work.answers:,.0f}",
            number(work.core_us) + (" declared" if work.declared else ""),
            UNKNOWN if work.operations is None else number(work.operations),
            UNKNOWN if work.transcendentals is None else number(work.transcendentals),
            UNKNOWN if work.bytes_moved is None else size(work.bytes_moved),
            size(work.bytes_read),
            size(work.bytes_stored),
            verdict,
        )
        rows.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
    names = "".join(f"<th>{escape(column)}</th>" for column in head)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    caption = "<caption>What one answer of each rung takes</caption>"
    return f'<div class="scroll"><table>{caption}<thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>'
