"""The networks that forecast, by the name of their architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from flax import nnx

from data.errors import InputError
from surrogates.weather.conv import ConvConfig, ConvNet
from surrogates.weather.layers import SphereConfig, SphereShape
from surrogates.weather.mesh import MeshConfig, MeshNet
from surrogates.weather.sfno import SFNO, SFNOConfig

__all__ = ["ARCHITECTURES", "SphereConfig", "SphereShape", "config_from_json", "config_to_json", "network"]

#: Architecture to the class of its settings and its own.
ARCHITECTURES: Mapping[str, tuple[type[Any], Any]] = {
    "conv": (ConvConfig, ConvNet),
    "mesh": (MeshConfig, MeshNet),
    "sfno": (SFNOConfig, SFNO),
}


def network(config: SphereConfig, shape: SphereShape, rngs: nnx.Rngs) -> Any:
    """A network with fresh weights.

    Args:
        config: its architecture and size.
        shape: of what goes in and comes out.
        rngs: for the first weights.

    Raises:
        InputError: the grid does not suit the architecture.
        ValueError: the settings do not fit the shape.
    """
    return next(made for settings, made in ARCHITECTURES.values() if type(config) is settings)(config, shape, rngs)


def config_to_json(config: SphereConfig) -> dict[str, Any]:
    """A plain dict, from which `config_from_json` makes equal settings."""
    name = next(name for name, (settings, _) in ARCHITECTURES.items() if type(config) is settings)
    return {"architecture": name, **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}}


def config_from_json(value: Mapping[str, Any]) -> Any:
    """The settings that `config_to_json` described.

    Raises:
        InputError: the architecture or a setting is unknown, or a value is out of range.
    """
    where, name = "surrogate.network", str(value.get("architecture"))
    if name not in ARCHITECTURES:
        raise InputError(f"no architecture {name!r}", where=where, remedy=f"There are {', '.join(ARCHITECTURES)}")
    settings = ARCHITECTURES[name][0]
    given = {str(k): v for k, v in value.items() if k != "architecture"}
    known = [f.name for f in fields(settings)]
    strange = [k for k in given if k not in known]
    if strange:
        raise InputError(
            f"{name} has no setting {strange[0]!r}", where=where, remedy=f"Its settings are {', '.join(known)}"
        )
    try:
        return settings(**given)
    except (TypeError, ValueError) as error:
        raise InputError(str(error), where=where) from error
