"""A bar is shown on a terminal alone; a closing table loses nothing in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from data.terminal import columns_table, print_table, progress_bar, show_pairs

PROGRAM = """
from data.terminal import progress_bar
with progress_bar("counting [a]", 3) as bar:
    for _ in range(3):
        bar.advance()
        bar.update(label="counting [b]", note="7/s [c]")
    bar.say("a sentence [d]")
print("ended")
"""


def test_without_a_terminal_a_bar_writes_nothing_but_what_it_says(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar("counting", 3) as bar:
        bar.advance()
        bar.update(2, total=4, label="more", note="1/s")
        bar.say("a [sentence]")
    assert capfd.readouterr() == ("", "a [sentence]\n")


def test_on_a_terminal_a_bar_shows_count_note_and_time_on_standard_error() -> None:
    # A terminal of its own takes standard error; standard output stays a pipe.
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=follower, check=True, env=environment
    )
    os.close(follower)
    shown = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert done.stdout == b"ended\n"
    for text in ("counting [b]", "3 of 3", "7/s [c]", "0:00:0", "a sentence [d]"):
        assert text in shown


def test_rows_with_brackets_and_equal_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    show_pairs("Read", [("file", "a[red].csv"), ("file", "b.csv " + "x" * 300)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:]] == [["file", "a[red].csv"], ["file", "b.csv", "x" * 300]]


def test_numbers_of_a_table_end_in_one_column(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(columns_table("Sizes", ["name", "size"], [("a [b]", "1"), ("c", "1,000")], caption="in bytes"))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[2].startswith("a [b]")
    assert len({len(line) for line in lines[1:4]}) == 1
    assert lines[4] == "in bytes"
