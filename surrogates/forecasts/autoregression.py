"""Linear autoregression: a reference forecast by ridge regressions on the leading patterns of two or more past states.

For each lead, the coefficients of the patterns at the lead are regressed on those of the past states (vector
autoregression with direct forecasts; Marcellino, Stock and Watson 2006, doi:10.1016/j.jeconom.2005.07.020). The ridge
parameter shrinks the regression not to zero but to damped persistence: each pattern keeps the share of its coefficient
that it kept in the training. Beyond the patterns, each channel keeps a share of its anomaly. Where the past says
nothing, at long leads, a forecast is thereby the climatology.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.sphere.statistics import Climatology
from data.sphere.weather_layout import WeatherLayout
from data.sphere.window_store import WindowStore
from surrogates.forecasts.references import PATTERNS, Part, Patterns, anomaly_share, leads, series

#: Ridge parameters, as shares of the mean variance of a coefficient, among which the validation part chooses.
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class LinearAutoregression:
    """Ridge regressions, one for each lead, of the patterns at the lead on those of some past states.

    Attributes:
        layout: layout of the states.
        patterns: the patterns, with the climatology from which anomalies are differences.
        maps: coefficients of the regression for each lead; the past states are in order of time.
        beyond: share of the anomaly that is left at each lead, of what the patterns do not represent.
        history: number of past states.
    """

    layout: WeatherLayout
    patterns: Patterns
    maps: Float[np.ndarray, "lead past pattern"]
    beyond: Float[np.ndarray, "lead channel"]
    history: int

    @staticmethod
    def fit(
        store: WindowStore, train: Part, valid: Part, climatology: Climatology, steps: int, history: int = 2
    ) -> LinearAutoregression:
        """Fit the model.

        Each lead has a ridge parameter and a number of patterns of its own, those with the least error on the
        validation part: what the first day needs would follow noise on the tenth. The error is the mean square
        over area and channels, each in units of its spread.

        Raises:
            ValueError: no window of `history` + `steps` states lies in one of the parts.
        """
        for part in (train, valid):
            if not len(store.starts(history + steps, part)):
                raise ValueError(f"the part has no {history + steps} states that follow one another")
        patterns = Patterns.fit(store, train, max(PATTERNS), climatology)
        c, tested = series(store, train, patterns), series(store, valid, patterns)
        counts = sorted({min(count, c.shape[1]) for count in PATTERNS})
        maps = []
        for lead in range(1, steps + 1):
            past, now, then = _windows(c, store.starts(history + lead, train) - train[0], history, lead)
            kept = np.clip((now * then).sum(axis=0) / np.maximum((now**2).sum(axis=0), 1e-300), 0.0, 1.0)
            left = then - kept * now
            seen, now, then = _windows(tested, store.starts(history + lead, valid) - valid[0], history, lead)
            missed = then - kept * now
            best, least = np.zeros((past.shape[1] * past.shape[2], past.shape[2])), float((missed**2).sum())
            for count in counts:
                x, z = (a[:, :, :count].reshape(len(a), -1) for a in (past, seen))
                gram, moment = x.T @ x, x.T @ left[:, :count]
                for ridge in RIDGES:
                    solved = np.linalg.solve(gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)), moment)
                    error = float(((missed[:, :count] - z @ solved) ** 2).sum() + (missed[:, count:] ** 2).sum())
                    if error < least:
                        best, least = _padded(solved, history, past.shape[2]), error
            # The present state is the last of the past ones.
            best[-past.shape[2] :] += np.diag(kept)
            maps.append(best)
        beyond = anomaly_share(store, train, climatology, steps, patterns)
        return LinearAutoregression(store.layout, patterns, np.stack(maps), beyond, history)

    def forecast_arrays(
        self, history: Float[np.ndarray, "batch history latitude longitude channel"], times: np.ndarray, steps: int
    ) -> Float[np.ndarray, "batch 1 lead latitude longitude channel"]:
        """Forecasts at leads 1 to `steps`.

        Raises:
            ValueError: more leads are asked for than were fitted.
        """
        if steps > len(self.maps):
            raise ValueError(f"{len(self.maps)} leads were fitted, {steps} are asked for")
        step = np.timedelta64(round(self.layout.step_hours * 3600), "s")
        before = times[:, None] + (np.arange(self.history) - self.history + 1) * step
        past = self.patterns.coefficients(history, before)
        later = np.einsum("bp,lpq->blq", past.reshape(len(times), -1), self.maps[:steps])
        rest = self.patterns.beyond(history[:, -1], times)
        share = self.beyond[:steps, None, None].astype(np.float32)
        states = self.patterns.states(later, leads(times, self.layout, steps), self.layout)
        return (states + share * rest[:, None])[:, None]


def _windows(
    c: Float[np.ndarray, "time pattern"], starts: np.ndarray, history: int, lead: int
) -> tuple[
    Float[np.ndarray, "window past pattern"], Float[np.ndarray, "window pattern"], Float[np.ndarray, "window pattern"]
]:
    """Coefficients of the past states of each window, of its present one and of the one at the lead."""
    present = starts + history - 1
    return c[starts[:, None] + np.arange(history)], c[present], c[present + lead]


def _padded(solved: Float[np.ndarray, "past count"], history: int, patterns: int) -> np.ndarray:
    """A map of the leading patterns as one of all patterns, to which the others add nothing."""
    count = solved.shape[1]
    whole = np.zeros((history, patterns, patterns))
    whole[:, :count, :count] = solved.reshape(history, count, count)
    return whole.reshape(history * patterns, patterns)
