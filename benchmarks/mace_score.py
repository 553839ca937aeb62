"""Measures errors and speed of a MACE model; runs in the environment of the peers, which has no Understudy.

Errors are computed in float64, because in float32 the rounding of a total energy of thousands of eV is as large as the
error of a good model. The speed is measured in float32, for the model as it is and compiled by TorchScript, and the
faster of the two counts.

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
    """Batches of the frames, with their neighbour lists."""
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
    predictions = model(tensors, training=False, compute_stress=False)
    return predictions["energy"].detach().numpy(), predictions["forces"].detach().numpy()


def rate(model, frames, size):
    """Molecules per second, without the time of making batches and neighbour lists and without the first pass."""
    inputs = batches(model, frames, size)
    # TorchScript optimises in its first two runs.
    for batch in inputs[:2] * 2 + inputs:
        answer(model, batch)
    start = time.perf_counter()
    for batch in inputs:
        answer(model, batch)
    return len(frames) / (time.perf_counter() - start)


def main():
    """Score the model on the test files, time it if --speed is given, and write the results as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--test", nargs="*", default=[])
    parser.add_argument("--speed")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = torch.load(options.model, map_location="cpu", weights_only=False)
    for parameter in model.parameters():
        parameter.requires_grad = False
    result = {}
    torch_tools.set_default_dtype("float64")
    model.double()
    for item in options.test:
        name, path = item.split("=", 1)
        frames = ase.io.read(path, ":")
        energies, forces = zip(*(answer(model, b) for b in batches(model, frames, options.batch)), strict=True)
        truth = np.array([a.get_potential_energy() for a in frames])
        force_truth = np.concatenate([a.get_forces() for a in frames])
        result[name] = {
            "energy_mae_mev": 1000 * float(np.abs(np.concatenate(energies) - truth).mean()),
            "forces_mae_mev_per_angstrom": 1000 * float(np.abs(np.concatenate(forces) - force_truth).mean()),
        }
    if options.speed:
        frames = ase.io.read(options.speed, ":")
        torch_tools.set_default_dtype("float32")
        model.float()
        # Compilation changes the model in place.
        compiled = jit.compile(copy.deepcopy(model))
        rates = {
            f"{name}, batches of {size}": rate(one, frames, size)
            for name, one in (("as it is", model), ("TorchScript", compiled))
            for size in (8, 32, 128)
        }
        result["rates"] = rates
        result["molecules_per_second"] = max(rates.values())
    with open(options.out, "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
