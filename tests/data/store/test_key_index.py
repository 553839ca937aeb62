"""An index of keys tells new ones from others, holds a text for each, and takes little memory."""

from __future__ import annotations

import tracemalloc

from data.store.key_index import KeyIndex


def test_a_key_is_new_once_and_its_text_can_be_replaced() -> None:
    index = KeyIndex()
    assert index.add("a", "first")
    assert not index.add("a", "second")
    assert index.text("a") == "first"
    index.replace("a", "third")
    index.replace("b", "fourth")
    assert (index.text("a"), index.text("b"), index.text("c"), len(index)) == ("third", "fourth", None, 2)
    # Text that no file takes is a key as well, and other than its escape.
    assert index.add("\ud800")
    assert index.add(r"\ud800")
    assert "\ud800" in index


def test_an_index_needs_no_memory_of_python_for_a_key() -> None:
    index = KeyIndex()
    tracemalloc.start()
    try:
        for number in range(20_000):
            index.add(f"{number:064x}")
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index) == 20_000
    # A set of these would have more than two million bytes.
    assert size < 100_000
