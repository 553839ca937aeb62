"""Which keys have been seen, and a small text for each, in bounded memory.

The keys of a million requests take 200 MB as Python objects. Here each is a digest of 16 bytes (BLAKE2b) in a temporary
SQLite database, whose pages beyond a cache of fixed size lie in a file that the system removes with the process. Two
of a thousand million keys have the same digest with a probability of 10^-21.
"""

from __future__ import annotations

import sqlite3
from hashlib import blake2b

#: Bytes of a digest.
DIGEST = 16
#: Memory for pages of the database, KiB.
CACHE_KIB = 8192


class KeyIndex:
    """A set of keys, each with a text, that ends with the process."""

    def __init__(self) -> None:
        # An empty name is a database of its own, on the disk as far as the cache does not hold it.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}", "locking_mode=EXCLUSIVE"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE keys (digest BLOB PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID")
        self._database.execute("BEGIN")
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: str) -> bool:
        return self.text(key) is not None

    def add(self, key: str, text: str = "") -> bool:
        """Add a key; returns whether it is new. The text of a key that is there stays."""
        done = self._database.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (digest_of(key), text))
        self._count += done.rowcount
        return bool(done.rowcount)

    def replace(self, key: str, text: str) -> None:
        """Add a key, or give one that is there another text."""
        if not self.add(key, text):
            self._database.execute("UPDATE keys SET text = ? WHERE digest = ?", (text, digest_of(key)))

    def text(self, key: str) -> str | None:
        """The text of a key; None if it was not added."""
        row = self._database.execute("SELECT text FROM keys WHERE digest = ?", (digest_of(key),)).fetchone()
        return None if row is None else str(row[0])

    def close(self) -> None:
        """Give its memory and its file back."""
        self._database.close()


def digest_of(key: str) -> bytes:
    """The 16 bytes that stand for a key."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()
