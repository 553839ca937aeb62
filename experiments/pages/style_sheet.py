"""The style sheet that all pages share; `page.html` holds it."""

from __future__ import annotations

from importlib import resources


def house_style() -> str:
    """The content of the `<style>` element of `page.html`, for pages with a template of their own."""
    text = resources.files("experiments.pages").joinpath("page.html").read_text(encoding="utf-8")
    return text.split("<style>", 1)[1].split("</style>", 1)[0]
