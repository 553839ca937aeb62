"""What a run read of its files, as the same table on a page that its reader printed on the terminal."""

from __future__ import annotations

from pathlib import Path

from data.checksums import read_bytes
from data.json_files import parse_json
from data.plain import from_plain
from data.reading_summary import Reading
from experiments.pages.formatting import escape, table


def readings_of(run_dir: Path) -> list[Reading]:
    """The sources of `reading.json`; none of runs that were made before there was such a file, or whose file is broken.

    Raises:
        CorruptStoreError: the file is not what was written.
    """
    try:
        return from_plain(list[Reading], parse_json(read_bytes(run_dir / "reading.json")))
    except (OSError, ValueError):
        return []


def reading_table(run_dir: Path) -> str:
    """Sources, units, what was left out, and what was taken instead of what a file does not say; "" where unknown."""
    rows = [[escape(name), escape(text)] for reading in readings_of(run_dir) for name, text in reading.lines()]
    return table(["Candidates", "What was read"], rows, wordy=True) if rows else ""
