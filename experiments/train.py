"""`understudy train`: a surrogate from labels, with its held-out scores in `metrics.json`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from omegaconf import MISSING, DictConfig

from data.errors import InputError
from data.featurise import encode
from data.files import write_json
from data.molecules import read
from data.rejects import RejectLog
from data.splits import counts, random_split, scaffold_split, size_split
from data.store import RecordStore
from experiments.parts import PARTS, check_parts
from experiments.scores import scores
from experiments.stage import StageSettings, application, build, existing_file, first_rejects, names, summary
from simulators.base import content_hash
from surrogates import fit_note
from surrogates.devices import DeviceConfig, enable_compilation_cache, initialise_distributed, is_first
from surrogates.graph.fit_molecular import fit_molecular
from surrogates.graph.molecular import MolecularConfig, MolecularSurrogate
from surrogates.tracking import log_scores
from surrogates.train import TrainConfig
from surrogates.uncertainty import fewest_points

LOG = logging.getLogger(__name__)

SPLITS = {"random": random_split, "scaffold": scaffold_split, "size": size_split}


@dataclass(frozen=True)
class TrainSettings(StageSettings):
    """The keys of `understudy train`; what a group of configurations holds is checked where it is used."""

    devices: DeviceConfig = field(default_factory=DeviceConfig)
    surrogate: Any = MISSING
    data: Any = MISSING
    train: Any = MISSING
    tune: Any = MISSING
    baseline: Any = None


@dataclass(frozen=True)
class TableSettings:
    """What to learn from a table; the keys of `data` in experiment=molecules/graph.

    Attributes:
        file: a table, or a store that `understudy simulate` made.
        smiles: column that holds SMILES.
        target: column to learn, or a list of columns.
        unit: unit of the target, or a list.
        split: a key of `SPLITS`.
        seed: of the split.
        parts: fractions or counts, in the order of `PARTS`.

    Raises:
        ValueError: the split is unknown, the seed negative, or the parts are not four numbers of 0 or more.
    """

    file: str = MISSING
    smiles: str = "smiles"
    target: Any = MISSING
    unit: Any = None
    split: str = "random"
    seed: int = 0
    parts: list[Any] = field(default_factory=lambda: [0.8, 0.05, 0.05, 0.1])

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {self.split!r}")
        check_parts(self.parts, self.seed)


@dataclass(frozen=True)
class Table:
    """Molecules and their properties.

    Attributes:
        smiles: as in the file.
        values: each target, an array (molecule,) with NaN where a label is missing.
        units: unit of each target, "1" where unknown.
        fingerprint: identity of the labels.
    """

    smiles: list[str]
    values: dict[str, Float[np.ndarray, " molecule"]]
    units: dict[str, str]
    fingerprint: str


def read_table(
    path: Path, smiles: str, targets: Sequence[str], units: Sequence[str], rejects: RejectLog | None
) -> Table:
    """Labelled molecules from a table, or from a store that `understudy simulate` made.

    Raises:
        InputError: a column is missing, or no row can be used.
    """
    if not targets:
        raise InputError("no column to learn is named", where="data.target", remedy="Name one, or a list")
    if path.is_dir():
        with RecordStore.open(path) as store:
            there = [str(name) for name in store.dataset().data_vars]
            lacking = [name for name in ("smiles", *targets) if name not in there]
            if lacking:
                raise InputError(
                    f"the store has no {' and no '.join(lacking)}",
                    where=str(path),
                    remedy=f"It has {', '.join(there)}",
                )
            ok = store.column("status") == "ok"
            found = [str(s) for s in store.column("smiles")[ok]]
            values = {t: np.asarray(store.column(t)[ok], float) for t in targets}
            known = {t: str(store.dataset()[t].attrs["units"]) for t in targets}
            identity = str(store.dataset().attrs.get("fingerprint", content_hash(found)))
        return Table(found, values, known, identity)
    rows = list(read(path, smiles_column=smiles, columns=list(targets), rejects=rejects))
    if not rows:
        raise InputError("no row of it can be used", where=str(path), remedy="See rejects.csv in the run directory")
    if any(row.smiles is None for row in rows):
        raise InputError(
            "its molecules have no SMILES",
            where=str(path),
            remedy="Train on geometries with experiment=molecules/forces",
        )
    given = dict(zip(targets, [*units, *["1"] * len(targets)], strict=False))
    found = [str(row.smiles) for row in rows]
    values = {t: np.array([row.properties[t] for row in rows], float) for t in targets}
    return Table(found, values, given, content_hash([found, {t: v.tolist() for t, v in values.items()}]))


def with_calibration(parts: Mapping[str, float | int], total: int) -> Mapping[str, float | int]:
    """The parts, with as many calibration molecules as intervals need where a fraction of a small table is fewer.

    They are taken from the training part. A count, or a fraction of 0, is left as it was given.

    Args:
        parts: fractions or counts, by the names in `PARTS`.
        total: molecules of the table.

    Raises:
        InputError: a part is negative, more molecules are asked for than there are, or so few are left to train
            on that the table is too small for intervals.
    """
    share = parts["calibration"]
    wanted = counts(parts, total)
    lacking = fewest_points() - wanted["calibration"]
    if not (isinstance(share, float) and 0 < share <= 1) or lacking <= 0:
        return parts
    if wanted["train"] - lacking < fewest_points():
        raise InputError(
            f"{total} molecules are too few to train on and to set {fewest_points()} aside for calibrated intervals",
            where="data.parts",
            remedy="Give more labels, or a calibration part of 0 to do without calibrated intervals",
        )
    LOG.warning("%d molecules calibrate the intervals, in place of a fraction of %g", fewest_points(), share)
    return {**wanted, "train": wanted["train"] - lacking, "calibration": fewest_points()}


def molecular_config(node: DictConfig) -> MolecularConfig:
    """What `surrogate=` describes, without the key that told the kinds apart."""
    return build(MolecularConfig, {str(k): v for k, v in node.items() if k != "kind"}, where="surrogate")


def train_graph(config: DictConfig, run_dir: Path) -> dict[str, float]:
    """Train on a table: split, fit, calibrate, score on the test part; the first of several processes scores."""
    data = build(TableSettings, config.data, where="data")
    recipe = build(TrainConfig, config.train, where="train")
    model = molecular_config(config.surrogate)
    path = existing_file(data.file, "data.file")
    with first_rejects(run_dir) as rejects:
        labels = read_table(path, data.smiles, names(data.target), names(data.unit), rejects)
    parts = with_calibration(dict(zip(PARTS, data.parts, strict=True)), len(labels.smiles))
    split = SPLITS[data.split](labels.smiles, parts, seed=data.seed)
    if is_first():
        split.save(run_dir / "split.json")
    table, _ = encode(labels.smiles)
    surrogate = fit_molecular(
        table,
        labels.values,
        split,
        model,
        recipe,
        run_dir,
        init=None,
        label_fingerprint=labels.fingerprint,
        units=labels.units,
    )
    if not is_first():
        return {}
    # Of the fit, and so with the sessions before this one.
    seconds = json.loads((run_dir / fit_note.FILE).read_text())["seconds"]
    metrics = {"train/seconds": float(seconds), "train/molecules": float(len(split["train"]))}
    test = split["test"]
    held_out = score_table(surrogate, labels, test, "test")
    log_scores(run_dir, held_out)
    surrogate.with_scores(held_out).save(run_dir / "surrogate")
    metrics |= held_out
    return metrics


def score_table(
    surrogate: MolecularSurrogate,
    labels: Table,
    rows: np.ndarray,
    prefix: str,
    columns: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Scores on some rows of a table, in the targets' own units.

    Args:
        surrogate: what is scored.
        labels: truth.
        rows: indices of molecules.
        prefix: of the keys; with several targets it is followed by the target.
        columns: target of the surrogate -> column of the table, where the names differ.
    """
    if not len(rows):
        return {}
    answer = surrogate.predict_table(encode([labels.smiles[i] for i in rows])[0])
    metrics: dict[str, float] = {}
    for target in labels.values if columns is None else columns:
        truth = labels.values[target if columns is None else columns[target]][rows]
        keep = np.isfinite(truth)
        if not keep.any():
            continue
        found = scores(
            truth[keep],
            answer[target][keep],
            "1",
            low=answer[f"{target}_low"][keep],
            high=answer[f"{target}_high"][keep],
        )
        head = prefix if len(labels.values) == 1 else f"{prefix}/{target}"
        metrics |= {f"{head}/{name}": value for name, value in found.items()}
    return metrics


def train(config: DictConfig, run_dir: Path) -> None:
    """Train the kind of surrogate that the configuration chooses."""
    enable_compilation_cache()
    initialise_distributed(build(TrainSettings, config, where="").devices)
    if config.surrogate.kind == "potential":
        from experiments.forces import train_forces

        metrics = train_forces(config, run_dir)
    elif config.surrogate.kind == "field":
        from experiments.fields import train_fields

        metrics = train_fields(config, run_dir)
    elif config.surrogate.kind == "weather":
        from experiments.forecasts import train_forecaster

        metrics = train_forecaster(config, run_dir)
    elif config.surrogate.kind == "mesh":
        from experiments.meshes import train_meshes

        metrics = train_meshes(config, run_dir)
    elif config.surrogate.kind == "parametric":
        from experiments.parameters import train_parametric

        metrics = train_parametric(config, run_dir)
    else:
        metrics = train_graph(config, run_dir)
    if not is_first():
        return
    write_json(run_dir / "metrics.json", dict(sorted(metrics.items())))
    # Forecasts have a score for each channel and lead: the page shows them.
    shown = {
        k: f"{v:.6g}"
        for k, v in metrics.items()
        if (k.startswith("test/") and k.count("/") < 3) or k == "train/seconds"
    }
    summary("Trained", {**shown, "surrogate": run_dir / "surrogate"})


main = application("train", train)
