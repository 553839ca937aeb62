"""What became of each fault that was made on purpose, counted into one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rich.table import Table

#: What becomes of a fault. `equal`: the same result as undisturbed, or of a file that another hand might have written
#: so, an answer; `named`: one line that says which file; `traceback`: any other exception; `silent`: another result,
#: without a word; `hang`, and `crash`, which also is memory beyond what the file accounts for.
OUTCOMES = ("equal", "named", "traceback", "silent", "hang", "crash")
#: Outcomes that are faults of ours; a killed run also has to go on, not only to say why it cannot.
FAULTS = ("traceback", "silent", "hang", "crash")


State = Mapping[str, str]
"""What is compared of a result: name -> something that is equal where the result is."""


@dataclass(frozen=True)
class FaultTrial:
    """One fault that was made on purpose.

    Attributes:
        kind: kills, flips or mutations.
        name: of what was killed or read.
        done: what exactly was done to it.
        outcome: one of `OUTCOMES`.
        said: by whom it was read or run again.
    """

    kind: str
    name: str
    done: str
    outcome: str
    said: str = ""

    @property
    def bad(self) -> bool:
        """Whether that may not be."""
        return self.outcome in FAULTS or (self.kind == "kills" and self.outcome == "named")


def table(trials: Iterable[tuple[str, str, str]], title: str) -> Table:
    """Trials by kind and name.

    Args:
        trials: the kind, the name and the outcome of each.
        title: of the table.
    """
    rows: dict[tuple[str, str], Counter[str]] = {}
    totals: dict[str, Counter[str]] = {}
    for kind, name, outcome in trials:
        rows.setdefault((kind, name), Counter())[outcome] += 1
        totals.setdefault(kind, Counter())[outcome] += 1
    shown = Table("kind", "of", "tried", *OUTCOMES, title=title, title_justify="left")
    for column in shown.columns[2:]:
        column.justify = "right"
    for (kind, name), counts in rows.items():
        shown.add_row(kind, name, f"{counts.total():,}", *(f"{counts[o]:,}" for o in OUTCOMES))
    shown.add_section()
    every: Counter[str] = sum(totals.values(), Counter())
    for kind, counts in (*totals.items(), ("total", every)):
        shown.add_row(kind, "all", f"{counts.total():,}", *(f"{counts[o]:,}" for o in OUTCOMES))
    return shown


def difference(expected: State, present: State) -> str:
    """What two states differ in, in words; empty if they are equal."""
    lacking, more = sorted(expected.keys() - present.keys()), sorted(present.keys() - expected.keys())
    other = [name for name in sorted(expected.keys() & present.keys()) if expected[name] != present[name]]
    facts = {"lacks": lacking, "has more": more, "differs in": other}
    return "; ".join(f"{word} {', '.join(names[:3])}" for word, names in facts.items() if names)
