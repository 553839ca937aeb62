"""One training loop for every model: Optax, averaged weights, a schedule, early stopping, and exact resumption.

A model is a Flax NNX module; a loss is a function of model, batch, key and progress. The loop compiles one step for
each shape of batch, keeps statistics on the device until an epoch ends, and prepares batches in another thread.
Randomness depends on the seed and the number of the step alone, so that a resumed run equals, bit for bit, one that was
never interrupted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from data.batch_rows import WHOLE, BatchRows
from data.errors import InputError
from data.plain import to_plain
from data.processes.processor import tree_seconds
from data.terminal import progress_bar
from surrogates.learning.checkpointed import Progressed, identity, read_progress
from surrogates.learning.checkpoints import drop_others, load_arrays, newest_whole, save_arrays
from surrogates.learning.devices import (
    data_mesh,
    is_first,
    localise,
    refuse_other_processes,
    replicate,
    rows_of_process,
    total,
)
from surrogates.learning.interrupt import BrokenOff, Interrupt
from surrogates.learning.prefetch import Prefetcher
from surrogates.learning.recipe import TrainConfig
from surrogates.learning.step import (
    Batch,
    LossFn,
    Moment,
    Stats,
    TrainState,
    add_stats,
    averages,
    compiled_steps,
    copied,
    count_compilations,
    from_partial,
    to_partial,
)
from surrogates.learning.stop_vote import StopVote
from surrogates.learning.training_time import StoppedBy, TrainingClock, TrainingTime

__all__ = ["Batch", "BatchSource", "FitResult", "LossFn", "Stats", "TrainConfig", "fit"]
#: Path of a parameter in the model, such as ("networks", "layers", "0", "send", "kernel") -> whether it is not trained.
Frozen = Callable[[tuple[str, ...]], bool]


class BatchSource(Protocol):
    """A source of batches of a few fixed shapes; the same epoch always gives the same batches in the same order."""

    @property
    def steps_per_epoch(self) -> int: ...

    def epoch(self, index: int, part: BatchRows = WHOLE) -> Iterator[Batch]:
        """Pytrees of numpy arrays.

        Args:
            index: number of the epoch.
            part: the rows of each batch that are built, where the whole batch is a multiple of the number of devices.
        """
        ...


@dataclass
class FitResult:
    """The trained model, its history and its cost.

    Attributes:
        model: the model with the best averaged weights.
        history: one dict for each epoch: epoch, step, train/*, valid/*, learning_rate, seconds.
        seconds: wall time, earlier sessions included.
        core_seconds: processor time of all processes of the training and of their children, earlier sessions included;
            the work of an accelerator counts in `seconds` alone.
        data_wait_share: share of the loop's time spent waiting for a batch.
        compilations: number of programs of the training step and of the validation step, those included that this
            process had compiled for an equal network (see `step.compiled_steps`).
        stopped_by: why training ended; "max_core_seconds" where both times had passed.
        best: the best validation loss, or the last training loss without validation.
        epochs: passes over the data that were made, and those that were asked for; None where they are not known.
    """

    model: nnx.Module
    history: list[dict[str, float]]
    seconds: float
    core_seconds: float
    data_wait_share: float
    compilations: dict[str, int]
    stopped_by: StoppedBy
    best: float
    epochs: tuple[float, int] | None = None


def fit(
    model: nnx.Module,
    loss: LossFn,
    train: BatchSource,
    valid: BatchSource | None,
    config: TrainConfig,
    run_dir: Path,
    *,
    frozen: Frozen | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> FitResult:
    """Train a model, or resume the run in the same directory.

    Args:
        model: model with its initial weights; for fine-tuning those of a trained one.
        loss: returns the scalar to minimise and statistics as (sum, count); validation compares the one called
            "loss", always as it is at the end of training.
        train, valid: sources of batches.
        config: the recipe.
        run_dir: directory for `train.jsonl`, `checkpoints/` and, if `config.mlflow` is set, `mlruns/`.
        frozen: from the path of a parameter, whether it is not trained: it stays the same bit for bit, gets no
            gradient, decay or average, and costs no time and memory for them. None trains all.
        mesh: devices; None for all of them.
        progress: whether to show a bar.

    Raises:
        InputError: the loss is not finite in more than two and a twentieth of the steps of an epoch, `train` is
            empty, every parameter is frozen, or the run in `run_dir` was begun with other settings.
        KeyboardInterrupt: Ctrl-C; it is raised once the present step is finished and a checkpoint written, a second
            Ctrl-C at once. Of several processes all stop after one step, whichever of them was asked to.
    """
    if train.steps_per_epoch < 1:
        raise InputError("there is no batch to train on", remedy="Give more labelled samples or a smaller batch size")
    return _Loop(model, loss, train, valid, config, run_dir, frozen, mesh or data_mesh(), progress).run()


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
        frozen: Frozen | None,
        mesh: Mesh,
        progress: bool,
    ) -> None:
        self.train, self.valid, self.config, self.mesh = train, valid, config, mesh
        self.part = rows_of_process(mesh)
        self.run_dir, self.show = run_dir, progress
        run_dir.mkdir(parents=True, exist_ok=True)
        self.graph, params, fixed = _split(model, frozen)
        self.fixed: Any = replicate(fixed, mesh)
        self.state = replicate(TrainState.begin(params, config), mesh)
        self.best = copied(self.state.params)
        self.at = Progressed()
        self.key = jax.random.key(config.seed)
        self.loss, self.identity = loss, identity(config, loss, nnx.filter_state(fixed, nnx.Param))
        self.step, self.check = compiled_steps(self.graph, loss, config)

    # Checkpoints

    def arrays(self) -> Any:
        """The arrays that a checkpoint holds."""
        return {"state": self.state, "best": self.best}

    def save(self) -> None:
        """Write a checkpoint, and remove all but the last two, and damaged ones of later steps.

        The first process writes it for all: each has a copy of the whole state.
        """
        if not is_first():
            return
        folder = self.run_dir / "checkpoints"
        count = int(self.state.step)
        save_arrays(folder / f"{count:09d}", self.arrays(), {"progress": to_plain(self.at), "config": self.identity})
        drop_others(folder, f"{count:09d}")

    def resume(self) -> None:
        """Resume from the newest checkpoint that is not damaged, if there is any.

        Raises:
            CorruptStoreError: all checkpoints are damaged.
        """
        resumed = newest_whole(self.run_dir / "checkpoints", self._read)
        step = "none" if resumed is None else str(int(resumed[1]["state"].step))
        facts = {"training recipe": json.dumps(self.identity, sort_keys=True), "newest checkpoint": step}
        refuse_other_processes(facts, str(self.run_dir))
        if resumed is None:
            if is_first():
                (self.run_dir / "train.jsonl").unlink(missing_ok=True)
            return
        self.at, arrays = resumed
        self.state, self.best = replicate(arrays["state"], self.mesh), replicate(arrays["best"], self.mesh)
        if not is_first():
            return
        with (self.run_dir / "train.jsonl").open("w", encoding="utf-8") as log:
            log.writelines(json.dumps(row) + "\n" for row in self.at.history)

    def _read(self, place: Path) -> tuple[Progressed, Any]:
        progress = read_progress(place, self.identity, self.loss, self.run_dir)
        return progress, load_arrays(place, self.arrays())

    # The loop

    def batches(self, source: BatchSource, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, or the rows of them that this process builds."""
        return source.epoch(epoch) if self.part == WHOLE else source.epoch(epoch, self.part)

    def progress_share(self, spent: TrainingTime) -> float:
        """Share of the training that is done, by steps or by time, whichever is further."""
        done = (self.at.epoch + self.at.batch / self.train.steps_per_epoch) / self.config.epochs
        return min(1.0, max(done, spent.share(self.config)))

    def validate(self) -> dict[str, float]:
        """Statistics of the averaged weights over the validation source."""
        assert self.valid is not None
        total: Stats | None = None
        with Prefetcher(self.batches(self.valid, 0), self.mesh) as batches:
            for batch in batches:
                total = add_stats(total, self.check(self.state.ema, self.fixed, batch, self.key))
        return averages(total) if total is not None else {}

    def run(self) -> FitResult:
        """Train until the epochs, the patience or the time are used up."""
        self.resume()
        tracker = None
        if self.config.mlflow and is_first():
            from surrogates.learning.tracking import EXPERIMENT, FOLDER, Tracker

            tracker = Tracker(self.run_dir / FOLDER, EXPERIMENT, asdict(self.config), resume=bool(self.at.history))
        began, before = time.perf_counter(), self.at.seconds
        processor, core_before = tree_seconds(), self.at.core_seconds
        waited = looped = elsewhere = 0.0
        vote = StopVote(self.mesh)
        saved, every = time.perf_counter(), self.config.checkpoint_every_s
        stopped: StoppedBy = "epochs"

        def passed() -> float:
            return before + time.perf_counter() - began

        clock = TrainingClock(self.config, before, core_before)

        def note_time(seconds: float) -> None:
            self.at.seconds, self.at.core_seconds = seconds, core_before + tree_seconds() - processor + elsewhere

        def others_time() -> float:
            spent = tree_seconds() - processor
            return total(spent) - spent

        with (
            progress_bar("training", self.config.epochs, done=self.at.epoch, show=self.show and is_first()) as bar,
            Interrupt(agreed=True) as interrupt,
        ):
            try:
                while self.at.epoch < self.config.epochs:
                    if over := clock.read().over(self.config):
                        stopped = over
                        break
                    if self.config.patience is not None and self.at.since_best > self.config.patience:
                        stopped = "patience"
                        break
                    stats = from_partial(self.at.partial)
                    self.at.partial = {}
                    pending: jax.Array | None = None
                    skipped, steps = int(self.state.skipped), 0
                    out_of_time: StoppedBy | None = None
                    started = time.perf_counter()
                    epoch = self.batches(self.train, self.at.epoch)
                    with Prefetcher(epoch, self.mesh, skip=self.at.batch) as batches:
                        for batch in batches:
                            done = self.progress_share(clock.read())
                            moment = Moment(self.key, np.float32(self.config.rate(done)), np.float32(done))
                            self.state, new, value = self.step(self.state, self.fixed, batch, moment)
                            stats = add_stats(stats, new)
                            # Keeps the host only one step ahead of the device, so that waiting for data is measured.
                            if pending is not None:
                                pending.block_until_ready()
                            pending = value
                            self.at.batch += 1
                            steps += 1
                            if vote.after_step(interrupt.asked):
                                self.at.partial = to_partial(stats)
                                raise BrokenOff
                            if every and time.perf_counter() - saved >= every:
                                self.at.partial = to_partial(stats)
                                note_time(passed())
                                self.save()
                                self.at.partial, saved = {}, time.perf_counter()
                            if out_of_time := clock.read().over(self.config):
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
                    self.end_epoch(stats, clock.read(always=True), final=out_of_time is not None)
                    elsewhere = others_time()
                    if tracker is not None:
                        row = self.at.history[-1]
                        tracker.log({k: v for k, v in row.items() if k not in ("epoch", "step")}, int(row["step"]))
                    bar.update(self.at.epoch, label=self.caption())
                    if every is not None and time.perf_counter() - saved >= every:
                        note_time(passed())
                        self.save()
                        saved = time.perf_counter()
                    if out_of_time:
                        stopped = out_of_time
                        break
            except BrokenOff:
                elsewhere = others_time()
                if self.config.checkpoint_every_s is not None:
                    note_time(passed())
                    self.save()
                raise
        elsewhere = others_time()
        note_time(clock.read(always=True).wall)
        if self.config.checkpoint_every_s is not None:
            self.save()
        if tracker is not None:
            tracker.close()
        if vote.at_end(interrupt.asked):
            raise BrokenOff
        model = nnx.merge(self.graph, localise(self.best), localise(self.fixed))
        return FitResult(
            model,
            self.at.history,
            self.at.seconds,
            self.at.core_seconds,
            waited / looped if looped else 0.0,
            {"train": count_compilations(self.step), "valid": count_compilations(self.check)},
            stopped,
            self.at.best,
            (self.at.epoch + self.at.batch / self.train.steps_per_epoch, self.config.epochs),
        )

    def end_epoch(self, total: Stats | None, spent: TrainingTime, *, final: bool) -> None:
        """Fetch the statistics of the epoch, validate, keep the best weights, and write the row of the history."""
        row: dict[str, float] = {"epoch": self.at.epoch, "step": int(self.state.step), "seconds": spent.wall}
        row |= {f"train/{name}": value for name, value in (averages(total) if total is not None else {}).items()}
        row["learning_rate"] = self.config.rate(self.progress_share(spent))
        last = final or self.at.epoch == self.config.epochs
        if self.valid is not None and self.valid.steps_per_epoch:
            if last or self.at.epoch % self.config.validate_every == 0:
                row |= {f"valid/{name}": value for name, value in self.validate().items()}
                score = row.get("valid/loss", float("nan"))
                if score < self.at.best:
                    self.at.best, self.at.since_best = score, 0
                    self.best = copied(self.state.ema)
                else:
                    self.at.since_best += self.config.validate_every
        else:
            self.at.best = row.get("train/loss", self.at.best)
            self.best = copied(self.state.ema)
        self.at.history.append(row)
        if not is_first():
            return
        with (self.run_dir / "train.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")

    def caption(self) -> str:
        """The last losses, for the progress bar."""
        row = self.at.history[-1]
        parts = [f"{name} {row[name]:.4g}" for name in ("train/loss", "valid/loss") if name in row]
        return "training  " + "  ".join(parts)


def _split(model: nnx.Module, frozen: Frozen | None) -> tuple[Any, Any, Any]:
    """The graph of a model, the parameters to train, and everything that stays as it is."""

    def trained(path: tuple[Any, ...], _: Any) -> bool:
        return frozen is None or not frozen(tuple(str(key) for key in path))

    split: Any = nnx.split(model, nnx.All(nnx.Param, trained), ...)
    if not jax.tree.leaves(split[1]):
        raise InputError("no parameter is left to train", where="frozen", remedy="Freeze fewer")
    return split
