"""ADMET-AI by its own package, for `simulators.workers.model_server`; see `simulators.chemistry.teachers.admet`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import weights


def describe() -> dict[str, str]:
    """Version of the package and hash of its weights."""
    return weights.facts("admet-ai", _files())


def load(settings: dict[str, Any]) -> Callable[..., tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Load the networks; the setting is `weights`."""
    weights.verify(describe(), settings["weights"])
    import torch
    from admet_ai import ADMETModel
    from chemprop.data import MoleculeDatapoint, MoleculeDataset
    from chemprop.data.dataloader import build_dataloader
    from rdkit import Chem

    model = ADMETModel(include_physchem=False, drugbank_path=None)
    networks = [[network.eval() for network in members] for members in model.model_lists]

    def answer(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        points, failed = [], {}
        for place, smiles in enumerate(arrays["smiles"]):
            molecule = Chem.MolFromSmiles(smiles) if smiles else None
            if molecule is None or not molecule.GetNumAtoms():
                failed[str(place)] = f"RDKit reads no molecule from {smiles!r}"
            else:
                points.append(MoleculeDatapoint(mol=molecule))
        parts: list[list[Any]] = [[] for _ in networks]
        # The package makes the graphs anew for each network.
        loader = build_dataloader(MoleculeDataset(points), batch_size=len(points) or 1, shuffle=False, drop_last=False)
        with torch.inference_mode():
            for graphs, atoms, others, *_ in loader if points else ():
                for part, members in zip(parts, networks, strict=True):
                    part.append(torch.stack([network(graphs, atoms, others) for network in members]).mean(dim=0))
        values = {}
        for part, names in zip(parts, model.task_lists, strict=True):
            rows = torch.cat(part).double().numpy() if part else np.zeros((0, len(names)))
            values |= {name: rows[:, column].copy() for column, name in enumerate(names)}
        return {"failed": failed}, values

    return answer


def _files() -> list[Path]:
    return sorted((weights.folder_of("admet_ai") / "resources/models").glob("*/*.pt"))
