"""Screening rates on real molecules, file in to ranked results out, beside `chemprop predict`.

Ours are those of `screen` itself, parsing, featurising and writing included and start-up excluded (it is
in `screen/startup_seconds`). The peer's are the molecules of a long file less those of a short one over
the difference of the times, which takes its start-up out as well. No molecule is cached by either.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.benchmarks.chemprop import Chemprop, read_smiles, write_smiles
from experiments.benchmarks.common import Result, arguments, data_file, pin, report, run

#: Molecules screened by us, and timed of the peer, by file; the peer is slower and its rate settles sooner.
FILES = {"qm9_smiles.csv": (400_000, 20_000), "nonfullerene_smiles.csv": (51_281, 6_000)}
SHORT_FILE = 2_000
TOP_K = 1000


def default_surrogate(data: Path, folder: Path) -> Path:
    """A surrogate with the default network, trained for a moment: its weights do not change its speed.

    In a process of its own, so that its compiled training step is not part of the memory measured here.
    """
    path = folder / "surrogate"
    if not path.is_dir():
        code = (
            "import sys; from pathlib import Path; import numpy as np; "
            "from experiments.benchmarks.models import fit, read_gaps; "
            "gaps = read_gaps(Path(sys.argv[1])); rows = np.random.default_rng(0).permutation(len(gaps.smiles)); "
            "fit(gaps, {'train': rows[:4000], 'valid': rows[4000:4500], 'calibration': rows[4500:5000]}, "
            "Path(sys.argv[2]), max_seconds=20.0)"
        )
        gaps = data_file(data, "qm9_homo_lumo_gap_hartree.csv")
        subprocess.run([sys.executable, "-c", code, str(gaps), str(folder)], check=True)
    return path


def screened(surrogate: Path, candidates: Path, out: Path, workers: int | None = None) -> dict[str, float]:
    """The metrics of a fresh screen in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    code = (
        "import sys; from pathlib import Path; "
        "from experiments.screening import ScreenConfig, screen; "
        "from surrogates.devices import enable_compilation_cache; enable_compilation_cache(); "
        "from surrogates.graph.molecular import MolecularSurrogate; "
        "screen(MolecularSurrogate.load(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), "
        f"ScreenConfig(top_k={TOP_K}, workers={workers}), progress=False)"
    )
    subprocess.run([sys.executable, "-c", code, str(surrogate), str(candidates), str(out)], check=True)
    metrics: dict[str, float] = json.loads((out / "metrics.json").read_text())
    return metrics


def peer_model(chemprop: Chemprop, data: Path, folder: Path) -> Path:
    """A Chemprop model with the default network, trained for three epochs on 400 molecules."""
    from experiments.benchmarks.models import read_gaps

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
    parser.add_argument("--surrogate", type=Path, default=None, help="a trained surrogate, instead of a fresh one")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the molecules to screen (%(default)s)")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    given = parser.parse_args(argv)
    cores = pin(given.cores)
    folder = (given.out / "screening").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    surrogate = given.surrogate or default_surrogate(given.data, folder)
    chemprop, model = None, None
    if not given.no_peers:
        chemprop = Chemprop(given.peers.resolve(), len(cores), folder / "chemprop.log")
        version = chemprop.version()
        model = peer_model(chemprop, given.data, folder)
    results: list[Result] = []
    for name, (count, peer_count) in FILES.items():
        smiles = read_smiles(data_file(given.data, name))
        candidates = folder / name
        write_smiles(candidates, smiles, max(1, int(count * given.scale)))
        found = screened(surrogate, candidates, folder / f"{candidates.stem}-out")
        what = candidates.stem.removesuffix("_smiles")
        rate = found["screen/molecules_per_second"]
        if chemprop is None or model is None:
            results.append(Result(f"{what}: screening rate", rate, "molecules/s"))
        else:
            theirs = chemprop.rate(model, smiles, max(100, int(peer_count * given.scale)), SHORT_FILE)
            results.append(Result.against(f"{what}: screening rate", rate, "molecules/s", version, theirs))
        core = found["screen/core_seconds"] / found["screen/molecules"]
        results += [
            Result(f"{what}: processor time a molecule", 1e6 * core, "core-us"),
            Result(f"{what}: start-up", found["screen/startup_seconds"], "s"),
            Result(f"{what}: peak memory", found["screen/peak_memory_mb"], "MB"),
        ]
        if name.startswith("qm9"):
            results += prepared(surrogate, candidates, folder, len(cores))
        report("screening", results, given.out, argv)


def prepared(surrogate: Path, candidates: Path, folder: Path, workers: int) -> list[Result]:
    """Rates of preparing a library and of screening it."""
    from experiments.preparing import prepare

    library = folder / "library"
    shutil.rmtree(library, ignore_errors=True)
    made = prepare(candidates, library, workers=workers, progress=False)
    found = screened(surrogate, library, folder / "library-out")
    return [
        Result("qm9: preparing rate", made.molecules / made.seconds, "molecules/s"),
        Result("qm9: prepared library, bytes a molecule", made.bytes / max(1, made.valid), "B"),
        Result("qm9: screening rate from the prepared library", found["screen/molecules_per_second"], "molecules/s"),
    ]


if __name__ == "__main__":
    sys.exit(run(main))
