"""The candidates on which rungs of a cascade failed, with the reasons: `failures.csv`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool

from data.files import listed_path
from data.formats.cells import safe_frame
from experiments.screening.cascade.rung_answers import OK
from experiments.screening.cascade.rungs import CascadeRung

FAILURES = "failures.csv"
#: What becomes of a candidate without an answer.
PASSED, LEFT, COUNTED = "passed on", "left out", "counted against the promise"


def status_columns(number: int) -> tuple[str, str]:
    """The columns of the status and of the message of a rung."""
    return f"status_{number}", f"message_{number}"


@dataclass
class Unanswered:
    """Candidates without an answer of a rung."""

    frames: list[pd.DataFrame] = field(default_factory=list)

    def add(
        self, frame: pd.DataFrame, number: int, status: str, message: str, passed: Bool[np.ndarray, " row"] | None
    ) -> None:
        """Add candidates.

        Args:
            frame: the candidates.
            number: number of the rung.
            status: column of the kind of failure.
            message: column of the reason.
            passed: whether each of them goes on to the next rung; None where it counts against the promise.
        """
        columns = {
            "line": frame["line"].to_numpy(),
            "smiles": frame["smiles"].to_numpy(),
            "rung": number,
            "kind": frame[status].to_numpy(),
            "reason": frame[message].to_numpy(),
            "then": COUNTED if passed is None else np.where(passed, PASSED, LEFT),
        }
        self.frames.append(pd.DataFrame(columns))

    def add_labelled(self, frame: pd.DataFrame, rungs: Sequence[CascadeRung], policy: str) -> None:
        """Add those of the candidates that set the thresholds, of whom all rungs were asked.

        Args:
            frame: these candidates.
            rungs: the rungs of the cascade.
            policy: pass or list.
        """
        for rung in rungs[1:]:
            status, message = status_columns(rung.number)
            if status in frame:
                lost = frame[frame[status] != OK]
                last = rung.number == rungs[-1].number
                self.add(lost, rung.number, status, message, None if last else np.full(len(lost), policy == "pass"))

    @property
    def table(self) -> pd.DataFrame:
        """One row for each candidate and rung, by rung and line."""
        every = pd.concat(self.frames, ignore_index=True)
        return every.drop_duplicates(["line", "rung"]).sort_values(["rung", "line"], ignore_index=True)

    def count(self, number: int) -> int:
        """Number of the candidates on which a rung failed."""
        return int((self.table["rung"] == number).sum())

    def write(self, out: Path) -> None:
        """Write `failures.csv`."""
        with listed_path(out / FAILURES) as temporary:
            safe_frame(self.table).to_csv(temporary, index=False)
