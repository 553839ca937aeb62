"""Compares surrogates that stand on a cheaper simulator with the same network without it, at equal processor time.

QM9's HOMO-LUMO gap on GFN2-xTB. The network that stands on xTB is trained with the recipe for few labels; its processor
time is that of the training and of xTB for its molecules. The network without it has the same labels and trains for as
many more epochs as that time allows. Both are scored on the same held-out molecules, beside the line through xTB's
answers alone. The network without xTB is also trained on more labels, which give the break-even: how many answers may
be asked before xTB, which each answer needs, has cost more than the labels that it saves.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from benchmarks.common import Result, arguments, data_file, pin, report
from benchmarks.models import Gaps, read_gaps

Rows = Int[np.ndarray, " row"]


def cheap_answers(gaps: Gaps, rows: Rows, store: Path) -> Any:
    """The answers of GFN2-xTB for some molecules, as columns for every molecule; a campaign computes them once."""
    from data.spec import dataset
    from data.splits import canonical
    from experiments.campaigns.cheaper_simulator import CampaignRung
    from simulators.chemistry.from_smiles import FromSmiles
    from simulators.chemistry.xtb import XTB
    from surrogates.learning.rung import RungColumns, usable_outputs
    from surrogates.properties.task import PropertyTask

    simulator = FromSmiles(XTB(outputs=PropertyTask.RUNG_OUTPUTS))
    outputs = usable_outputs(simulator, lists=("atom",))
    requests = [dataset(simulator.spec.inputs, {"smiles": s}) for s in canonical([gaps.smiles[i] for i in rows])]
    answers = CampaignRung(simulator).ask(requests, [v.name for v in outputs], store, progress=False)
    some = RungColumns.of(simulator, outputs, answers)
    values = np.full((len(gaps.smiles), some.values.shape[1]), np.nan)
    values[rows] = some.values
    return replace(some, values=values)


def train(
    gaps: Gaps, parts: dict[str, Rows], folder: Path, overrides: Sequence[str], on: Any = None
) -> tuple[Any, float, int]:
    """Train with the recipe of properties; return the surrogate, its core-seconds and its epochs."""
    from benchmarks.models import default_configuration
    from data.molecules.featurise import encode
    from data.processes.processor import tree_seconds
    from data.spec import content_hash
    from data.splits import Split
    from surrogates.properties.fit import fit_property_surrogate

    shutil.rmtree(folder, ignore_errors=True)
    model, recipe = default_configuration(None, ["train.mlflow=false", "train.checkpoint_every_s=null", *overrides])
    rows = np.concatenate([parts[name] for name in ("train", "valid", "calibration")])
    ends = np.cumsum([0] + [len(parts[name]) for name in ("train", "valid", "calibration")])
    names = ("train", "valid", "calibration")
    split = Split.of({name: np.arange(a, b) for name, a, b in zip(names, ends, ends[1:], strict=False)})
    start = tree_seconds()
    surrogate = fit_property_surrogate(
        encode([gaps.smiles[i] for i in rows])[0],
        {"gap": gaps.gap[rows]},
        split,
        model,
        recipe,
        folder,
        units={"gap": "meV"},
        label_fingerprint=content_hash(gaps.gap[rows].tolist()),
        on=None if on is None else replace(on, values=on.values[rows]),
        progress=False,
    )
    return surrogate, tree_seconds() - start, recipe.epochs


def error(surrogate: Any, gaps: Gaps, rows: Rows, on: Float[np.ndarray, "molecule column"] | None) -> float:
    """Mean absolute error, meV."""
    from data.molecules.featurise import encode

    table = encode([gaps.smiles[i] for i in rows])[0]
    answer = surrogate.predict_table(table, None if on is None else on[rows])["gap"]
    return float(np.abs(answer - gaps.gap[rows]).mean())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--train", type=int, nargs="+", default=[100, 400], help="training molecules (%(default)s)")
    parser.add_argument("--more", type=int, nargs="*", default=[1600], help="labels of the network alone (%(default)s)")
    parser.add_argument("--test", type=int, default=300, help="held-out molecules (%(default)s)")
    parser.add_argument("--label-seconds", type=float, default=3.6, help="core-seconds of one label (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of molecules (%(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the training")
    options = parser.parse_args(argv)
    pin(options.cores)
    gaps = read_gaps(data_file(options.data, "qm9_homo_lumo_gap_hartree.csv"))
    order = np.random.default_rng(options.seed).permutation(len(gaps.smiles))
    test, valid, calibration, rest = np.split(order, np.cumsum([options.test, 50, 50]))
    folder = options.out / "rungs"
    most = rest[: max(options.train)]
    on = cheap_answers(gaps, np.concatenate([test, valid, calibration, most]), folder / "xtb.zarr")
    answered = np.isfinite(on.values).all(axis=1)
    test, valid, calibration, most = (rows[answered[rows]] for rows in (test, valid, calibration, most))
    results = [
        Result("xTB and its conformer", on.cost_s, "core-s an answer"),
        Result("molecules that xTB does not answer, which no side sees", float(on.costs()["on/failed"]), "molecules"),
    ]
    alone: dict[int, float] = {}
    standing: dict[int, float] = {}
    for count in options.train:
        parts = {"train": most[:count], "valid": valid, "calibration": calibration}
        above, spent, epochs = train(gaps, parts, folder / f"on_{count}", options.set, on)
        standing[count] = error(above, gaps, test, on.values)
        extra = on.cost_s * sum(map(len, parts.values()))
        longer = math.ceil(epochs * (spent + extra) / spent)
        plain, plain_spent, _ = train(gaps, parts, folder / f"plain_{count}", [*options.set, f"train.epochs={longer}"])
        alone[count] = error(plain, gaps, test, None)
        first = above.facts.on
        line = first.line.apply(first.scale.apply(on.values[test]))[:, 0]
        line_error = float(np.abs(line - gaps.gap[test]).mean())
        head = f"QM9 gap, {count} labels"
        results += [
            Result.against(f"{head}: error", standing[count], "meV", "the same network alone", alone[count]),
            Result.against(f"{head}: error", standing[count], "meV", "line through xTB", line_error),
            Result.against(
                f"{head}: training, with xTB", spent + extra, "core-s", f"alone, {longer} epochs", plain_spent
            ),
        ]
    for count in options.more:
        parts = {"train": rest[:count], "valid": valid, "calibration": calibration}
        plain, _, _ = train(gaps, parts, folder / f"plain_{count}", options.set)
        alone[count] = error(plain, gaps, test, None)
        results.append(Result(f"QM9 gap, {count} labels: error of the network alone", alone[count], "meV"))
    for count, reached in standing.items():
        enough = [n for n in sorted(alone) if alone[n] <= reached]
        labels = (enough[0] if enough else max(alone)) - count
        name = f"QM9 gap, {count} labels: answers up to which xTB costs less than the labels that it saves"
        name += "" if enough else f" (at least: the network alone is worse with {max(alone)} labels)"
        results.append(Result(name, max(labels, 0) * options.label_seconds / on.cost_s, "answers"))
    report("rungs", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
