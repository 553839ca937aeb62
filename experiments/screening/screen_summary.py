"""The counts and costs of a screen, and the table that ends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data.terminal import show_pairs
from experiments.screening.readings import StandardForms


@dataclass(frozen=True)
class ScreenSummary:
    """The counts and costs of a screen, summed over all its sessions.

    Attributes:
        read: number of rows, valid and rejected.
        valid: number of rows that are candidates.
        out_of_domain: number of candidates outside the training domain.
        in_window: number of candidates in the domain and in every window of the objective.
        eligible: number of candidates with a finite score.
        parts: number of Parquet files.
        top: number of rows of `top.csv`.
        seconds: wall time from the first row to the last file, parsing and writing included, s.
        startup_seconds: wall time before that, for starting processes and compiling, s.
        core_seconds: processor time of all processes, start-up included, s.
        peak_memory_mb: largest sum of memory over the processes, in 10^6 bytes.
        resumed: number of rows that earlier sessions screened.
        kind: name of a candidate, in the singular.
        repeats: number of rows as good as those of `top.csv` that are omitted, because another row is the same
            candidate.
        filtered: number of candidates as good as those of `top.csv` that an alert refused, by the name of the
            catalogue; None if no filter was requested.
        pool: number of the best candidates among which unlike hits were picked; None if the best were taken.
        forms: counts of candidates that were screened in their standard form; None if none was requested.
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
    filtered: Mapping[str, int] | None = None
    pool: int | None = None

    @property
    def rejected(self) -> int:
        """Number of rows that are not candidates."""
        return self.read - self.valid

    @property
    def per_second(self) -> float:
        """Rows per second of wall time."""
        return self.read / max(self.seconds, 1e-9)

    def metrics(self) -> dict[str, float]:
        """Flat metrics for `metrics.json`, such as `screen/molecules` and `screen/molecules_per_second`."""
        names = (
            "valid", "rejected", "out_of_domain", "in_window", "eligible", "parts", "seconds", "startup_seconds",
            "core_seconds", "peak_memory_mb", "repeats",
        )  # fmt: skip
        counted = {f"{self.kind}s": self.read, f"{self.kind}s_per_second": self.per_second}
        counted |= {n: getattr(self, n) for n in names}
        if self.forms is not None:
            counted |= {"standardised": self.forms.changed, "stripped": self.forms.stripped}
        if self.filtered is not None:
            counted["filtered"] = sum(self.filtered.values())
            counted |= {f"filtered/{name}": count for name, count in self.filtered.items()}
        return {f"screen/{k}": float(v) for k, v in counted.items()}


def show_summary(summary: ScreenSummary, out: Path) -> None:
    """Print the table that ends a screen in `out`."""
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
        **_selection(summary, out),
        "results": f"{summary.parts:,} parts in {out / 'results'}",
    }
    files = {"best": out / "top.csv", "results": out / "results"}
    show_pairs("Screen", rows, files=files)


def _selection(summary: ScreenSummary, out: Path) -> dict[str, str]:
    """What filters refused, and from how many candidates unlike ones were picked."""
    rows = {}
    if summary.filtered is not None:
        each = ", ".join(f"{name} {count:,}" for name, count in summary.filtered.items())
        listed = f" ({each}), in {out / 'filtered.csv'}" if each else ""
        rows["refused by filters"] = f"{sum(summary.filtered.values()):,} rows as good as the best{listed}"
    if summary.pool is not None:
        rows["diverse"] = f"{summary.top:,} picked from the best {summary.pool:,}"
    return rows
