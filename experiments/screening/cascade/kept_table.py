"""The table of all candidates that the last rung of a cascade has answered, `kept.parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.files import listed_path
from experiments.screening.carried import in_results
from experiments.screening.cascade.first_rung import FirstAnswers, carried_cells


def kept_table(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The columns of `kept.parquet`: line, SMILES, and each rung's answers as `rung_<i>_<name>`."""
    head = [c for c in ("line", "smiles", "standard_smiles", "group", "hit") if c in frame]
    columns = {name: frame[name] for name in head}
    for name in names:
        for column in (name, f"{name}_std"):
            if column in frame:
                columns[f"rung_0_{column}"] = frame[column]
    for column in ("in_domain", "status", "message"):
        if column in frame:
            columns[f"rung_0_{column}"] = frame[column]
    for column in frame.columns:
        base, _, number = column.rpartition("_")
        if number.isdigit() and number != "0":
            columns[f"rung_{number}_{base}"] = frame[column]
    return pd.DataFrame(columns).sort_values("line").reset_index(drop=True)


def write_kept(frame: pd.DataFrame, names: Sequence[str], first: FirstAnswers, path: Path) -> None:
    """Write candidates with the answers of all rungs, and the columns of their file that the results repeat.

    Args:
        frame: the candidates; see `kept_table`.
        names: outputs that the objective needs.
        first: the answers of the first rung.
        path: Parquet file.
    """
    table = with_carried(kept_table(frame, names), first)
    with listed_path(path) as temporary:
        table.to_parquet(temporary, index=False)


def with_carried(table: pd.DataFrame, first: FirstAnswers) -> pd.DataFrame:
    """A table of candidates with the columns that results repeat, after those that identify them."""
    if not first.carried:
        return table
    renamed = in_results(first.carried, set(table.columns))
    cells = carried_cells(first.parts, first.carried, table["line"].to_numpy(np.int64)).rename(columns=renamed)
    joined = table.merge(cells, on="line", how="left", sort=False)
    head = [name for name in ("line", "smiles", "standard_smiles") if name in table]
    repeated = list(renamed.values())
    return joined[[*head, *repeated, *(name for name in table if name not in head)]]
