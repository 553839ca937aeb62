"""A changed byte is noticed, a kill between a file and its checksum is not taken for one, and old files are read."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import files
from data.checksums import TABLE, crc32_of, read_bytes, read_table, seal, sha256_of, unseal, verify
from data.errors import CorruptStoreError
from data.files import list_as_is, listed_path, remove_listed, write_json, write_text

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_a_changed_byte_is_noticed_at_every_place_of_a_file_and_of_the_table(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    for name in ("a.json", TABLE):
        content = (tmp_path / name).read_bytes()
        for place in range(len(content)):
            damaged = bytearray(content)
            damaged[place] ^= 1 << place % 8
            (tmp_path / name).write_bytes(damaged)
            for read in (read_bytes, verify):
                with pytest.raises(CorruptStoreError) as caught:
                    read(tmp_path / "a.json")
                assert caught.value.where == str(tmp_path / name)
            # A table that is damaged is not written over.
            if name == TABLE:
                with pytest.raises(CorruptStoreError):
                    write_json(tmp_path / "b.json", {})
        (tmp_path / name).write_bytes(content)
    assert json.loads(read_bytes(tmp_path / "a.json")) == {"x": 1}
    assert not (tmp_path / "b.json").exists()


def test_the_table_is_one_that_sha256sum_checks(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "first", listed=True)
    write_text(tmp_path / "a.txt", "second", listed=True)
    write_json(tmp_path / "names are free é.json", [1, 2])
    (tmp_path / "grown.csv").write_text("a,b\n")
    list_as_is(tmp_path / "grown.csv")
    remove_listed(tmp_path / "a.txt")
    done = subprocess.run(["sha256sum", "--check", "--strict", TABLE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK\n") == 2


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_kill_between_the_table_and_the_file_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    path = tmp_path / "a.json"
    write_json(path, "old")

    def killed(source: Path, target: Path) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patched:
        replace = os.replace
        patched.setattr(files.os, "replace", lambda a, b: killed(a, b) if Path(b) == path else replace(a, b))
        for step in range(steps):
            with pytest.raises(OSError, match="killed"):
                write_json(path, f"new {step}")
    assert json.loads(read_bytes(path)) == "old"
    write_json(path, "newest")
    assert json.loads(read_bytes(path)) == "newest"
    path.write_text('"another"\n')
    with pytest.raises(CorruptStoreError):
        read_bytes(path)
    # What is written over a damaged file is not taken for it.
    write_json(path, "good")
    assert json.loads(read_bytes(path)) == "good"


def test_one_without_a_checksum_is_read_and_one_line_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "old.json").write_text("1")
    assert read_bytes(tmp_path / "old.json") == read_bytes(tmp_path / "old.json") == b"1"
    assert [r.getMessage().split(":")[0] for r in caplog.records] == [str(tmp_path)]
    caplog.clear()
    write_json(tmp_path / "new.json", 2)
    verify(tmp_path / "old.json")
    verify(tmp_path / "old.json")
    assert [r.getMessage().split(":")[0] for r in caplog.records] == [str(tmp_path / "old.json")]
    # It is listed once it is written again, and until then may be what it was.
    with listed_path(tmp_path / "old.json") as temporary:
        temporary.write_text("3")
    assert read_table(tmp_path) is not None
    assert len((read_table(tmp_path) or {})["old.json"]) == 2


def test_a_reader_of_a_file_that_is_replaced_again_and_again_sees_no_damage(tmp_path: Path) -> None:
    path, over = tmp_path / "a.json", threading.Event()
    write_json(path, 0)

    def write() -> None:
        for number in range(1, 60):
            write_json(path, number)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = [0]
    while not over.is_set():
        seen.append(int(json.loads(read_bytes(path))))
        verify(path)
    writer.join()
    assert seen == sorted(seen)


def test_sums_of_a_file_are_those_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123456789")
    # The check value of CRC-32, and the first of FIPS 180-2's.
    assert crc32_of(tmp_path / "a") == 0xCBF43926
    assert crc32_of(tmp_path / "a", 0) == 0
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(st.dictionaries(st.text(max_size=5).filter(lambda key: key != "crc32"), PLAIN, max_size=4))
def test_what_is_sealed_comes_back(value: dict[str, object]) -> None:
    sealed = seal(value)
    back = unseal(json.loads(json.dumps(sealed)), where="x", remedy="")
    assert json.dumps(back) == json.dumps({k: v for k, v in sealed.items() if k != "crc32"})


def test_no_changed_byte_of_a_sealed_object_gives_another_one() -> None:
    value = {"rows": 512, "names": ["a", "é"], "share": 0.125, "none": None}
    content = json.dumps(seal(value)).encode()
    outcomes = []
    for place in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        try:
            back = unseal(json.loads(damaged), where="x.json", remedy="")
        except CorruptStoreError as error:
            outcomes.append(str(error.where))
        except ValueError:
            outcomes.append("no JSON")
        else:
            assert back == value
            outcomes.append("same")
    assert set(outcomes) == {"x.json", "no JSON", "same"}
    assert outcomes.count("x.json") > outcomes.count("same")
