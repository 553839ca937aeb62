"""Composes configurations beside a running Hydra application, whose state Hydra keeps once in a process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from experiments.application.choices import CONF

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def composing() -> Iterator[None]:
    """Allow `hydra.compose` with the packaged configurations within the block, in one thread at a time."""
    with _ONE_AT_A_TIME:
        running = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                yield
        finally:
            GlobalHydra.instance().hydra = running
