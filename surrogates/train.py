"""One training loop for every model: Optax, EMA, schedule, early stopping, and resumption bit for bit.

A model is a Flax NNX module; a loss is a function of model, batch and key. The loop jits one step a batch
shape, keeps statistics on the device until an epoch ends, and prepares batches in a thread beside it.
Randomness comes from the seed and the number of the step alone, so a resumed run equals one that was
never interrupted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.errors import InputError
from surrogates.checkpoints import load_arrays, read_note, save_arrays
from surrogates.devices import agree, data_mesh, is_first, localise, replicate
from surrogates.interrupt import BrokenOff, Interrupt
from surrogates.prefetch import Prefetcher

Batch = Any
Stats = dict[str, tuple[jax.Array, jax.Array]]
LossFn = Callable[[nnx.Module, Batch, jax.Array], tuple[jax.Array, Stats]]


class BatchSource(Protocol):
    """Batches of a handful of fixed shapes; the same epoch always gives the same ones in the same order."""

    @property
    def steps_per_epoch(self) -> int: ...

    def epoch(self, index: int) -> Iterator[Batch]:
        """Pytrees of numpy arrays whose first axis is a multiple of the number of devices."""
        ...


@dataclass(frozen=True)
class TrainConfig:
    """The training recipe.

    Attributes:
        epochs: passes over the data.
        learning_rate: at its peak.
        warmup_fraction: share of training over which it rises linearly from 0.
        schedule: how it falls after that: to `final_lr_fraction` of the peak, or not at all.
        final_lr_fraction: share of the peak that is left at the end.
        weight_decay: decoupled (AdamW), on matrices only.
        clip_norm: largest global norm of a gradient.
        ema_decay: of the averaged weights that are validated and kept; it grows to this from 0.1.
        patience: epochs without a better validation loss after which training ends; None never.
        max_seconds: training ends cleanly after that long, resumed parts counted; the schedule falls with
            whichever of time and epochs is further.
        seed: of everything random.
        checkpoint_every_s: seconds between checkpoints; None writes none.
        validate_every: epochs between validations.
        mlflow: copy the curves to MLflow's file store under the run directory.
        batch_size: samples a batch, for the source.
    """

    epochs: int = 50
    learning_rate: float = 1e-3
    warmup_fraction: float = 0.05
    schedule: str = "cosine"
    final_lr_fraction: float = 0.01
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    patience: int | None = None
    max_seconds: float | None = None
    seed: int = 0
    checkpoint_every_s: float | None = 60.0
    validate_every: int = 1
    mlflow: bool = False
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "linear", "constant"):
            raise ValueError(f"schedule must be cosine, linear or constant, got {self.schedule!r}")
        for name in ("epochs", "learning_rate", "clip_norm", "batch_size", "validate_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
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


class TrainState(NamedTuple):
    """Everything on the device that a step changes."""

    params: Any
    ema: Any
    optimiser: optax.OptState
    step: jax.Array
    skipped: jax.Array


@dataclass
class FitResult:
    """What training made and what it took.

    Attributes:
        model: with the best averaged weights.
        history: one dict an epoch: epoch, step, train/*, valid/*, learning_rate, seconds.
        seconds: wall time, resumed parts included.
        data_wait_share: share of the loop's time spent waiting for a batch.
        compilations: of the training step and of the validation step.
        stopped_by: why training ended.
        best: the best validation loss, or the last training loss without validation.
    """

    model: nnx.Module
    history: list[dict[str, float]]
    seconds: float
    data_wait_share: float
    compilations: dict[str, int]
    stopped_by: Literal["epochs", "patience", "max_seconds"]
    best: float


@dataclass
class Progressed:
    """Where a run is, as its checkpoints note it; `partial` holds the statistics of an epoch that was broken off."""

    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    best: float = float("inf")
    since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    partial: dict[str, list[float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A plain dict; no best yet is null."""
        return {**asdict(self), "best": self.best if np.isfinite(self.best) else None}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Progressed:
        """What `to_json` described."""
        best = float("inf") if value["best"] is None else value["best"]
        return Progressed(**{**value, "best": best})


def add_stats(total: Stats | None, new: Stats) -> Stats:
    """Sums of (sum, count) pairs, kept on the device."""
    return new if total is None else jax.tree.map(jnp.add, total, new)


def averages(total: Stats) -> dict[str, float]:
    """Means, fetched from the device at once; a statistic without samples is left out."""
    host = jax.device_get(total)
    return {name: float(s) / float(n) for name, (s, n) in host.items() if float(n) > 0}


def optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019) at unit learning rate, after clipping by the global norm."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(),
        optax.add_decayed_weights(config.weight_decay, mask=lambda p: jax.tree.map(lambda x: jnp.ndim(x) > 1, p)),
    )


def fit(
    model: nnx.Module,
    loss: LossFn,
    train: BatchSource,
    valid: BatchSource | None,
    config: TrainConfig,
    run_dir: Path,
    *,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> FitResult:
    """Train a model, or go on where a run in the same directory stopped.

    Args:
        model: initial weights; fine-tuning starts from those of a trained one.
        loss: gives the scalar to minimise and statistics as (sum, count); the one called "loss" is what
            validation compares.
        train, valid: sources of batches.
        config: the recipe.
        run_dir: gets `train.jsonl`, `checkpoints/` and, if asked for, `mlruns/`.
        mesh: devices; all of them if None.
        progress: whether to show a bar.

    Raises:
        InputError: the loss is not finite in more than a twentieth of an epoch's steps and two, or `train` is
            empty.
        KeyboardInterrupt: after the step that it came in was finished and a checkpoint written; a second Ctrl-C
            waits for neither.
    """
    if train.steps_per_epoch < 1:
        raise InputError("there is no batch to train on", remedy="Give more labelled samples or a smaller batch size")
    return _Loop(model, loss, train, valid, config, run_dir, mesh or data_mesh(), progress).run()


class _Loop:
    """The state of one call of `fit`."""

    def __init__(
        self,
        model: nnx.Module,
        loss: LossFn,
        train: BatchSource,
        valid: BatchSource | None,
        config: TrainConfig,
        run_dir: Path,
        mesh: Mesh,
        progress: bool,
    ) -> None:
        self.train, self.valid, self.config, self.mesh = train, valid, config, mesh
        self.run_dir, self.show = run_dir, progress
        run_dir.mkdir(parents=True, exist_ok=True)
        parts: Any = nnx.split(model, nnx.Param, ...)
        graph, params, rest = parts
        self.graph = graph
        transform = optimiser(config)
        params = replicate(jax.tree.map(lambda x: jnp.array(x, copy=True), params), mesh)
        rest = replicate(rest, mesh)
        self.rest: Any = rest
        zero = jnp.zeros((), jnp.int32)
        # Each part owns its buffers, because the step donates them.
        self.state = replicate(
            TrainState(params, jax.tree.map(jnp.copy, params), transform.init(params), zero, jnp.copy(zero)), mesh
        )
        self.best = jax.tree.map(jnp.copy, params)
        self.at = Progressed()
        self.key = jax.random.key(config.seed)

        def step(
            state: TrainState, batch: Batch, key: jax.Array, rate: jax.Array
        ) -> tuple[TrainState, Stats, jax.Array]:
            def objective(weights: Any) -> tuple[jax.Array, Stats]:
                return loss(nnx.merge(graph, weights, rest), batch, jax.random.fold_in(key, state.step))

            (value, stats), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
            norm = optax.tree.norm(gradient)
            good = jnp.isfinite(value) & jnp.isfinite(norm)
            updates, moments = transform.update(gradient, state.optimiser, state.params)
            weights = optax.apply_updates(state.params, jax.tree.map(lambda u: -rate * u, updates))
            decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
            ema = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, state.ema, weights)
            # A step that is not finite changes nothing but its own count.
            kept = jax.tree.map(
                lambda new, old: jnp.where(good, new, old),
                (weights, ema, moments),
                (state.params, state.ema, state.optimiser),
            )
            stats = jax.tree.map(lambda x: jnp.where(good, x, jnp.zeros_like(x)), stats)
            weights, ema, moments = kept
            count = state.skipped + (~good).astype(jnp.int32)
            return TrainState(weights, ema, moments, state.step + 1, count), stats, value

        def check(weights: Any, batch: Batch, key: jax.Array) -> Stats:
            return loss(nnx.merge(graph, weights, rest), batch, key)[1]

        self.step = jax.jit(step, donate_argnums=0)
        self.check = jax.jit(check)

    # Checkpoints

    def held(self) -> Any:
        """What a checkpoint holds."""
        return {"state": self.state, "best": self.best}

    def save(self) -> None:
        """Write a checkpoint and drop all but the last two."""
        if not is_first():
            return
        folder = self.run_dir / "checkpoints"
        count = int(self.state.step)
        save_arrays(folder / f"{count:09d}", self.held(), {"progress": self.at.to_json(), "config": self.identity()})
        for old in sorted(p for p in folder.iterdir() if not p.name.startswith("."))[:-2]:
            _remove(old)

    def identity(self) -> dict[str, Any]:
        """The part of the recipe that a resumed run has to share."""
        fixed = asdict(self.config)
        for name in ("max_seconds", "checkpoint_every_s", "mlflow", "epochs", "patience"):
            fixed.pop(name)
        return fixed

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        folder = self.run_dir / "checkpoints"
        found = sorted(p for p in folder.glob("*") if not p.name.startswith(".")) if folder.is_dir() else []
        if not found:
            if is_first():
                (self.run_dir / "train.jsonl").unlink(missing_ok=True)
            return
        note = read_note(found[-1])
        if note["config"] != self.identity():
            changed = [k for k, v in self.identity().items() if note["config"].get(k) != v]
            raise InputError(
                f"the run here was made with other settings: {', '.join(changed)}",
                where=str(self.run_dir),
                remedy="Give the same settings to resume it, or another run.dir",
            )
        arrays = load_arrays(found[-1], self.held())
        self.state, self.best = replicate(arrays["state"], self.mesh), replicate(arrays["best"], self.mesh)
        self.at = Progressed.from_json(note["progress"])
        if not is_first():
            return
        with (self.run_dir / "train.jsonl").open("w", encoding="utf-8") as log:
            log.writelines(json.dumps(row) + "\n" for row in self.at.history)

    # The loop

    def progress_share(self, seconds: float) -> float:
        """How much of the training is done, by steps or by time, whichever is further."""
        done = (self.at.epoch + self.at.batch / self.train.steps_per_epoch) / self.config.epochs
        timed = seconds / self.config.max_seconds if self.config.max_seconds else 0.0
        return min(1.0, max(done, timed))

    def validate(self) -> dict[str, float]:
        """Statistics of the averaged weights over the validation source."""
        assert self.valid is not None
        total: Stats | None = None
        with Prefetcher(self.valid.epoch(0), self.mesh) as batches:
            for batch in batches:
                total = add_stats(total, self.check(self.state.ema, batch, self.key))
        return averages(total) if total is not None else {}

    def run(self) -> FitResult:
        """Train until the epochs, the patience or the time are used up."""
        self.resume()
        tracker = None
        if self.config.mlflow and is_first():
            from surrogates.tracking import EXPERIMENT, FOLDER, Tracker

            tracker = Tracker(self.run_dir / FOLDER, EXPERIMENT, asdict(self.config), resume=bool(self.at.history))
        began, before = time.perf_counter(), self.at.seconds
        waited = looped = 0.0
        saved = time.perf_counter()
        stopped: Literal["epochs", "patience", "max_seconds"] = "epochs"
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())

        def passed() -> float:
            return before + time.perf_counter() - began

        def clock() -> float:
            return agree(passed())

        with (
            Progress(*columns, transient=True, disable=not (self.show and is_first())) as bar,
            Interrupt() as interrupt,
        ):
            task = bar.add_task("training", total=self.config.epochs, completed=self.at.epoch)
            try:
                while self.at.epoch < self.config.epochs:
                    if self.config.max_seconds is not None and clock() >= self.config.max_seconds:
                        stopped = "max_seconds"
                        break
                    if self.config.patience is not None and self.at.since_best > self.config.patience:
                        stopped = "patience"
                        break
                    total = from_partial(self.at.partial)
                    self.at.partial = {}
                    pending: jax.Array | None = None
                    skipped, steps, out_of_time = int(self.state.skipped), 0, False
                    started = time.perf_counter()
                    with Prefetcher(self.train.epoch(self.at.epoch), self.mesh, skip=self.at.batch) as batches:
                        for batch in batches:
                            rate = np.float32(
                                self.config.rate(self.progress_share(clock() if self.config.max_seconds else 0))
                            )
                            self.state, stats, value = self.step(self.state, batch, self.key, rate)
                            total = add_stats(total, stats)
                            # Keeps the host one step ahead of the device, no more, so that waiting is measured.
                            if pending is not None:
                                pending.block_until_ready()
                            pending = value
                            self.at.batch += 1
                            steps += 1
                            if interrupt.asked:
                                self.at.partial = to_partial(total)
                                raise BrokenOff
                            if self.config.max_seconds is not None and clock() >= self.config.max_seconds:
                                out_of_time = True
                                break
                        waited += batches.waited
                    looped += time.perf_counter() - started
                    lost = int(self.state.skipped) - skipped
                    if lost > 2 + steps // 20:
                        raise InputError(
                            f"the loss was not finite in {lost} of {steps} steps of epoch {self.at.epoch + 1}",
                            where=str(self.run_dir),
                            remedy="Check the labels, or lower train.learning_rate; the weights before it are kept",
                        )
                    if not out_of_time:
                        self.at.epoch, self.at.batch = self.at.epoch + 1, 0
                    self.end_epoch(total, clock(), final=out_of_time)
                    if tracker is not None:
                        row = self.at.history[-1]
                        tracker.log({k: v for k, v in row.items() if k not in ("epoch", "step")}, int(row["step"]))
                    bar.update(task, completed=self.at.epoch, description=self.caption())
                    every = self.config.checkpoint_every_s
                    if every is not None and time.perf_counter() - saved >= every:
                        self.at.seconds = passed()
                        self.save()
                        saved = time.perf_counter()
                    if out_of_time:
                        stopped = "max_seconds"
                        break
            except BrokenOff:
                if self.config.checkpoint_every_s is not None:
                    self.at.seconds = passed()
                    self.save()
                raise
        self.at.seconds = clock()
        if self.config.checkpoint_every_s is not None:
            self.save()
        if tracker is not None:
            tracker.close()
        if interrupt.asked:
            raise BrokenOff
        model = nnx.merge(self.graph, localise(self.best), localise(self.rest))
        return FitResult(
            model,
            self.at.history,
            self.at.seconds,
            waited / looped if looped else 0.0,
            {"train": compiled(self.step), "valid": compiled(self.check)},
            stopped,
            self.at.best,
        )

    def end_epoch(self, total: Stats | None, seconds: float, *, final: bool) -> None:
        """Fetch the epoch's statistics, validate, keep the best weights, write the history's row."""
        row: dict[str, float] = {"epoch": self.at.epoch, "step": int(self.state.step), "seconds": seconds}
        row |= {f"train/{name}": value for name, value in (averages(total) if total is not None else {}).items()}
        row["learning_rate"] = self.config.rate(self.progress_share(seconds if self.config.max_seconds else 0))
        last = final or self.at.epoch == self.config.epochs
        if self.valid is not None and self.valid.steps_per_epoch:
            if last or self.at.epoch % self.config.validate_every == 0:
                row |= {f"valid/{name}": value for name, value in self.validate().items()}
                score = row.get("valid/loss", float("nan"))
                if score < self.at.best:
                    self.at.best, self.at.since_best = score, 0
                    self.best = jax.tree.map(jnp.copy, self.state.ema)
                else:
                    self.at.since_best += self.config.validate_every
        else:
            self.at.best = row.get("train/loss", self.at.best)
            self.best = jax.tree.map(jnp.copy, self.state.ema)
        self.at.history.append(row)
        if not is_first():
            return
        with (self.run_dir / "train.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")

    def caption(self) -> str:
        """The last losses, for the bar."""
        row = self.at.history[-1]
        parts = [f"{name} {row[name]:.4g}" for name in ("train/loss", "valid/loss") if name in row]
        return "training  " + "  ".join(parts)


def to_partial(total: Stats) -> dict[str, list[float]]:
    """Statistics as JSON: a float32 has an equal float64, so that nothing is lost."""
    return {name: [float(s), float(n)] for name, (s, n) in jax.device_get(total).items()}


def from_partial(partial: dict[str, list[float]]) -> Stats | None:
    """What `to_partial` described, as it was; None if there is nothing."""
    return {name: (jnp.float32(s), jnp.float32(n)) for name, (s, n) in partial.items()} or None


def compiled(function: Any) -> int:
    """How many shapes a jitted function has been compiled for."""
    return int(function._cache_size())


def _remove(directory: Path) -> None:
    import shutil

    shutil.rmtree(directory, ignore_errors=True)
