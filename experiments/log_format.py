"""Lines of `log.txt` and of the terminal that every encoder takes, whatever a program or a file's name holds."""

from __future__ import annotations

import io
import logging
import sys

from data.encodable import encodable


class EncodableFormatter(logging.Formatter):
    """As the standard one; what it gives is `encodable`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, with its traceback."""
        return encodable(super().format(record))


def show_any_text() -> None:
    """Let the standard output escape what its encoding lacks, as the standard error does, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
