"""Files of others, broken on purpose: each reader gives an answer, or an `InputError` of one line."""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.faults.broken_files import Breaker, FaultReader, broken_here, mutated, outcome_of
from benchmarks.faults.foreign import READERS
from benchmarks.faults.processes import read_in_a_process
from data.errors import CorruptStoreError, InputError
from data.molecules.library import PreparedLibrary, read_part

#: Broken files of each reader: fewer of those that take long to read.
FEW = {"states": 3, "forecasts": 2, "fields": 4, "vtk": 5, "md17": 6, "deepmd": 6, "ase": 6, "vasprun": 6}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_a_broken_file_is_an_answer_or_one_line(name: str, tmp_path: Path) -> None:
    tally = broken_here(READERS[name], tmp_path, FEW.get(name.split()[0], 12), seed=7)
    assert tally.faults == []
    assert sum(tally.outcomes.values()) > 0


def test_the_same_seed_breaks_the_same_bytes_and_kinds_of_damage_differ() -> None:
    content, other = bytes(range(256)) * 8, b"1234 5678 " * 100
    mutants = [mutated(content, other, random.Random(seed)) for seed in range(40)]
    assert mutants == [mutated(content, other, random.Random(seed)) for seed in range(40)]
    assert len({broken for _, broken in mutants}) > 35
    assert len({how.split("+")[0] for how, _ in mutants}) > 6


def test_what_a_reader_may_not_do_is_told_apart(tmp_path: Path) -> None:
    def outcome(error: Exception | None, cause: Exception | None = None) -> str:
        def read(path: Path) -> None:
            if error is not None:
                raise error from cause

        return outcome_of(read, tmp_path)[0]

    assert outcome(None) == "answer"
    assert outcome(CorruptStoreError("damaged", where="a.nc")) == "named"
    assert outcome(IndexError(3)) == "traceback"
    assert outcome(MemoryError()) == "memory"
    assert outcome(InputError("too large"), MemoryError()) == "memory"
    assert outcome(InputError("x", remedy="y" * 3000)) == "lines"


def test_an_error_that_does_not_say_which_file_it_is_is_told_apart(tmp_path: Path) -> None:
    def refusing(said: str) -> str:
        def read(path: Path) -> None:
            raise InputError("damaged", where=said)

        def make(path: Path, seed: int) -> None:
            path.write_text("1")

        reader = FaultReader("x", "x.csv", make, read)
        return Breaker(reader, tmp_path / said, 0).outcome()[0]

    assert [refusing(said) for said in ("x.csv", "a/x.npz", "settings")] == ["named", "named", "unnamed"]


def test_broken_files_are_read_in_a_process_that_may_die() -> None:
    read = list(read_in_a_process("foreign", "foam table", 12, seed=3))
    assert [one.number for one in read] == list(range(12))
    assert {one.outcome for one in read} <= {"answer", "named"}


def test_of_a_directory_one_file_is_broken(tmp_path: Path) -> None:
    breaker = Breaker(READERS["foam case"], tmp_path, 0)
    for number in range(4):
        how = breaker.make(number)
        part = Path(how.split(":")[0])
        valid = breaker.valid[0]
        changed = [
            p.relative_to(valid) for p in valid.rglob("*")
            if p.is_file() and p.read_bytes() != (breaker.path / p.relative_to(valid)).read_bytes()
        ]  # fmt: skip
        assert changed in ([part], [])


def test_a_prepared_library_that_was_crafted_is_refused(tmp_path: Path) -> None:
    READERS["prepared library"].make(tmp_path / "l", 0)
    card = tmp_path / "l" / "library.json"
    whole = json.loads(card.read_text())

    def refusal(**changes: object) -> str:
        value = json.loads(json.dumps(whole))
        for key, new in changes.items():
            value["parts"][0][key] = new
        card.write_text(json.dumps(value))
        with pytest.raises(CorruptStoreError) as caught:
            read_part(tmp_path / "l", PreparedLibrary.open(tmp_path / "l").parts[0])
        return str(caught.value)

    arrays = whole["parts"][0]["arrays"]
    assert "no name of a part" in refusal(file="../../secret")
    assert "atoms of part-00000.bin is |O" in refusal(arrays=arrays | {"atoms": [0, "|O", [1, 8], 0]})
    assert "of shape [1000000000000, 8]" in refusal(arrays=arrays | {"bonds": [0, "<f8", [10**12, 8], 0]})
    start, kind, (count, _), _ = arrays["bond_atoms"]
    far = np.full(2 * count, 200, np.uint8)
    part = tmp_path / "l" / "part-00000.bin"
    content = bytearray(part.read_bytes())
    content[start : start + far.size] = far.tobytes()
    part.write_bytes(bytes(content))
    assert "a bond ends at an atom that its molecule does not have" in refusal(
        arrays=arrays | {"bond_atoms": [start, kind, [count, 2], zlib.crc32(far.data)]}
    )
