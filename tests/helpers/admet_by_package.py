"""ADMET-AI by the function of its own package; run by the interpreter that has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def load(settings: dict[str, Any]) -> Callable[..., tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """The package's model, without its percentiles among approved drugs."""
    from admet_ai import ADMETModel

    model = ADMETModel(include_physchem=False, drugbank_path=None)

    def answer(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        table = model.predict([str(smiles) for smiles in arrays["smiles"]])
        return {}, {str(name): table[name].to_numpy(np.float64) for name in table.columns}

    return answer
