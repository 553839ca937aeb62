"""The architectures of one kind of surrogate, by name: the class of their settings and that of their network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from data.errors import InputError
from data.plain import Tagged, flat_entries
from data.settings import build

WHERE = "model.network"
C = TypeVar("C")


class Architectures(Tagged, Mapping[str, tuple[type[Any], Any]]):
    """A table of networks, which also says how a field of a configuration holds the settings of one of them.

    The hint of such a field is `Annotated[Any, ARCHITECTURES]`; its JSON has the name under "architecture".

    Args:
        networks: name of an architecture -> (class of its settings, class of its network).
    """

    def __init__(self, networks: Mapping[str, tuple[type[Any], Any]]) -> None:
        super().__init__("architecture", {name: settings for name, (settings, _) in networks.items()})
        self._networks = dict(networks)

    def __getitem__(self, name: str) -> tuple[type[Any], Any]:
        return self._networks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._networks)

    def __len__(self) -> int:
        return len(self._networks)

    def network(self, config: Any, *arguments: Any) -> Any:
        """A network with initial weights.

        Args:
            config: its settings, whose class selects the architecture.
            arguments: what networks of this kind take beside their settings: a shape, and random keys at last.

        Raises:
            InputError, ValueError: the settings do not fit the shape.
        """
        return self._networks[self.name_of(config)][1](config, *arguments)

    def read(self, value: Mapping[str, Any]) -> Any:
        """The settings that a configuration names; `from_plain` reads those of a file.

        Raises:
            InputError: the architecture or a setting is unknown, or a value is of another type or out of range.
        """
        name = str(value.get("architecture"))
        if name not in self:
            raise InputError(f"no architecture {name!r}; there are {', '.join(self)}", where=f"{WHERE}.{self.key}")
        return build(self.kinds[name], {str(k): v for k, v in value.items() if k != self.key}, where=WHERE)


def settings_of_surrogate(settings: type[Any], config: type[C], node: Mapping[str, Any], table: Architectures) -> C:
    """The settings of a surrogate with a network that is chosen from a table, from a part of a configuration.

    Args:
        settings: dataclass of the keys other than `kind` and `network`.
        config: dataclass of the settings of the surrogate, with the fields of `settings` and `network`.
        node: the part of the configuration.
        table: the architectures.

    Raises:
        InputError: an architecture or key is unknown, a key has moved into a group, or a value has a wrong type or is
            out of range.
    """
    _refuse_outside_of_groups(flat_entries(settings), node)
    outer = {str(k): v for k, v in node.items() if k not in ("kind", "network")}
    described: Any = config
    instance: C = described(
        **vars(build(settings, outer, where="model")), network=table.read(node.get("network") or {})
    )
    return instance


def _refuse_outside_of_groups(entries: Mapping[str, str], node: Mapping[str, Any]) -> None:
    """Refuse a setting that stands beside its group, as in earlier versions, and a value in the place of a group."""
    for key, present in entries.items():
        # A key may have the name of its group, which is a mapping.
        if key in node and not (key == present.partition(".")[0] and isinstance(node[key], Mapping)):
            raise InputError(
                f"this key is called model.{present} now", where=f"model.{key}", remedy=f"Write model.{present}"
            )
    for present in entries.values():
        group = present.partition(".")[0]
        if group in node and not isinstance(node[group], Mapping):
            raise InputError(
                f"is a group of settings, got {node[group]!r}",
                where=f"model.{group}",
                remedy=f"Give model.{present}=...",
            )
