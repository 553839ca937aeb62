"""Which rows of results are the same molecule, so that a list of hits holds each once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import rdkit

from data.errors import CorruptStoreError
from data.files import write_json
from data.json_files import read_json

#: File of a shard with the keys of its best rows, so that the merge does not parse their SMILES again.
KEYS = "top_keys.json"


def molecule_keys_by(named: Sequence[str]) -> Callable[[pa.Table], list[str]]:
    """The function that gives the key of the molecule of each row of a table of results.

    Args:
        named: columns of SMILES, of which the last one that a row has counts.
    """

    def keys(table: pa.Table) -> list[str]:
        # Imported only here: a merge whose shards recorded all keys parses no molecule.
        from data.identity import molecule_keys

        asked = [table.column(name).to_pylist() for name in reversed(named)]
        return molecule_keys([str(next(filter(None, forms), "")) for forms in zip(*asked, strict=True)])

    return keys


def write_keys(keys: Mapping[int, str], out: Path) -> None:
    """Record the keys of the best rows of a shard by their line, and the version of RDKit that made them."""
    write_json(out / KEYS, {"rdkit": rdkit.__version__, "keys": {str(line): key for line, key in keys.items()}})


def read_keys(directories: Iterable[Path], *, remedy: str) -> dict[int, str]:
    """The keys that shards recorded, by line; those of another version of RDKit, which may differ, are left out.

    Raises:
        CorruptStoreError: a file is damaged. Shards of earlier versions have none.
    """
    keys: dict[int, str] = {}
    for path in (directory / KEYS for directory in directories if (directory / KEYS).is_file()):
        content = read_json(path, remedy=remedy)
        try:
            if content["rdkit"] == rdkit.__version__:
                keys |= {int(line): str(key) for line, key in content["keys"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptStoreError(f"holds no keys of rows: {error}", where=str(path), remedy=remedy) from error
    return keys
