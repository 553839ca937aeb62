"""Errors and speed of a MACE model; runs in the environment of the peers, which has no Understudy.

python mace_score.py --model FILE --test NAME=FILE ... [--speed FILE] --batch N --out JSON
"""

from __future__ import annotations

import argparse
import json
import os
import time

import ase.io
import numpy as np
import torch
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
    found = model(batch.to_dict(), compute_stress=False)
    return found["energy"].detach().numpy(), found["forces"].detach().numpy()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--test", nargs="*", default=[])
    parser.add_argument("--speed")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch_tools.set_default_dtype("float32")
    model = torch.load(given.model, map_location="cpu", weights_only=False)
    for parameter in model.parameters():
        parameter.requires_grad = False
    result = {}
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
        best = 0.0
        # The size of batch that suits it best; making batches and neighbour lists is not counted.
        for size in (8, 32, 128):
            made = batches(model, frames, size)
            for batch in made:
                answer(model, batch)
            start = time.perf_counter()
            for batch in made:
                answer(model, batch)
            best = max(best, len(frames) / (time.perf_counter() - start))
        result["molecules_per_second"] = best
    with open(given.out, "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
