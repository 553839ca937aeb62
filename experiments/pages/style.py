"""One look for every figure, and figures as SVG that stands alone or inside a page.

Colours are those of Okabe and Ito (2008), which people with any colour vision tell apart.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

from experiments.pages.formatting import escape, number

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, GREY = "#E69F00", "#CC79A7", "#6B7280"
INK, LINE = "#1F2933", "#D5DAE1"

#: Colour and marker of each method and of each group, the same in every figure.
METHODS: Mapping[str, tuple[str, str]] = {
    "surrogate": (BLUE, "o"),
    "refined": (VERMILLION, "P"),
    "cheap_linear": (ORANGE, "s"),
    "morgan_ridge": (GREEN, "^"),
    "morgan_forest": (PURPLE, "D"),
    "mean": (GREY, "v"),
}
GROUPS: Mapping[str, tuple[str, str]] = {
    "test": (BLUE, "o"),
    "top": (VERMILLION, "D"),
    "random": (GREEN, "s"),
}

STYLE: Mapping[str, object] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.edgecolor": "#8792A2",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E8EBEF",
    "grid.linewidth": 0.7,
    "xtick.color": "#4A5565",
    "ytick.color": "#4A5565",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.8,
    "legend.handletextpad": 0.5,
    "legend.borderaxespad": 0.2,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "figure.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "understudy",
    "figure.constrained_layout.use": True,
}

_POWERS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Drawing:
    """A figure as SVG; a notebook shows it as it is.

    Attributes:
        name: unique on a page; prefixes every id inside.
        label: what the figure shows, for those who cannot see it.
        xml: the SVG document.
    """

    name: str
    label: str
    xml: str

    def _repr_svg_(self) -> str:
        return self.xml

    def inline(self) -> str:
        """The `<svg>` element for an HTML page: no prolog, metadata, namespaces or styles that leak."""
        return inline_svg(self.xml, self.name, self.label)


def inline_svg(xml: str, name: str, label: str) -> str:
    """An SVG document as an element of an HTML page, scaled to its box, with ids of its own."""
    body = xml[xml.index("<svg") :]
    body = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.S)
    body = re.sub(r"\s+xmlns(:\w+)?=(\"[^\"]*\"|'[^']*')", "", body)
    body = body.replace("xlink:href=", "href=")
    used = set(re.findall(r"(?:href=\"#|url\(#)([^\")]+)", body))

    def identity(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    body = re.sub(r'\sid="([^"]+)"', identity, body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    head = re.match(r"<svg[^>]*>", body)
    assert head is not None
    box = re.search(r"viewBox=[\"']([^\"']+)[\"']", head[0])
    size = box[1] if box else "0 0 100 100"
    opening = f'<svg viewBox="{size}" role="img" aria-label="{escape(label)}">'
    return re.sub(r"\n\s*", "\n", opening + body[head.end() :]).strip()


class _Figure(Figure):
    """A figure of which matplotlib does not draw everything a first time where it only wants the layout."""

    def draw(self, renderer: RendererBase) -> None:
        """Lay it out, or draw what is laid out: `print_figure` calls this for both."""
        engine = self.get_layout_engine()
        if isinstance(engine, ConstrainedLayoutEngine):
            engine.execute(self)
        else:
            super().draw(renderer)


def draw(
    paint: Callable[[Axes], None], *, name: str, label: str, width: float = 4.9, height: float = 3.9, title: str = ""
) -> Drawing:
    """What `paint` draws on one pair of axes, as SVG.

    Args:
        paint: draws.
        name, label: see `Drawing`.
        width, height: inches; the text has 9.5 points at this size.
        title: above the axes; pages leave it out and head the figure in HTML, which wraps.
    """
    with matplotlib.rc_context(cast(Any, dict(STYLE))):
        figure = _Figure(figsize=(width, height))
        axes = figure.add_subplot()
        paint(axes)
        if title:
            axes.set_title(title)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Drawing(name, label, buffer.getvalue())


def _power(value: float, _: object = None) -> str:
    """A tick of a logarithmic axis: plain between 0.01 and 10,000, else a power of ten; others are left out."""
    if value <= 0:
        return ""
    exponent = math.log10(value)
    whole = round(exponent)
    if abs(exponent - whole) > 1e-6:
        return ""
    return number(10.0**whole, 1) if -2 <= whole <= 4 else f"10{str(whole).translate(_POWERS)}"


def logarithmic(axes: Axes, axis: str) -> None:
    """Make axis "x" or "y" logarithmic with ticks that read without mathematics."""
    getattr(axes, f"set_{axis}scale")("log")
    which = getattr(axes, f"{axis}axis")
    which.set_major_formatter(FuncFormatter(_power))
    which.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def plain_logarithmic(axes: Axes, axis: str, values: list[float]) -> None:
    """A logarithmic axis over less than two decades, with its ticks at `values`."""
    getattr(axes, f"set_{axis}scale")("log")
    which = getattr(axes, f"{axis}axis")
    which.set_ticks(values)
    which.set_major_formatter(FuncFormatter(lambda value, _: number(value, 2)))
    which.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def legend_below(axes: Axes, columns: int = 3) -> None:
    """A legend under the axes, where it can cover no data."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns, columnspacing=1.2)
