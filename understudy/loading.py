"""Opening what a training saved."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from surrogates.saved import load_surrogate, surrogate_directory
from surrogates.trained import Surrogate


def load(directory: str | Path) -> Surrogate:
    """The surrogate in a directory, of whichever kind.

    Args:
        directory: what a training saved, or the directory of the run itself.

    Returns:
        The surrogate. `spec` names its inputs and outputs with dims and units, `simulate(request)` answers one request
        as the simulator does, and `scores` are its held-out scores. Each kind has methods of its own as well: a
        potential has `predict_structures`, an operator `predict_fields`, a forecaster `forecast`.

    Raises:
        InputError: there is no surrogate in it, or a newer version saved it.
        CorruptStoreError: a file of it is damaged.
    """
    return cast(Surrogate, load_surrogate(surrogate_directory(str(directory), "directory")))
