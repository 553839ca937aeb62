"""The best confirmed hits of a cascade, `top.csv`, from the table of all candidates that the last rung answered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from data.files import listed_path
from data.formats.cells import safe_frame
from data.identity import molecule_keys

TOP = "top.csv"


def write_best(kept: pd.DataFrame, last: int, target: str, sign: float, top_k: int, distinct: bool, path: Path) -> int:
    """Write the best hits, by the answers of the last rung and then by line, and return their number.

    Args:
        kept: rows of `kept.parquet`.
        last: number of the last rung.
        target: the property that is optimised; hits keep the order of the file if the last rung was not asked for it.
        sign: 1 to maximise, -1 to minimise.
        top_k: largest number of rows.
        distinct: whether a molecule has one row, however it is written.
        path: CSV file.
    """
    hits = kept[kept["hit"]]
    column = f"rung_{last}_{target}"
    value = sign * hits[column].to_numpy(np.float64) if column in hits else np.zeros(len(hits))
    order = np.lexsort((hits["line"].to_numpy(), -value))
    best = hits.iloc[order].drop(columns=[c for c in ("group", "hit") if c in hits])
    best = best.drop(columns=[c for c in best if str(c).endswith(("_status", "_message"))])
    if distinct and len(best):
        forms = best["smiles"]
        if "standard_smiles" in best:
            forms = best["standard_smiles"].fillna(forms)
        best = best[~pd.Series(molecule_keys([str(text) for text in forms]), index=best.index).duplicated()]
    best = best.head(top_k)
    best.insert(0, "rank", np.arange(1, len(best) + 1))
    with listed_path(path) as temporary:
        safe_frame(best).to_csv(temporary, index=False)
    return len(best)
