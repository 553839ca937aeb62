"""Numbers as people read them, and the only place where text becomes HTML."""

from __future__ import annotations

import html
import math

_MINUS = "\N{MINUS SIGN}"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def escape(text: object) -> str:
    """Text made safe for HTML, in elements and in quoted attributes."""
    return html.escape(str(text), quote=True)


def number(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, with thousands separated; powers of ten for extremes."""
    if math.isnan(value):
        return "not known"
    if math.isinf(value):
        return f"{_MINUS if value < 0 else ''}∞"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e9 or size < 1e-4:
        mantissa, exponent = f"{size:.{digits - 1}e}".split("e")
        text = f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    else:
        rounded = float(f"{size:.{digits}g}")
        decimals = max(0, digits - 1 - math.floor(math.log10(rounded)))
        text = f"{rounded:,.{decimals}f}"
    return f"{_MINUS}{text}" if value < 0 else text


def short(value: float) -> str:
    """A number that somebody chose, with no more digits than were chosen: "5", "0.25"."""
    return f"{value:g}".replace("-", _MINUS)


def count(value: float) -> str:
    """A whole number with thousands separated."""
    return f"{value:,.0f}".replace("-", _MINUS)


def percent(value: float) -> str:
    """A share as a percentage: whole above 10%, else two significant digits."""
    size = abs(100 * value)
    if size in (0, 100) or 10 <= size <= 99.5:
        return f"{100 * value:.0f}%".replace("-", _MINUS)
    if size > 99.5:
        return f"{math.floor(1000 * value) / 10:.1f}%"
    return f"{number(100 * value, 2)}%"


def times(value: float) -> str:
    """A ratio: "4,100 times", "12 times", "0.8 times"."""
    return f"{number(value, 2)} times"


def duration(seconds: float) -> str:
    """Seconds as the unit that fits: "1.20 h", "31.0 s", "85 µs"."""
    for size, unit in ((86400 * 2, "d"), (3600, "h"), (60 * 2, "min"), (1, "s"), (1e-3, "ms"), (0.0, "µs")):
        if abs(seconds) >= size:
            scale = {"d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6}[unit]
            return f"{number(seconds / scale)} {unit}"
    return f"{number(seconds)} s"


def core_time(seconds: float) -> str:
    """Processor time: "1.20 core-h", "31.0 core-s", "85.0 core-µs"."""
    value, unit = duration(seconds).rsplit(" ", 1)
    return f"{value} core-{unit}"


def quantity(value: float, unit: str, digits: int = 3) -> str:
    """A value with its unit."""
    return f"{number(value, digits)} {unit}".rstrip()


def fixed(value: float, decimals: int = 2) -> str:
    """A number with so many decimals; "not known" for NaN."""
    if not math.isfinite(value):
        return "not known" if math.isnan(value) else number(value)
    text = f"{abs(value):,.{decimals}f}"
    return f"{_MINUS}{text}" if value < 0 and float(text.replace(",", "")) else text


def plural(n: float, one: str, many: str | None = None) -> str:
    """ "1 molecule", "20 molecules"."""
    return f"{count(n)} {one if n == 1 else many or one + 's'}"


def listing(items: list[str]) -> str:
    """Items as prose: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def metric(key: str, value: float | None, text: str | None = None) -> str:
    """A number of `metrics.json` as a `<data>` element that names its key and holds its exact value.

    Args:
        key: in `metrics.json`.
        value: what stands there; None makes a dash that says the number is absent.
        text: how it reads; three significant digits if left out.
    """
    if value is None:
        return f'<span class="absent" title="{escape(key)} is not in metrics.json">not recorded</span>'
    shown = number(value) if text is None else text
    return f'<data value="{value!r}" data-metric="{escape(key)}">{escape(shown)}</data>'


def table(
    head: list[str], rows: list[list[str]], *, caption: str = "", marked: int | None = None, wordy: bool = False
) -> str:
    """A table; cells are HTML already. The first column is text, the others are aligned as numbers.

    Args:
        head: column heads.
        rows: cells, as many as heads.
        caption: HTML above the table.
        marked: row to set off.
        wordy: all columns are text.
    """
    heads = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f"<tr{' class=' + chr(34) + 'marked' + chr(34) if i == marked else ''}>"
        f'<th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>"
        for i, row in enumerate(rows)
    )
    title = f"<caption>{caption}</caption>" if caption else ""
    return f'<div class="scroll{" wordy" if wordy else ""}"><table>{title}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def absent(what: str, why: str) -> str:
    """A box that says what the page lacks, and why. Both are plain text."""
    return f'<p class="missing"><strong>Not shown: {escape(what)}.</strong> {escape(why)}</p>'
