"""Makes all lines of `log.txt` and of the terminal encodable, whatever text a program or a file name contains."""

from __future__ import annotations

import io
import logging
import sys

from data.encodable import encodable


class EncodableFormatter(logging.Formatter):
    """The standard formatter, whose lines are made `encodable`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, with its traceback."""
        return encodable(super().format(record))


def show_any_text() -> None:
    """Let the standard output escape characters that its encoding lacks, as the standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
