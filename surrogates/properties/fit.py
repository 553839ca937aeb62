"""Training of the 2D molecular surrogate, from scratch or from one that was pre-trained on a cheaper method."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from data.errors import InputError
from data.molecules.graph_tables import GraphTable
from data.molecules.graphs import GraphBatch, GraphSource, choose_buckets, with_room
from data.plain import to_plain
from data.spec import content_hash
from data.splits import Split
from surrogates.learning.checkpoints import checksum
from surrogates.learning.conformal import refuse_too_few
from surrogates.learning.devices import data_mesh
from surrogates.learning.fit_note import note_fit
from surrogates.learning.loop import FitResult, Stats, TrainConfig, fit
from surrogates.learning.losses import LossName, masked_cross_entropy, masked_error
from surrogates.learning.normalise import Standardise
from surrogates.learning.resuming import record_training_data
from surrogates.learning.rung import RungColumns, Standing
from surrogates.properties.calibration import calibrate_intervals
from surrogates.properties.head_spread import fit_spread
from surrogates.properties.lessons import ANSWERS, LABELS, TaughtAnswers, TaughtLoss
from surrogates.properties.mpnn import Ensemble
from surrogates.properties.surrogate import PropertyConfig, PropertyFacts, PropertySurrogate
from surrogates.properties.training_domain import Domain

#: Smallest batch that training shrinks to for small data sets; gradients of smaller batches are too noisy.
SMALLEST_BATCH = 8


def fit_property_surrogate(
    table: GraphTable,
    targets: Mapping[str, Float[np.ndarray, " molecule"]],
    split: Split,
    config: PropertyConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    units: Mapping[str, str],
    label_fingerprint: str,
    init: PropertySurrogate | None = None,
    on: RungColumns | None = None,
    classification: Sequence[str] = (),
    progress: bool = True,
) -> PropertySurrogate:
    """Train an ensemble and calibrate it, and note in `run_dir` what it learned from and what it cost.

    A second run in the directory resumes, if the data and the settings are unchanged. For the arguments see
    `fit_ensemble`.

    Raises:
        InputError: see `fit_ensemble`; or `run_dir` contains a training on other data.
    """
    usable_rows(targets, split, init, classification)
    record_training_data(run_dir, training_identity(table, targets, split, config, init, on, classification))
    surrogate, result = fit_ensemble(
        table,
        targets,
        split,
        config,
        training,
        run_dir,
        units=units,
        label_fingerprint=label_fingerprint,
        init=init,
        on=on,
        classification=classification,
        progress=progress,
    )
    note_fit(result, run_dir)
    rows = np.asarray(split["calibration"])
    return calibrate_intervals(surrogate, table, targets, rows, on) if len(rows) else surrogate


def usable_rows(
    targets: Mapping[str, Float[np.ndarray, " molecule"]],
    split: Split,
    init: PropertySurrogate | None = None,
    classification: Sequence[str] = (),
) -> Int[np.ndarray, " row"]:
    """The rows of the training part that have a label.

    Raises:
        InputError: there is none, a target has too few labels for calibration, or `init` has other targets.
    """
    return _usable(_columns(targets), tuple(targets), split, classification, init)


def _usable(
    values: Float[np.ndarray, "molecule target"],
    targets: Sequence[str],
    split: Split,
    classification: Sequence[str],
    init: PropertySurrogate | None = None,
) -> Int[np.ndarray, " row"]:
    if init is not None and init.targets != tuple(targets):
        raise InputError(f"pre-trained on {init.targets}, to be fine-tuned on {tuple(targets)}")
    if init is not None and set(init.facts.classification) != set(classification):
        raise InputError(
            f"pre-trained with the binary labels {init.facts.classification}, to be fine-tuned with "
            f"{tuple(classification)}"
        )
    train = np.asarray(split["train"])
    train = train[np.isfinite(values[train]).any(axis=1)]
    if not len(train):
        raise InputError("no labelled molecule is left to train on", remedy="Give more labels or another split")
    for k, name in enumerate(targets):
        if name in classification:
            if len(train_labels := np.unique(values[train, k][np.isfinite(values[train, k])])) < 2:
                raise InputError(
                    f"the training part has {'no label' if not len(train_labels) else 'one kind of label only'} of "
                    f"{name}, a binary label",
                    where="data.classification",
                    remedy="Give molecules with 0 and with 1, or leave that target out",
                )
            continue
        refuse_too_few(values[np.asarray(split["calibration"]), k], name, where="calibration part")
    return train


def training_identity(
    table: GraphTable,
    targets: Mapping[str, Float[np.ndarray, " molecule"]],
    split: Split,
    config: PropertyConfig,
    init: PropertySurrogate | None = None,
    on: RungColumns | None = None,
    classification: Sequence[str] = (),
    taught: TaughtAnswers | None = None,
) -> dict[str, str]:
    """Hashes of all that a resumed run must have in common with the run, by words for messages.

    Args:
        table: the molecules.
        targets: labels of the molecules by name of the target; NaN where a label is missing.
        split: parts "train" and "valid".
        config: settings of the ensemble; with `init` its settings count.
        init: the surrogate whose weights are fine-tuned.
        on: answers of the simulator on which the surrogate stands, for every molecule; None if there is none.
        classification: targets that are binary labels.
        taught: the answers of a teacher that are learned too; None for none.
    """
    values, names = _with_answers(_columns(targets), taught), tuple(targets)
    return {
        "training part": _identity(table, values, names, _usable(values, names, split, classification)),
        "validation part": _identity(table, values, names, np.asarray(split["valid"])),
        "network": content_hash(_settings(config if init is None else init.facts.config)),
        "pretrained surrogate": "none" if init is None else init.fingerprint,
        # Runs of earlier versions lack these entries.
        **({} if on is None else {"answers of the cheaper simulator": checksum([on.values])}),
        **({"choice of binary labels": content_hash(sorted(classification))} if classification else {}),
        **({} if taught is None else {"teacher": content_hash(to_plain(taught.teacher))}),
        **({} if taught is None else {"answers of the teacher": checksum([taught.values])}),
    }


def _settings(config: PropertyConfig) -> dict[str, object]:
    """The settings that a resumed run shares; runs of earlier versions have the spread of their members."""
    settings = asdict(config)
    if config.spread == "members":
        del settings["spread"]
    return settings


def fit_ensemble(
    table: GraphTable,
    targets: Mapping[str, Float[np.ndarray, " molecule"]],
    split: Split,
    config: PropertyConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    units: Mapping[str, str],
    label_fingerprint: str,
    init: PropertySurrogate | None = None,
    on: RungColumns | None = None,
    classification: Sequence[str] = (),
    taught: TaughtAnswers | None = None,
    progress: bool = True,
) -> tuple[PropertySurrogate, FitResult]:
    """Train an ensemble, whose intervals are calibrated afterwards.

    Args:
        table: the molecules.
        targets: labels of the molecules by name of the target; NaN where a label is missing.
        split: parts "train", "valid" (may be empty, and then there is no early stopping) and "calibration" (may be
            empty, and then the intervals stay those of the uncalibrated ensemble).
        config: settings of the ensemble; ignored with `init`, whose settings are kept.
        training: settings of the training loop.
        run_dir: directory of the history and the checkpoints, from which a stopped run resumes.
        units: unit of each target.
        label_fingerprint: fingerprint of the labels.
        init: a surrogate whose weights are fine-tuned. For each target, a line fitted to the new labels maps its
            predictions to the initial predictions of the fine-tuned one.
        on: answers of the simulator on which the surrogate is to stand, for every molecule of the parts; None if there
            is none.
        classification: targets that are binary labels, 0 or 1, whose probability is learned with the cross-entropy.
        taught: the answers of a teacher, learned beside the labels or in place of missing ones; None for labels alone.
        progress: whether to show a progress bar.

    Raises:
        InputError: there is no labelled molecule to train on, a target has no labels or too few for calibration, or
            `init` has other targets, or both `init` and `on` are given, or one of them with `taught`.
    """
    if taught is not None and (init is not None or on is not None):
        raise InputError("what a teacher answers is learned from fresh weights and by itself only")
    if init is not None and (on is not None or init.standing is not None):
        raise InputError("a surrogate that stands on another simulator learns from fresh weights only")
    names = tuple(targets)
    learnable = _with_answers(_columns(targets), taught)
    values, train = _columns(targets), _usable(learnable, names, split, classification, init)
    binary = [names.index(name) for name in classification]
    standing = None
    if on is not None:
        standing = Standing.fit(on.simulator, on.outputs, on.values[train], values[train], on.cost_s)
        # A probability has no line through the answers; the network reads them as inputs.
        standing = replace(standing, line=standing.line.without(binary))
        extra = standing.scale.apply(on.values)
        # The networks learn what the line leaves.
        values = values - standing.line.apply(extra)
    if init is None:
        standardise = _as_logits(Standardise.fit(names, (values if taught is None else learnable)[train]), binary)
        buckets = choose_buckets(table.atom_counts[train], table.bond_counts[train], config.buckets)
        domain = Domain.of(table.take(train))
        width = 0 if standing is None else len(standing.scale.names)
        spread = config.spread == "last_layer"
        model = Ensemble(config.network, len(names), config.ensemble, nnx.Rngs(training.seed), width, spread=spread)
        before: tuple[str, ...] = ()
    else:
        config, model = init.facts.config, init.model
        standardise = _as_logits(_align_scale(init, table.take(train), values[train]), binary)
        buckets, domain = init.facts.buckets, init.facts.domain.join(Domain.of(table.take(train)))
        before = (*init.facts.pretrained_on, init.labels_fingerprint)

    devices = data_mesh().size
    size = min(training.batch_size, max(SMALLEST_BATCH, len(train) // 4))
    size = -(-size // devices) * devices
    labels, loss = standardise.apply(values), ensemble_loss(config.loss, binary)  # type: ignore[arg-type]
    if taught is not None:
        weights = taught.teacher.weights
        loss = TaughtLoss(config.loss, tuple(binary), weights[LABELS], weights[ANSWERS])  # type: ignore[arg-type]
        labels = np.concatenate([labels, standardise.apply(taught.values)], axis=1)

    def source(part: Int[np.ndarray, " row"], *, shuffle: bool) -> GraphSource:
        more = None if standing is None else extra[part]
        return GraphSource(table, part, labels[part], with_room(buckets), size, training.seed, shuffle, more)

    valid = np.asarray(split["valid"])
    result = fit(
        model,
        loss,  # type: ignore[arg-type]
        source(train, shuffle=True),
        source(valid, shuffle=False) if len(valid) else None,
        training,
        run_dir,
        progress=progress,
    )
    ensemble = result.model
    assert isinstance(ensemble, Ensemble)
    if config.spread == "last_layer":
        labels = standardise.apply(learnable if standing is None else values)
        fit_spread(ensemble, source(train, shuffle=False).epoch(0), binary)
    facts = PropertyFacts(
        config,
        dict(units),
        standardise,
        {},
        buckets,
        domain,
        label_fingerprint,
        before,
        on=standing,
        classification=tuple(classification),
        taught_by=None if taught is None else taught.teacher,
    )
    surrogate = PropertySurrogate(ensemble, facts)
    if on is not None:
        surrogate = surrogate.with_rung(on.simulator)
    return surrogate, result


def ensemble_loss(kind: LossName, binary: Collection[int] = ()) -> object:
    """The sum of the losses of the members; its statistic is the error of their mean, which validation compares.

    Args:
        kind: loss of targets that are numbers.
        binary: places of the targets that are binary labels, whose loss is the cross-entropy.
    """

    def loss(model: nnx.Module, batch: GraphBatch, key: Array, progress: Array) -> tuple[Array, Stats]:
        assert isinstance(model, Ensemble)
        predictions = model(batch, key)
        labels = jnp.broadcast_to(batch.labels, predictions.shape)
        error, present = masked_error(predictions, labels, kind)
        absolute, counted = masked_error(predictions.mean(axis=0), batch.labels, "l1")
        if binary:
            of_label = jnp.zeros(predictions.shape[-1], bool).at[jnp.array(sorted(binary))].set(True)
            error = jnp.where(of_label, masked_cross_entropy(predictions, labels)[0], error)
            mean = jax.nn.sigmoid(predictions).mean(axis=0).clip(1e-6, 1 - 1e-6)
            mean_logit = jnp.log(mean) - jnp.log1p(-mean)
            absolute = jnp.where(of_label, masked_cross_entropy(mean_logit, batch.labels)[0], absolute)
        value = error.sum() / jnp.maximum(present.sum(), 1.0) * len(predictions)
        return value, {"loss": (absolute.sum(), counted.sum())}

    return loss


def _as_logits(standardise: Standardise, binary: Collection[int]) -> Standardise:
    """The normalisation that leaves the targets at these places, which are binary labels, as they are."""
    mean = tuple(0.0 if k in binary else value for k, value in enumerate(standardise.mean))
    scale = tuple(1.0 if k in binary else value for k, value in enumerate(standardise.scale))
    return Standardise(standardise.names, mean, scale)


def _with_answers(
    values: Float[np.ndarray, "molecule target"], taught: TaughtAnswers | None
) -> Float[np.ndarray, "molecule target"]:
    """The labels, and the teacher's answers where there is none."""
    return values if taught is None else np.where(np.isfinite(values), values, taught.values)


def _columns(targets: Mapping[str, Float[np.ndarray, " molecule"]]) -> Float[np.ndarray, "molecule target"]:
    return np.stack([np.asarray(labels, np.float64) for labels in targets.values()], axis=1)


def _identity(
    table: GraphTable, values: Float[np.ndarray, "molecule target"], names: Sequence[str], rows: Int[np.ndarray, " row"]
) -> str:
    """Hash of the molecules at `rows` and of their labels, in this order."""
    part = table.take(rows)
    arrays = (part.atom_start, part.bond_start, part.atoms, part.bonds, part.bond_atoms, values[rows])
    return content_hash([list(names), checksum(arrays)])


def _align_scale(
    init: PropertySurrogate, table: GraphTable, values: Float[np.ndarray, "molecule target"]
) -> Standardise:
    """The normalisation with which the weights of `init` predict a linear fit to the new labels."""
    predictions, _ = init.raw(table)
    old = init.facts.standardise
    means, scales = [], []
    for k, name in enumerate(init.targets):
        keep = np.isfinite(values[:, k])
        if not keep.any():
            raise InputError(f"target {name} has no finite label to learn from")
        x, y = predictions[keep, k], values[keep, k]
        slope = 1.0
        if len(x) > 2 and np.ptp(x) > 0:
            slope = float(np.cov(x, y)[0, 1] / x.var(ddof=1))
        # A slope near 0 or below means that the old labels do not predict the new ones; then only the offset is fitted.
        slope = slope if slope > 0.1 else 1.0
        means.append(float(y.mean() + slope * (old.mean[k] - x.mean())))
        scales.append(slope * old.scale[k])
    return Standardise(old.names, tuple(means), tuple(scales))
