"""The best rows of a screen so far, of which a candidate has only one, and none that a filter refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from experiments.screening.hit_selection import Refused


class TopK:
    """The best rows seen so far, by score and then by line; rows without a finite score never enter.

    Args:
        k: largest number of rows.
        keys: returns a key for each row of a table, equal for the same candidate; only the best row of each key is
            kept. None keeps all rows.
        refuse: says why each row of a table is refused, or None; it is asked about rows that would be kept. None
            refuses no row.
        pick: chooses among the kept rows those of `table`; None takes all.
        recorded: keys of rows by their line, where they were recorded before; `keys` is not asked about these.
    """

    def __init__(
        self,
        k: int,
        keys: Callable[[pa.Table], list[str]] | None = None,
        refuse: Callable[[pa.Table], list[str | None]] | None = None,
        pick: Callable[[pa.Table], pa.Table] | None = None,
        recorded: Mapping[int, str] | None = None,
    ) -> None:
        self._k = k
        self._recorded = recorded or {}
        self._keys = keys or _lines
        self._all = keys is None and refuse is None
        self._refuse, self._pick = refuse, pick
        self._refused: list[Refused] = []
        self._picked: tuple[pa.Table, pa.Table] | None = None
        self._kept: list[pa.Table] = []
        self._names: dict[int, str] = {}
        self._repeats: dict[int, tuple[float, str]] = {}
        self._waiting = 0
        self._threshold = -np.inf

    def add(self, batch: pa.RecordBatch) -> Int[np.ndarray, " competing"]:
        """Consider more rows; lines must be larger than those of earlier batches.

        Returns:
            The indices of those that may be among the best, repeat one of them or be refused in their place.
        """
        score = batch.column("score").to_numpy()
        # A row that ties with the last kept one ranks below it, because its line is larger.
        better = np.flatnonzero(score > self._threshold) if self._k else np.zeros(0, np.int64)
        if len(better):
            self._kept.append(pa.Table.from_batches([batch.take(pa.array(better))]))
            self._waiting += len(better)
        if self._waiting > max(self._k, 4096):
            self._compact()
        return better

    def table(self) -> pa.Table | None:
        """The best rows, in order; None if there are none."""
        self._compact()
        if not self._kept or not self._kept[0].num_rows:
            return None
        kept = self._kept[0]
        if self._pick is None:
            return kept
        if self._picked is None or self._picked[0] is not kept:
            self._picked = kept, self._pick(kept)
        return self._picked[1]

    def pooled(self) -> int:
        """Number of rows from which `table` is picked."""
        self._compact()
        return self._kept[0].num_rows if self._kept else 0

    def refused(self) -> list[Refused]:
        """Rows that would be among the best, but were refused."""
        self._compact()
        # As in `repeats`, so that the list does not depend on the order of batches.
        return [one for one in self._refused if one.score > self._threshold]

    def repeats(self) -> int:
        """Number of rows that would be in `table`, but repeat a candidate that is in it."""
        self._compact()
        # Only rows above the last kept one are counted, so that the number does not depend on the order of batches.
        return sum(score > self._threshold for score, _ in self._repeats.values())

    def keys_by_line(self) -> dict[int, str]:
        """The keys of the best rows, and of those that repeat one of them."""
        self._compact()
        return self._names | {line: key for line, (_, key) in self._repeats.items()}

    def _compact(self) -> None:
        if not self._kept:
            return
        table = pa.concat_tables(self._kept).combine_chunks()
        score, line = table.column("score").to_numpy(), table.column("line").to_numpy()
        kept = self._distinct(table, np.lexsort((line, -score)), score, line)
        self._kept, self._waiting = [table.take(pa.array(kept))], 0
        if len(kept) == self._k:
            self._threshold = float(score[kept[-1]])
            self._repeats = {line: one for line, one in self._repeats.items() if one[0] > self._threshold}
            self._refused = [one for one in self._refused if one.score > self._threshold]

    def _distinct(
        self, table: pa.Table, order: np.ndarray, score: np.ndarray, line: np.ndarray
    ) -> Int[np.ndarray, " kept"]:
        """The first `k` rows in an order that are different candidates."""
        if self._all:
            return order[: self._k]
        kept: list[int] = []
        seen: set[str] = set()
        names: dict[int, str] = {}
        first = 0
        while first < len(order):
            # Few long batches are asked for quickly; recorded keys need no question about a row that is not needed.
            count = self._k - len(kept) if self._recorded else self._k
            rows = order[first : first + max(1, count)]
            first += len(rows)
            fresh = [row for row in rows.tolist() if int(line[row]) not in self._names]
            fresh_names = self._keys_of(table, fresh, line)
            refused = self._refusals(table, fresh, fresh_names, seen, score, line)
            for row in rows.tolist():
                if row in refused:
                    self._refused.append(refused[row])
                    continue
                name = fresh_names[row] if row in fresh_names else self._names[int(line[row])]
                if name in seen:
                    self._repeats[int(line[row])] = float(score[row]), name
                    continue
                seen.add(name)
                names[int(line[row])] = name
                kept.append(row)
                if len(kept) == self._k:
                    break
            if len(kept) == self._k:
                break
        self._names = names
        return np.array(kept, np.int64)

    def _keys_of(self, table: pa.Table, rows: list[int], line: np.ndarray) -> dict[int, str]:
        """The keys of some rows of a table, by row."""
        unrecorded = [row for row in rows if int(line[row]) not in self._recorded]
        asked = self._keys(table.take(pa.array(unrecorded, pa.int64()))) if unrecorded else []
        fresh = dict(zip(unrecorded, asked, strict=True))
        return {row: fresh[row] if row in fresh else self._recorded[int(line[row])] for row in rows}

    def _refusals(
        self,
        table: pa.Table,
        fresh: list[int],
        names: dict[int, str],
        seen: set[str],
        score: np.ndarray,
        line: np.ndarray,
    ) -> dict[int, Refused]:
        """Those of the fresh rows that are refused; a repetition of a row that is kept is not looked at."""
        asked = [row for row in fresh if names[row] not in seen]
        if self._refuse is None or not asked:
            return {}
        some = table.take(pa.array(asked, pa.int64()))
        reasons, smiles = self._refuse(some), some.column("smiles").to_pylist()
        return {
            row: Refused(float(score[row]), int(line[row]), str(text), reason)
            for row, text, reason in zip(asked, smiles, reasons, strict=True)
            if reason is not None
        }


def _lines(table: pa.Table) -> list[str]:
    """Keys by which every row is a candidate of its own."""
    return [str(line) for line in table.column("line").to_pylist()]
