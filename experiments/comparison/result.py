"""A comparison as one object: it is made from contenders, saved as flat JSON, and shown as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from rich.console import Console
from rich.markup import escape

from data.errors import CorruptStoreError, InputError
from data.files import write_json
from data.json_files import read_plain, reading
from data.plain import PlainError, entry
from data.terminal import columns_table, print_table
from experiments.comparison import break_even as fr
from experiments.comparison.contenders import Clock, Contender, Point, Problem, Settings
from experiments.comparison.ladder import MARGIN, refuse_weak_reference
from experiments.comparison.measure import measure
from experiments.comparison.resolution import GridError
from experiments.pages.formatting import listing, number

FILE = "comparison.json"
#: Field of a `Point` -> end of its key in JSON. The key of an error ends with the name of the error.
KEYS: Mapping[str, str] = {
    "core_seconds": "core_seconds_per_trajectory",
    "core_seconds_median": "core_seconds_per_trajectory_median",
    "batch": "batch_trajectories",
    "latency_seconds": "latency_seconds",
    "first_call_seconds": "first_call_seconds",
    "non_finite": "non_finite_values",
    "label_core_seconds": "label_core_seconds",
    "training_core_seconds": "training_core_seconds",
    "note": "note",
    "spearman": "spearman",
    "kendall": "kendall",
}
BY_BATCH = "core_seconds_per_trajectory_batch_"
PHRASES: Mapping[fr.Relation, str] = {"equal": "", "at least": "at least ", "at most": "at most "}


@dataclass(frozen=True)
class Comparison:
    """Error and cost of rungs of a solver and of surrogates on one problem.

    Attributes:
        title: name of the problem, in words.
        points: points of all contenders.
        reference: description of the solver that made the truth.
        reference_difference: difference of the reference from its own refinement; see `ladder.self_check`.
        requests: number of trajectories of which the errors are means.
        cores: number of cores that were used.
        error_name: name of the error, in words.
        scalar_name: name of the quantity that a designer ranks by; "" for none.
        margin: see `ladder.refuse_weak_reference`.
        resolution: errors of the first surrogate on other grids; empty if they were not measured.

    Raises:
        InputError: the reference cannot judge the errors, or no rung has a finite one.
    """

    title: str
    points: tuple[Point, ...]
    reference: str
    reference_difference: float
    requests: int
    cores: int
    error_name: str = "relative L2"
    scalar_name: str = ""
    margin: float = MARGIN
    resolution: tuple[GridError, ...] = ()

    def __post_init__(self) -> None:
        refuse_weak_reference(self.reference_difference, self.points, self.margin)
        fr.frontier(self.points)

    @property
    def surrogates(self) -> list[Point]:
        """The surrogates, the most accurate first."""
        return sorted((p for p in self.points if p.kind == "surrogate"), key=lambda p: p.error)

    @property
    def rungs(self) -> list[Point]:
        """Every rung of the solver, the cheapest first."""
        return sorted((p for p in self.points if p.kind == "solver"), key=lambda p: p.core_seconds)

    @property
    def unsettled(self) -> str:
        """A sentence that names the contenders whose timings were disturbed; "" if there are none."""
        names = [p.name for p in self.points if p.unsettled]
        if not names:
            return ""
        who = listing(names) if len(names) <= 3 else f"{len(names)} of the {len(self.points)} contenders"
        return (
            f"The machine was busy while {who} ran: the median of the rounds is far above the least. "
            "Ratios may be wrong by as much; measure again on a quiet machine."
        )

    @property
    def error_key(self) -> str:
        """The name of the error in keys."""
        return self.error_name.lower().replace(" ", "_")

    def to_json(self) -> dict[str, Any]:
        """A flat dict with units in the keys; infinite and unknown numbers are null, and another key says which."""
        flat: dict[str, Any] = {
            "title": self.title,
            "reference/name": self.reference,
            f"reference/{self.error_key}_to_refinement": self.reference_difference,
            "reference/margin": self.margin,
            "requests": self.requests,
            "cores": self.cores,
            "error": self.error_name,
            "scalar": self.scalar_name,
        }
        for p in self.points:
            prefix = f"{p.kind}/{p.name}"
            flat[f"{prefix}/{self.error_key}"] = p.error if math.isfinite(p.error) else None
            flat[f"{prefix}/{self.error_key}_standard_error"] = p.error_standard_error
            flat |= {f"{prefix}/{key}": getattr(p, name) for name, key in KEYS.items()}
            flat |= {f"{prefix}/{BY_BATCH}{size}": cost for size, cost in p.core_seconds_by_batch.items()}
        on = {p.name for p in fr.frontier(self.points)}
        flat |= {f"solver/{p.name}/on_frontier": p.name in on for p in self.rungs}
        for p in self.surrogates:
            flat |= {f"surrogate/{p.name}/{key}": value for key, value in _findings(p, self.points).items()}
        for grid in self.resolution:
            flat |= grid.to_json()
        return flat

    @staticmethod
    def from_json(flat: Mapping[str, Any]) -> Comparison:
        """The comparison that `to_json` described.

        Raises:
            InputError: a key is missing, or a value has another type.
        """
        try:
            key = str(flat["error"]).lower().replace(" ", "_")
            names = dict.fromkeys(tuple(k.split("/")[:2]) for k in flat if k.startswith(("solver/", "surrogate/")))
            return Comparison(
                title=entry(flat, "title", str),
                points=tuple(_point(flat, kind, name, key) for kind, name in names),
                reference=entry(flat, "reference/name", str),
                reference_difference=entry(flat, f"reference/{key}_to_refinement", float),
                requests=entry(flat, "requests", int),
                cores=entry(flat, "cores", int),
                error_name=entry(flat, "error", str),
                scalar_name=entry(flat, "scalar", str),
                margin=entry(flat, "reference/margin", float),
                resolution=GridError.read(flat),
            )
        except KeyError as error:
            raise InputError(f"no key {error}", where=FILE, remedy="Run the comparison again") from error
        except PlainError as error:
            raise InputError(str(error), where=FILE, remedy="Run the comparison again") from error

    def write(self, folder: Path) -> Path:
        """Write `comparison.json` into `folder` atomically."""
        write_json(folder / FILE, self.to_json())
        return folder / FILE


def read(folder: Path) -> Comparison:
    """Read the comparison that `Comparison.write` wrote into `folder`.

    Raises:
        InputError: there is none, or a key is missing.
    """
    path = folder / FILE
    flat = read_plain(path, dict[str, Any], remedy="Run the comparison again")
    with reading(path, remedy="Run the comparison again"):
        try:
            return Comparison.from_json(flat)
        except InputError as error:
            problem = error.problem if error.where in (None, FILE) else f"{error.where}: {error.problem}"
            raise CorruptStoreError(problem, where=str(path), remedy="Run the comparison again") from error


def compare(
    title: str,
    contenders: Sequence[Contender],
    problem: Problem,
    *,
    reference: str,
    reference_difference: float,
    settings: Settings | None = None,
    clock: Clock | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Measure all contenders and compare them; see `Comparison` and `measure`."""
    settings = settings or Settings()
    return Comparison(
        title,
        tuple(measure(contenders, problem, settings, clock, progress=progress)),
        reference,
        reference_difference,
        len(problem.initial),
        settings.used_cores,
        settings.error_name,
        problem.scalar_name if problem.scalar is not None else "",
    )


def _point(flat: Mapping[str, Any], kind: Any, name: str, error: str) -> Point:
    prefix = f"{kind}/{name}/"
    by_batch = {
        int(k[len(prefix + BY_BATCH) :]): entry(flat, k, float) for k in flat if k.startswith(prefix + BY_BATCH)
    }
    kinds = get_type_hints(Point)
    spread: Any = kinds["error_standard_error"]  # a number or null, as the error is here
    value = entry(flat, prefix + error, spread)
    return Point(
        name=name,
        kind=kind,
        error=math.inf if value is None else value,
        error_standard_error=entry(flat, f"{prefix}{error}_standard_error", spread),
        core_seconds_by_batch=by_batch,
        **{field: entry(flat, prefix + key, kinds[field]) for field, key in KEYS.items()},
    )


def _findings(surrogate: Point, points: Sequence[Point]) -> dict[str, Any]:
    """Speed-up, accuracy gain and break-even of a surrogate, flat; empty if its answers are not finite."""
    if not math.isfinite(surrogate.error):
        return {}
    findings: dict[str, Any] = {}
    for name, interpolated in (
        ("solver_core_seconds_at_equal_error", fr.cost_at_error(points, surrogate.error)),
        ("speed_up_at_equal_error", fr.speed_up(surrogate, points)),
        ("error_ratio_at_equal_cost", fr.accuracy_gain(surrogate, points)),
    ):
        findings |= {name: interpolated.value, f"{name}_relation": interpolated.relation}
        findings |= {f"{name}_low": interpolated.low, f"{name}_high": interpolated.high}
        findings[f"{name}_between"] = " and ".join(interpolated.between)
    pays = fr.break_even_of(surrogate, points)
    findings["break_even_trajectories"] = None if pays is None or math.isinf(pays.count) else pays.count
    findings["break_even_relation"] = (
        "not known" if pays is None else fr.NEVER if math.isinf(pays.count) else pays.relation
    )
    return findings


def speed_words(reading: fr.Interpolated) -> str:
    """A speed-up at equal error as text, such as "×4.2", "at least ×12" or "×0.40"."""
    return f"{PHRASES[reading.relation]}×{number(reading.value, 2)}"


def break_even_words(surrogate: Point, points: Sequence[Point]) -> str:
    """The break-even as text."""
    pays = fr.break_even_of(surrogate, points)
    return "not known" if pays is None else pays.words


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print the table of all contenders, with speed-up and break-even of each surrogate."""
    caption = f"error: {comparison.error_name}; cost: core-s a trajectory; single: s a request"
    if comparison.scalar_name:
        caption += f"; rank: Spearman's correlation of {comparison.scalar_name}"
    heads = ["contender", "error", "cost", "batch", "single", "speed-up", "pays from"]
    heads += ["rank"] if comparison.scalar_name else []
    table = columns_table(comparison.title, heads, caption=caption)
    on = {p.name for p in fr.frontier(comparison.points)}
    for p in (*comparison.rungs, *comparison.surrogates):
        worth = ("", "")
        if p.kind == "surrogate" and math.isfinite(p.error):
            words = (speed_words(fr.speed_up(p, comparison.points)), break_even_words(p, comparison.points))
            short = [w.replace("at least ", "≥ ").replace("at most ", "≤ ").removesuffix(", if at all") for w in words]
            worth = (short[0], short[1])
        error = f"{p.error:.3g}" if math.isfinite(p.error) else "∞"
        cells = [p.name, error, f"{p.core_seconds:.3g}", str(p.batch), f"{p.latency_seconds:.3g}", *worth]
        if comparison.scalar_name:
            cells.append("" if p.spearman is None else f"{p.spearman:.3f}")
        table.add_row(*map(escape, cells), style="bold" if p.kind == "surrogate" else None if p.name in on else "dim")
    console = console or Console()
    print_table(table, console)
    if comparison.unsettled:
        console.print(comparison.unsettled, style="yellow")
