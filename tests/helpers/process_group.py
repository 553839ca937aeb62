"""Processes that train one model together, each forked from one that has imported everything; see `forked_commands`.

They find each other through a port of this machine, and have a few virtual devices each.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import linear_problem
import numpy as np
from flax import nnx
from forked_commands import _FORKS, MODULES

from data.batch_rows import WHOLE, BatchRows
from data.errors import InputError
from experiments.cli import stop_as_ctrl_c
from surrogates.learning import loop
from surrogates.learning.devices import refuse_other_processes
from surrogates.learning.loop import Batch, TrainConfig
from surrogates.learning.processes import DeviceConfig, news_awaited, processes_joined

#: Process -> the signal that it gets, and the epoch and batch at which it gets it.
Signals = Mapping[int, tuple[signal.Signals, int, int]]
PROCESSES, DEVICES = 4, 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_group(
    folder: Path, work: Callable[..., None], *arguments: Any, processes: int = PROCESSES, devices: int = DEVICES
) -> tuple[list[int], list[str]]:
    """Run `work(*arguments)` in processes that have joined.

    Args:
        folder: receives what they write to standard error.
        work: a function of a module.
        arguments: of `work`.
        processes: number of processes.
        devices: virtual devices of each.

    Returns:
        Their exit statuses (minus the number of a signal), and what each wrote to standard error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _FORKS.set_forkserver_preload([*MODULES, "process_group"])
    port, errors = free_port(), [folder / f"stderr-{k}" for k in range(processes)]
    group = [
        _FORKS.Process(target=_member, args=(k, processes, devices, port, str(errors[k]), work, arguments))
        for k in range(processes)
    ]
    for member in group:
        member.start()
    for member in group:
        member.join(600)
    statuses = []
    for member in group:
        if member.exitcode is None:
            member.kill()
            member.join()
        assert member.exitcode is not None
        statuses.append(member.exitcode)
    return statuses, [path.read_text() for path in errors]


def _member(
    process: int,
    processes: int,
    devices: int,
    port: int,
    errors: str,
    work: Callable[..., None],
    arguments: Sequence[Any],
) -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}"
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stop_as_ctrl_c()
    status = 0
    try:
        config = DeviceConfig(True, f"127.0.0.1:{port}", processes, process)
        with processes_joined(config), news_awaited():
            work(*arguments)
    except KeyboardInterrupt:
        status = 130
    except InputError as error:
        print(error, file=sys.stderr)
        status = 2
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    os._exit(status)


class Signalled(linear_problem.Source):
    """The data of the linear problem; while a batch of it is built, this process gets a signal."""

    def __init__(self, at: tuple[signal.Signals, int, int] | None) -> None:
        super().__init__()
        self.at = at

    def epoch(self, index: int, part: BatchRows = WHOLE) -> Iterator[Batch]:
        for i, batch in enumerate(super().epoch(index, part)):
            assert {len(rows) for rows in batch.values()} <= {8, 4, 32, 16}
            if self.at is not None and (index, i) == self.at[1:]:
                os.kill(os.getpid(), self.at[0])
            yield batch


def compare_data() -> None:
    """Compare facts of which one differs in process 1."""
    import jax

    differs = jax.process_index() == 1
    refuse_other_processes({"training part": f"rows {differs}", "training recipe": "the same"}, "runs/a")


def train_linear(run_dir: str, out: str, epochs: int, every_s: float | None, signals: Signals) -> None:
    """Train the linear problem in the shared directory `run_dir`.

    Each process writes its weights to `out/weights-K.npz`, and at a stop its step to `out/stopped-K`.
    """
    import jax

    process = jax.process_index()
    assert jax.local_device_count() * jax.process_count() == jax.device_count() > 1
    save = loop._Loop.save

    def save_and_note(self: Any) -> None:
        (Path(out) / f"stopped-{process}").write_text(str(int(self.state.step)))
        save(self)

    loop._Loop.save = save_and_note  # type: ignore[method-assign]
    config = TrainConfig(epochs=epochs, learning_rate=0.05, ema_decay=0.9, checkpoint_every_s=every_s, seed=3)
    source = Signalled(signals.get(process))
    model, valid = linear_problem.Net(nnx.Rngs(0)), linear_problem.Source(48, 1)
    result = loop.fit(model, linear_problem.loss, source, valid, config, Path(run_dir), progress=False)
    np.savez(Path(out) / f"weights-{process}.npz", *linear_problem.weights(result))
