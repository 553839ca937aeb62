"""YAML of a run read back: plain values, without what a file from elsewhere could do to the reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import OmegaConfBaseException

from data.checksums import read_bytes
from data.errors import CorruptStoreError

#: No configuration comes near this size, or this depth.
MOST_BYTES, MOST_DEPTH = 4 << 20, 50


def load_yaml(path: Path, *, remedy: str) -> DictConfig:
    """The configuration that a file holds.

    A name that stands for a part of the file (`*alias`) is refused: nothing here writes one, and a few of them in each
    other stand for more than any memory holds.

    Raises:
        CorruptStoreError: it is not what was written, not UTF-8, no YAML, too large, or no mapping of keys.
        OSError: the file system refuses it.
    """
    where = str(path)
    if path.stat().st_size > MOST_BYTES:
        raise CorruptStoreError(f"is larger than {MOST_BYTES >> 20} MiB", where=where, remedy=remedy)
    try:
        # One that a person wrote has no checksum.
        text = read_bytes(path, remedy=remedy, warn=False).decode("utf-8")
        _refuse_explosive(text)
        value = yaml.load(text, Loader=get_yaml_loader())  # that of OmegaConf, which makes plain values alone
        if not isinstance(value, dict):
            raise ValueError("it holds no mapping of keys")
        config = OmegaConf.create(value)
        assert isinstance(config, DictConfig)
        return config
    except (yaml.YAMLError, ValueError, TypeError, OmegaConfBaseException, RecursionError) as error:
        said = "it is nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())[:300]
        raise CorruptStoreError(f"not readable: {said}", where=where, remedy=remedy) from error


def _refuse_explosive(text: str) -> None:
    """Refuse what takes a parser long, or becomes more than it is: depth, and names of parts.

    Raises:
        ValueError: says which.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise ValueError("it is nested too deep")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases, which no configuration of a run has")


def read_yaml(path: Path, *, remedy: str) -> dict[str, Any]:
    """`load_yaml` as plain values, with what refers to other keys left as it is written."""
    value = OmegaConf.to_container(load_yaml(path, remedy=remedy), resolve=False)
    assert isinstance(value, dict)
    return {str(key): entry for key, entry in value.items()}
