"""Which rows of results are the same molecule, so that a list of hits holds each once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from data.identity import molecule_keys


def molecule_keys_by(named: Sequence[str]) -> Callable[[pa.Table], list[str]]:
    """The function that gives the key of the molecule of each row of a table of results.

    Args:
        named: columns of SMILES, of which the last one that a row has counts.
    """

    def keys(table: pa.Table) -> list[str]:
        asked = [table.column(name).to_pylist() for name in reversed(named)]
        return molecule_keys([str(next(filter(None, forms), "")) for forms in zip(*asked, strict=True)])

    return keys
