"""What `to_plain` writes is JSON, and `from_plain` reads it back as an equal value of the declared type."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Bool, Float, Int, UInt64

from data.errors import InputError
from data.plain import (
    FLAT,
    OMIT_DEFAULT,
    UNWRITTEN,
    Form,
    PlainError,
    Tagged,
    flat_entries,
    from_plain,
    to_plain,
    written_as,
)
from data.spec import content_hash


@dataclass(frozen=True)
class Shape:
    sides: int = 3


@dataclass(frozen=True)
class Square(Shape):
    side: float = 1.0


@dataclass(frozen=True)
class Circle(Shape):
    radius: float = 1.0

    def __post_init__(self) -> None:
        if self.radius < 0:
            raise ValueError("radius must be 0 or more")


SHAPES = Tagged("name", {"square": Square, "circle": Circle})
LIMIT = Form(float | None, lambda x: x if math.isfinite(x) else None, lambda x: math.inf if x is None else x)
PAIR = Form(tuple[int, int], lambda s: (s.sides, 0), lambda pair: Shape(pair[0]))


@dataclass(frozen=True)
class Part:
    name: str
    place: Path | None
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Group:
    first: int = 1
    second: float = field(default=2.0, metadata=written_as("group"))

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError("first must be 0 or more")


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    by_name: Mapping[str, Part]
    by_number: Mapping[int, float]
    kind: Literal["a", "b"]
    names: tuple[float, ...] | tuple[str, ...]
    shape: Annotated[Shape, SHAPES]
    shapes: Mapping[str, Annotated[Shape, SHAPES]]
    limit: Annotated[float, LIMIT]
    pair: Annotated[Shape, PAIR]
    spelled: bool = field(default=True, metadata=written_as("written"))
    added: int = field(default=0, metadata=OMIT_DEFAULT)
    listed: tuple[int, ...] = field(default_factory=tuple, metadata=OMIT_DEFAULT)
    where: str = field(default="", metadata=UNWRITTEN)
    anything: Any = None
    group: Group = field(default_factory=Group, metadata=FLAT)


numbers = st.floats(-1e300, 1e300) | st.integers(-(2**53), 2**53)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
paths = st.none() | text.filter(lambda t: "\0" not in t).map(Path)
parts = st.builds(Part, text, paths, st.lists(numbers, max_size=3).map(tuple))
shapes = st.builds(Square, st.integers(0, 9), numbers) | st.builds(Circle, st.integers(0, 9), st.floats(0, 10))
wholes = st.builds(
    Whole,
    parts=st.lists(parts, max_size=2).map(tuple),
    by_name=st.dictionaries(text, parts, max_size=2),
    by_number=st.dictionaries(st.integers(-5, 200), numbers, max_size=3),
    kind=st.sampled_from(["a", "b"]),
    names=st.lists(numbers, max_size=3).map(tuple) | st.lists(text, max_size=3).map(tuple),
    shape=shapes,
    shapes=st.dictionaries(text, shapes, max_size=2),
    limit=st.floats(0, 10) | st.just(math.inf),
    pair=st.builds(Shape, st.integers(0, 9)),
    spelled=st.booleans(),
    added=st.integers(0, 2),
    listed=st.lists(st.integers(0, 3), max_size=2).map(tuple),
    anything=st.none() | numbers | text | st.lists(numbers, max_size=2),
    group=st.builds(Group, st.integers(0, 9), numbers),
)


@given(wholes)
def test_what_is_written_is_read_as_an_equal_value_with_an_equal_hash(whole: Whole) -> None:
    plain = to_plain(whole)
    stored = json.loads(json.dumps(plain, allow_nan=False))
    assert stored == plain
    read = from_plain(Whole, stored)
    assert read == whole
    assert content_hash(to_plain(read)) == content_hash(plain)


def example() -> Whole:
    square = Square(4, 2)
    return Whole((), {}, {}, "a", (), square, {}, math.inf, Shape(5))


def test_fields_are_written_as_their_hints_and_metadata_say() -> None:
    plain = to_plain(example())
    assert plain["shape"] == {"name": "square", "sides": 4, "side": 2}
    assert type(plain["shape"]["side"]) is int
    assert (plain["limit"], plain["pair"], plain["written"]) == (None, [5, 0], True)
    assert not {"added", "listed", "where", "spelled"} & set(plain)
    assert (plain["first"], plain["group"]) == (1, 2.0)
    assert flat_entries(Whole) == {"first": "group.first", "group": "group.second"}
    # Files that were written before a setting was added lack it.
    assert from_plain(Whole, {k: v for k, v in plain.items() if k != "group"}) == example()
    assert to_plain(replace(example(), added=1, where="here"))["added"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": "one"}, "first must be a whole number"),
        ({"group": {"second": 1.0}}, "group must be a number"),
        ({"first": -1}, "first must be 0 or more"),
        ({"second": 1.0}, "second is no key of these"),
        ({"shape": {"sides": 3}}, "shape.name is missing"),
        ({"shape": {"name": "cube"}}, "shape.name must be one of square, circle, got \"cube\""),
        ({"shape": {"name": "circle", "side": 1.0}}, "shape.side is no key of these: sides, radius"),
        ({"shape": {"name": "circle", "radius": -1}}, "shape radius must be 0 or more"),
        ({"shapes": {"one": {"name": "circle", "radius": "1"}}}, "shapes.one.radius must be a number, got \"1\""),
        ({"by_number": {"six": 1.0}}, "by_number.six must be a whole number, got \"six\""),
        ({"parts": [{"name": "a"}]}, "parts.0.place is missing"),
        ({"pair": [1]}, "pair must have 2 entries, got 1"),
        ({"limit": "inf"}, "limit must be a number, got \"inf\""),
        ({"where": "here"}, "where is no key of these"),
        ({"spelled": True}, "spelled is no key of these"),
        ({"written": 1}, "written must be true or false, got 1"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_by_its_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlainError, match=message.replace(".", r"\.").replace("(", r"\(")):
        from_plain(Whole, to_plain(example()) | changes)


def test_what_json_cannot_hold_is_refused_by_its_key() -> None:
    with pytest.raises(PlainError, match=r"by_number\.1 must be a finite number, got nan"):
        to_plain(replace(example(), by_number={1: math.nan}))
    with pytest.raises(PlainError, match=r"anything\.a cannot be written to JSON: it is of type set"):
        to_plain(replace(example(), anything={"a": {1}}))
    with pytest.raises(PlainError, match="None must be text or a whole number"):
        to_plain({None: 1})
    with pytest.raises(KeyError, match="Shape is none of square, circle"):
        to_plain(replace(example(), shape=Shape()))


def test_numbers_and_arrays_of_numpy_become_plain_numbers() -> None:
    value = {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), np.int32(7): np.arange(4).reshape(2, 2)}
    plain = to_plain(value)
    assert plain == {"a": 0.5, "b": 3, "c": True, "7": [[0, 1], [2, 3]]}
    assert [type(plain[k]) for k in "abc"] == [float, int, bool]


@dataclass(frozen=True, eq=False)
class Arrays:
    floats: Float[np.ndarray, "row column"]
    integers: Int[np.ndarray, " row"]
    hashes: UInt64[np.ndarray, " hash"]
    flags: Bool[np.ndarray, " row"]
    any_shape: np.ndarray


def test_arrays_are_read_with_the_dtype_and_shape_of_their_hints() -> None:
    arrays = Arrays(np.eye(2), np.array([1, -2]), np.array([2**64 - 1], np.uint64), np.array([True, False]), np.ones(3))
    read = from_plain(Arrays, json.loads(json.dumps(to_plain(arrays))))
    for name in vars(arrays):
        before, after = getattr(arrays, name), getattr(read, name)
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("floats", value) for value in ([1.0], [[1.0], [1.0, 2.0]], [["1"]], [[True]], None)),
        *(("integers", [1.5]), ("hashes", [-1]), ("flags", [0, 1]), ("any_shape", {"a": 1})),
    ],
)
def test_an_array_of_another_shape_or_dtype_is_refused(key: str, value: Any) -> None:
    arrays = Arrays(np.eye(2), np.array([1]), np.array([1], np.uint64), np.array([True]), np.ones(3))
    with pytest.raises(PlainError, match=f"{key} must be an array of"):
        from_plain(Arrays, to_plain(arrays) | {key: value})


def test_a_form_that_cannot_read_says_why() -> None:
    form = Form(str, lambda raw: base64.b64encode(raw).decode(), lambda text: base64.b64decode(text, validate=True))
    kind: Any = Annotated[bytes, form]
    assert from_plain(kind, form.to_plain(b"abc")) == b"abc"
    with pytest.raises(PlainError, match="base64"):
        from_plain(kind, "no base 64!")


def test_an_input_error_of_a_class_keeps_its_place() -> None:
    @dataclass
    class Strict:
        number: int

        def __post_init__(self) -> None:
            raise InputError("is not right", where="number")

    with pytest.raises(PlainError, match="number is not right"):
        from_plain(Strict, {"number": 1})
