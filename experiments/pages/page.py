"""The report of a run: one HTML page that needs nothing else, no network and no JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from string import Template

from data.errors import InputError
from data.files import write_text
from experiments.pages import accuracy_sections, findings, recheck_section, record_sections, screen_sections
from experiments.pages.active_page import is_active, render_active
from experiments.pages.answers_page import is_answers, render_answers
from experiments.pages.cascade_page import is_cascade, render_cascade
from experiments.pages.distillation_page import is_distillation, render_distillation
from experiments.pages.formatting import absent, escape
from experiments.pages.pipeline_run import PipelineRun
from experiments.pages.run_files import load_run
from experiments.pages.screen_page import is_screen, render_screen

#: (anchor, heading, what makes the body), in the order of the page.
SECTIONS: tuple[tuple[str, str, Callable[[PipelineRun], str]], ...] = (
    ("funnel", "From candidates to confirmed hits", screen_sections.funnel),
    ("molecules", "The best molecules", screen_sections.top_molecules),
    ("recheck", "Re-check by simulation", recheck_section.recheck),
    ("library", "The library as the surrogate sees it", screen_sections.library),
    ("accuracy", "Accuracy on held-out labels", accuracy_sections.accuracy),
    ("calibration", "Do the intervals hold?", accuracy_sections.calibration),
    ("curve", "What more labels bring", accuracy_sections.learning_curve),
    ("costs", "What it cost, and what it saved", screen_sections.costs),
    ("failures", "What failed", record_sections.failures),
    ("provenance", "Where the numbers come from", record_sections.provenance),
)


#: In every page, by which it is known again.
FOOTER = "Written by <code>understudy report</code>"


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """Write the page of a run, whole or as far as its files allow.

    Args:
        run_dir: of a pipeline, a screen or active learning; what it lacks is named on the page.
        out: where the page goes; `report.html` in the run if left out.

    Returns:
        The path of the page.

    Raises:
        InputError: `run_dir` is not a run directory, or the page would replace a file of somebody else.
    """
    page = out or run_dir / "report.html"
    if page.exists() and FOOTER not in page.read_text(encoding="utf-8", errors="replace"):
        raise InputError(
            "is no page of this command, and is not replaced", where=str(page), remedy="Give another out=FILE"
        )
    if is_cascade(run_dir):
        text = render_cascade(run_dir)
    elif is_distillation(run_dir):
        text = render_distillation(run_dir)
    elif is_answers(run_dir):
        text = render_answers(run_dir)
    elif is_active(run_dir):
        text = render_active(run_dir)
    else:
        text = render_screen(run_dir) if is_screen(run_dir) else render(load_run(run_dir))
    write_text(page, text)
    return page


def render(run: PipelineRun) -> str:
    """The page as text; the same run gives the same page."""
    sought = findings.goal(run)
    title = f"Screening for {sought}" if sought else "Screening report"
    expensive, cheap = run.method_name("expensive"), run.method_name("cheap")
    subtitle = f"Run “{run.path.resolve().name}”: a surrogate of {expensive}, pre-trained on {cheap}"
    template = Template(resources.files("experiments.pages").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        warnings=_warnings(run),
        finding=findings.paragraph(run),
        accuracy=findings.accuracy(run),
        tiles="".join(
            f'<div class="tile"><b>{value}</b><span>{escape(text)}</span></div>' for value, text in findings.tiles(run)
        ),
        contents="".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading, _ in SECTIONS),
        sections="\n".join(_section(run, *section) for section in SECTIONS),
        footer="Written by <code>understudy report</code> from the files of the run alone. Numbers that come from "
        "metrics.json are marked up with their key and full precision.",
    )


def _section(run: PipelineRun, anchor: str, heading: str, body: Callable[[PipelineRun], str]) -> str:
    """One section; if its data defeat it, the section says so and the others stand."""
    try:
        text = body(run)
    except Exception as error:  # a report must outlive whatever one of its files holds
        text = absent(
            heading, f"The data of this section could not be shown ({type(error).__name__}: {str(error)[:200]})."
        )
    return f'<section id="{anchor}"><h2>{escape(heading)}</h2>{text}</section>'


def _warnings(run: PipelineRun) -> str:
    sentences = findings.disagreements(run)
    if not sentences:
        return ""
    rows = "".join(f"<li>{escape(text)}</li>" for text in sentences)
    return f'<div class="warning"><strong>The files of this run disagree.</strong><ul>{rows}</ul></div>'
