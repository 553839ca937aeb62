"""Making a store of records: what its directory may hold, its card, and the removal of what a killed start left."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.checksums import unseal
from data.errors import CorruptStoreError, InputError
from data.files import is_temporary
from data.json_files import parse_json
from data.spec import FIXED_DIMS, Coordinate, Variable
from data.store.columns import FACTS, KEPT, Column, layout
from data.store.owner import is_owner_file
from data.store.store_reader import CARD, FORMAT, MANIFEST

LOCK = "lock"
#: The card of a store that is being made; `CARD` takes its place when all else is there.
BEGUN = "creating.json"


def describe_store(
    inputs: Sequence[Variable],
    outputs: Sequence[Variable],
    coords: Sequence[Coordinate],
    attrs: Mapping[str, Any],
    facts: Sequence[str],
    record: str,
) -> dict[str, Any]:
    """The content of a card; see `data.store.records.RecordStore.create` for the arguments.

    Raises:
        ValueError: `facts` lacks one of `KEPT`, or names one that is not among `FACTS`.
        InputError: a name is used twice, or a variable's dims cannot be stored.
    """
    if not set(KEPT) <= set(facts) <= set(FACTS):
        raise ValueError(f"facts must hold {KEPT} and be among {tuple(FACTS)}, got {tuple(facts)}")
    names = [v.name for v in (*inputs, *outputs)]
    names += [c.name for c in coords]
    clash = sorted({n for n in names if names.count(n) > 1 or n in FACTS or n == record})
    if clash:
        raise InputError(f"variables {clash} appear twice, or are names of the store's own")
    sizes = {**FIXED_DIMS, **{c.name: len(c.values) for c in coords}}

    def describe(v: Variable) -> dict[str, Any]:
        Column(v.name, tuple(v.dims), v.dtype, v.units, v.long_name, record, sizes)
        return {"name": v.name, "dims": list(v.dims), "units": v.units, "dtype": v.dtype, "long_name": v.long_name}

    return {
        "format": FORMAT,
        "inputs": [describe(v) for v in inputs],
        "outputs": [describe(v) for v in outputs],
        "coords": [
            {"name": c.name, "values": list(c.values), "units": c.units, "long_name": c.long_name} for c in coords
        ],
        "attrs": dict(attrs),
        "facts": list(facts),
        "record": record,
    }


def refuse_taken(path: Path) -> None:
    """Refuse a directory that holds anything but a store whose creation was killed.

    Raises:
        InputError: the directory is not empty.
    """
    if not path.exists():
        return
    content = {
        e.name for e in path.iterdir() if e.name != LOCK and not is_temporary(e.name) and not is_owner_file(e.name)
    }
    # Earlier versions began with the manifest.
    if content and content != {MANIFEST} and (BEGUN not in content or CARD in content):
        raise InputError("is not empty", where=str(path), remedy="Open the store that is there, or name another")


def clear_begun(path: Path) -> None:
    """Remove the parts of a store whose creation was killed: those that its card names, and nothing else."""
    if not (path / BEGUN).exists():
        return
    try:
        card = parse_json((path / BEGUN).read_bytes())
        remedy = "Remove this directory, or name another"
        coords, columns = layout(unseal(card, where=str(path / BEGUN), remedy=remedy, warn=False))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptStoreError(
            f"not readable: {error}", where=str(path / BEGUN), remedy="Remove this directory, or name another"
        ) from error
    for name in (*coords, *columns):
        if Path(name).name == name and not (path / name).is_symlink():
            shutil.rmtree(path / name, ignore_errors=True)
    (path / "zarr.json").unlink(missing_ok=True)
