"""The frame of the page of a run: title, finding, tiles and sections in the one template of all pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from string import Template

FOOTER = "Written by <code>understudy report</code> from the files of the run alone."


def page_of_run(
    title: str,
    *,
    subtitle: str,
    finding: str,
    accuracy: str,
    tiles: Mapping[str, str | None],
    sections: Sequence[tuple[str, str, str]],
) -> str:
    """The page as HTML.

    Args:
        title: text of the title, which is escaped here.
        subtitle, finding, accuracy: HTML of the line below the title, of the result, and of what errors mean.
        tiles: text -> HTML of its number; None leaves the tile out.
        sections: anchor, heading and HTML of each section, in their order.
    """
    template = Template(resources.files("experiments.pages").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        subtitle=subtitle,
        warnings="",
        finding=finding,
        accuracy=accuracy,
        tiles="".join(
            f'<div class="tile"><b>{value}</b><span>{escape(text)}</span></div>'
            for text, value in tiles.items()
            if value is not None
        ),
        contents="".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading, _ in sections),
        sections="\n".join(
            f'<section id="{anchor}"><h2>{escape(heading)}</h2>{body}</section>' for anchor, heading, body in sections
        ),
        footer=FOOTER,
    )
