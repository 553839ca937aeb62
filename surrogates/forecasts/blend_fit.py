"""Fits the weights of a blend by lead, point and channel to forecasts of a part that training has not seen.

The weights of a channel minimise the mean square error of the blend, with a ridge that draws them to those of
`first_weights`. Those of a point are drawn to the weights of their channel. How strongly, cross-validation
over consecutive blocks of time decides, once for all leads: neighbouring forecasts share their weather, so that single
ones are no test.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls

from data.processes.processor import tree_seconds
from data.sphere.window_store import WindowStore
from surrogates.forecasts.autoregression import LinearAutoregression
from surrogates.forecasts.lead_blend import NETWORK, LeadBlend
from surrogates.forecasts.references import DampedPersistence
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.learning.loop import FitResult

Part = tuple[int, int]
#: Ridges towards `first_weights`, in units of a member's mean square, and those of a point
#: towards its channel, None for no weights of its own.
RIDGES: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 1e6)
POINT_RIDGES: tuple[float | None, ...] = (0.3, 3.0, None)
#: Blocks of time of the cross-validation, most forecasts of a fit, members of an ensemble, and forecasts at a time.
BLOCKS, MOST, MEMBERS, AT_A_TIME = 4, 400, 16, 16
#: Least number of forecasts of a fit.
LEAST = 2 * BLOCKS
#: Most states, bytes of these, and bytes of a climatology with which a linear model and a blend are made.
STATES, STATE_BYTES, CLIMATOLOGY_BYTES = 4000, 1 << 30, 64 << 20
#: Most bytes of the sums from which the weights are fitted.
SUM_BYTES = 1 << 30
#: Most sweeps over the weights of a point, and the largest change of a weight that ends them.
SWEEPS, NEAR = 50, 1e-4
#: Weight of the network at the first lead below which it adds little to the simpler forecasts.
LITTLE = 0.25
LOG = logging.getLogger(__name__)


def blended(
    forecaster: ForecastSurrogate, result: FitResult, store: WindowStore, train: Part, valid: Part
) -> tuple[ForecastSurrogate, FitResult]:
    """The forecaster with its blend, and what both cost; a reason why there is none, or for little use, is logged."""
    began, processor = time.perf_counter(), tree_seconds()
    blend = fit_blend(forecaster, store, train, valid)
    spent = time.perf_counter() - began, tree_seconds() - processor
    result = replace(result, seconds=result.seconds + spent[0], core_seconds=result.core_seconds + spent[1])
    if isinstance(blend, str):
        LOG.warning("forecasts are not blended with simpler ones: %s", blend)
        return forecaster, result
    share = float(blend.member_weights()[NETWORK][0])
    if share < LITTLE:
        LOG.warning(
            "at the first lead the network has a weight of %.2f beside simpler forecasts: it was trained too briefly "
            "(train.epochs, train.max_seconds), or has too little data for its size (model.network.width)", share,
        )  # fmt: skip
    return forecaster.with_blend(blend), result


def weight_metrics(forecaster: ForecastSurrogate) -> dict[str, float]:
    """Mean weight of each member of the blend by lead, as `blend/<member>/<lead>h`; empty without a blend."""
    if forecaster.blend is None:
        return {}
    hours = forecaster.layout.step_hours
    return {
        f"blend/{name}/{hours * (k + 1):g}h": float(value)
        for name, values in forecaster.blend.member_weights().items()
        for k, value in enumerate(values)
    }


@dataclass(frozen=True)
class _Sums:
    """Sums over forecasts, by block of time: products of the members' anomalies, and with the truth's."""

    gram: Float[np.ndarray, "block lead latitude longitude channel member member"]
    moment: Float[np.ndarray, "block lead latitude longitude channel member"]
    square: Float[np.ndarray, "block lead latitude longitude channel"]

    def of(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums over some blocks."""
        return self.gram[blocks].sum(0), self.moment[blocks].sum(0), self.square[blocks].sum(0)


def fit_blend(
    forecaster: ForecastSurrogate,
    store: WindowStore,
    train: Part,
    valid: Part,
    others: Mapping[str, ForecastSurrogate] | None = None,
    name: str = NETWORK,
) -> LeadBlend | str:
    """The blend for a forecaster without one, or the reason why there is none.

    Args:
        forecaster: the forecaster.
        store: the states.
        train: [start, stop) of the states that the other members are fitted to.
        valid: [start, stop) of the states that the weights are fitted to, and that choose the linear model's size.
        others: the other forecasters of a mixture, by name.
        name: name of the first one in it.
    """
    others = others or {}
    every = (forecaster, *others.values())
    reach = max(one.history for one in every)
    steps, past, layout = forecaster.facts.config.steps, forecaster.facts.config.history, store.layout
    starts = store.starts(reach + steps, valid)
    if len(starts) < LEAST:
        return f"the validation part has {len(starts)} windows of {reach + steps} states, of {LEAST} needed"
    if not len(store.starts(past + steps, train)):
        return f"the training part has no {past + steps} states that follow one another"
    climatology = store.climatology(train)
    if climatology.values.nbytes > CLIMATOLOGY_BYTES:
        return f"the climatology takes more than {CLIMATOLOGY_BYTES >> 20} MiB"
    damped = DampedPersistence.fit(store, train, climatology, steps)
    size = 4 * climatology.values[0, 0].size * (train[1] - train[0])
    linear = None
    if train[1] - train[0] <= STATES and size <= STATE_BYTES:
        linear = LinearAutoregression.fit(store, train, valid, climatology, steps, past)
    shape = (*layout.grid.shape, len(layout.channels))
    members = len(every) + (1 if linear is None else 2)
    if 8 * BLOCKS * steps * int(np.prod(shape)) * members**2 > SUM_BYTES:
        return f"the sums for its weights would take more than {SUM_BYTES >> 20} MiB"
    one = np.ones((steps, shape[-1]))
    blend = LeadBlend(
        layout, climatology, damped, linear, np.zeros((steps, members, *shape)), one, 0, (name, *others),
        tuple(other.fingerprint for other in others.values()),
    )  # fmt: skip
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, min(MOST, len(starts))).round().astype(int))]
    sums, variance = _sums(forecaster, tuple(others.values()), blend, store, starts)
    unrolls = [one.facts.config.loss.unroll for one in every]
    weights, error = _chosen(sums, first_weights(damped.shares, unrolls, linear is not None))
    blend = replace(blend, weights=np.moveaxis(weights, -1, 1), forecasts=len(starts))
    if variance is None:
        return blend
    # The spread of M members is then the error of their mean (Fortin et al. 2014, J. Hydrometeor. 15, 1708).
    mean_variance = error / (len(starts) * shape[0] * shape[1]) * MEMBERS / (MEMBERS + 1)
    return replace(blend, spread=np.sqrt(mean_variance / np.maximum(variance, 1e-30)))


def _sums(
    forecaster: ForecastSurrogate,
    others: Sequence[ForecastSurrogate],
    blend: LeadBlend,
    store: WindowStore,
    starts: np.ndarray,
) -> tuple[_Sums, Float[np.ndarray, "lead channel"] | None]:
    """Sums over forecasts from some starts, and of an ensemble the mean variance of its members."""
    steps, history = blend.steps, max(one.history for one in (forecaster, *others))
    noisy = forecaster.facts.config.noise_dims > 0
    shape, members = blend.weights.shape[2:], blend.weights.shape[1]
    gram = np.zeros((BLOCKS, steps, *shape, members, members))
    moment, square = np.zeros(gram.shape[:-1]), np.zeros(gram.shape[:-2])
    variance, block = np.zeros((steps, shape[-1])), np.arange(len(starts)) * BLOCKS // len(starts)
    for at in range(0, len(starts), AT_A_TIME):
        rows = starts[at : at + AT_A_TIME]
        # The last batch is filled, so that it has the shape of the others.
        full = np.resize(rows, min(AT_A_TIME, len(starts)))
        states, times = store.read(full, history + steps), store.times[full + history - 1]
        several = {"members": MEMBERS, "seed": at} if noisy else {}
        past = states[:, history - forecaster.history : history]
        raw = forecaster.forecast_arrays(past, times, steps, **several)[: len(rows)]
        beside = [
            np.concatenate(
                [part[: len(rows), 0] for part in one.chunks(states[:, history - one.history : history], times, steps,
                                                             blended=False)],
                axis=1,
            )
            for one in others
        ]  # fmt: skip
        if noisy:
            variance += raw.astype(np.float64).var(axis=1, ddof=1).mean(axis=(2, 3)).sum(axis=0)
        said, usual = blend.anomalies(states[: len(rows), :history], times[: len(rows)], raw.mean(axis=1), 0, beside)
        came = states[: len(rows), history:] - usual
        for b in range(BLOCKS):
            part = block[at : at + len(rows)] == b
            if part.any():
                a, y = said[part].astype(np.float64), came[part].astype(np.float64)
                gram[b] += np.einsum("nkmxyc,nklxyc->kxycml", a, a)
                moment[b] += np.einsum("nkmxyc,nkxyc->kxycm", a, y)
                square[b] += (y**2).sum(axis=0)
    return _Sums(gram, moment, square), variance / len(starts) if noisy else None


def first_weights(
    shares: Float[np.ndarray, "lead channel"], unrolls: Sequence[int], linear: bool
) -> Float[np.ndarray, "lead channel member"]:
    """The weights to which the ridge draws, and which hold where the validation part says nothing.

    Each network and the linear autoregression have equal weights up to the lead on which the network was trained.
    Beyond it the network's weight falls as the memory of anomalies does, because its errors there were not part of its
    loss, while each lead of the autoregression was fitted by itself. Without an autoregression the networks have all
    the weight, in equal parts.

    Args:
        shares: share of an anomaly that is left at each lead.
        unrolls: lead, in steps, up to which each network was trained.
        linear: whether there is a linear autoregression.

    Returns:
        Weights of the networks, of damped persistence, and of the linear autoregression if there is one.
    """
    count = len(unrolls)
    weights = np.zeros((*shares.shape, count + 1 + linear))
    if not linear:
        weights[..., :count] = 1 / count
        return weights
    for k, unroll in enumerate(unrolls):
        last = shares[min(unroll, len(shares)) - 1]
        memory = np.divide(shares, last, out=np.zeros(shares.shape), where=last > 0)
        memory[:unroll] = 1.0
        weights[..., k] = np.minimum.accumulate(np.clip(memory, 0.0, 1.0), axis=0) / (count + 1)
    weights[..., -1] = 1 - weights[..., :count].sum(axis=-1)
    return weights


def _chosen(
    sums: _Sums, first: Float[np.ndarray, "lead channel member"]
) -> tuple[Float[np.ndarray, "lead latitude longitude channel member"], Float[np.ndarray, "lead channel"]]:
    """The weights with the ridges of the least error in cross-validation, and that sum of squares."""
    every = np.arange(BLOCKS)
    total = sums.square.sum(axis=(0, 2, 3))
    pairs = [(ridge, point_ridge) for ridge in RIDGES for point_ridge in POINT_RIDGES]
    errors = dict.fromkeys(pairs, np.zeros_like(total))
    for b in every:
        gram, moment, _ = sums.of(every[every != b])
        against, with_truth, square = sums.of(every[every == b])
        for pair in pairs:
            weights = _weights(gram, moment, *pair, first)
            quadratic = np.einsum("kxycm,kxycm->kc", weights, (against @ weights[..., None])[..., 0])
            crossed = np.einsum("kxycm,kxycm->kc", weights, with_truth)
            errors[pair] = errors[pair] + square.sum(axis=(1, 2)) - 2 * crossed + quadratic
    best = min(pairs, key=lambda pair: float((errors[pair] / np.maximum(total, 1e-300)).mean()))
    return _weights(*sums.of(every)[:2], *best, first), errors[best]


def _weights(
    gram: Float[np.ndarray, "lead latitude longitude channel member member"],
    moment: Float[np.ndarray, "lead latitude longitude channel member"],
    ridge: float,
    point_ridge: float | None,
    first: Float[np.ndarray, "lead channel member"],
) -> Float[np.ndarray, "lead latitude longitude channel member"]:
    """Weights, none of them negative and with a sum of 1 at most, of each point."""
    steps, channels, members = first.shape
    whole, with_truth = gram.sum(axis=(1, 2)), moment.sum(axis=(1, 2))
    weights = np.zeros((steps, channels, members))
    for k in range(steps):
        for c in range(channels):
            # Numbers of one channel may be 1e-6 or 1e5; sums in units of the members' squares are not.
            unit = max(float(np.trace(whole[k, c])) / members, 1e-300)
            matrix = whole[k, c] / unit + ridge * np.eye(members)
            weights[k, c] = _bounded(matrix, with_truth[k, c] / unit + ridge * first[k, c])
    wide = np.broadcast_to(weights[:, None, None], moment.shape)
    if point_ridge is None:
        return wide.copy()
    unit = np.maximum(np.trace(gram, axis1=-2, axis2=-1) / members, 1e-300)[..., None]
    matrix = gram / unit[..., None] + point_ridge * np.eye(members)
    free = not_negative(matrix, moment / unit + point_ridge * wide)
    return np.asarray(free / np.maximum(free.sum(axis=-1, keepdims=True), 1.0))


def not_negative(
    matrix: Float[np.ndarray, "*point member member"],
    vector: Float[np.ndarray, "*point member"],
) -> Float[np.ndarray, "*point member"]:
    """The minimum of w'Mw - 2v'w over weights that are not negative, at each point, for positive definite M.

    Where the unbounded minimum has no negative weight it is the answer. Elsewhere one weight after the other is set to
    its best value (sequential coordinate-wise descent: Franc, Hlavac and Navara 2005, doi:10.1007/11556121_50), at all
    of these points at once. To set the negative ones of the unbounded minimum to zero instead would keep the weights of
    its other members, which are wrong where forecasts resemble each other.

    Args:
        matrix: M.
        vector: v.
    """
    free = np.linalg.solve(matrix, vector[..., None])[..., 0]
    bound = (free < 0).any(axis=-1)
    gram, moment, weights = matrix[bound], vector[bound], np.maximum(free[bound], 0.0)
    for _ in range(SWEEPS):
        before = weights.copy()
        for k in range(weights.shape[-1]):
            others = (gram[:, k] * weights).sum(axis=-1) - gram[:, k, k] * weights[:, k]
            weights[:, k] = np.maximum((moment[:, k] - others) / gram[:, k, k], 0.0)
        if np.abs(weights - before).max(initial=0.0) < NEAR:
            break
    free[bound] = weights
    return np.asarray(free)


def _bounded(matrix: Float[np.ndarray, "member member"], vector: Float[np.ndarray, " member"]) -> np.ndarray:
    """The minimum of w'Mw - 2v'w over weights that are not negative and whose sum is 1 at most."""
    lower = np.linalg.cholesky(matrix + 1e-9 * np.eye(len(matrix)))
    design = lower.T
    answer = np.linalg.solve(lower, vector)
    weights, _ = nnls(design, answer)
    if weights.sum() <= 1:
        return np.asarray(weights)
    # On the bound; the sum is a row with a large weight.
    large = 1e4 * np.abs(design).max()
    weights, _ = nnls(np.vstack([design, np.full(len(matrix), large)]), np.append(answer, large))
    return np.asarray(weights / weights.sum())
