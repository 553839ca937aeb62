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


class RunLogFile(logging.FileHandler):
    """Writes `log.txt` into the directory of a run, once the run has claimed that directory.

    Records of the time before are kept and written then: the directory has to be absent or empty when it is claimed.

    Args:
        filename: path of the log.
        encoding: encoding of its text.
    """

    def __init__(self, filename: str, encoding: str = "utf-8") -> None:
        super().__init__(filename, encoding=encoding, delay=True)
        self._waiting: list[logging.LogRecord] | None = []

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or keep it until the directory is claimed."""
        if self._waiting is None:
            super().emit(record)
        else:
            self._waiting.append(record)

    def write_waiting(self) -> None:
        """Write the records that were kept, and from now on each record at once."""
        records, self._waiting = self._waiting or [], None
        for record in records:
            self.emit(record)


def begin_log_files() -> None:
    """Let the log of the run be written, because its directory is claimed."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RunLogFile):
            handler.write_waiting()


def leave_log_files() -> None:
    """Leave the log of the run, and warnings on the terminal, to the first of several processes."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, RunLogFile):
            root.removeHandler(handler)
        elif isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.ERROR)


def show_any_text() -> None:
    """Let the standard output escape characters that its encoding lacks, as the standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
