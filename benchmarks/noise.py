"""How much noise on its weights a surrogate bears: the relative noise at which its error has grown by a tenth.

A small surrogate of each kind is trained without noise and with `train.weight_noise`. Each is then evaluated with every
weight multiplied by 1 + sigma N(0, 1), by the same seeds for each sigma, and sigma is searched at which the mean error
over the seeds is a tenth above that without noise. A surrogate that was trained with noise may be worse without any;
therefore the noise that it bears is also given relative to the error of the one that was trained without.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.common import Result, arguments, pin, report
from benchmarks.noise_cases import CASES, NoiseCase, trained

#: Growth of the error that is searched, and how near to it, as shares of the error.
GROWTH, NEAR = 0.1, 0.01
#: Sigma with which the search begins, the largest one, and the most evaluations.
FIRST, LARGEST, MOST = 0.03, 1.0, 8


def sigma_of_growth(error_at: Callable[[float], float], limit: float, near: float) -> float | None:
    """The sigma at which the error of a noisy surrogate reaches a limit.

    Args:
        error_at: mean error at a sigma; it grows with sigma, at first with its square.
        limit: the limit.
        near: difference from the limit that is near enough.

    Returns:
        The sigma; 0 if the error without noise is at the limit already, None if it is not reached by `LARGEST`.
    """
    clean = error_at(0.0)
    if clean >= limit:
        return 0.0
    low, high, sigma = 0.0, LARGEST, FIRST
    for _ in range(MOST):
        grown = error_at(sigma) - clean
        if abs(clean + grown - limit) <= near:
            break
        if clean + grown < limit:
            if sigma >= LARGEST:
                return None
            low = sigma
        else:
            high = sigma
        # The square of sigma, in proportion to the growth, but within what is drawn.
        guess = sigma * min(max(((limit - clean) / max(grown, 1e-12)) ** 0.5, 0.2), 5.0)
        sigma = guess if low < guess < high else (low + high) / 2 if high < LARGEST else LARGEST
    return sigma


def results_of(case: NoiseCase, options: Any) -> list[Result]:
    """Train without and with noise, and measure both."""
    from surrogates.learning.weight_noise import noisy_model

    folder = (options.out / "noise" / case.kind).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    settings = [*case.settings(options.data, folder), *options.set]
    results: list[Result] = []
    reference = float("nan")
    for noise in (0.0, *options.noise):
        task, parts, surrogate = trained(case, [*settings, f"train.weight_noise={noise}"], folder / "run")
        drawn: dict[tuple[float, int], float] = {}

        def error(sigma: float, seed: int, trial: Any = (task, parts, surrogate), drawn: Any = drawn) -> float:
            task, parts, surrogate = trial
            if (sigma, seed) not in drawn:
                moved = type(surrogate)(noisy_model(surrogate.model, sigma, seed), surrogate.facts)
                drawn[sigma, seed] = case.error(task, parts, moved)
            return float(drawn[sigma, seed])

        def mean(sigma: float, error: Any = error) -> float:
            return float(np.mean([error(sigma, seed) for seed in range(options.seeds if sigma else 1)]))

        clean = mean(0.0)
        reference = clean if not noise else reference
        head = f"{case.kind}, trained with noise {noise:g}"
        results.append(Result(f"{head}: {case.metric}, {case.what}", clean, case.unit))
        limits = {"that without noise": clean}
        if noise:
            limits["that of the one trained without"] = reference
        for name, least in limits.items():
            sigma = sigma_of_growth(mean, (1 + GROWTH) * least, NEAR * least)
            label = f"{head}: sigma at which the error is 10% above {name}"
            if sigma is None:
                results.append(Result(f"{label}: not reached, largest sigma tried", LARGEST, "1"))
                continue
            results.append(Result(label, sigma, "1"))
            if sigma:
                spread = np.std([error(sigma, seed) for seed in range(options.seeds)], ddof=1) / least
                results.append(Result(f"{label}: standard deviation of its growth over seeds", float(spread), "1"))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    kinds = [case.kind for case in CASES]
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds, help="kinds of surrogates (all)")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the noise at each sigma (%(default)s)")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.05], help="noise of the trainings (0.05)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the training")
    options = parser.parse_args(argv)
    pin(options.cores)
    from data.processes.processor import tree_seconds
    from surrogates.learning.devices import enable_compilation_cache

    # Each draw of the noise is a surrogate of its own, with the same programs.
    enable_compilation_cache()
    results: list[Result] = []
    for case in (case for case in CASES if case.kind in options.kinds):
        began = tree_seconds()
        results += results_of(case, options)
        results.append(Result(f"{case.kind}: the whole measurement", tree_seconds() - began, "core-s"))
        report("noise", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
