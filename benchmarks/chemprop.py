"""Runs Chemprop v2 (Heid et al., J. Chem. Inf. Model. 2024, 64, 9) through its own command line, as a peer."""

from __future__ import annotations

import csv
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError


@dataclass(frozen=True)
class Chemprop:
    """The program `chemprop` of another environment, run with default settings on the CPU.

    Attributes:
        bin: `bin` folder of that environment.
        threads: number of PyTorch threads.
        log: file to which the output of the program is appended.
    """

    bin: Path
    threads: int
    log: Path

    def version(self) -> str:
        """Name and version, such as "chemprop 2.2.1".

        Raises:
            InputError: Chemprop is not installed in that environment.
        """
        python = self.bin / "python"
        if not python.exists() or not (self.bin / "chemprop").exists():
            raise InputError(
                f"no chemprop in {self.bin}", where="--peers", remedy="Run `make peers`, or give --no-peers"
            )
        code = "import importlib.metadata as m; print(m.version('chemprop'))"
        completed = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
        return f"chemprop {completed.stdout.strip()}"

    def train(
        self, train: Path, valid: Path, test: Path, out: Path, *, epochs: int | None = None, flags: Sequence[str] = ()
    ) -> float:
        """Train on CSV files of SMILES and one target, and return the wall seconds of the command.

        Args:
            train, valid, test: CSV files of the three parts.
            out: output directory, in which Chemprop writes `model_0/best.pt`.
            epochs: number of epochs; None for the default of Chemprop.
            flags: further flags of `chemprop train`.
        """
        parts = [str(path.resolve()) for path in (train, valid, test)]
        line = ["-i", *parts, "-o", str(out.resolve()), "--accelerator", "cpu", *flags]
        return self._run(["train", *line, *([] if epochs is None else ["--epochs", str(epochs)])])

    def predict(self, model: Path, candidates: Path, out: Path) -> float:
        """Predict one CSV file into another, and return the wall seconds of the command."""
        paths = ["-i", str(candidates.resolve()), "-o", str(out.resolve()), "--model-paths", str(model.resolve())]
        return self._run(["predict", *paths, "--accelerator", "cpu"])

    def startup_seconds(self) -> float:
        """Wall seconds of `chemprop train --help`, which measures the interpreter and the imports."""
        return self._run(["train", "--help"])

    def rate(self, model: Path, smiles: list[str], count: int, base_rows: int) -> float:
        """Molecules per second of `chemprop predict`, without its start-up.

        Two files are predicted, one of `base_rows` and one of `base_rows + count` molecules. The start-up is in both
        times, so their difference is the time of `count` molecules. Each file is predicted twice and the shorter time
        counts, because the first start after a while reads packages from the disk and would inflate the small file.

        Args:
            model: file of a trained model.
            smiles: SMILES, repeated as often as needed.
            count: number of molecules that are timed.
            base_rows: number of molecules in the small file.
        """
        with tempfile.TemporaryDirectory() as folder:
            times = []
            for rows in (base_rows, base_rows + count):
                path = Path(folder) / f"{rows}.csv"
                write_smiles(path, smiles, rows)
                times.append(min(self.predict(model, path, Path(folder) / "out.csv") for _ in range(2)))
        return count / max(times[1] - times[0], 1e-9)

    def _run(self, arguments: list[str]) -> float:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder, open(self.log, "ab") as log:
            start = time.perf_counter()
            done = subprocess.run(
                [self.bin / "chemprop", *arguments], cwd=folder, env=os.environ | threads, stdout=log, stderr=log
            )
            seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"chemprop {arguments[0]} ended with status {done.returncode}; see {self.log}")
        return seconds


def write_smiles(path: Path, smiles: list[str], rows: int) -> None:
    """Write a CSV file of `rows` SMILES, repeating the list as often as needed."""
    with open(path, "w", newline="") as file:
        file.write("smiles\n")
        block = "".join(f"{s}\n" for s in smiles)
        for _ in range(rows // len(smiles)):
            file.write(block)
        file.writelines(f"{s}\n" for s in smiles[: rows % len(smiles)])


def read_smiles(path: Path) -> list[str]:
    """The column `smiles` of a CSV file."""
    with open(path, newline="") as file:
        return [row["smiles"] for row in csv.DictReader(file)]
