"""Training of a potential on labels and on the answers of another potential."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.errors import InputError
from data.structures.structures import Structures
from surrogates.learning.devices import data_mesh
from surrogates.learning.loop import FitResult, TrainConfig, fit
from surrogates.learning.teaching import Teacher
from surrogates.potentials.atom_energies import References
from surrogates.potentials.energy import EnergyModel
from surrogates.potentials.facts import Head, PotentialConfig, PotentialFacts
from surrogates.potentials.fit import (
    MAIN,
    beyond_body,
    output_scale,
    residual_of,
    training_batches,
    with_posterior,
    with_shortest,
)
from surrogates.potentials.heads import with_heads
from surrogates.potentials.lessons import FrameAnswers, TaughtBatches, TaughtFramesLoss, labelled_by
from surrogates.potentials.surrogate import PotentialSurrogate

#: Name of the head that learns the answers of a teacher of another level of theory than the labels.
TEACHER = "teacher"
#: Weights of the loss, by name.
WEIGHTS = ("labels", "energy", "forces", "atom_energies", "hessian")


@dataclass(frozen=True)
class TaughtFrames:
    """Frames that a teacher answered.

    Attributes:
        teacher: what is kept of it; its weights are those of `WEIGHTS`.
        head: its head: reference energies, charges, and the fingerprint of its labels.
        frames: frames that are learned; labels in them are ignored.
        answers: answers for them.
        valid: frames that choose the best weights.
        valid_answers: answers for them.
    """

    teacher: Teacher
    head: Head
    frames: Structures
    answers: FrameAnswers
    valid: Structures
    valid_answers: FrameAnswers


def fit_taught_potential(
    train: Structures | None,
    valid: Structures | None,
    taught: TaughtFrames,
    config: PotentialConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    same_level: bool,
    label_fingerprint: str,
    isolated: Mapping[int, float] | None = None,
    start: PotentialSurrogate | None = None,
    progress: bool = True,
) -> tuple[PotentialSurrogate, FitResult]:
    """Train a potential on labels and answers; its standard deviations and intervals are calibrated afterwards.

    Args:
        train: labelled frames; None for none. Single atoms set reference energies.
        valid: labelled frames that choose the best weights, beside those of the teacher; None for none.
        taught: frames with answers.
        config: settings of the network and its batches.
        training: settings of the training loop.
        run_dir: directory of checkpoints; a run in a directory that has checkpoints resumes.
        same_level: whether labels and answers are of one level of theory and share a head. Otherwise the answers have a
            head of their own, and that of the labels answers.
        label_fingerprint: fingerprint of the labels.
        isolated: energies of isolated atoms of the labels, eV by atomic number.
        start: trained potential with whose weights the student begins, every head with those of the head that answers;
            None for fresh weights. Reference energies are then fitted to what labels and answers are above its answers.
        progress: whether to show a progress bar.

    Raises:
        InputError: the answers lack elements of the labels, or latent charges meet periodic frames.
    """
    if config.long_range and (taught.frames.periodic.any() or (train is not None and train.periodic.any())):
        raise InputError("latent charges without cutoff need isolated molecules", where="model.long_range")
    of_teacher = replace(
        taught.head, energy=None, forces=None, keys=None, labels_fingerprint=taught.teacher.fingerprint
    )
    if train is None or same_level:
        fingerprint = taught.teacher.fingerprint if train is None else label_fingerprint
        heads, active = {MAIN: replace(of_teacher, labels_fingerprint=fingerprint)}, MAIN
    else:
        references = References.fit(train, isolated)
        bound = train.take(np.flatnonzero(~train.alone()))
        energies = bool(np.isfinite(bound.energy).any())
        charges = tuple(sorted(set(bound.charge.tolist())))
        heads = {MAIN: Head(references, label_fingerprint, energies, charges), TEACHER: of_teacher}
        active = MAIN
    if train is not None and (extra := sorted(set(train.elements) - set(heads[MAIN].references.elements))):
        raise InputError(
            f"labels hold the elements {extra}, which the teacher has not learned",
            where="data.train",
            remedy="Give labels of the elements of the teacher",
        )
    of_answers = MAIN if same_level or train is None else TEACHER
    index = list(heads).index(of_answers)
    if start is not None:
        heads, taught = above_start(start, heads, of_answers, train, taught, isolated)

    def joined(labels: Structures | None, frames: Structures, answers: FrameAnswers) -> tuple[Structures, int]:
        """Frames with labels, and behind them those with answers; and the number of the first."""
        learned = labelled_by(frames, answers).with_head(index)
        if labels is None or not len(labels):
            return learned, 0
        bound = labels.take(np.flatnonzero(~labels.alone()))
        residual = residual_of(bound, heads[MAIN].references).with_head(0)
        return Structures.concatenate([residual, learned]), len(bound)

    learned, labelled = joined(train, taught.frames, taught.answers)
    check, checked = joined(valid, taught.valid, taught.valid_answers)
    facts = PotentialFacts(config, output_scale(learned), heads, active, taught_by=taught.teacher)
    if start is not None:
        before = start.facts
        facts = replace(facts, scale=before.scale, began_from=start.fingerprint, shortest=before.shortest)
    facts = with_shortest(facts, learned)
    mesh = data_mesh()
    result = fit(
        facts.model(training.seed) if start is None else with_heads(start, facts, [start.facts.index] * len(heads)),
        TaughtFramesLoss(config.loss, *(taught.teacher.weights[name] for name in WEIGHTS)),
        TaughtBatches(
            training_batches(learned, config, training.batch_size, mesh, training.seed), labelled, taught.answers
        ),
        TaughtBatches(training_batches(check, config, training.batch_size, mesh, None), checked, taught.valid_answers),
        training,
        run_dir,
        mesh=mesh,
        progress=progress,
    )
    assert isinstance(result.model, EnergyModel)
    return with_posterior(result.model, facts, learned.with_head(facts.index), config), result


def above_start(
    start: PotentialSurrogate,
    heads: Mapping[str, Head],
    of_answers: str,
    train: Structures | None,
    taught: TaughtFrames,
    isolated: Mapping[int, float] | None,
) -> tuple[dict[str, Head], TaughtFrames]:
    """Heads whose reference energies are fitted to what labels and answers are above the answers of a potential.

    Args:
        start: the potential.
        heads: the heads.
        of_answers: the head that learns the answers; the other one, if any, learns the labels.
        train: labelled frames.
        taught: frames with answers.
        isolated: energies of isolated atoms of the labels.

    Returns:
        The heads, and the frames with answers above their new reference energies.
    """
    old = heads[of_answers].references
    total = labelled_by(taught.frames, taught.answers)
    total = total.with_energy(total.energy + old.energy(total))
    lone_atoms = {z: e for z, t, e in zip(old.elements, old.bonded, old.isolated, strict=True) if t != e}
    labels = [] if train is None else [train.take(np.flatnonzero(~train.alone()))]
    shared = [*labels, total] if len(heads) == 1 else [total]
    references = References.fit(beyond_body(Structures.concatenate(shared), start), lone_atoms)
    changed = {**heads, of_answers: replace(heads[of_answers], references=references)}
    if train is not None and len(heads) > 1:
        changed[MAIN] = replace(heads[MAIN], references=References.fit(beyond_body(train, start), isolated))

    def above(frames: Structures, answers: FrameAnswers) -> FrameAnswers:
        each = np.zeros(1 + max(old.elements))
        each[list(old.elements)] = old.bonded
        each[list(references.elements)] -= references.bonded
        return replace(
            answers,
            energy=answers.energy + old.energy(frames) - references.energy(frames),
            atomic=answers.atomic + each[frames.numbers],
        )

    return changed, replace(
        taught,
        answers=above(taught.frames, taught.answers),
        valid_answers=above(taught.valid, taught.valid_answers),
    )
