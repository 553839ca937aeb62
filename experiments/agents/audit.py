"""The record of all calls, one line of JSON each, to which the server only ever appends."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.files import make_directory
from experiments.agents.confinement import capped

FILE = "calls.jsonl"
#: Characters of the arguments of a call that are recorded.
MOST_ARGUMENTS = 4000


@dataclass
class AuditLog:
    """The file of calls; lines are whole also where several servers append to it.

    Args:
        folder: folder that receives the file.
    """

    folder: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / FILE

    def append(self, tool: str, arguments: Mapping[str, Any], outcome: str, core_seconds: float) -> None:
        """Record a call.

        Args:
            tool: name of the tool.
            arguments: its arguments.
            outcome: "ok", or the problem.
            core_seconds: processor time of the call itself; what it started is recorded with the run.
        """
        text = json.dumps(arguments, default=str)
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "server": os.getpid(),
            "tool": tool,
            "arguments": text if len(text) <= MOST_ARGUMENTS else f"{text[:MOST_ARGUMENTS]}…",
            "outcome": capped(outcome),
            "core_seconds": round(core_seconds, 4),
        }
        data = (json.dumps(line) + "\n").encode()
        with self._lock:
            make_directory(self.folder)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                # One write of one line: appends of other processes come before or after it.
                os.write(descriptor, data)
            finally:
                os.close(descriptor)

    def core_seconds(self) -> float:
        """Processor time of all calls that are recorded."""
        total = 0.0
        try:
            with self.path.open("rb") as file:
                for line in file:
                    try:
                        total += float(json.loads(line)["core_seconds"])
                    except (ValueError, KeyError, TypeError):
                        continue
        except FileNotFoundError:
            pass
        return total
