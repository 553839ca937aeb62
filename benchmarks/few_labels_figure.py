"""Draws errors of forces against the number of labels, from the results of `few_labels`: a panel for each molecule.

A dashed line is what GFN2-xTB errs by, which needs no label.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.__main__ import results as stored_results
from benchmarks.common import Result, arguments, run
from data.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEARNED = re.compile(r"(?P<molecule>[\w-]+), (?P<count>\d+) labels, (?P<way>\w+): force MAE.*")
UNLEARNED = re.compile(r"(?P<molecule>[\w-]+), no labels, GFN2-xTB: force MAE")
#: What the ways of `few_labels` are called in the figure.
WORDS = {
    "scratch": "fresh weights",
    "body": "pre-trained weights",
    "replay": "pre-trained weights, with replay",
    "difference": "difference to GFN2-xTB",
}
NAMES = {"3bpa": "3BPA"}


@dataclass
class LabelCurves:
    """What was measured of one molecule, meV/Angstrom.

    Attributes:
        errors: way -> number of labels -> mean absolute error of a component of a force.
        cheap: that of GFN2-xTB; None where it was not measured.
    """

    errors: dict[str, dict[int, float]] = field(default_factory=dict)
    cheap: float | None = None


def curves(results: Sequence[Result]) -> dict[str, LabelCurves]:
    """What was measured of each molecule.

    Raises:
        InputError: the results contain no errors of forces.
    """
    molecules: dict[str, LabelCurves] = {}
    for result in results:
        if match := UNLEARNED.fullmatch(result.name):
            molecules.setdefault(match["molecule"], LabelCurves()).cheap = result.value
        elif match := LEARNED.fullmatch(result.name):
            errors = molecules.setdefault(match["molecule"], LabelCurves()).errors
            errors.setdefault(match["way"], {})[int(match["count"])] = result.value
    if not any(one.errors for one in molecules.values()):
        raise InputError("no errors in it", where="--out", remedy="Run benchmarks.few_labels")
    return molecules


def paint(axes: Axes, molecule: str, measured: LabelCurves) -> None:
    """Draw a line for each way, on logarithmic axes with ticks at the numbers of labels."""
    from experiments.pages.style import BLUE, GREEN, VERMILLION, plain_logarithmic

    colours = dict(zip(WORDS, (VERMILLION, BLUE, GREEN, "black"), strict=True))
    for way, errors in measured.errors.items():
        counts = sorted(errors)
        axes.plot(counts, [errors[n] for n in counts], "o-", color=colours[way], label=WORDS[way])
    if measured.cheap is not None:
        axes.axhline(measured.cheap, color="0.5", linestyle="--", label="GFN2-xTB, no label")
    counts = sorted({n for errors in measured.errors.values() for n in errors})
    plain_logarithmic(axes, "x", [float(n) for n in counts])
    axes.set_xlim(counts[0] / 1.3, counts[-1] * 1.3)
    axes.minorticks_off()
    axes.set_xlabel("labelled frames")
    axes.set_title(NAMES.get(molecule, molecule.capitalize()))


def save(molecules: Mapping[str, LabelCurves], path: Path) -> None:
    """Save the figure, with one scale of errors for all molecules."""
    import matplotlib
    from matplotlib.figure import Figure

    from experiments.pages.style import STYLE, plain_logarithmic

    values = [v for one in molecules.values() for errors in one.errors.values() for v in errors.values()]
    values += [one.cheap for one in molecules.values() if one.cheap is not None]
    low, high = 0.8 * min(values), 1.25 * max(values)
    ticks = [m * 10.0**e for e in range(-1, 5) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(dict(STYLE)):  # type: ignore[arg-type]
        figure = Figure(figsize=(3.0 * len(molecules) + 0.6, 3.6), layout="constrained")
        panels = figure.subplots(1, len(molecules), squeeze=False, sharey=True)[0]
        for axes, (molecule, measured) in zip(panels, molecules.items(), strict=True):
            paint(axes, molecule, measured)
            plain_logarithmic(axes, "y", ticks)
            axes.set_ylim(low, high)
        panels[0].set_ylabel("mean absolute error of forces (meV/Å)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        figure.savefig(path, dpi=160, metadata={"Software": None})


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the figure; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--figure", type=Path, default=None, help="PNG file to write (<out>/few_labels.png)")
    options = parser.parse_args(argv)
    save(curves(stored_results(options.out / "few_labels.json")), options.figure or options.out / "few_labels.png")


if __name__ == "__main__":
    sys.exit(run(main))
