"""A regression problem with a known answer, for the training loop; runs on its own to be killed and resumed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data.batch_rows import WHOLE, BatchRows
from surrogates.learning.loop import Batch, FitResult, Stats, TrainConfig, fit

TRUTH = np.array([[1.5, -2.0], [0.5, 0.25], [-1.0, 3.0]], np.float32)


class Net(nnx.Module):
    """A linear map with dropout-like noise, so that the key of each step matters."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.linear(x)


def loss(model: nnx.Module, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, Stats]:
    """Mean square error, with a little noise on the inputs."""
    x, y = batch["x"], batch["y"]
    x = x + 1e-3 * jax.random.normal(key, x.shape)
    error = ((model(x) - y) ** 2).mean(-1)  # type: ignore[operator]
    value = error.mean()
    return value, {"loss": (error.sum(), jnp.asarray(error.size, jnp.float32))}


class Source:
    """Batches of two shapes, drawn by (seed, epoch)."""

    def __init__(self, samples: int = 192, seed: int = 0, pause_s: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(samples, 3)).astype(np.float32)
        self.y = self.x @ TRUTH + 0.5
        self.pause_s = pause_s
        self.steps_per_epoch = samples // 24

    def epoch(self, index: int, part: BatchRows = WHOLE) -> Iterator[Batch]:
        order = np.random.default_rng([7, index]).permutation(len(self.x))
        for start in range(0, len(order), 48):
            for rows in (order[start : start + 32], order[start + 32 : start + 48]):
                time.sleep(self.pause_s)
                here = rows[part.of(len(rows))]
                yield {"x": self.x[here], "y": self.y[here]}


def train(run_dir: Path, *, epochs: int = 8, pause_s: float = 0.0, every_s: float | None = 0.0) -> FitResult:
    """One run of the problem."""
    config = TrainConfig(epochs=epochs, learning_rate=0.05, ema_decay=0.9, checkpoint_every_s=every_s, seed=3)
    model = Net(nnx.Rngs(0))
    return fit(model, loss, Source(pause_s=pause_s), Source(48, 1), config, run_dir, progress=False)


def weights(result: FitResult) -> list[np.ndarray]:
    """Final weights as numpy arrays."""
    return [np.asarray(x) for x in jax.tree.leaves(nnx.state(result.model, nnx.Param))]


if __name__ == "__main__":
    train(Path(sys.argv[1]), epochs=int(sys.argv[2]), pause_s=float(sys.argv[3]))
