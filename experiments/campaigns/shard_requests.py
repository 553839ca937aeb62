"""The requests of a shard of a campaign: those whose keys hash to it, with their places among all requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import xarray as xr

from data.files import remove_listed, write_json
from data.json_files import read_plain
from data.shards import Shard
from data.spec import input_hash

#: File in the directory of a shard, which is written last.
FILE = "requests.json"


@dataclass(frozen=True)
class ShardPlaces:
    """Content of `requests.json`: which of all requests a complete shard has answered.

    Attributes:
        shard: such as "2/8".
        requests: number of all requests, of which the others are those of other shards.
        places: key of each request of this shard -> its first place among all requests.
    """

    shard: str
    requests: int
    places: dict[str, int]

    @staticmethod
    def read(run_dir: Path) -> ShardPlaces:
        """Those of a shard that was completed.

        Raises:
            CorruptStoreError: the file is missing or damaged.
        """
        return read_plain(run_dir / FILE, ShardPlaces, remedy="Run the shard again")


@dataclass
class ShardRequests:
    """Iterates over the requests of a shard, or over all of them.

    Attributes:
        shard: which part; None: all.
        requests: all requests.
        run_dir: directory of the run of the shard.
        places: key -> place of the requests so far.
        seen: number of requests so far, of any shard.
    """

    shard: Shard | None
    requests: Iterable[xr.Dataset]
    run_dir: Path
    places: dict[str, int] = field(default_factory=dict)
    seen: int = 0

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
        for place, request in enumerate(self.requests):
            key = input_hash(request)
            self.seen = place + 1
            if self.shard.takes_key(key):
                self.places.setdefault(key, place)
                yield request

    def about(self, total: int | None) -> int | None:
        """How many of `total` requests are those of the shard, approximately."""
        return total if self.shard is None or total is None else max(1, round(total / self.shard.count))

    def complete(self) -> None:
        """Write that all requests of the shard have records."""
        if self.shard is not None:
            write_json(self.run_dir / FILE, asdict(ShardPlaces(str(self.shard), self.seen, self.places)), indent=None)
