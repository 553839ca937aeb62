"""Files of JSON as they come from other hands: a value replaced, left out or added, whatever the bytes around it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

#: What a value becomes: of every type, of sizes that no memory holds, and text that is no number but looks like one.
REPLACEMENTS: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 0.5, 1_000_000_000, 2**70, -1e300, 1e-320, "", "x", "²", "1", "../../x", "a\0b",
    "\ud800", [], [[]], [0], [1, 2, 3], {}, {"x": 1}, {"architecture": "fno"}, [None], ["x"],
)  # fmt: skip
#: Entries of a list that are changed: long ones are all of one kind.
FIRST = 4


def replaced(content: bytes, _: bytes, rng: random.Random) -> bytes:
    """One value becomes another of `REPLACEMENTS`."""
    return _changed(content, rng, lambda old: rng.choice(REPLACEMENTS))


def scaled(content: bytes, _: bytes, rng: random.Random) -> bytes:
    """One number changes its sign or its size."""

    def other(old: Any) -> Any:
        number = isinstance(old, int | float) and not isinstance(old, bool)
        return old * rng.choice((-1, 2, 1000)) if number else old

    return _changed(content, rng, other)


def extended(content: bytes, _: bytes, rng: random.Random) -> bytes:
    """One object has a key more, or one list an entry."""

    def longer(old: Any) -> Any:
        if isinstance(old, dict):
            return {**old, "strange": 1}
        return [*old, old[0] if old else 1] if isinstance(old, list) else old

    return _changed(content, rng, longer)


def dropped(content: bytes, _: bytes, rng: random.Random) -> bytes:
    """One key or entry is left out."""
    value = json.loads(content)
    path = rng.choice(list(_places(value)))
    if path:
        del _at(value, path[:-1])[path[-1]]
    return json.dumps(value).encode()


def nested(_: bytes, __: bytes, ___: random.Random) -> bytes:
    """Lists in lists, deeper than any parser goes."""
    return b"[" * 100_000


#: Name of a change -> what makes it of a file that is JSON.
CHANGES = (
    ("replaced", replaced), ("replaced", replaced), ("replaced", replaced), ("scaled", scaled), ("dropped", dropped),
    ("extended", extended), ("nested", nested),
)  # fmt: skip


def _changed(content: bytes, rng: random.Random, change: Any) -> bytes:
    value = json.loads(content)
    path = rng.choice(list(_places(value)))
    if not path:
        return json.dumps(change(value)).encode()
    holder = _at(value, path[:-1])
    holder[path[-1]] = change(holder[path[-1]])
    return json.dumps(value).encode()


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for number, (key, entry) in enumerate(items):
        if number < FIRST or isinstance(value, Mapping):
            yield from _places(entry, (*path, key))
