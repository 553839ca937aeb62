"""Compares `predict`, which keeps every row and its columns, with `screen` on the same file: rate and peak memory.

Rates are rows over processor time of all processes, start-up left out of neither, and rows over wall time without it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.chemprop import read_smiles
from benchmarks.common import Result, arguments, data_file, pin, report, run
from benchmarks.screening import add_surrogate, add_two_counts, prepare, run_screen


def write_table(path: Path, smiles: Sequence[str], count: int) -> None:
    """Write `count` rows with an identifier, a molecule and a vendor; the molecules are repeated in rounds."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("id,smiles,vendor\n")
        file.writelines(f"M{i:08d},{smiles[i % len(smiles)]},vendor {i % 7}\n" for i in range(count))


def run_predict(surrogate: Path, inputs: Path, out: Path) -> dict[str, float]:
    """Predict in a separate process and return the metrics."""
    out.unlink(missing_ok=True)
    run_dir = out.with_name(f"{out.name}.run")
    shutil.rmtree(run_dir, ignore_errors=True)
    code = (
        "import sys; from pathlib import Path; "
        "from experiments.prediction.rows import predict_rows; "
        "from experiments.prediction.tables import molecules_question; "
        "from experiments.screening.library_screen import ScreenConfig; "
        "from surrogates.learning.devices import enable_compilation_cache; enable_compilation_cache(); "
        "from surrogates.properties.surrogate import PropertySurrogate; "
        "surrogate = PropertySurrogate.load(Path(sys.argv[1])); inputs, out = map(Path, sys.argv[2:4]); "
        "question = molecules_question(surrogate, inputs, 'smiles', None, (), ()); "
        "answers = predict_rows(surrogate, question, out, Path(sys.argv[4]), ScreenConfig(), progress=False); "
        "import json; print(json.dumps(answers.metrics()))"
    )
    line = [sys.executable, "-c", code, str(surrogate), str(inputs), str(out), str(run_dir)]
    run_dir.mkdir(parents=True)
    done = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
    metrics: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return metrics


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__ or "")
    add_surrogate(parser)
    add_two_counts(parser)
    parser.add_argument("--suffix", default="csv", choices=("csv", "parquet"), help="of the predictions (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    folder, surrogate = prepare(options, "prediction")
    smiles = read_smiles(data_file(options.data, "qm9_smiles.csv"))
    results: list[Result] = []
    peaks = []
    for count in options.counts:
        inputs = folder / f"rows-{count}.csv"
        write_table(inputs, smiles, count)
        screened = run_screen(surrogate, inputs, folder / f"screen-{count}")
        predicted = run_predict(surrogate, inputs, folder / f"predictions-{count}.{options.suffix}")
        peaks.append(predicted["predict/peak_memory_mb"])
        costs = {"screen": screened["screen/core_seconds"], "predict": predicted["predict/core_seconds"]}
        walls = {"screen": screened["screen/seconds"], "predict": predicted["predict/seconds"]}
        for name in costs:
            results += [
                Result(f"{count:,} rows: {name}, by processor time", count / costs[name], "rows/core-s"),
                Result(f"{count:,} rows: {name}, by wall time", count / walls[name], "rows/s"),
            ]
        results += [
            Result(f"{count:,} rows: predict over screen, by processor time", costs["screen"] / costs["predict"], "1"),
            Result(f"{count:,} rows: predict over screen, by wall time", walls["screen"] / walls["predict"], "1"),
            Result(f"{count:,} rows: peak memory of predict, all processes", peaks[-1], "MB"),
            Result(f"{count:,} rows: peak memory of screen, all processes", screened["screen/peak_memory_mb"], "MB"),
        ]
        inputs.unlink()
    results.append(Result("peak memory of predict, large over small", peaks[1] / peaks[0], "1"))
    report("prediction", results, options.out, argv)


if __name__ == "__main__":
    sys.exit(run(main))
