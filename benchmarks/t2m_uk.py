"""Compares hourly forecasts of the 2 m temperature around the British Isles with reference forecasts.

The data are 744 hours of ERA5. The first 480 are used for training; the last 80 of these select the weights and the
size of the linear models. Forecasts of 24 hours start in the last 192 hours. The climatology is the mean by hour of
the day over the first 480 hours. The linear autoregression is a ridge regression for each lead time, from the leading
patterns of the last two hours.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report

FILE = "era5_t2m_hourly_2019-03_uk.grib"
TRAIN, VALID, TEST, LEADS = (0, 400), (400, 480), (552, 744), 24
SHOWN = (1, 6, 12, 18, 24)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of our configuration")
    options = parser.parse_args(argv)
    pin(options.cores)
    from hydra import compose, initialize_config_dir

    from data.sphere.writing import write_windows
    from experiments.application.choices import CONF
    from experiments.stages.train import task_of, train_on
    from simulators.atmosphere.reanalysis.reanalysis import Reanalysis
    from surrogates.forecasts.autoregression import LinearAutoregression
    from surrogates.forecasts.references import ClimatologyForecast, Forecasts, Persistence
    from surrogates.forecasts.scores import Protocol, score
    from surrogates.forecasts.surrogate import ForecastSurrogate
    from surrogates.forecasts.task import TrainingWindows

    source = Reanalysis(str(data_file(options.data, FILE, "weather")))
    folder = (options.out / "t2m_uk").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    store = write_windows(folder / "windows", source.segments(), source.layout, fingerprint=source.fingerprint)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["study=weather/t2m_uk", f"data.file={folder / 'windows'}", *options.set])
    began = time.perf_counter()
    train_on(task_of(config), TrainingWindows(store), folder / "run", progress=False)
    seconds = time.perf_counter() - began
    forecaster = ForecastSurrogate.load(folder / "run" / "surrogate")
    # The climatology uses all hours before the test; that of the linear model only the hours of its fit.
    before = (TRAIN[0], VALID[1])
    systems: dict[str, Forecasts] = {
        "forecast": forecaster,
        "persistence": Persistence(),
        "climatology": ClimatologyForecast(store.layout, store.climatology(before)),
        "linear_autoregression": LinearAutoregression.fit(store, TRAIN, VALID, store.climatology(TRAIN), LEADS),
    }
    scores = score(systems, Protocol(store, TEST, LEADS), store.climatology(before))
    rmse = {name: scores["rmse"].sel(system=name).values[0, :, 0] for name in systems}
    results = [
        Result("t2m_uk: training and scoring", seconds, "s"),
        Result("t2m_uk: forecasts", scores.attrs["forecasts"], "1"),
    ]
    for lead in SHOWN:
        for name in ("persistence", "climatology", "linear_autoregression"):
            label = f"t2m_uk: RMSE, lead {lead} h"
            results.append(
                Result.against(label, float(rmse["forecast"][lead - 1]), "K", name, float(rmse[name][lead - 1]))
            )
    for name in ("persistence", "climatology", "linear_autoregression"):
        worst = float((rmse["forecast"] / rmse[name]).max())
        results += [
            Result(
                f"t2m_uk: leads of {LEADS} at which the error is below that of {name}",
                float((rmse["forecast"] < rmse[name]).sum()),
                "1",
            ),
            Result(f"t2m_uk: largest ratio of errors to {name}", worst, "1"),
        ]
    assert np.isfinite(rmse["forecast"]).all()
    report("t2m_uk", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
