"""What a screen did: its counts, its costs, and the table that it ends with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.screening_readings import StandardForms


@dataclass(frozen=True)
class ScreenSummary:
    """What a screen did, every session of it counted.

    Attributes:
        read: rows, good and bad.
        valid: rows that are candidates.
        out_of_domain: candidates outside the training domain.
        in_window: candidates in the domain and in every window of the objective.
        eligible: candidates with a score.
        parts: Parquet files.
        top: rows of `top.csv`.
        seconds: wall time from the first row to the last file, parsing and writing included.
        startup_seconds: wall time before: starting processes and compiling.
        core_seconds: processor time of every process, start-up included.
        peak_memory_mb: largest sum of memory over the processes, in 10^6 bytes.
        resumed: rows that earlier sessions had done.
        kind: what a candidate is called.
        repeats: rows as good as those of `top.csv` that are not in it, because another row is the same candidate.
        forms: candidates that were asked about in their standard form; None where no standard form was asked for.
    """

    read: int
    valid: int
    out_of_domain: int
    in_window: int
    eligible: int
    parts: int
    top: int
    seconds: float
    startup_seconds: float
    core_seconds: float
    peak_memory_mb: float
    resumed: int
    kind: str = "molecule"
    repeats: int = 0
    forms: StandardForms | None = None

    @property
    def rejected(self) -> int:
        """Rows that are no candidates."""
        return self.read - self.valid

    @property
    def per_second(self) -> float:
        """Rows over `seconds`."""
        return self.read / max(self.seconds, 1e-9)

    def metrics(self) -> dict[str, float]:
        """Flat metrics, as in `metrics.json`: `screen/molecules`, `screen/molecules_per_second` and more."""
        names = (
            "valid", "rejected", "out_of_domain", "in_window", "eligible", "parts", "seconds", "startup_seconds",
            "core_seconds", "peak_memory_mb", "repeats",
        )  # fmt: skip
        counted = {f"{self.kind}s": self.read, f"{self.kind}s_per_second": self.per_second}
        counted |= {n: getattr(self, n) for n in names}
        if self.forms is not None:
            counted |= {"standardised": self.forms.changed, "stripped": self.forms.stripped}
        return {f"screen/{k}": float(v) for k, v in counted.items()}


def show_summary(summary: ScreenSummary, out: Path) -> None:
    """Print the table that ends a screen in `out`."""
    table = Table(title="Screen", title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    rows = {
        "rows read": f"{summary.read:,}" + (f" ({summary.resumed:,} before)" if summary.resumed else ""),
        f"{summary.kind}s": f"{summary.valid:,}, rejected {summary.rejected:,}",
        "outside the training domain": f"{summary.out_of_domain:,}",
        "in the domain and the windows": f"{summary.in_window:,}",
        "rate": f"{summary.per_second:,.0f}/s over {summary.seconds:.1f} s "
        f"(and {summary.startup_seconds:.1f} s to start)",
        "processor time": f"{summary.core_seconds:.1f} core-s",
        "peak memory": f"{summary.peak_memory_mb:,.0f} MB",
        "best": f"{summary.top:,} in {out / 'top.csv'}"
        + (f"; {summary.repeats:,} rows as good are the same {summary.kind}s again" if summary.repeats else ""),
        "results": f"{summary.parts:,} parts in {out / 'results'}",
    }
    for name, value in rows.items():
        table.add_row(f"[dim]{name}[/]", value)
    Console().print(table)
