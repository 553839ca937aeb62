"""Compares screening rates on real molecules with `chemprop predict`, from the input file to ranked results.

Our rate is that of `screen`, with parsing, featurising and writing but without start-up, which is stated separately as
`screen/startup_seconds`. The rate of the peer is the difference in molecules between a long and a short file over the
difference in time, which removes its start-up too. Neither program caches molecules.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.chemprop import Chemprop, read_smiles, write_smiles
from benchmarks.common import Result, arguments, data_file, pin, report, run

#: By file: number of molecules that we screen, and number timed for the peer, which is slower and needs fewer.
FILES = {"qm9_smiles.csv": (400_000, 20_000), "nonfullerene_smiles.csv": (51_281, 6_000)}
SHORT_FILE = 2_000
TOP_K = 1000


def default_surrogate(data: Path, folder: Path) -> Path:
    """Train a surrogate with the default network for a short time, because its weights do not affect its speed.

    It is trained in a separate process, so that its compiled training step does not add to the measured memory.
    """
    path = folder / "surrogate"
    if not path.is_dir():
        code = (
            "import sys; from pathlib import Path; import numpy as np; "
            "from benchmarks.models import fit, read_gaps; "
            "gaps = read_gaps(Path(sys.argv[1])); rows = np.random.default_rng(0).permutation(len(gaps.smiles)); "
            "fit(gaps, {'train': rows[:4000], 'valid': rows[4000:4500], 'calibration': rows[4500:5000]}, "
            "Path(sys.argv[2]), max_seconds=20.0)"
        )
        gaps = data_file(data, "qm9_homo_lumo_gap_hartree.csv")
        subprocess.run([sys.executable, "-c", code, str(gaps), str(folder)], check=True)
    return path


def add_surrogate(parser: ArgumentParser) -> None:
    """Add the option `--surrogate`."""
    parser.add_argument("--surrogate", type=Path, default=None, help="trained surrogate to use instead of a new one")


def add_two_counts(parser: ArgumentParser) -> None:
    """Add the option `--counts`, a small and a large number of candidates."""
    parser.add_argument("--counts", type=int, nargs=2, default=[100_000, 1_000_000], help="candidates (%(default)s)")


def prepare(options: Namespace, name: str) -> tuple[Path, Path]:
    """The folder of a benchmark below the results, which is made, and the surrogate that the options ask for."""
    folder = (options.out / name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder, options.surrogate or default_surrogate(options.data, folder)


def run_screen(surrogate: Path, candidates: Path, out: Path, workers: int | None = None) -> dict[str, float]:
    """Run a new screen in a separate process and return its metrics."""
    shutil.rmtree(out, ignore_errors=True)
    code = (
        "import sys; from pathlib import Path; "
        "from experiments.screening.library_screen import ScreenConfig, screen; "
        "from surrogates.learning.devices import enable_compilation_cache; enable_compilation_cache(); "
        "from surrogates.properties.surrogate import PropertySurrogate; "
        "screen(PropertySurrogate.load(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), "
        f"ScreenConfig(top_k={TOP_K}, workers={workers}), progress=False)"
    )
    subprocess.run([sys.executable, "-c", code, str(surrogate), str(candidates), str(out)], check=True)
    metrics: dict[str, float] = json.loads((out / "metrics.json").read_text())
    return metrics


def peer_model(chemprop: Chemprop, data: Path, folder: Path) -> Path:
    """A Chemprop model with the default network, trained for three epochs on 400 molecules."""
    from benchmarks.models import read_gaps

    model = folder / "chemprop" / "model_0" / "best.pt"
    if not model.exists():
        gaps = read_gaps(data_file(data, "qm9_homo_lumo_gap_hartree.csv"))
        rows = np.random.default_rng(0).permutation(len(gaps.smiles))
        files = [gaps.write(folder / f"{n}.csv", rows[a:b]) for n, a, b in (("a", 0, 400), ("b", 400, 450))]
        chemprop.train(files[0], files[1], files[1], folder / "chemprop", epochs=3)
    return model


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    add_surrogate(parser)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the molecules to screen (%(default)s)")
    parser.add_argument("--no-peers", action="store_true", help="run Understudy alone")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    folder, surrogate = prepare(options, "screening")
    chemprop, model = None, None
    if not options.no_peers:
        chemprop = Chemprop(options.peers.resolve(), len(cores), folder / "chemprop.log")
        version = chemprop.version()
        model = peer_model(chemprop, options.data, folder)
    results: list[Result] = []
    for name, (count, peer_count) in FILES.items():
        smiles = read_smiles(data_file(options.data, name))
        candidates = folder / name
        write_smiles(candidates, smiles, max(1, int(count * options.scale)))
        metrics = run_screen(surrogate, candidates, folder / f"{candidates.stem}-out")
        what = candidates.stem.removesuffix("_smiles")
        rate = metrics["screen/molecules_per_second"]
        if chemprop is None or model is None:
            results.append(Result(f"{what}: screening rate", rate, "molecules/s"))
        else:
            theirs = chemprop.rate(model, smiles, max(100, int(peer_count * options.scale)), SHORT_FILE)
            results.append(Result.against(f"{what}: screening rate", rate, "molecules/s", version, theirs))
        core = metrics["screen/core_seconds"] / metrics["screen/molecules"]
        results += [
            Result(f"{what}: processor time a molecule", 1e6 * core, "core-us"),
            Result(f"{what}: start-up", metrics["screen/startup_seconds"], "s"),
            Result(f"{what}: peak memory", metrics["screen/peak_memory_mb"], "MB"),
        ]
        if name.startswith("qm9"):
            results += library_rates(surrogate, candidates, folder, len(cores))
        report("screening", results, options.out, argv)


def library_rates(surrogate: Path, candidates: Path, folder: Path, workers: int) -> list[Result]:
    """Measure the rates of preparing a library and of screening it."""
    from experiments.screening.library_writing import prepare

    library = folder / "library"
    shutil.rmtree(library, ignore_errors=True)
    summary = prepare(candidates, library, workers=workers, progress=False)
    metrics = run_screen(surrogate, library, folder / "library-out")
    return [
        Result("qm9: preparing rate", summary.molecules / summary.seconds, "molecules/s"),
        Result("qm9: prepared library, bytes a molecule", summary.bytes / max(1, summary.valid), "B"),
        Result("qm9: screening rate from the prepared library", metrics["screen/molecules_per_second"], "molecules/s"),
    ]


if __name__ == "__main__":
    sys.exit(run(main))
