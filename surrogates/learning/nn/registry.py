"""The settings of a network as plain JSON: the name of its architecture, and a value for each setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from data.errors import InputError
from data.near import did_you_mean
from data.plain import PlainError, decode

#: Name of an architecture -> (class of its settings, class of its network).
Table = Mapping[str, tuple[type[Any], Any]]
WHERE = "model.network"


def settings_to_json(config: Any, table: Table) -> dict[str, Any]:
    """Settings as a plain dict, from which `settings_from_json` makes equal settings."""
    name = next(name for name, (settings, _) in table.items() if type(config) is settings)
    return {"architecture": name, **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}}


def settings_from_json(value: Any, table: Table) -> Any:
    """The settings that `settings_to_json` described.

    Raises:
        InputError: the architecture or a setting is unknown, or a value is of another type or out of range.
    """
    if not isinstance(value, Mapping):
        raise InputError("must name an architecture and its settings", where=WHERE)
    name = str(value.get("architecture"))
    if name not in table:
        raise InputError(f"no architecture {name!r}", where=WHERE, remedy=f"There are {', '.join(table)}")
    settings = table[name][0]
    values = {str(k): v for k, v in value.items() if k != "architecture"}
    names = [f.name for f in fields(settings)]
    strange = [k for k in values if k not in names]
    if strange:
        remedies = [did_you_mean(strange[0], names), f"Its settings are {', '.join(names)}"]
        raise InputError(f"{name} has no setting {strange[0]!r}", where=WHERE, remedy=" ".join(filter(None, remedies)))
    try:
        return decode(settings, values)
    except PlainError as error:
        raise InputError(error.problem, where=".".join(filter(None, (WHERE, error.key)))) from error
