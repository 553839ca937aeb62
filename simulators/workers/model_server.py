"""Answers requests to a model in a process of another interpreter, which has NumPy and the packages of the model.

`python -I model_server.py MODULE describe` prints facts about the model as JSON. `python -I model_server.py MODULE
serve DESCRIPTOR SETTINGS` loads it and answers over a socket, until that closes. The messages are those of
`simulators.workers.channel`: JSON and the bytes of arrays, and no pickle.

MODULE is the path of a file that defines

- `describe() -> dict`: facts that identify the model, found without loading it: `version`, `weights` (SHA-256);
- `load(settings) -> answer`: loads the model. `answer(facts, arrays) -> (facts, arrays)` answers one request, which may
  be a batch.

The file imports no module of this project: its interpreter need not have their dependencies.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any


def module_at(path: Path) -> ModuleType:
    """The module in a file, which need not lie on the path of imports."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def serve(model: ModuleType, descriptor: int, settings: dict[str, Any]) -> None:
    """Load a model and answer requests until the socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.set_inheritable(descriptor, False)
    channel = module_at(Path(__file__).with_name("channel.py"))
    end = socket.socket(fileno=descriptor)
    with suppress(EOFError):
        try:
            answer = model.load(settings)
        except Exception as error:
            channel.send(end, channel.pack({"unloadable": _said(error)}, {}))
            return
        channel.send(end, channel.pack({"ready": True}, {}))
        while True:
            facts, arrays = channel.unpack(channel.receive(end))
            try:
                facts, arrays = answer(facts, arrays)
                payload = channel.pack({"answer": facts}, arrays)
            except Exception as error:
                # An allocator of its own raises other errors than Python does.
                memory = isinstance(error, MemoryError) or "allocate memory" in str(error)
                kind = "out_of_memory" if memory else "crashed"
                payload = channel.pack({"failed": {"kind": kind, "message": _said(error)}}, {})
            channel.send(end, payload)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:2000]}"


def main(arguments: list[str]) -> None:
    """Describe or serve the model of a module; see the head of this file."""
    path = Path(arguments[0])
    sys.path.append(str(path.parent))  # for what its module imports beside it
    model = module_at(path)
    if arguments[1] == "describe":
        print(json.dumps(model.describe()))
    else:
        serve(model, int(arguments[2]), json.loads(arguments[3]))


if __name__ == "__main__":
    main(sys.argv[1:])
