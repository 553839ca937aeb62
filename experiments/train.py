"""`understudy train`: a surrogate from labels, with its held-out scores in `metrics.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from data.errors import InputError
from data.featurise import encode
from data.molecules import read
from data.rejects import RejectLog
from data.splits import random_split, scaffold_split, size_split
from data.store import RecordStore
from experiments.scores import scores
from experiments.stage import application, build, existing_file, summary, write_json
from simulators.base import content_hash
from surrogates import fit_note
from surrogates.devices import DeviceConfig, enable_compilation_cache, initialise_distributed
from surrogates.graph.fit_molecular import fit_molecular
from surrogates.graph.molecular import MolecularConfig, MolecularSurrogate
from surrogates.train import TrainConfig

SPLITS = {"random": random_split, "scaffold": scaffold_split, "size": size_split}
PARTS = ("train", "valid", "calibration", "test")


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


def names(value: str | Sequence[str] | None) -> list[str]:
    """A configured name or list of names as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(v) for v in value]


def read_table(
    path: Path, smiles: str, targets: Sequence[str], units: Sequence[str], rejects: RejectLog | None
) -> Table:
    """Labelled molecules from a table, or from a store that `understudy simulate` made.

    Raises:
        InputError: a column is missing, or no row can be used.
    """
    if path.is_dir():
        with RecordStore.open(path) as store:
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


def molecular_config(node: DictConfig) -> MolecularConfig:
    """What `surrogate=` describes, without the key that told the kinds apart."""
    return build(MolecularConfig, {str(k): v for k, v in node.items() if k != "kind"}, where="surrogate")


def train_graph(config: DictConfig, run_dir: Path) -> dict[str, float]:
    """Train on a table: split, fit, calibrate, score on the test part."""
    path = existing_file(config.data.file, "data.file")
    targets = names(config.data.target)
    if config.data.split not in SPLITS:
        raise InputError(f"no split {config.data.split!r}", where="data.split", remedy=f"Choose from {sorted(SPLITS)}")
    with RejectLog(run_dir / "rejects.csv") as rejects:
        labels = read_table(path, config.data.smiles, targets, names(config.data.unit), rejects)
    parts = dict(zip(PARTS, config.data.parts, strict=True))
    split = SPLITS[config.data.split](labels.smiles, parts, seed=config.data.seed)
    split.save(run_dir / "split.json")
    table, _ = encode(labels.smiles)
    surrogate = fit_molecular(
        table,
        labels.values,
        split,
        molecular_config(config.surrogate),
        build(TrainConfig, config.train, where="train"),
        run_dir,
        init=None,
        label_fingerprint=labels.fingerprint,
        units=labels.units,
    )
    # Of the fit, and so with the sessions before this one.
    seconds = json.loads((run_dir / fit_note.FILE).read_text())["seconds"]
    metrics = {"train/seconds": float(seconds), "train/molecules": float(len(split["train"]))}
    test = split["test"]
    metrics |= score_table(surrogate, labels, test, "test")
    surrogate.with_scores({k: v for k, v in metrics.items() if k.startswith("test/")}).save(run_dir / "surrogate")
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
    initialise_distributed(build(DeviceConfig, config.devices, where="devices"))
    if config.surrogate.kind == "potential":
        from experiments.forces import train_forces

        metrics = train_forces(config, run_dir)
    else:
        metrics = train_graph(config, run_dir)
    write_json(run_dir / "metrics.json", dict(sorted(metrics.items())))
    shown = {k: f"{v:.6g}" for k, v in metrics.items() if k.startswith("test/") or k == "train/seconds"}
    summary("Trained", {**shown, "surrogate": run_dir / "surrogate"})


main = application("train", train)
