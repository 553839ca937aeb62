"""The requests of a shard of a campaign: those whose keys hash to it, with their places among all requests.

A request takes 24 bytes here, of a digest and a place, since there may be millions.
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr

from data.checksums import read_bytes
from data.files import remove_listed, write_bytes, write_json
from data.json_files import read_plain, reading
from data.shards import Shard
from data.spec import input_hash
from data.store.key_index import DIGEST, KeyIndex, digest_of

#: Files in the directory of a shard, the second of which is written last.
PLACES, FILE = "requests.npy", "requests.json"
_ROW = np.dtype([("digest", f"S{DIGEST}"), ("place", "<i8")])
_REMEDY = "Run the shard again"


@dataclass(frozen=True)
class ShardDescription:
    """Content of `requests.json`.

    Attributes:
        shard: such as "2/8".
        requests: number of all requests, of which the others are those of other shards.
    """

    shard: str
    requests: int


@dataclass(frozen=True)
class ShardPlaces:
    """Which of all requests a complete shard has answered.

    Attributes:
        shard, requests: see `ShardDescription`.
        rows: digest of the key of each request of this shard, and its first place among all requests, by digest.
    """

    shard: str
    requests: int
    rows: np.ndarray

    @staticmethod
    def read(run_dir: Path) -> ShardPlaces:
        """Those of a shard that was completed.

        Raises:
            CorruptStoreError: a file is missing or damaged.
        """
        described = read_plain(run_dir / FILE, ShardDescription, remedy=_REMEDY)
        with reading(run_dir / PLACES, remedy=_REMEDY):
            rows = np.load(io.BytesIO(read_bytes(run_dir / PLACES, remedy=_REMEDY)), allow_pickle=False)
            if rows.dtype != _ROW or rows.ndim != 1:
                raise ValueError(f"it holds {rows.dtype}")
        return ShardPlaces(described.shard, described.requests, np.sort(rows, order="digest"))

    def of(self, keys: Iterable[str]) -> np.ndarray:
        """The places of requests by their keys; -1 where a request is of no place of this shard."""
        digests = np.array([digest_of(key) for key in keys], f"S{DIGEST}")
        if not len(self.rows):
            return np.full(len(digests), -1, np.int64)
        at = np.searchsorted(self.rows["digest"], digests).clip(max=len(self.rows) - 1)
        return np.where(self.rows["digest"][at] == digests, self.rows["place"][at], -1)


@dataclass
class ShardRequests:
    """Iterates over the requests of a shard, or over all of them.

    Attributes:
        shard: which part; None: all.
        requests: all requests.
        run_dir: directory of the run of the shard.
        seen: number of requests so far, of any shard.
    """

    shard: Shard | None
    requests: Iterable[xr.Dataset]
    run_dir: Path
    seen: int = 0
    _digests: bytearray = field(default_factory=bytearray)
    _places: array[int] = field(default_factory=lambda: array("q"))

    @staticmethod
    def of(shard: str | None, requests: Iterable[xr.Dataset], run_dir: Path) -> ShardRequests:
        """The requests of the shard with a name such as "2/8".

        Raises:
            InputError: it is no name of a shard.
        """
        return ShardRequests(None if shard is None else Shard.parse(shard), requests, run_dir)

    def __iter__(self) -> Iterator[xr.Dataset]:
        if self.shard is None:
            yield from self.requests
            return
        # It may be run again with more requests, and is complete only after the last one.
        remove_listed(self.run_dir / FILE)
        taken = KeyIndex()
        for place, request in enumerate(self.requests):
            key = input_hash(request)
            self.seen = place + 1
            if self.shard.takes_key(key):
                if taken.add(key):
                    self._digests += digest_of(key)
                    self._places.append(place)
                yield request
        taken.close()

    def about(self, total: int | None) -> int | None:
        """How many of `total` requests are those of the shard, approximately."""
        return total if self.shard is None or total is None else max(1, round(total / self.shard.count))

    def complete(self) -> None:
        """Write that all requests of the shard have records."""
        if self.shard is None:
            return
        rows = np.empty(len(self._places), _ROW)
        rows["digest"] = np.frombuffer(bytes(self._digests), f"S{DIGEST}")
        rows["place"] = np.frombuffer(self._places, np.int64)
        content = io.BytesIO()
        np.save(content, rows, allow_pickle=False)
        write_bytes(self.run_dir / PLACES, content.getvalue(), listed=True)
        write_json(self.run_dir / FILE, asdict(ShardDescription(str(self.shard), self.seen)), indent=None)
