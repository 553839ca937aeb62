"""Summary of a campaign: counts, costs and reasons of failures, as metrics, as a table and as an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data.errors import InputError
from data.terminal import show_pairs

#: Largest number of different messages that are kept per kind, and of characters that are shown of one.
KEPT_MESSAGES = 1000
SHOWN = 160


@dataclass
class Reasons:
    """Counts of failures by kind and message."""

    kinds: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, kind: str, message: str) -> None:
        """Count one failure."""
        messages = self.kinds.setdefault(kind, Counter())
        short = " ".join(message.split())
        short = short if len(short) <= SHOWN else f"{short[: SHOWN - 1]}…"
        if short not in messages and len(messages) >= KEPT_MESSAGES:
            short = "other messages"
        messages[short] += 1

    def counts(self) -> dict[str, int]:
        """Kind -> failures, the most frequent first."""
        by_count = sorted(self.kinds.items(), key=lambda item: (-item[1].total(), item[0]))
        return {kind: messages.total() for kind, messages in by_count}

    def lines(self) -> list[str]:
        """One line per kind with its count and its most frequent message."""
        lines = []
        for kind, count in self.counts().items():
            messages = self.kinds[kind]
            (message, times), *_ = messages.most_common(1)
            # The most frequent message is an example; the store has the message of each record.
            share = f", {times:,} of them" if times < count else ""
            lines.append(f"{count:,} {kind}{share}: {message or 'no message'}")
        return lines


@dataclass(frozen=True)
class CampaignSummary:
    """Summary of one run of a campaign.

    Attributes:
        requested: number of distinct requests.
        done: number of requests that were answered in this run.
        failed: kind -> number of failures in this run.
        cached: number of requests that had a record before this run, answered or failed.
        seconds: wall time, s.
        core_seconds: processor time of the records of this run, including programs that simulations started, s.
        store: directory of the records.
        answered: number of requests with an answer, including earlier ones.
        reasons: reasons of all failures, including earlier ones.
        declared: whether `core_seconds` is a declared cost and not a measured one.
    """

    requested: int
    done: int
    failed: Mapping[str, int]
    cached: int
    seconds: float
    core_seconds: float
    store: Path
    answered: int = 0
    reasons: Reasons = field(default_factory=Reasons)
    declared: bool = False

    def metrics(self) -> dict[str, float]:
        """Flat metrics, as in `metrics.json`."""
        ended = self.done + sum(self.failed.values())
        return {
            "simulate/requested": float(self.requested),
            "simulate/answered": float(self.answered),
            "simulate/done": float(self.done),
            "simulate/failed": float(sum(self.failed.values())),
            **{f"simulate/failed/{kind}": float(count) for kind, count in sorted(self.failed.items())},
            "simulate/cached": float(self.cached),
            "simulate/seconds": self.seconds,
            "simulate/core_seconds": self.core_seconds,
            "simulate/per_second": ended / self.seconds if self.seconds > 0 else 0.0,
        }

    def refuse_no_answer(self, key: str | None = "campaign") -> None:
        """Refuse a campaign in which every request failed.

        Args:
            key: configuration key of the campaign, for the remedy; None if it is not configurable.

        Raises:
            InputError: names the reasons by kind.
        """
        failed = sum(self.reasons.counts().values())
        if self.answered or not failed:
            return
        raise InputError(
            f"{'the one request' if failed == 1 else f'all {failed:,} requests'} failed: "
            + "; ".join(self.reasons.lines()),
            where=str(self.store),
            remedy="Fix the causes"
            + (f"; {key}.retry_failed=true repeats requests that are recorded as failed" if key else ""),
        )

    def show(self, name: str) -> None:
        """Print the closing table of a campaign with the simulator `name`."""
        ended = self.done + sum(self.failed.values())
        lost = sum(self.reasons.counts().values())
        before = f" ({lost - sum(self.failed.values()):,} of them failed)" if lost > sum(self.failed.values()) else ""
        per = f", {self.core_seconds / ended:.3g} core-s each" if ended else ""
        said = " (declared, not measured)" if self.declared else ""
        rows: list[tuple[str, object]] = [
            ("done now", f"{self.done:,} of {self.requested:,}"),
            ("in the store before", f"{self.cached:,}{before}"),
            *(("failed", line) for line in self.reasons.lines() or ["none"]),
            ("cost", f"{self.seconds:,.1f} s, {self.core_seconds:,.1f} core-s{per}{said}"),
            ("records", self.store),
        ]
        show_pairs(f"Campaign {name}", rows)
