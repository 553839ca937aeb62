"""Answers of parsing processes come back as they were, and bytes that are no answer run nothing."""

from __future__ import annotations

import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data.errors import InputError
from data.formats.rows import Bad, FrameNotes, Row
from data.processes.parsing import DiedError, Lane, RowLimits
from data.processes.wire import BESIDE, MARK, GarbledAnswerError, pack, unpack

TEXTS = st.text(st.characters(), max_size=5)
NUMBERS = st.integers() | st.floats(allow_nan=False) | st.complex_numbers(allow_nan=False)
PLAIN = st.none() | st.booleans() | NUMBERS | TEXTS | st.binary(max_size=5)


def through(value: Any) -> Any:
    head, *beside = pack(value)
    return unpack(bytes(head), [bytearray(part) for part in beside])


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tolist() == b.tolist()
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(v, b[k]) for k, v in a.items())
    return bool(type(a) is type(b) and a == b)


@given(
    st.recursive(
        PLAIN | arrays.arrays(arrays.integer_dtypes() | arrays.boolean_dtypes(), arrays.array_shapes(min_side=0)),
        lambda v: st.lists(v, max_size=4) | st.tuples(v, v) | st.dictionaries(TEXTS | st.integers(0, 9), v, max_size=3),
        max_leaves=12,
    )
)
def test_data_comes_back_with_its_types(value: Any) -> None:
    assert same(value, through(value))


def test_rows_and_refusals_come_back() -> None:
    positions = np.random.default_rng(0).random((BESIDE, 3))
    properties = {"energy": np.float64(-1.5), "pbc": (True, False, True), "name": "\udc80", "tags": {1, 2}, "z": 1j}
    row = Row(3, None, np.arange(BESIDE, dtype=np.int32), positions, properties, ("x",), FrameNotes({"energy": "eV"}))
    (number, again), bad, refusal, path = through([(7, row), Bad(4, "C(", "no"), InputError("a", where="b"), Path("c")])
    assert number == 7
    assert vars(again).keys() == vars(row).keys()
    assert np.array_equal(again.positions, positions)
    assert again.numbers.dtype == np.int32
    assert (again.properties, again.notes, again.problems) == (properties, row.notes, ("x",))
    assert type(again.properties["energy"]) is np.float64
    assert bad == Bad(4, "C(", "no")
    assert (refusal.problem, refusal.where, refusal.remedy) == ("a", "b", None)
    assert path == Path("c")
    again.positions[0] = 0.0
    assert not again.positions[0].any()


class Deadly:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["UNDERSTUDY_TEST_FOLDER"],)


def test_bytes_that_are_no_answer_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "made"
    monkeypatch.setenv("UNDERSTUDY_TEST_FOLDER", str(folder))
    messages = [pickle.dumps(Deadly(), 5), b"", b"\xc1", pack(1)[0] + b"x"]
    for module, name in (("os", "_wrap_close"), ("subprocess", "Popen"), ("data.files", "Path"), ("data.nothing", "X")):
        messages.append(msgpack.packb({MARK: "object", 0: module, 1: name, 2: [["mkdir", str(folder)]]}))
    messages += [msgpack.packb({MARK: "array", 0: "|O", 1: [1], 2: bytes(8)}), msgpack.packb({MARK: "else", 0: 1})]
    messages.append(msgpack.packb({MARK: "array", 0: "<f8", 1: [2], 2: bytes(8)}))
    for message in messages:
        with pytest.raises(GarbledAnswerError):
            unpack(bytes(message))
    assert not folder.exists()


def test_an_object_that_is_no_data_is_not_sent() -> None:
    for value in (print, lambda: None, subprocess.DEVNULL.__class__, open):
        with pytest.raises(TypeError, match="no data"):
            pack([value])


def test_an_answer_that_cannot_be_sent_or_read_costs_one_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "answers_at_work.py").write_text(
        "import os, stat\n"
        "def work(what):\n"
        "    if what == 'garble':\n"
        "        ends = [i for i in range(3, 64) if os.path.exists(f'/proc/self/fd/{i}')]\n"
        "        ends = [i for i in ends if stat.S_ISSOCK(os.fstat(i).st_mode)]\n"
        "        for part in (b'\\1\\0\\0\\0', b'\\xc1\\xc1'):\n"
        "            os.write(ends[0], len(part).to_bytes(4, 'big') + part)\n"
        "    return print if what == 'function' else what.upper()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import answers_at_work

    lane = Lane(RowLimits(5.0, 700), modules=())
    try:
        with pytest.raises(DiedError, match="answer cannot be sent: a builtin_function_or_method is no data"):
            lane.ask(answers_at_work.work, "function")
        with pytest.raises(DiedError, match="an answer cannot be read"):
            lane.ask(answers_at_work.work, "garble")
        assert lane.ask(answers_at_work.work, "b") == "B"
    finally:
        lane.stop()
