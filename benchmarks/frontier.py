"""Draws accuracy against speed of our potentials and the peer, from the results of `potential_speed`.

The error is that of forces on test frames of ethanol, after the same training time for all models. The speed is that of
a mixed batch of molecules of about 20 atoms. A model is on the frontier if no other is both faster and more accurate.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.__main__ import results as stored_results
from benchmarks.common import Result, arguments, report, run
from data.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ERROR, SPEED = "ethanol forces MAE", "mixed batch"
#: Name under which `potential_speed` reports the training time of all models.
BUDGET = "training of each model"


@dataclass(frozen=True)
class FrontierPoint:
    """Speed and error of one model.

    Attributes:
        name: name of a configuration, or name and version of the peer.
        rate: molecules per second.
        error: mean absolute force error (meV/Angstrom).
        peer: whether the model belongs to another program.
    """

    name: str
    rate: float
    error: float
    peer: bool


def points(results: Sequence[Result]) -> list[FrontierPoint]:
    """The models of a run of `potential_speed`; the peer, if there is one, comes last.

    Raises:
        InputError: there are no models, or a model has an error but no speed.
    """
    values = {r.name: r for r in results}
    names = [match[1] for r in results if (match := re.fullmatch(rf"([\w-]+): {ERROR}", r.name))]
    missing = [name for name in names if f"{name}: {SPEED}" not in values]
    if missing or not names:
        raise InputError(
            f"no speed of {', '.join(missing) or 'any model'}",
            where="--out",
            remedy="Run benchmarks.potential_speed to its end",
        )
    models = [FrontierPoint(n, values[f"{n}: {SPEED}"].value, values[f"{n}: {ERROR}"].value, False) for n in names]
    first, speed = values[f"{names[0]}: {ERROR}"], values[f"{names[0]}: {SPEED}"]
    if first.peer is not None and first.peer_value is not None and speed.peer_value is not None:
        models.append(FrontierPoint(first.peer, speed.peer_value, first.peer_value, True))
    return models


def frontier(models: Sequence[FrontierPoint]) -> list[FrontierPoint]:
    """The models that no other beats in both speed and accuracy, the fastest first."""
    best: list[FrontierPoint] = []
    for model in sorted(models, key=lambda p: (-p.rate, p.error)):
        if not best or model.error < best[-1].error:
            best.append(model)
    return best


def finding(models: Sequence[FrontierPoint]) -> str:
    """The main finding of the figure in one sentence, used as its title."""
    ours = [p for p in models if not p.peer]
    peers = [p for p in models if p.peer]
    if not peers:
        quick, accurate = max(ours, key=lambda p: p.rate), min(ours, key=lambda p: p.error)
        if quick is accurate:
            return f"{quick.name} is the quickest and the most accurate"
        speed, error = quick.rate / accurate.rate, quick.error / accurate.error
        return f"{quick.name} is {speed:.1f} times as quick as {accurate.name}, at {error:.1f} times its error"
    peer = peers[0]
    able = sorted((p for p in ours if p.error <= peer.error), key=lambda p: -p.rate)
    if not able:
        closest = min(ours, key=lambda p: p.error)
        return f"{closest.name} errs {closest.error / peer.error:.2f} times as much as {peer.name}"
    speed, error = able[0].rate / peer.rate, able[0].error / peer.error
    return f"{able[0].name} is {speed:.1f} times as quick as {peer.name}, at {error:.2f} times its error"


def paint(axes: Axes, models: Sequence[FrontierPoint]) -> None:
    """Draw the models with their names, and a line through the frontier of our models."""
    from experiments.pages.style import BLUE, LINE, VERMILLION, legend_below, plain_logarithmic

    line = frontier([p for p in models if not p.peer])
    axes.plot([p.rate for p in line], [p.error for p in line], color=LINE, zorder=1)
    for peer, colour, marker, label in ((False, BLUE, "o", "Understudy"), (True, VERMILLION, "D", "peer")):
        group = [p for p in models if p.peer == peer]
        if group:
            axes.plot(
                [p.rate for p in group], [p.error for p in group], marker, color=colour, markersize=7, label=label
            )
    slow, quick = min(p.rate for p in models) / 1.6, max(p.rate for p in models) * 1.6
    ticks = [m * 10.0**e for e in range(-2, 6) for m in (1, 2, 5) if slow <= m * 10.0**e <= quick]
    plain_logarithmic(axes, "x", ticks)
    axes.set_xlim(slow, quick)
    axes.set_ylim(0.0, 1.2 * max(p.error for p in models))
    for p in models:
        # Put the name on the side where the axes have room.
        left = p.rate > (slow * quick) ** 0.5
        axes.annotate(
            p.name,
            (p.rate, p.error),
            (-8 if left else 8, 6),
            textcoords="offset points",
            ha="right" if left else "left",
        )
    axes.set_xlabel("energies and forces of molecules of about 20 atoms (molecules/s)")
    axes.set_ylabel("MAE of forces on ethanol (meV/Å)")
    legend_below(axes, 2)


def save(models: Sequence[FrontierPoint], path: Path, note: str = "") -> None:
    """Save the figure in the format of the suffix; `note` is appended to the finding in the title."""
    import matplotlib
    from matplotlib.figure import Figure

    from experiments.pages.style import STYLE

    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(dict(STYLE)):  # type: ignore[arg-type]
        figure = Figure(figsize=(6.4, 4.2))
        axes = figure.add_subplot()
        paint(axes, models)
        axes.set_title(textwrap.fill(finding(models) + note, 62))
        figure.savefig(path, dpi=160, metadata={"Software": None})


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the figure; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--figure", type=Path, default=None, help="PNG file to write (<out>/frontier.png)")
    options = parser.parse_args(argv)
    measured = stored_results(options.out / "potential_speed.json")
    models = points(measured)
    minutes = [r.value for r in measured if r.name == BUDGET]
    note = f", after {minutes[0]:g} CPU minutes of training each" if minutes else ""
    save(models, options.figure or options.out / "frontier.png", note)
    best = frontier(models)
    results = [r for r in measured if r.name == BUDGET]
    for p in models:
        results += [Result(f"{p.name}: {ERROR}", p.error, "meV/A"), Result(f"{p.name}: {SPEED}", p.rate, "molecules/s")]
        results.append(Result(f"{p.name}: on the frontier", float(p in best), "1"))
    print(finding(models))
    report("frontier", [Result(r.name, r.value, r.unit) for r in results], options.out, argv)


if __name__ == "__main__":
    sys.exit(run(main))
