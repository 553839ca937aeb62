"""The table of all candidates that the last rung of a cascade has answered, `kept.parquet`."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def kept_table(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The columns of `kept.parquet`: line, SMILES, and each rung's answers as `rung_<i>_<name>`."""
    head = [c for c in ("line", "smiles", "standard_smiles", "group", "hit") if c in frame]
    columns = {name: frame[name] for name in head}
    for column in frame.columns:
        base, _, number = column.rpartition("_")
        if number.isdigit() and number != "0":
            columns[f"rung_{number}_{base}"] = frame[column]
    for name in names:
        for column in (name, f"{name}_std"):
            if column in frame:
                columns[f"rung_0_{column}"] = frame[column]
    if "in_domain" in frame:
        columns["rung_0_in_domain"] = frame["in_domain"]
    return pd.DataFrame(columns).sort_values("line").reset_index(drop=True)
