"""SO3LR by its own package, for `simulators.workers.model_server`; see `simulators.chemistry.teachers.so3lr`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import weights


def describe() -> dict[str, str]:
    """Version of the package and hash of the weights."""
    folder = weights.folder_of("so3krates_torch")
    return weights.facts("so3krates-torch", [folder / "pretrained/so3lr/so3lr.model"])


def load(settings: dict[str, Any]) -> Callable[..., tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Load the model; settings are `weights` and `precision`, facts of a request `forces` and `long_range_angstrom`."""
    weights.verify(describe(), settings["weights"])
    import torch
    from so3krates_torch.calculator.so3 import SO3LRCalculator

    dtype = getattr(torch, settings["precision"])
    # The calculator reads the weights, converts them, and leaves the dtype as the default one.
    model = SO3LRCalculator(default_dtype=settings["precision"]).models[0].eval()
    # The weights add a constant of -164 eV to each atom, which would take three digits from an energy in float32.
    constants = model.atomic_energy_output_block.energy_shifts.detach().double().numpy().copy()
    model.atomic_energy_output_block.energy_shifts.data.zero_()
    cutoff = float(model.r_max)

    def answer(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        reach = model.r_max_lr = float(facts["long_range_angstrom"])
        numbers, counts, positions = arrays["numbers"].astype(np.int64), arrays["counts"], arrays["positions"]
        first, second = _pairs(counts)
        distance = np.linalg.norm(positions[first] - positions[second], axis=1)
        first, second, distance = (values[distance <= reach] for values in (first, second, distance))
        far, near = np.stack([first, second]), np.stack([first, second])[:, distance <= cutoff]
        one_hot = np.zeros((len(numbers), 118))
        one_hot[np.arange(len(numbers)), numbers - 1] = 1.0
        size = len(counts)
        data = {
            "positions": torch.tensor(positions, dtype=dtype),
            "node_attrs": torch.tensor(one_hot, dtype=dtype),
            "atomic_numbers": torch.tensor(numbers),
            "edge_index": torch.tensor(near),
            "edge_index_lr": torch.tensor(far),
            "shifts": torch.zeros((near.shape[1], 3), dtype=dtype),
            "shifts_lr": torch.zeros((far.shape[1], 3), dtype=dtype),
            "cell": torch.zeros((3 * size, 3), dtype=dtype),
            "batch": torch.tensor(np.repeat(np.arange(size), counts)),
            "ptr": torch.tensor(np.concatenate([[0], np.cumsum(counts)])),
            "total_charge": torch.tensor(arrays["charge"], dtype=dtype),
            "total_spin": torch.zeros(size, dtype=dtype),
            "head": torch.zeros(size, dtype=torch.long),
        }
        out = model(data, compute_force=facts["forces"], compute_stress=False)
        each = np.add.reduceat(constants[numbers - 1], data["ptr"][:-1].numpy())
        values = {
            "energy": out["energy"].detach().double().numpy() + each,
            "dipole": out["dipole"].detach().double().numpy(),
            "partial_charges": out["partial_charges"].detach().double().numpy(),
        }
        if facts["forces"]:
            values["forces"] = out["forces"].detach().double().numpy()
        return {}, values

    return answer


@cache
def _square(count: int) -> np.ndarray:
    return np.argwhere(~np.eye(count, dtype=bool)).T


def _pairs(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All ordered pairs of atoms of each molecule, as indices into all atoms."""
    starts = np.cumsum(counts) - counts
    pairs = np.concatenate([_square(int(n)) + at for n, at in zip(counts, starts, strict=True)], axis=1)
    return pairs[0], pairs[1]
