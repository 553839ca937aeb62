"""Trained surrogates that are part of this package, named `shipped:NAME` wherever a surrogate is named.

`shipped:organic` is a potential of organic molecules, made by `make body`, from which trainings on few labels begin;
`organic/body.json` has its level of theory, licence, elements, molecules, errors and cost.
"""

from __future__ import annotations

from pathlib import Path

from data.errors import InputError

PREFIX = "shipped:"
HERE = Path(__file__).parent


def is_shipped(value: str | None) -> bool:
    """Whether a text names a surrogate of this package."""
    return value is not None and value.startswith(PREFIX)


def shipped_directory(value: str, key: str) -> Path:
    """The directory of the surrogate that `shipped:NAME` names.

    Args:
        value: its name, which begins with `shipped:`.
        key: the setting that names it, for the error.

    Raises:
        InputError: this package has none of that name.
    """
    names = sorted(path.parent.name for path in HERE.glob("*/surrogate.json"))
    if value.removeprefix(PREFIX) not in names:
        remedy = f"There are {', '.join(PREFIX + name for name in names)}"
        raise InputError(f"{value!r} is not part of this package", where=key, key=key, remedy=remedy)
    return HERE / value.removeprefix(PREFIX)
