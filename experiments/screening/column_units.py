"""The units of the columns of a screen's results, `columns.json`, by which a page writes headings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.files import write_json
from data.json_files import read_plain

if TYPE_CHECKING:
    from data.spec import Variable  # which imports xarray; a merge of screens does without it

COLUMNS = "columns.json"
#: Columns of results that have the unit of the target that is sought.
OF_THE_TARGET = ("prediction", "std", "low", "high")
#: What is appended to the name of a variable in the columns of what is said of it.
SUFFIXES = ("", "_std", "_low", "_high")


def column_units(columns: Iterable[str], model: Any, target: str | None = None) -> dict[str, str]:
    """The columns that have a unit.

    Args:
        columns: names of columns: of variables, of their entries (`cosine_3`), of what is said of one (`gap_std`), and
            others, such as those of the user's file.
        model: surrogate or simulator that gave them; one that states no variables gives no units.
        target: the column that is sought, whose unit `prediction` and its error bar have; None if there is none.
    """
    spec = getattr(model, "spec", None)
    variables: list[Variable] = [] if spec is None else [*spec.inputs, *spec.outputs]
    units: dict[str, str] = {}
    for column in columns:
        name = target if column in OF_THE_TARGET and target is not None else column
        unit = next((str(v.units) for v in variables if _is_of(name, v)), "1")
        if unit != "1":
            units[column] = unit
    return units


def _is_of(column: str, variable: Variable) -> bool:
    if variable.dims:
        return column.startswith(f"{variable.name}_")
    return column in [f"{variable.name}{suffix}" for suffix in SUFFIXES]


def write_column_units(out: Path, columns: Iterable[str], model: Any, target: str | None) -> None:
    """Write `columns.json` of a screen whose results have these columns."""
    write_json(out / COLUMNS, column_units(columns, model, target))


def read_column_units(directory: Path) -> dict[str, str]:
    """The units of the columns of results; none for results of earlier versions.

    Raises:
        CorruptStoreError: the file is damaged.
    """
    if not (directory / COLUMNS).is_file():
        return {}
    return read_plain(directory / COLUMNS, dict[str, str], remedy="Run the screen again, which writes it anew")
