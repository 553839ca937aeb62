"""Measures one accelerator, or a CPU with small sizes: correctness, rates, precisions and whole tasks, as JSON.

Weights are fresh and inputs are enumerated or random, so that no file is needed. Rates are by wall time, the best of
some rounds after the compilation, because a device works while its host waits. Every part that the time does not allow
is named in the table.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.common import Result, report, run


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for the JSON files (%(default)s)")
    parser.add_argument("--minutes", type=float, default=8.0, help="time after which no part begins (%(default)s)")
    parser.add_argument("--small", action="store_true", help="small sizes, which a CPU has by default")
    parser.add_argument("--cases", nargs="+", default=None, help="networks: ace, painn, mpnn, fno, sfno (all)")
    parser.add_argument("--parts", nargs="+", default=None, help="parts: checks, rates, training, whole (all)")
    options = parser.parse_args(argv)
    import jax

    from benchmarks.accelerator.cases import cases
    from benchmarks.accelerator.checks import check_case
    from benchmarks.accelerator.rates import peaks, prediction_rates, training_rates
    from benchmarks.accelerator.whole import screening_rate, structures_rates

    device = jax.devices()[0]
    small = options.small or device.platform == "cpu"
    networks = cases(small=small)
    chosen = [networks[name] for name in options.cases or networks]
    head = f"devices: {device.device_kind}, JAX {jax.__version__}, {'small' if small else 'full'} sizes"
    results = [Result(head, float(len(jax.devices())), "1")]
    skipped: list[str] = []
    begin = time.monotonic()
    limits: dict[str, float] = {}

    def measure_peaks() -> Iterable[Result]:
        limits.update(peaks(small=small))
        for name, rate in limits.items():
            what, unit = (
                ("bandwidth of memory", "GB/s") if name == "memory" else (f"matrix products, {name}", "GFLOP/s")
            )
            yield Result(what, rate / 1e9, unit)

    def screen() -> Iterable[Result]:
        folder = (options.out / "accelerator").resolve()
        shutil.rmtree(folder, ignore_errors=True)
        yield screening_rate(folder, small=small)

    parts: dict[str, list[tuple[str, Callable[[], Iterable[Result]]]]] = {
        "checks": [(f"checks of {c.name}", partial(check_case, c)) for c in chosen],
        "rates": [
            ("peaks", measure_peaks),
            *((f"rates of {c.name}", partial(prediction_rates, c, limits)) for c in chosen),
        ],
        "training": [(f"training of {c.name}", partial(training_rates, c)) for c in chosen],
        "whole": [
            *((f"tables of {n}", partial(structures_rates, n, small=small)) for n in ("ace", "painn")),
            ("screen", screen),
        ],
    }
    for part in options.parts or parts:
        for name, measure in parts[part]:
            if time.monotonic() - begin > 60 * options.minutes:
                skipped.append(name)
                continue
            print(f"{time.monotonic() - begin:6.0f} s  {name}", file=sys.stderr, flush=True)
            results += measure()
    if skipped:
        results.append(Result(f"parts that the time did not allow: {', '.join(skipped)}", float(len(skipped)), "1"))
    results.append(Result("this run, compilation counted", time.monotonic() - begin, "s"))
    report("accelerator", results, options.out, argv)


if __name__ == "__main__":
    sys.exit(run(main))
