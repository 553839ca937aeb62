"""Errors and speed of a MACE model; runs in the environment of the peers, which has no Understudy.

Errors are taken in float64, because a total energy of thousands of eV in float32 is rounded by as much as a good
model errs; speed in float32, of the model as it is and as TorchScript compiles it, whichever is quicker.

python mace_score.py --model FILE --test NAME=FILE ... [--speed FILE] --batch N --out JSON
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time

import ase.io
import numpy as np
import torch
from e3nn.util import jit
from mace import data
from mace.tools import torch_geometric, torch_tools, utils


def batches(model, frames, size):
    """Batches with neighbour lists made."""
    table = utils.AtomicNumberTable([int(z) for z in model.atomic_numbers])
    configurations = [data.config_from_atoms(atoms, head_name="Default") for atoms in frames]
    heads = getattr(model, "heads", None)
    dataset = [
        data.AtomicData.from_config(c, z_table=table, cutoff=float(model.r_max), heads=heads) for c in configurations
    ]
    return list(torch_geometric.dataloader.DataLoader(dataset=dataset, batch_size=size, shuffle=False))


def answer(model, batch):
    """Energies (eV) and forces (eV/Angstrom) of a batch."""
    tensors = {name: value for name, value in batch.to_dict().items() if isinstance(value, torch.Tensor)}
    found = model(tensors, training=False, compute_stress=False)
    return found["energy"].detach().numpy(), found["forces"].detach().numpy()


def rate(model, frames, size):
    """Molecules a second; making batches and neighbour lists is not counted, nor is the first pass."""
    made = batches(model, frames, size)
    # TorchScript optimises in its first two runs.
    for batch in made[:2] * 2 + made:
        answer(model, batch)
    start = time.perf_counter()
    for batch in made:
        answer(model, batch)
    return len(frames) / (time.perf_counter() - start)


def main():
    """Score the model on the test files, or time it; JSON on the standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--test", nargs="*", default=[])
    parser.add_argument("--speed")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = torch.load(given.model, map_location="cpu", weights_only=False)
    for parameter in model.parameters():
        parameter.requires_grad = False
    result = {}
    torch_tools.set_default_dtype("float64")
    model.double()
    for item in given.test:
        name, path = item.split("=", 1)
        frames = ase.io.read(path, ":")
        energies, forces = zip(*(answer(model, b) for b in batches(model, frames, given.batch)), strict=True)
        truth = np.array([a.get_potential_energy() for a in frames])
        force_truth = np.concatenate([a.get_forces() for a in frames])
        result[name] = {
            "energy_mae_mev": 1000 * float(np.abs(np.concatenate(energies) - truth).mean()),
            "forces_mae_mev_per_angstrom": 1000 * float(np.abs(np.concatenate(forces) - force_truth).mean()),
        }
    if given.speed:
        frames = ase.io.read(given.speed, ":")
        torch_tools.set_default_dtype("float32")
        model.float()
        # It compiles in place.
        compiled = jit.compile(copy.deepcopy(model))
        rates = {
            f"{name}, batches of {size}": rate(one, frames, size)
            for name, one in (("as it is", model), ("TorchScript", compiled))
            for size in (8, 32, 128)
        }
        result["rates"] = rates
        result["molecules_per_second"] = max(rates.values())
    with open(given.out, "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
