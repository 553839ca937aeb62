"""Reads YAML files of a run safely: only plain values, with limits on size and depth."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import OmegaConfBaseException

from data.checksums import read_bytes
from data.errors import CorruptStoreError

#: Limits on the size and the depth of a file, which no configuration comes near.
MOST_BYTES, MOST_DEPTH = 4 << 20, 50


@functools.cache
def quick_loader() -> Any:
    """The loader of OmegaConf, which makes plain values alone, with the parser of libyaml where PyYAML has it.

    It takes a tenth of the time of the parser in Python.
    """
    plain: Any = get_yaml_loader()
    if not hasattr(yaml, "CSafeLoader"):
        return plain

    class Quick(yaml.cyaml.CParser, plain):  # type: ignore[misc]
        def __init__(self, stream: Any) -> None:
            # As in yaml.CSafeLoader; the other classes of the loader are those that the parser stands in for.
            yaml.cyaml.CParser.__init__(self, stream)
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    return Quick


def load_yaml(path: Path, *, remedy: str) -> DictConfig:
    """The configuration in a file.

    Aliases (`*alias`) are refused: this package never writes them, and a few nested ones can expand beyond any memory.

    Raises:
        CorruptStoreError: the file differs from what was written, is not UTF-8 or YAML, is too large or has no keys.
        OSError: the file cannot be read.
    """
    where = str(path)
    if path.stat().st_size > MOST_BYTES:
        raise CorruptStoreError(f"is larger than {MOST_BYTES >> 20} MiB", where=where, remedy=remedy)
    try:
        # A file that a user wrote has no checksum.
        text = read_bytes(path, remedy=remedy, warn=False).decode("utf-8")
        _refuse_explosive(text)
        value = yaml.load(text, Loader=quick_loader())
        if not isinstance(value, dict):
            raise ValueError("it holds no mapping of keys")
        config = OmegaConf.create(value)
        assert isinstance(config, DictConfig)
        return config
    except (yaml.YAMLError, ValueError, TypeError, OmegaConfBaseException, RecursionError) as error:
        said = "it is nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())[:300]
        raise CorruptStoreError(f"not readable: {said}", where=where, remedy=remedy) from error


def _refuse_explosive(text: str) -> None:
    """Refuse aliases and deep nesting, which can take unlimited time or memory.

    Raises:
        ValueError: the text is nested too deep, or has aliases.
    """
    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise ValueError("it is nested too deep")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases, which no configuration of a run has")


def read_yaml(path: Path, *, remedy: str) -> dict[str, Any]:
    """The content of a YAML file as plain values; references to other keys are not resolved."""
    value = OmegaConf.to_container(load_yaml(path, remedy=remedy), resolve=False)
    assert isinstance(value, dict)
    return {str(key): entry for key, entry in value.items()}
