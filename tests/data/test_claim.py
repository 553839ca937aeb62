"""Nothing is written to a directory that holds something else, nor by two processes at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from data.claim import LOCK, MARK, claim, refuse_other
from data.errors import CorruptStoreError, InputError

HOLD = (
    "import sys, time; from pathlib import Path; from data.claim import claim\n"
    "with claim(Path(sys.argv[1]), 'screen'):\n"
    "    print('held', flush=True); time.sleep(60)\n"
)


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below, with its bytes."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_a_directory_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "part-00000.parquet").write_bytes(b"precious")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="results, which no screen of this project wrote"), claim(tmp_path, "screen"):
        pass
    assert contents(tmp_path) == before


def test_a_directory_is_claimed_again_by_its_own_kind_alone(tmp_path: Path) -> None:
    with claim(tmp_path / "a", "screen") as directory:
        (directory / "top.csv").write_text("x")
    with claim(tmp_path / "a", "screen"):
        pass
    with pytest.raises(InputError, match="holds a screen, not a training"), claim(tmp_path / "a", "training"):
        pass


def test_a_command_that_made_nothing_leaves_room_for_another(tmp_path: Path) -> None:
    with claim(tmp_path / "a", "pipeline"):
        pass
    with (
        claim(tmp_path / "a", "training"),
        pytest.raises(InputError, match="already writes a training"),
        claim(tmp_path / "a", "screen"),
    ):
        pass


def test_what_an_earlier_version_wrote_is_adopted(tmp_path: Path) -> None:
    (tmp_path / "screen.json").write_text("{}")
    with claim(tmp_path, "screen", adopt=lambda directory: (directory / "screen.json").is_file()):
        assert (tmp_path / MARK).is_file()


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"process {first.pid} is writing there"), claim(tmp_path, "screen"):
            pass
    finally:
        first.kill()
        first.wait()
    with claim(tmp_path, "screen"):
        pass


def test_no_link_within_a_directory_is_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out = tmp_path / "out"
    with claim(out, "screen"):
        pass
    (out / "ledger.jsonl").symlink_to(victim)
    with pytest.raises(InputError, match=r"ledger\.jsonl: a symbolic link"), claim(out, "screen"):
        pass
    (out / "ledger.jsonl").unlink()
    (out / LOCK).unlink()
    (out / LOCK).symlink_to(victim)
    with pytest.raises(InputError, match="symbolic link"), claim(out, "screen"):
        pass
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("text", ["", "[]", '{"kind', "\udcff"])
def test_a_damaged_mark_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / MARK).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CorruptStoreError, match=MARK.replace(".", r"\.")):
        refuse_other(tmp_path, "screen")


def test_a_file_and_a_link_that_leads_nowhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    for name, words in (("file", "is a file"), ("link", "leads nowhere")):
        with pytest.raises(InputError, match=words):
            refuse_other(tmp_path / name, "screen")
