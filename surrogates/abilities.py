"""Optional abilities of surrogates, for which the floors above ask instead of asking for the kind.

Those of simulators are in `simulators.adapter`.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class PredictsTables(Protocol):
    """A surrogate that answers a table of candidates at once, as screens need it."""

    @property
    def fingerprint(self) -> str:
        """Hash of the weights, the calibration and the labels."""
        ...

    def compile(self) -> None:
        """Compile the predictions for the expected sizes of tables."""
        ...

    def predict_table(self, table: Any, *on: Any) -> dict[str, np.ndarray]:
        """Predictions `<t>`, `<t>_std`, `<t>_low`, `<t>_high` for each target t, and `in_domain`, all (candidate,).

        Args:
            table: table of graphs, or of other inputs of the surrogate.
            on: answers of the simulator on which the surrogate stands, if it stands on one.
        """
        ...


@runtime_checkable
class CountsDomain(Protocol):
    """A surrogate of tables that says what of a table lies outside of its training domain, and why."""

    def domain_counts(self, table: Any) -> dict[str, int]:
        """Counts of candidates that add up over tables: `in_domain`, and others by what they count."""
        ...


@runtime_checkable
class HasExperts(Protocol):
    """A surrogate of geometries of which each structure is answered by one expert."""

    @property
    def experts(self) -> tuple[Any, ...]:
        """The experts."""
        ...

    def by_expert(self, structures: Any) -> list[tuple[int, np.ndarray]]:
        """The experts that answer structures, by their number, and the rows of each."""
        ...


@runtime_checkable
class TakesFields(Protocol):
    """A surrogate whose samples `data.fields.field_reading.read_fields` reads."""

    @property
    def sample_inputs(self) -> list[str]:
        """Names of the inputs of a sample: the initial field, other fields, and numbers."""
        ...
