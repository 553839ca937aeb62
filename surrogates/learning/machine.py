"""Measures the peak performance of this machine through XLA, in float32, on the cores of the process.

Three kinds of programs are timed: products of large matrices; a <- a + s b as in STREAM (McCalpin 1995), on arrays
that fit into the nearest caches and on arrays that fit into no cache; and exp, which represents all transcendental
functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

#: Sizes of the matrices; the best rate counts.
SIZES = (512, 1024, 2048)
#: Total bytes of the two arrays of a <- a + s b; smaller arrays would measure the overhead of the loop.
CACHED, UNCACHED = 1 << 20, 1 << 28
ROUNDS = 5


@dataclass(frozen=True)
class Peaks:
    """Highest rates that were reached.

    Attributes:
        flops: floating-point operations per second in matrix products.
        cache: bytes per second to and from caches.
        memory: bytes per second to and from memory.
        transcendentals: exponentials per second.
    """

    flops: float
    cache: float
    memory: float
    transcendentals: float


@dataclass(frozen=True)
class MeasuredCost:
    """The work of a compiled program, as counted by XLA after fusion.

    Attributes:
        flops: number of floating-point operations, without transcendental functions.
        bytes: bytes that its operations read and write, in caches or memory.
        transcendentals: number of transcendental functions, such as exponentials, sines and roots.
    """

    flops: float
    bytes: float
    transcendentals: float

    def __sub__(self, other: MeasuredCost) -> MeasuredCost:
        """The cost without `other`; a negative difference, which fusion can cause, becomes zero."""
        return MeasuredCost(
            max(0.0, self.flops - other.flops),
            max(0.0, self.bytes - other.bytes),
            max(0.0, self.transcendentals - other.transcendentals),
        )

    def __add__(self, other: MeasuredCost) -> MeasuredCost:
        return MeasuredCost(
            self.flops + other.flops, self.bytes + other.bytes, self.transcendentals + other.transcendentals
        )

    def times(self, factor: float) -> MeasuredCost:
        """The cost of as many runs of the program, or of a share of one."""
        return MeasuredCost(self.flops * factor, self.bytes * factor, self.transcendentals * factor)

    def seconds(self, peaks: Peaks) -> dict[str, float]:
        """The least time (s) that each resource of the machine needs for this cost."""
        return {
            "arithmetic": self.flops / peaks.flops,
            "bandwidth": self.bytes / peaks.cache,
            "transcendentals": self.transcendentals / peaks.transcendentals,
        }

    def bound(self, peaks: Peaks, seconds: float) -> tuple[str, float]:
        """The resource that needs the longest time, and the ratio of that time to the measured `seconds`."""
        name, least = max(self.seconds(peaks).items(), key=lambda item: item[1])
        return name, least / seconds if seconds > 0 else 0.0


def best(run: Callable[[], object], rounds: int = ROUNDS, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of the fastest of `rounds` rounds by a clock, after one round of warm-up."""
    run()
    seconds = []
    for _ in range(rounds):
        start = clock()
        run()
        seconds.append(clock() - start)
    return min(seconds)


def measure(*, one_core: bool = False) -> Peaks:
    """Measure the peaks of this machine, which takes some seconds.

    Args:
        one_core: measure one core of a CPU, by shorter programs: a second in all.
    """
    import jax
    import jax.numpy as jnp

    from simulators.precision import jit_float32

    sizes: tuple[int, ...] = SIZES
    jit, timed, moved, uncached = jit_float32, best, 1 << 31, UNCACHED
    if one_core:
        jit = partial(jit_float32, compiler_options={"xla_cpu_multi_thread_eigen": False})
        # Processor time, which other work on the machine does not lengthen.
        timed = partial(best, rounds=3, clock=time.process_time)
        sizes, moved, uncached = SIZES[:1], 1 << 28, UNCACHED >> 2

    def product(size: int) -> float:
        multiply = jit(jnp.matmul)
        a = jnp.ones((size, size), jnp.float32)
        return 2.0 * size**3 / timed(lambda: multiply(a, a).block_until_ready())

    def bandwidth(size: int) -> float:
        # The array is carried from round to round, so that XLA cannot remove a round.
        rounds = max(4, moved // size)
        n = size // 8
        loop = jit(lambda a, b: jax.lax.fori_loop(0, rounds, lambda _, x: x + 0.5 * b, a))
        a, b = jnp.zeros(n, jnp.float32), jnp.ones(n, jnp.float32)
        return 12.0 * n * rounds / timed(lambda: loop(a, b).block_until_ready())

    def exponentials() -> float:
        n, rounds = CACHED // 8, 100 if one_core else 1000
        loop = jit(lambda a: jax.lax.fori_loop(0, rounds, lambda _, x: jnp.exp(-x), a))
        a = jnp.zeros(n, jnp.float32)
        return n * rounds / timed(lambda: loop(a).block_until_ready())

    return Peaks(max(map(product, sizes)), bandwidth(CACHED), bandwidth(uncached), exponentials())


@cache
def peaks_of_a_core() -> Peaks:
    """The peaks of one core of this machine, measured once in a process, for about a core-second."""
    return measure(one_core=True)


def cost(compiled: Any) -> MeasuredCost:
    """The cost of a compiled program, the result of `jitted.lower(...).compile()`."""
    analysis = compiled.cost_analysis()
    flops, moved, transcendentals = (
        float(analysis.get(key, 0.0)) for key in ("flops", "bytes accessed", "transcendentals")
    )
    return MeasuredCost(flops, moved, transcendentals)
