"""Runs MACE (Batatia et al. 2022, arXiv:2206.07697) through the programs of mace-torch, as a peer.

The model is the small size: two layers with 64 scalar channels, correlation 3 and harmonics up to l = 3. The other
settings are those that its documentation recommends for training from scratch: batches of 10, learning rate 0.01,
AMSGrad, exponential moving averages of the weights at 0.99, and a second stage over the last quarter of the training
in which energies have a larger weight.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from data.errors import InputError

SCORE = Path(__file__).with_name("mace_score.py")
EPOCH = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.(\d+) INFO: (?:Initial|Epoch (\d+)):", re.MULTILINE)


@dataclass(frozen=True)
class Trained:
    """A trained model and its training time.

    Attributes:
        model: file of the model.
        seconds: time from before the first epoch to the end of the last.
        epoch_seconds: time of an epoch after the first, which includes the warm-up.
    """

    model: Path
    seconds: float
    epoch_seconds: float


@dataclass(frozen=True)
class Mace:
    """The programs of mace-torch in another environment, run on the CPU in float32.

    Attributes:
        bin: `bin` folder of that environment.
        threads: number of PyTorch threads.
    """

    bin: Path
    threads: int

    def version(self) -> str:
        """Name and version, such as "mace-torch 0.3.16".

        Raises:
            InputError: mace-torch is not installed in that environment.
        """
        if not (self.bin / "mace_run_train").exists():
            raise InputError(
                f"no mace_run_train in {self.bin}", where="--peers", remedy="Run `make peers`, or give --no-peers"
            )
        code = "import importlib.metadata as m; print(m.version('mace-torch'))"
        completed = subprocess.run([self.bin / "python", "-c", code], capture_output=True, text=True, check=True)
        return f"mace-torch {completed.stdout.strip()}"

    def train(
        self, train: Path, valid: Path, isolated: str, folder: Path, *, epochs: int, channels: int = 64
    ) -> Trained:
        """Train for `epochs` epochs, at least three.

        Args:
            train, valid: extxyz files with energy= and forces.
            isolated: energies of isolated atoms in the format of MACE's --E0s.
            folder: folder for everything that the program writes.
            epochs: total number of epochs of both stages.
            channels: number of scalar channels.
        """
        folder.mkdir(parents=True, exist_ok=True)
        second = max(1, round(0.75 * epochs))
        options = {
            "name": "mace",
            "work_dir": ".",
            "model": "MACE",
            "hidden_irreps": f"{channels}x0e",
            "max_ell": 3,
            "correlation": 3,
            "num_interactions": 2,
            "r_max": 5.0,
            "train_file": train.resolve(),
            "valid_file": valid.resolve(),
            "E0s": isolated,
            "energy_key": "energy",
            "forces_key": "forces",
            "batch_size": 10,
            "valid_batch_size": 10,
            "lr": 0.01,
            "max_num_epochs": epochs,
            "start_swa": second,
            "ema_decay": 0.99,
            "device": "cpu",
            "default_dtype": "float32",
            "eval_interval": max(1, epochs // 20),
            "seed": 0,
            "plot": "False",
        }
        line = [str(self.bin / "mace_run_train"), *(f"--{k}={v}" for k, v in options.items()), "--swa", "--ema"]
        self._run([*line, "--amsgrad"], folder, folder / "train.log")
        times = self._times(folder)
        after_first = (times[-1][1] - times[1][1]) / (times[-1][0] - times[1][0])
        # The epochs after the last validation leave no line in the log.
        seconds = times[-1][1] - times[0][1] + (epochs - 1 - times[-1][0]) * after_first
        return Trained(self.model(folder), seconds, after_first)

    def model(self, folder: Path) -> Path:
        """The model file of a training folder, of the second training stage if there was one.

        Raises:
            InputError: the folder contains no model.
        """
        for path in (folder / "mace_stagetwo.model", folder / "mace.model"):
            if path.is_file():
                return path
        raise InputError(f"no model of MACE in {folder}", where="--out", remedy="Run potential_learning first")

    def score(self, model: Path, tests: dict[str, Path], speed: Path | None, batch: int = 32) -> dict[str, Any]:
        """Errors on the files of frames `tests`, and molecules per second on `speed`; see `mace_score.py`."""
        # With -I Python does not import from the folder of the script, which also has a module called mace.
        line = [str(self.bin / "python"), "-I", str(SCORE), "--model", str(model.resolve()), "--batch", str(batch)]
        line += ["--test", *(f"{name}={path.resolve()}" for name, path in tests.items())]
        if speed is not None:
            line += ["--speed", str(speed.resolve())]
        out = model.resolve().parent / "score.json"
        self._run([*line, "--out", str(out)], model.resolve().parent, model.resolve().parent / "score.log")
        scores: dict[str, Any] = json.loads(out.read_text())
        return scores

    def _times(self, folder: Path) -> list[tuple[int, float]]:
        """Read from the log the epoch and time (s) of each validation; the one before training has epoch -1."""
        log = max((folder / "logs").glob("*.log"), key=lambda path: path.stat().st_mtime).read_text()
        times = [
            (
                int(epoch or -1),
                datetime.strptime(moment, "%Y-%m-%d %H:%M:%S").timestamp() + float(f"0.{fraction}"),
            )
            for moment, fraction, epoch in EPOCH.findall(log)
        ]
        if len(times) < 3:
            raise RuntimeError(f"fewer than two epochs in the log of {folder}")
        return times

    def _run(self, line: list[str], folder: Path, log: Path) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))
        # This version of MACE saves whole objects, and reads them without the argument that PyTorch now requires.
        extra = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
        with open(log, "ab") as file:
            done = subprocess.run(line, cwd=folder, env=os.environ | threads | extra, stdout=file, stderr=file)
        if done.returncode:
            raise RuntimeError(f"{Path(line[0]).name} ended with status {done.returncode}; see {log}")
