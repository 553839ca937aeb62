"""Files appear whole or not at all, with the permissions that the umask leaves."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from data.files import atomic_directory, atomic_path, remove_directory, sweep, write_json, write_text


def test_a_write_that_fails_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a") as temporary:  # noqa: PT012 (the write has begun)
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_symbolic_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "out").symlink_to(victim)
    write_text(tmp_path / "out", "new")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "out").is_symlink()


def test_no_number_is_better_than_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_decides_who_may_read(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a", "x")
        with atomic_directory(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o777 & ~mask


def test_what_a_dead_writer_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    theirs = [".a.json.abcdefg.part", "b.abcdefgh.part", ".c.abcdefgh.tmp", ".d.ABCDEFGH.part", "e.part"]
    for name in theirs:
        (tmp_path / name).write_text("precious")
    (tmp_path / ".link.abcdefgh.part").symlink_to(tmp_path / "e.part")
    dead = tmp_path / "deep" / ".a.json.abcdefgh.part"
    dead.parent.mkdir()
    dead.write_text("half")
    half_made = tmp_path / ".00001.abcd_123.part"
    (half_made / "arrays").mkdir(parents=True)
    (half_made / "arrays" / "x").write_text("half")
    with atomic_path(tmp_path / "live") as live, atomic_directory(tmp_path / "folder") as folder:
        live.write_text("x")
        (folder / "y").write_text("y")
        assert sorted(sweep(tmp_path)) == sorted([dead, half_made])
        assert live.exists()
        assert folder.exists()
    expected = [*theirs, ".link.abcdefgh.part", "deep", "live", "folder"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(expected)
    assert (tmp_path / "folder" / "y").read_text() == "y"


def test_a_writer_of_another_process_is_left_in_peace_until_it_dies(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from data.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1]) / 'a') as path:\n"
        "    print(path.name, flush=True); sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], text=True, **pipes)  # type: ignore[call-overload]
    try:
        name = writer.stdout.readline().strip()
        assert sweep(tmp_path) == []
    finally:
        writer.kill()
        writer.wait()
    assert sweep(tmp_path) == [tmp_path / name]


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("old")
    with pytest.raises(RuntimeError), atomic_directory(tmp_path / "a") as folder:  # noqa: PT012 (the write has begun)
        (folder / "new").write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "old"]
    with atomic_directory(tmp_path / "a") as folder:
        (folder / "new").write_text("new")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "new"]
    remove_directory(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_directory_is_replaced_where_names_cannot_change_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.files._exchange", lambda one, other: False)
    test_a_directory_is_replaced_whole(tmp_path)


def test_bytes_are_on_the_disk_before_a_name_and_the_name_before_an_old_one_goes(
    tmp_path: Path, disk: list[tuple[str, ...]]
) -> None:
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").write_text("x")
    with atomic_directory(tmp_path / "b") as folder:
        (folder / "c").mkdir()
        (folder / "c" / "new").write_text("x")
    remove_directory(tmp_path / "b")
    seen = [(kind, *(re.sub(r"\.[a-z0-9_]{8}\.", ".*.", name) for name in names)) for kind, *names in disk]
    here = tmp_path.name
    assert seen == [
        ("sync", ".a.*.part"), ("rename", ".a.*.part", "a"), ("sync", here),
        ("sync", "new"), ("sync", "c"), ("sync", ".b.*.part"), ("sync", here),  # the two change places in one step
        ("remove", "old"), ("remove", ".b.*.part"),
        ("rename", "b", ".b.*.part"), ("sync", here),
        ("remove", "new"), ("remove", "c"), ("remove", ".b.*.part"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["\udc80", "a\0b", "b\ud83d", "é \U0001f600", "\\udc80", ""])
def test_any_text_is_written_and_read_by_every_reader(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "a", text)
    write_json(tmp_path / "a.json", {"x": [text], text: 1})
    shown = text.replace("\udc80", r"\udc80").replace("\0", r"\x00").replace("\ud83d", r"\ud83d")
    assert (tmp_path / "a").read_text(encoding="utf-8") == shown
    value = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert value == {"x": [shown], shown: 1}
    json.dumps(value, ensure_ascii=False).encode("utf-8")
