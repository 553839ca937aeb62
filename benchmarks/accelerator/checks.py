"""What has to hold on any device: the answer of a CPU, symmetries, batches that do not matter, and precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.accelerator.cases import AcceleratorCase, clusters, float64_answer, repeated
from benchmarks.common import Result
from surrogates.learning.nn.precision import PRECISIONS

#: Largest relative difference that rounding to float32 explains, in networks of some thousand sums.
ROUNDING = 1e-4


def relative(answer: Any, truth: Any) -> float:
    """The norm of the difference over the norm of the truth, of the arrays that differ most."""
    pairs = zip(jax.tree.leaves(answer), jax.tree.leaves(truth), strict=True)
    gaps = []
    for a, b in pairs:
        ours, theirs = (np.asarray(x, np.float64) for x in (a, b))
        gaps.append(float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(theirs)), 1e-30)))
    return max(gaps)


def on_the_processor(case: AcceleratorCase, inputs: tuple[Any, ...]) -> Any:
    """The answer that the same program gives on a CPU of this machine."""
    device = jax.devices("cpu")[0]
    with jax.default_device(device):
        program, state = case.program("float32")
        return jax.tree.map(np.asarray, program(jax.device_put(state, device), *jax.device_put(inputs, device)))


def check_case(case: AcceleratorCase) -> list[Result]:
    """Differences of one network that have to be rounding errors, and errors of each precision.

    Raises:
        AssertionError: a difference is larger than rounding explains.
    """
    few, more = case.batches[0], 2 * case.batches[0]
    inputs = case.inputs(few)
    program, state = case.program("float32")
    answer = jax.tree.map(np.asarray, program(state, *inputs))
    limited: dict[str, float] = {"from the same program on the CPU": relative(answer, on_the_processor(case, inputs))}
    longer = jax.tree.map(np.asarray, program(state, *case.inputs(more)))
    axis = 1 if case.name.startswith("potential") else 0
    cut = jax.tree.map(lambda x: np.take(x, range(few), axis), longer)
    if "mpnn" in case.name or "potential" in case.name:
        # Other kinds draw other inputs for another batch.
        limited["of the same inputs in a batch twice as large"] = relative(cut, answer)
    if case.name.startswith("potential"):
        limited |= symmetries(case)
    if "fno" in case.name and "sfno" not in case.name:
        limited["of shifted fields, shifted back"] = shift_difference(case)
    results = [Result(f"{case.name}: difference {name}", gap, "relative") for name, gap in limited.items()]
    too_large = {name: gap for name, gap in limited.items() if not gap <= ROUNDING}
    assert not too_large, f"{case.name}: {too_large} is more than {ROUNDING:g}"
    return results + precisions(case, inputs, answer)


def precisions(case: AcceleratorCase, inputs: tuple[Any, ...], answer: Any) -> list[Result]:
    """Errors of the answers at each precision: of forces against float64, of other answers against float32."""
    potential = case.name.startswith("potential")
    truth = float64_answer(case, inputs)[1] if potential else answer
    results = []
    for precision in PRECISIONS:
        if precision == "float32" and not potential:
            continue
        program, state = case.program(precision)
        ours = program(state, *inputs)
        name = "error of forces against float64" if potential else "difference from float32"
        results.append(
            Result(f"{case.name}: {name}, {precision}", relative(ours[1] if potential else ours, truth), "relative")
        )
    return results


def symmetries(case: AcceleratorCase) -> Mapping[str, float]:
    """Differences of energies and forces of turned and of renumbered clusters, turned and renumbered back."""
    table = repeated(clusters(16), case.batches[0])
    turn = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    (batch,) = case.inputs(len(table))
    program, state = case.program("float32")
    energies, forces = (np.asarray(x) for x in program(state, batch))
    turned = batch._replace(positions=(np.asarray(batch.positions, np.float64) @ turn.T).astype(np.float32))
    turned_energies, pushed = (np.asarray(x) for x in program(state, turned))
    order = np.random.default_rng(0).permutation(batch.numbers.shape[1])
    other = batch._replace(numbers=batch.numbers[:, order], positions=batch.positions[:, order])
    same, shuffled = (np.asarray(x) for x in program(state, other))
    return {
        "of turned molecules, turned back": relative((turned_energies, pushed @ turn), (energies, forces)),
        "of renumbered molecules, renumbered back": relative((same, shuffled), (energies, forces[:, :, order])),
    }


def shift_difference(case: AcceleratorCase) -> float:
    """Difference of the answers to fields that are shifted along both periodic dims, shifted back."""
    fields, parameters = case.inputs(case.batches[0])
    program, state = case.program("float32")
    shifted = program(state, np.roll(np.asarray(fields), (3, 5), (1, 2)), parameters)
    return relative(np.roll(np.asarray(shifted), (-3, -5), (1, 2)), program(state, fields, parameters))
