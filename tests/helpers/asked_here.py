"""A rung on which a surrogate stands, asked in the process of the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from surrogates.learning.rung import RungAnswers, ask_here


@dataclass(frozen=True)
class Here:
    """A rung that is asked in this process."""

    simulator: Any
    outputs: tuple[str, ...] = ()

    def ask(
        self, requests: Sequence[xr.Dataset], names: Sequence[str], store: Path, *, progress: bool = True
    ) -> RungAnswers:
        """The answers; `store` is not used."""
        return ask_here(self.simulator, requests, names)
