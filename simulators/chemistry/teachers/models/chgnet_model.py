"""CHGNet by its own package, for `simulators.workers.model_server`; see `simulators.chemistry.teachers.chgnet`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import weights

#: Files of the weights below the package; all enter the hash, whichever is used.
FILES = "pretrained/*/*.pth.tar"
#: Structures that the network sees together, the package's own number.
BATCH = 16


def describe() -> dict[str, str]:
    """Version of the package and hash of its weights."""
    return weights.facts("chgnet", _files())


def load(settings: dict[str, Any]) -> Callable[..., tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Load the model; settings are `weights` and `model`."""
    weights.verify(describe(), settings["weights"])
    from ase.units import GPa
    from chgnet.model.model import CHGNet
    from pymatgen.core import Structure

    model = CHGNet.load(model_name=settings["model"], use_device="cpu", verbose=False)
    model.graph_converter.set_isolated_atom_response("error")

    def answer(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        starts = np.cumsum(arrays["counts"])[:-1]
        graphs, failed = [], {}
        for place, (numbers, positions, cell) in enumerate(
            zip(np.split(arrays["numbers"], starts), np.split(arrays["positions"], starts), arrays["cell"], strict=True)
        ):
            structure = Structure(cell, numbers.tolist(), positions, coords_are_cartesian=True)
            try:
                graphs.append(model.graph_converter(structure))
            except ValueError as error:  # an atom without neighbours
                failed[str(place)] = f"CHGNet: {' '.join(str(error).split())}"
        answers = model.predict_graph(graphs, task=facts["task"], batch_size=BATCH) if graphs else []
        answers = [answers] if isinstance(answers, dict) else answers
        sizes = [len(graph.atomic_number) for graph in graphs]
        # Energies are per atom, and stresses in GPa.
        values = {"energy": np.array([float(a["e"]) * n for a, n in zip(answers, sizes, strict=True)])}
        for letter, name in (("f", "forces"), ("m", "magnetic_moments")):
            if letter in facts["task"]:
                values[name] = np.concatenate([np.asarray(a[letter], np.float64) for a in answers] or [np.zeros(0)])
        if "s" in facts["task"]:
            values["stress"] = np.array([np.asarray(a["s"], np.float64) * GPa for a in answers])
        return {"failed": failed}, values

    return answer


def _files() -> list[Path]:
    return sorted(weights.folder_of("chgnet").glob(FILES))
