"""Draws errors of our potentials and the peer against training time, from the results of `potential_learning`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.__main__ import results as stored_results
from benchmarks.common import Result, arguments, report, run
from data.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = re.compile(
    r"(?P<molecule>[\w-]+), (?P<minutes>[\d.]+) CPU minutes, (?P<name>[\w-]+): (?P<what>energy|forces) MAE"
)
QUANTITIES = ("energy", "forces")


@dataclass(frozen=True)
class Curve:
    """Errors of one model on one molecule.

    Attributes:
        name: name of a configuration, or name and version of the peer.
        peer: whether the model belongs to another program.
        errors: mean absolute errors in `unit`, by CPU minutes in ascending order.
        unit: unit of the errors, such as meV.
    """

    name: str
    peer: bool
    errors: Mapping[float, float]
    unit: str


def curves(results: Sequence[Result]) -> dict[tuple[str, str], list[Curve]]:
    """Collect the curves by molecule and quantity; configurations come before the peer.

    Raises:
        InputError: the results contain no errors.
    """
    errors_by_model: dict[tuple[str, str], dict[tuple[bool, str, str], dict[float, float]]] = {}
    for result in results:
        match = LINE.fullmatch(result.name)
        if match is None:
            continue
        models = errors_by_model.setdefault((match["molecule"], match["what"]), {})
        minutes = float(match["minutes"])
        models.setdefault((False, match["name"], result.unit), {})[minutes] = result.value
        if result.peer is not None and result.peer_value is not None:
            models.setdefault((True, result.peer, result.unit), {})[minutes] = result.peer_value
    if not errors_by_model:
        raise InputError("no errors in it", where="--out", remedy="Run benchmarks.potential_learning")
    return {
        key: [Curve(name, peer, dict(sorted(errors.items())), unit) for (peer, name, unit), errors in sorted(m.items())]
        for key, m in sorted(errors_by_model.items())
    }


def paint(axes: Axes, models: Sequence[Curve]) -> None:
    """Draw a line for each model, on logarithmic axes with ticks at the measured times."""
    from experiments.pages.style import BLUE, GREEN, VERMILLION, plain_logarithmic

    ours = [m for m in models if not m.peer]
    for model in models:
        colour = VERMILLION if model.peer else (BLUE, GREEN)[ours.index(model) % 2]
        axes.plot(
            list(model.errors),
            list(model.errors.values()),
            "D-" if model.peer else "o-",
            color=colour,
            label=model.name,
        )
    values = [v for m in models for v in m.errors.values()]
    low, high = 0.8 * min(values), 1.25 * max(values)
    ticks = [m * 10.0**e for e in range(-4, 6) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    plain_logarithmic(axes, "y", ticks)
    axes.set_ylim(low, high)
    minutes = sorted({t for m in models for t in m.errors})
    plain_logarithmic(axes, "x", minutes)
    axes.set_xlim(minutes[0] / 1.2, minutes[-1] * 1.2)
    axes.minorticks_off()
    axes.set_xlabel("training (CPU minutes)")


def save(panel_curves: Mapping[tuple[str, str], Sequence[Curve]], path: Path) -> None:
    """Save a figure with a row for each molecule, energies on the left and forces on the right."""
    import matplotlib
    from matplotlib.figure import Figure

    from experiments.pages.style import STYLE

    molecules = list(dict.fromkeys(molecule for molecule, _ in panel_curves))
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(dict(STYLE)):  # type: ignore[arg-type]
        figure = Figure(figsize=(7.2, 3.2 * len(molecules)))
        panels = figure.subplots(len(molecules), len(QUANTITIES), squeeze=False)
        for row, molecule in zip(panels, molecules, strict=True):
            for axes, quantity in zip(row, QUANTITIES, strict=True):
                models = panel_curves[molecule, quantity]
                paint(axes, models)
                unit = models[0].unit.replace("/A", "/Å")
                axes.set_ylabel(f"mean absolute error ({unit})")
                axes.set_title(f"{molecule.capitalize()}, {quantity}")
            row[0].legend(loc="upper right")
        figure.savefig(path, dpi=160, metadata={"Software": None})


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the figure; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--figure", type=Path, default=None, help="PNG file to write (<out>/learning_curve.png)")
    options = parser.parse_args(argv)
    measured = stored_results(options.out / "potential_learning.json")
    save(curves(measured), options.figure or options.out / "learning_curve.png")
    report("learning_curve", [r for r in measured if LINE.fullmatch(r.name)], options.out, argv)


if __name__ == "__main__":
    sys.exit(run(main))
