"""Files of JSON as they come from other hands: every value replaced, every key left out, bytes cut and changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

#: What a value becomes: of every type, of sizes that no memory holds, and text that is no number but looks like one.
REPLACEMENTS: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 0.5, 1_000_000_000, 2**70, -1e300, 1e-320, "", "x", "²", "1", "../../x", "a\0b",
    "\ud800", [], [[]], [0], [1, 2, 3], {}, {"x": 1}, {"architecture": "fno"}, [None], ["x"],
)  # fmt: skip


class Mutation(NamedTuple):
    """One change of a file: what was done, and the bytes that come of it."""

    said: str
    content: bytes


def mutated(content: bytes, count: int, seed: int) -> Iterator[Mutation]:
    """Changes of a file of JSON, drawn evenly from all of its values and kinds of change.

    Args:
        content: of the file.
        count: how many are drawn.
        seed: of the draw; the same one gives the same changes.
    """
    random = np.random.default_rng(seed)
    value = json.loads(content)
    places = list(_places(value))
    for _ in range(count):
        kind = random.choice(["replace", "drop", "add", "scale", "bytes"], p=[0.6, 0.1, 0.05, 0.1, 0.15])
        if kind == "bytes":
            yield _changed_bytes(content, random)
            continue
        place = places[int(random.integers(len(places)))]
        yield _changed_value(json.loads(content), place, str(kind), random)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for number, (key, entry) in enumerate(items):
        # Long lists are all of one kind.
        if number < 4 or isinstance(value, Mapping):
            yield from _places(entry, (*path, key))


def _changed_value(value: Any, path: tuple[Any, ...], kind: str, random: np.random.Generator) -> Mutation:
    said = ".".join(map(str, path)) or "the whole"
    holder, key = {"": value}, ""
    if path:
        holder = value
        for step in path[:-1]:
            holder = holder[step]
        key = path[-1]
    old = holder[key]
    if kind == "drop" and path:
        del holder[key]
        said += " left out"
    elif kind == "add" and isinstance(old, dict | list):
        if isinstance(old, dict):
            old["strange"] = 1
        else:
            old.append(old[0] if old else 1)
        said += " with one more"
    elif kind == "scale" and isinstance(old, int | float) and not isinstance(old, bool):
        holder[key] = old * int(random.choice([-1, 2, 1000]))
        said += f" = {holder[key]}"
    else:
        new = REPLACEMENTS[int(random.integers(len(REPLACEMENTS)))]
        holder[key] = new
        said += f" = {new!r}"
    return Mutation(said, json.dumps(holder[""] if not path else value).encode())


def _changed_bytes(content: bytes, random: np.random.Generator) -> Mutation:
    at = int(random.integers(len(content) + 1))
    kind = int(random.integers(6))
    if kind == 0:
        return Mutation(f"cut at byte {at}", content[:at])
    if kind == 1:
        return Mutation(f"byte 255 put in at {at}", content[:at] + b"\xff" + content[at:])
    if kind == 2:
        return Mutation("nested without end", b"[" * 100_000)
    if kind == 3:
        return Mutation(f"NaN put in at {at}", content[:at] + b"NaN" + content[at:])
    if kind == 4:
        return Mutation(f"digits put in at {at}", content[:at] + b"9" * 5000 + content[at:])
    bit = 1 << int(random.integers(8))
    position = min(at, len(content) - 1)
    return Mutation(
        f"bit {bit} of byte {position} changed",
        content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :],
    )
