"""Training of a `FieldSurrogate`: the scales are fitted first, then the networks are trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jax.sharding import Mesh

from data.errors import InputError
from data.fields.batches import FieldBatches
from data.fields.samples import Fields
from simulators.adapter import AdvancesStates
from surrogates.fields.cheaper_answers import residual, standing_of
from surrogates.fields.coarse_darcy import CoarseDarcy, refuse_unfit, with_coarse
from surrogates.fields.coarse_solver import CoarseSolver
from surrogates.fields.facts import FieldConfig, FieldFacts
from surrogates.fields.loss import FieldLoss
from surrogates.fields.model import FieldModel
from surrogates.fields.scale import FieldScale
from surrogates.fields.surrogate import FieldSurrogate
from surrogates.fields.training_domain import domain_of
from surrogates.fields.units import FieldUnits
from surrogates.learning.devices import data_mesh
from surrogates.learning.loop import FitResult, TrainConfig, fit
from surrogates.learning.rung import Rung


def fit_field_surrogate(
    train: Fields,
    valid: Fields | None,
    config: FieldConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    on: Rung | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> tuple[FieldSurrogate, FitResult]:
    """Train a surrogate of a field, or of the step of a trajectory; its bands are calibrated afterwards.

    Args:
        train: training samples.
        valid: validation samples, which select the best weights; None keeps the last weights.
        config: settings of the ensemble, the network and the loss.
        training: settings of the training loop.
        run_dir: directory of checkpoints and history; a run in a directory that has checkpoints resumes from them.
        on: the cheaper surrogate whose answers are `cheaper` of each part, or the coarse solver whose steps the network
            corrects; None if there is none.
        mesh: devices that share each batch; None for all devices.
        progress: whether to show a progress bar.

    Raises:
        InputError: trajectories have fewer steps than are unrolled, the constraint does not suit the output, or `valid`
            has another layout than `train`.
    """
    layout = train.layout
    times = train.states.shape[1]
    if layout.evolves and layout.initial is None:
        raise InputError(
            f"{layout.output.name} evolves, and no input is its first state",
            remedy="Name it `initial` and give it among data.inputs",
        )
    unroll = config.loss.unroll
    if layout.evolves and unroll >= times:
        raise InputError(
            f"{unroll} steps are unrolled, the trajectories have {times - 1}",
            where="model.loss.unroll",
            remedy="Give fewer",
        )
    if config.constraint == "mean" and not layout.evolves:
        raise InputError(
            f"{layout.output.name} does not evolve, so there is no state whose mean it could keep",
            where="model.constraint",
            remedy="Set it to none",
        )
    dims = len(layout.space)
    solenoidal = {"divergence_free": (2, 3), "stream_function": (2,)}.get(config.constraint)
    if solenoidal is not None and (not all(layout.periodic) or dims not in solenoidal or layout.channels != dims):
        fitting = " or ".join(map(str, solenoidal))
        raise InputError(
            f"a {config.constraint} answer needs a velocity on a periodic domain in {fitting}D",
            where="model.constraint",
            remedy="Set it to none",
        )
    if valid is not None:
        valid.refuse_other(layout, "the validation part")
    coarse = None
    if config.coarse == "darcy":
        refuse_unfit(layout)
        coarse = CoarseDarcy.fit(train.static[..., 0], train.states[:, 0, ..., 0])
    domain = domain_of(train)
    if coarse is not None:
        train = replace(train, static=with_coarse(coarse, train.static))
        valid = None if valid is None else replace(valid, static=with_coarse(coarse, valid.static))
    solver = None
    if on is not None and isinstance(on.simulator, AdvancesStates):
        if config.constraint == "stream_function":
            raise InputError(
                "a network that corrects a solver has no stream function",
                where="model.constraint",
                remedy="Set it to none, or to divergence_free",
            )
        solver = CoarseSolver.of(on.simulator, layout)
    elif config.corrections != 1:
        raise InputError(
            "corrections need a solver to correct", where="model.corrections", remedy="Name one with on=SIMULATOR"
        )
    standing = None
    if on is not None and solver is None:
        if config.constraint != "none" or coarse is not None:
            raise InputError(
                "a network that corrects another surrogate has no constraint and no coarse solver",
                where="model.constraint" if config.constraint != "none" else "model.coarse",
                remedy="Set it to none",
            )
        standing = standing_of(on, train)
        train = residual(standing, train)
        valid = None if valid is None else residual(standing, valid)
    units = FieldUnits.fit(train, one_unit=solenoidal is not None)
    train = units.apply(train)
    valid = None if valid is None else units.apply(valid)
    facts = FieldFacts(
        config,
        layout,
        FieldScale.fit(train),
        train.fingerprint,
        coarse=coarse,
        units=units,
        domain=domain,
        on=standing,
        solver=solver,
    )
    step = facts.step()
    if step is not None:
        facts = replace(facts, scale=replace(facts.scale, increment_std=step.error_scale(train)))
    mesh = mesh or data_mesh()
    frames = unroll + 1 if layout.evolves else 1
    size = -(-training.batch_size // mesh.size) * mesh.size
    learn = FieldBatches(train, size, frames, training.seed)
    # Overlapping windows would add little information to the validation.
    check = None if valid is None else FieldBatches(valid, size, frames, None, stride=max(1, frames - 1))
    loss = FieldLoss(config.loss, facts.shares(), layout.periodic)
    result = fit(facts.model(training.seed), loss, learn, check, training, run_dir, mesh=mesh, progress=progress)
    assert isinstance(result.model, FieldModel)
    surrogate = FieldSurrogate(result.model, facts)
    return surrogate if on is None or standing is None else surrogate.with_rung(on.simulator), result
