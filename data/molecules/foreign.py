"""Parses SMILES of unknown origin in a process that may die: to graphs, or to reasons why there is none.

Every stage that reads molecules from a file uses these functions instead of those of `data.molecules.featurise`, which
parse in the calling process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from data.errors import InputError
from data.molecules import featurise
from data.molecules.graph_tables import GraphTable, empty_table
from data.processes.parsing import Lane, Lost, answers_in_parts, messages


def encode(smiles: Sequence[str], *, lane: Lane | None = None) -> tuple[GraphTable, list[tuple[int, str]]]:
    """Featurise SMILES as `data.molecules.featurise.encode` does; a row that no process can parse is refused, too.

    Args:
        smiles: one molecule each.
        lane: the parsing process; None for the one that this program shares.

    Returns:
        The molecules that can be read, with `source_index` into `smiles`; and (index, reason) of the others.
    """
    tables: list[GraphTable] = []
    rejects: list[tuple[int, str]] = []
    first = 0
    for some in messages(smiles):
        for part in answers_in_parts(_encode, some, lane=lane):
            if isinstance(part, Lost):
                rejects.append((first, part.reason))
                first += 1
                continue
            table, bad, rows = part
            tables.append(replace(table, source_index=table.source_index + first))
            rejects += [(first + i, reason) for i, reason in bad]
            first += rows
    return (GraphTable.concat(tables) if tables else empty_table()), rejects


def _encode(order: tuple[None, Sequence[str]]) -> tuple[GraphTable, list[tuple[int, str]], int]:
    table, bad = featurise.encode(order[1])
    return table, bad, len(order[1])


def graphs(smiles: Sequence[str], where: str) -> GraphTable:
    """The graphs of molecules that could be read when their file was read, one for each.

    Raises:
        InputError: one of them cannot be read this time, as on a machine that has less memory left.
    """
    table, rejects = encode(smiles)
    if rejects:
        index, reason = rejects[0]
        raise InputError(f"{smiles[index][:80]!r}: {reason}", where=where, remedy="Leave the molecule out")
    return table


def smiles_problems(smiles: Sequence[str], *, lane: Lane | None = None) -> list[str | None]:
    """Why each SMILES is refused; None for those that `encode` takes."""
    reasons: list[str | None] = []
    for some in messages(smiles):
        for part in answers_in_parts(_problems, some, lane=lane):
            reasons += [part.reason] if isinstance(part, Lost) else part
    return reasons


def _problems(order: tuple[None, Sequence[str]]) -> list[str | None]:
    reasons: list[str | None] = [None] * len(order[1])
    for index, reason in featurise.encode(order[1])[1]:
        reasons[index] = reason
    return reasons
