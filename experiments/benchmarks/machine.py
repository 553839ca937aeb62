"""What this machine can do at best, measured as the networks use it: by XLA, in float32, with the given cores.

Products of large matrices; a <- a + s b as in STREAM (McCalpin 1995), once on arrays that fit the caches nearest to
the cores and once on arrays that fit none; and exp, which stands for all transcendental functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Matrices of these sizes; the best counts.
SIZES = (512, 1024, 2048)
#: Bytes of the two arrays of a <- a + s b together, as small as may be without paying for the loop alone.
CACHED, UNCACHED = 1 << 20, 1 << 28
ROUNDS = 5


@dataclass(frozen=True)
class Peaks:
    """The most that was reached.

    Attributes:
        flops: floating-point operations a second in matrix products.
        cache: bytes a second to and from caches.
        memory: bytes a second to and from memory.
        transcendentals: exponentials a second.
    """

    flops: float
    cache: float
    memory: float
    transcendentals: float


@dataclass(frozen=True)
class Cost:
    """What a compiled program does, by XLA's own count after fusion.

    Attributes:
        flops: floating-point operations, transcendental functions not among them.
        bytes: read and written by its operations, in caches or memory.
        transcendentals: exponentials, sines, roots and the like.
    """

    flops: float
    bytes: float
    transcendentals: float

    def __sub__(self, other: Cost) -> Cost:
        """What is left without `other`; nothing less than nothing, which fusion could make it."""
        return Cost(
            max(0.0, self.flops - other.flops),
            max(0.0, self.bytes - other.bytes),
            max(0.0, self.transcendentals - other.transcendentals),
        )

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes, self.transcendentals + other.transcendentals)

    def seconds(self, peaks: Peaks) -> dict[str, float]:
        """The least time that each of the machine's resources needs for it."""
        return {
            "arithmetic": self.flops / peaks.flops,
            "bandwidth": self.bytes / peaks.cache,
            "transcendentals": self.transcendentals / peaks.transcendentals,
        }

    def bound(self, peaks: Peaks, seconds: float) -> tuple[str, float]:
        """The resource that is needed longest, and its share of the time that was taken."""
        name, least = max(self.seconds(peaks).items(), key=lambda item: item[1])
        return name, least / seconds if seconds > 0 else 0.0


def best(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Seconds of the quickest of some rounds, after one that does not count."""
    run()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def measure() -> Peaks:
    """Measure; takes some seconds."""
    import jax
    import jax.numpy as jnp

    def product(size: int) -> float:
        multiply = jax.jit(jnp.matmul)
        a = jnp.ones((size, size), jnp.float32)
        return 2.0 * size**3 / best(lambda: multiply(a, a).block_until_ready())

    def bandwidth(size: int) -> float:
        # Carried from round to round, so that no round can be left out.
        rounds = max(4, (1 << 31) // size)
        n = size // 8
        loop = jax.jit(lambda a, b: jax.lax.fori_loop(0, rounds, lambda _, x: x + 0.5 * b, a))
        a, b = jnp.zeros(n, jnp.float32), jnp.ones(n, jnp.float32)
        return 12.0 * n * rounds / best(lambda: loop(a, b).block_until_ready())

    def exponentials() -> float:
        n, rounds = CACHED // 8, 1000
        loop = jax.jit(lambda a: jax.lax.fori_loop(0, rounds, lambda _, x: jnp.exp(-x), a))
        a = jnp.zeros(n, jnp.float32)
        return n * rounds / best(lambda: loop(a).block_until_ready())

    return Peaks(max(map(product, SIZES)), bandwidth(CACHED), bandwidth(UNCACHED), exponentials())


def cost(compiled: Any) -> Cost:
    """The cost of what `jitted.lower(...).compile()` gave."""
    found = compiled.cost_analysis()
    flops, moved, transcendentals = (
        float(found.get(key, 0.0)) for key in ("flops", "bytes accessed", "transcendentals")
    )
    return Cost(flops, moved, transcendentals)
