"""Values of a configuration of another kind than a class takes are refused by the name of their key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from data.errors import InputError
from data.settings import build, existing_file, names
from data.value_types import described, fits, refuse_other_kinds

TRIED: list[tuple[Any, Any, bool]] = [
    (1, int, True),
    (True, int, False),
    (1, float, True),
    (1.5, int, False),
    (None, float, False),
    (None, float | None, True),
    ("a", str, True),
    ("a", Sequence[str], False),
    (["a"], Sequence[str], True),
    ([["a"]], list[str], False),
    ([None], tuple[str, ...], False),
    ([1, 2], tuple[int, int], True),
    ([1], tuple[int, int] | None, False),
    ({"a": 1}, Mapping[str, float], True),
    ({"a": "b"}, dict[str, float], False),
    ("x", Literal["x", "y"], True),
    ("z", Literal["x", "y"], False),
    ("a/b", Path, True),
    (1, Path, False),
    ({"a": [None]}, Any, True),
    ({"a": 1}, "a class that is not known here", True),
]


@pytest.mark.parametrize(("value", "hint", "fit"), TRIED, ids=str)
def test_a_value_fits_its_annotation_or_not(value: Any, hint: Any, fit: bool) -> None:
    assert fits(value, hint) is fit


def test_a_kind_is_described_in_words() -> None:
    assert described(float | None) == "a number or null"
    assert described(tuple[str, ...]) == "a list, each entry a text"
    assert described(Literal["x", "y"]) == "one of x, y"


@dataclass(frozen=True)
class Inner:
    inputs: list[str] | None = None


@dataclass(frozen=True)
class Outer:
    width: int = 1
    inner: Inner = field(default_factory=Inner)
    anything: Any = None


def test_the_message_names_key_kind_and_value() -> None:
    with pytest.raises(InputError, match=r"^data\.inner\.inputs: must be a list.* or null, got \[\[1\]\]"):
        build(Outer, {"inner": {"inputs": [[1]]}}, where="data")
    assert build(Outer, {"inner": {"inputs": ["a"]}, "anything": [[1]]}, where="").inner.inputs == ["a"]
    with pytest.raises(InputError, match=r"^simulator\.width: must be a whole number, got \{a: 1\}"):
        refuse_other_kinds(Outer, {"width": {"a": 1}}, "simulator")


def test_names_are_texts_or_numbers_and_nothing_else() -> None:
    assert names(None, "k") == []
    assert names("gap", "k") == ["gap"]
    # A column may be called 1, and a number without a unit has the unit 1.
    assert names(1, "k") == ["1"]
    assert names(["a", 2], "k") == ["a", "2"]
    for value in (True, {"a": 1}, [["a"]], [None], [True]):
        with pytest.raises(InputError, match=r"^data\.unit: must be a name or a list of names, got .*data\.unit=NAME"):
            names(value, "data.unit")
    for nothing in (None, "", []):
        with pytest.raises(InputError, match=r"^data\.file: "):
            existing_file(nothing, "data.file")  # type: ignore[arg-type]
