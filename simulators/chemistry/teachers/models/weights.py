"""Facts that identify installed weights, found without importing the package that reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path


def folder_of(package: str) -> Path:
    """The folder of an installed package."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise PackageNotFoundError(package)
    return Path(next(iter(spec.submodule_search_locations)))


def facts(distribution: str, files: Iterable[Path]) -> dict[str, str]:
    """The version of a distribution, and the SHA-256 of its weights, over all files in their order."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return {"version": f"{distribution} {version(distribution)}", "weights": digest.hexdigest()}


def verify(described: dict[str, str], expected: str) -> None:
    """Refuse weights that are not those which the labels name.

    Raises:
        ValueError: the files have changed since they were described.
    """
    if described["weights"] != expected:
        raise ValueError("its weights are not those that were described: they have been replaced meanwhile")
