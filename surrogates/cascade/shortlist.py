"""Shortlists with a controlled share of false discoveries, by conformal selection.

With labelled molecules that are exchangeable with the candidates, the p-value of "candidate j is no hit" counts the
labelled misses that look at least as good as j; Benjamini and Hochberg's procedure (JRSS B 1995, 57, 289) on these
p-values keeps the expected share of misses in the shortlist at the level or below (Jin and Candes, J. Mach. Learn.
Res. 2023, 24, 244). It promises how many of the shortlist are hits, not how many of the hits are in the shortlist.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int


def selection_p_values(
    calibration: Float[np.ndarray, " labelled"], hits: Bool[np.ndarray, " labelled"], scores: Float[np.ndarray, " row"]
) -> Float[np.ndarray, " row"]:
    """The p-value of "it is no hit" for each candidate: (1 + misses with a score as high or higher) / (1 + labelled).

    Args:
        calibration: scores of labelled molecules, which are drawn like the candidates and were not trained on.
        hits: whether each of them is a hit.
        scores: scores of the candidates, larger for likelier hits.
    """
    misses = np.sort(np.asarray(calibration, np.float64)[~np.asarray(hits, bool)])
    above = len(misses) - np.searchsorted(misses, np.asarray(scores, np.float64), side="left")
    return (1.0 + above) / (1.0 + len(calibration))


def benjamini_hochberg(p: Float[np.ndarray, " row"], level: float) -> Int[np.ndarray, " chosen"]:
    """Indices of the rejected hypotheses at a false discovery rate, by ascending p-value.

    Args:
        p: p-values.
        level: largest expected share of false rejections among all rejections, in (0, 1).
    """
    order = np.argsort(p, kind="stable")
    below = np.flatnonzero(np.asarray(p)[order] <= level * np.arange(1, len(p) + 1) / max(1, len(p)))
    return order[: below[-1] + 1] if len(below) else order[:0]


def shortlist(
    calibration: Float[np.ndarray, " labelled"],
    hits: Bool[np.ndarray, " labelled"],
    scores: Float[np.ndarray, " row"],
    level: float,
) -> Int[np.ndarray, " chosen"]:
    """Indices of the candidates in a shortlist of which an expected share of `level` at most are no hits.

    Args:
        calibration, hits, scores: see `selection_p_values`.
        level: false discovery rate, in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"the false discovery rate must lie between 0 and 1, got {level}")
    return benjamini_hochberg(selection_p_values(calibration, hits, scores), level)
