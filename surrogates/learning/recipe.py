"""The training recipe: the optimiser, the schedule of its learning rate, and how it treats each kind of parameter.

Every optimiser works at unit learning rate; the loop multiplies its updates by the present rate, so that one compiled
step serves the whole schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

OPTIMISERS = ("adamw", "amsgrad", "muon")
SCHEDULES = ("cosine", "linear", "constant")
#: Names of parameters that shift, scale or look up. They are recognised by name and not by shape, because the members
#: of an ensemble are stacked along a first axis, which makes a vector look like a matrix.
VECTORS = ("bias", "scale")
TABLES = ("embedding",)
#: A parameter with fewer rows or columns than this, such as the output layer of a network, is not treated as a matrix.
SMALLEST_SIDE = 8
#: Root mean square of an update by AdamW in practice (Liu et al. 2025, arXiv:2502.16982, section 2.2).
ADAM_RMS = 0.2


@dataclass(frozen=True)
class TrainConfig:
    """The training recipe.

    Attributes:
        epochs: passes over the data.
        optimiser: adamw (Loshchilov and Hutter 2019, arXiv:1711.05101), amsgrad (Reddi et al. 2018,
            arXiv:1904.09237) or muon (see `optimiser`).
        learning_rate: peak of the learning rate, for every optimiser on AdamW's scale.
        warmup_fraction: share of training over which the rate rises linearly from 0.
        schedule: how the rate falls after that, to `final_lr_fraction` of the peak: cosine, linear, or constant (it
            does not fall).
        final_lr_fraction: learning rate at the end, as a share of the peak.
        weight_decay: decoupled weight decay (AdamW); biases and scales have none.
        clip_norm: largest global norm of a gradient.
        ema_decay: decay of the averaged weights that are validated and kept; it grows to this from 0.1.
        patience: epochs without a better validation loss after which training ends; None for no limit.
        max_seconds: seconds after which training ends, earlier sessions included; the schedule follows time or
            epochs, whichever is further.
        max_core_seconds: processor time of all processes after which training ends, as `max_seconds` of wall time.
        seed: seed of everything that is random.
        checkpoint_every_s: seconds between checkpoints, within epochs too; 0 writes one after each epoch, None none.
        validate_every: epochs between validations.
        mlflow: copy the curves to MLflow's file store under the run directory.
        batch_size: samples in a batch, for the source of batches.
        weight_noise: relative standard deviation of the noise of every trained weight, drawn anew in each step (see
            `surrogates.learning.weight_noise`); 0 for none. Validation is without noise.
    """

    epochs: int = 50
    optimiser: str = "adamw"
    learning_rate: float = 1e-3
    warmup_fraction: float = 0.05
    schedule: str = "cosine"
    final_lr_fraction: float = 0.01
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    patience: int | None = None
    max_seconds: float | None = None
    max_core_seconds: float | None = None
    seed: int = 0
    checkpoint_every_s: float | None = 60.0
    validate_every: int = 1
    mlflow: bool = False
    batch_size: int = 64
    weight_noise: float = 0.0

    def __post_init__(self) -> None:
        for name, choices in (("optimiser", OPTIMISERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("epochs", "learning_rate", "clip_norm", "batch_size", "validate_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name, least in (("max_seconds", 0), ("max_core_seconds", 0), ("patience", 1)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ValueError(f"{name} must be {least} or more, or None for no limit, got {value}")
        for name in ("warmup_fraction", "final_lr_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.weight_decay < np.inf:
            raise ValueError(f"weight_decay must be 0 or more, got {self.weight_decay}")
        if not 0 <= self.weight_noise < 1:
            raise ValueError(f"weight_noise must lie in [0, 1), got {self.weight_noise}")
        if self.checkpoint_every_s is not None and not self.checkpoint_every_s >= 0:
            raise ValueError(f"checkpoint_every_s must be 0 or more, got {self.checkpoint_every_s}")
        if not (np.isfinite(self.learning_rate) and np.isfinite(self.clip_norm)):
            raise ValueError("learning_rate and clip_norm must be finite")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")

    def rate(self, progress: float) -> float:
        """The learning rate at a share of training, from 0 to 1."""
        if self.warmup_fraction > 0 and progress < self.warmup_fraction:
            return self.learning_rate * (progress / self.warmup_fraction)
        done = min(1.0, (progress - self.warmup_fraction) / max(1e-9, 1 - self.warmup_fraction))
        floor = self.final_lr_fraction
        fall = {"cosine": 0.5 * (1 + np.cos(np.pi * done)), "linear": 1 - done, "constant": 1.0}[self.schedule]
        return float(self.learning_rate * (floor + (1 - floor) * fall))


def optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """The optimiser at unit learning rate, after clipping by the global norm and before the decay of weights.

    Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by the
    orthogonal matrix nearest to it. That matrix has a root mean square of 1 / sqrt(max(rows, columns)) whatever the
    gradient; multiplied by ADAM_RMS sqrt(max(rows, columns)) it has that of AdamW's updates (Liu et al. 2025,
    arXiv:2502.16982, eq. 4), so that one learning rate and one decay serve both. Other parameters are updated by Adam.
    """
    if config.optimiser == "muon":
        direction = optax.partition({"matrix": _orthogonal_momentum(), "other": optax.scale_by_adam()}, _kinds)
    elif config.optimiser == "amsgrad":
        direction = optax.scale_by_amsgrad()
    else:
        direction = optax.scale_by_adam()
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        direction,
        optax.add_decayed_weights(config.weight_decay, mask=lambda p: jax.tree_util.tree_map_with_path(decays, p)),
    )


def is_matrix(path: tuple[Any, ...], leaf: jax.Array) -> bool:
    """Whether the last two axes of a parameter are those of a linear map between spaces of some size.

    Axes before them count separate maps: members of an ensemble, degrees of spherical harmonics.
    """
    shape = jnp.shape(leaf)
    return parts(path)[-1] not in VECTORS + TABLES and len(shape) > 1 and min(shape[-2:]) >= SMALLEST_SIDE


def decays(path: tuple[Any, ...], leaf: jax.Array) -> bool:
    """Whether weight decay applies to a parameter: it does not to biases, scales and single vectors."""
    return parts(path)[-1] not in VECTORS and jnp.ndim(leaf) > 1


def parts(path: tuple[Any, ...]) -> tuple[str, ...]:
    """The names along a JAX path into the state of a Flax module, such as ("layers", "0", "out", "kernel")."""
    names = tuple(jax.tree_util.keystr((key,), simple=True) for key in path)
    # The last key of such a path leads into the variable that holds the array.
    return names[:-1] if len(names) > 1 and names[-1] == "value" else names


def _kinds(params: Any) -> Any:
    """ "matrix" or "other" for each parameter."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: "matrix" if is_matrix(path, leaf) else "other", params)


def _orthogonal_momentum() -> optax.GradientTransformation:
    """Muon's direction for parameters that are all matrices, scaled to the size of Adam's updates."""
    axes = optax.contrib.MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)
    return optax.chain(
        optax.contrib.scale_by_muon(weight_dimension_numbers=lambda updates: jax.tree.map(lambda _: axes, updates)),
        optax.stateless(
            lambda updates, _: jax.tree.map(lambda u: ADAM_RMS * float(np.sqrt(max(u.shape[-2:]))) * u, updates)
        ),
    )
