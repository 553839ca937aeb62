"""`understudy board [DIR] [out=FILE | port=NUMBER]`: the runs below a folder on one page."""

from __future__ import annotations

import argparse
import errno
from collections.abc import Sequence
from pathlib import Path

from data.errors import InputError, UsageError
from data.suggestions import did_you_mean
from data.terminal import show_pairs
from experiments.application.command_line import answer_command, command_parser
from experiments.application.json_document import print_document

KEYS = ("out", "port")


def board_command(arguments: Sequence[str]) -> int:
    """`understudy board [DIR] [out=FILE | port=NUMBER] [--json]`."""
    parser = command_parser(
        "board",
        "One page of the runs below a folder: their stages, states, headline metrics, costs and ages. It follows "
        "those under way, and compares chosen ones: learning curves, costs, metrics and settings. Without out it is "
        "served on this machine alone, until Ctrl-C; with out=FILE it is written to a file that needs no server.",
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", default="runs", help="a folder (default: runs)")
    parser.add_argument(
        "settings", metavar="KEY=VALUE", nargs="*", help="out=FILE, or port=NUMBER (default: 8050, or a free one)"
    )

    def run(options: argparse.Namespace) -> None:
        directory, settings = options.directory, list(options.settings)
        if directory.partition("=")[0] in KEYS and "=" in directory:
            directory, settings = "runs", [directory, *settings]
        values = _values(settings)
        root = Path(directory).expanduser()
        if "out" in values:
            _write(root, Path(values["out"]).expanduser(), as_json=options.json)
        else:
            _serve(root, _port(values.get("port")), as_json=options.json)

    return answer_command(parser, arguments, run)


def _values(settings: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign or key not in KEYS:
            remedy = " ".join(filter(None, [did_you_mean(key, KEYS), "Give out=FILE or port=NUMBER behind the folder"]))
            raise UsageError("no such key", where=key, key=key, remedy=remedy)
        values[key] = value
    if len(values) == 2:
        raise UsageError("a file has no port", where="port", key="port", remedy="Give out=FILE or port=NUMBER")
    return values


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not int(text) < 65536:
        raise UsageError(f"must be a whole number below 65536, got {text!r}", where="port", key="port")
    return int(text)


def _write(root: Path, page: Path, *, as_json: bool) -> None:
    from experiments.board.board_page import write_board

    count = write_board(root, page)
    if as_json:
        print_document({"page": str(page), "runs": count})
    else:
        show_pairs("Board", {"runs": f"{count:,} below {root}", "page": page})


def _serve(root: Path, port: int | None, *, as_json: bool) -> None:
    from experiments.board.board_server import PORT, BoardServer

    try:
        server = BoardServer(root, PORT if port is None else port)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        if port is not None:
            raise InputError(
                f"port {port} cannot be used: {error.strerror}",
                where="port",
                key="port",
                remedy="Give another, or port=0 for a free one",
            ) from error
        server = BoardServer(root, 0)
    with server:
        if as_json:
            print_document({"url": server.url, "directory": str(root)})
        else:
            show_pairs("Board", {"runs": f"below {root}", "address": server.url, "end": "Ctrl-C"})
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return
