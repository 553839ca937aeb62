"""Distils the ten networks of ADMET-AI into one network of all 41 endpoints, and compares both on other molecules.

Molecules are drawn from the QM9 file and from the file of organic electronics, in equal numbers. A rate counts the
processor time of a process and of all that it started, from SMILES to endpoints; that of ADMET-AI has the graphs of a
batch made once for all of its networks, where its own function makes them ten times. The correlation is Pearson's with
ADMET-AI, which says nothing about measured endpoints. Needs `make teachers`.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.common import Result, arguments, data_file, pin, report

#: Files of SMILES.
FILES = ("qm9_smiles.csv", "nonfullerene_smiles.csv")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--molecules", type=int, default=10_000, help="molecules to learn from (%(default)s)")
    parser.add_argument("--held-out", type=int, default=1000, help="molecules to compare on (%(default)s)")
    parser.add_argument("--epochs", type=int, default=60, help="epochs of the training (%(default)s)")
    parser.add_argument("--model", default="mpnn", help="configuration of the network (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    from benchmarks.chemprop import read_smiles
    from benchmarks.teachers import rate
    from data.molecules.featurise import encode
    from data.processes.processor import tree_seconds
    from data.spec import dataset
    from simulators.chemistry.from_smiles import SMILES
    from simulators.chemistry.teachers.admet import ADMET, ENDPOINTS
    from surrogates.properties.surrogate import PropertySurrogate
    from understudy.stages import train

    folder = (options.out / "admet_student").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    each = (options.molecules + options.held_out + 1) // 2
    smiles: list[str] = []
    for number, name in enumerate(FILES):
        lines = read_smiles(data_file(options.data, name))
        rows = np.random.default_rng(number).permutation(len(lines))[:each]
        smiles += [lines[row] for row in rows]
    smiles = [smiles[row] for row in np.random.default_rng(2).permutation(len(smiles))]
    teacher = ADMET()

    def ask(some: Sequence[str]) -> np.ndarray:
        answers = teacher.simulate_many([dataset((SMILES,), {"smiles": one}) for one in some])
        return np.array(
            [[np.nan if isinstance(a, Exception) else float(a[name]) for name in ENDPOINTS] for a in answers]
        )

    ask(smiles[:2])
    start = tree_seconds()
    labels = ask(smiles)
    labelling = tree_seconds() - start
    answered = np.isfinite(labels).all(axis=1)
    smiles, labels = [one for one, whole in zip(smiles, answered, strict=True) if whole], labels[answered]
    table, held_out = folder / "labels.csv", slice(0, options.held_out)
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["smiles", *ENDPOINTS])
        learned = zip(smiles[options.held_out :], labels[options.held_out :], strict=True)
        writer.writerows([one, *row] for one, row in learned)
    start = tree_seconds()
    train(
        "task=molecules/properties", f"model={options.model}", f"data.file={table}", "train.mlflow=false",
        f"data.target=[{','.join(ENDPOINTS)}]", "data.parts=[0.9,0.05,0.05,0.0]", f"train.epochs={options.epochs}",
        f"run.dir={folder / 'run'}",
    )  # fmt: skip
    training = tree_seconds() - start
    student = PropertySurrogate.load(folder / "run" / "surrogate")

    def answer(some: Sequence[str]) -> dict[str, np.ndarray]:
        return student.predict_table(encode(some)[0])

    tested = smiles[held_out]
    answers = answer(tested)
    agreement = [float(np.corrcoef(answers[n], labels[held_out, k])[0, 1]) for k, n in enumerate(ENDPOINTS)]

    def teach() -> int:
        return len(ask(tested))

    def stand_in() -> int:
        answer(tested)
        return len(tested)

    results = [
        Result("molecules to learn from", float(len(smiles) - len(tested)), "1"),
        Result("labels by ADMET-AI", labelling, "core-s"),
        Result("training", training, "core-s"),
        Result("correlation with ADMET-AI, median of endpoints", float(np.median(agreement)), "1"),
        Result("correlation with ADMET-AI, lowest endpoint", min(agreement), "1"),
        Result("endpoints with a correlation above 0.97", float(sum(r > 0.97 for r in agreement)), "1"),
        Result.against("rate from SMILES", rate(stand_in), "molecules/core-s", "ADMET-AI", rate(teach)),
    ]
    report("admet_student", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
