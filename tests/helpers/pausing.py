"""Commands that pause until they are stopped, and do not pause when they are run again.

A folder with `understudy.py` is where `python -m understudy` runs that file instead of the package, so that a launcher
starts these commands wherever it would start the real ones.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from simulators.testing import Misbehaving, request

REQUESTS, PAUSED = 8, 5


class Pausing(Misbehaving):
    """Squares the numbers below `REQUESTS`; the request `PAUSED` does not end when it is asked for the first time."""

    def requests(self) -> Sequence[xr.Dataset]:
        """All of them, in order."""
        return [request(float(x), "hang_once" if x == PAUSED else "ok") for x in range(REQUESTS)]


def shadow(folder: Path, stage: str) -> None:
    """Have `python -m understudy` run the command of a stage, `simulate` or `train`, in a folder."""
    (folder / "understudy.py").write_text(f"import pausing\n\npausing.{stage}()\n")


def simulate() -> None:
    """The command, with another simulator."""
    from experiments.stages import simulate

    simulate.instantiate = lambda node: Pausing(str(Path.cwd()))
    _run()


def train() -> None:
    """The command, which writes `paused` after `PAUSED` steps of a training and waits there to be asked to stop."""
    from surrogates.learning import loop
    from surrogates.learning.interrupt import Interrupt

    class Waiting(Interrupt):
        steps, answer = 0, False

        @property
        def asked(self) -> bool:
            self.steps += 1
            if self.steps == PAUSED and not Path("paused").exists():
                Path("paused").touch()
                while not self.answer:
                    time.sleep(0.02)
            return self.answer

        @asked.setter
        def asked(self, value: bool) -> None:
            self.answer = value

    loop.Interrupt = Waiting  # type: ignore[misc]
    _run()


def _run() -> None:
    from experiments.cli import main

    sys.exit(main())
