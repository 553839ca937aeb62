"""The files that describe a merged run: its configuration, its metrics, and what was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from data.files import write_json, write_text
from data.json_files import read_plain
from data.plain import to_plain
from data.reading_summary import Reading
from experiments.application.run_directory import CONFIG

REMEDY = "Restore it from a copy, or run the shard again"


def write_description(
    target: Path, out: Path, config: DictConfig, directories: Sequence[Path], metrics: Mapping[str, float]
) -> None:
    """Write the files that describe a run of the whole.

    Args:
        target: directory that receives them.
        out: path that the directory will have.
        config: configuration that all shards share.
        directories: runs of the shards.
        metrics: metrics of the whole.
    """
    whole = config.copy()
    whole.out, whole.run = str(out), {"dir": str(out)}
    write_text(target / CONFIG, OmegaConf.to_yaml(whole), listed=True)
    write_json(target / "metrics.json", dict(metrics))
    write_reading(directories, target)


def write_reading(directories: Sequence[Path], target: Path) -> None:
    """Write what was read by all shards together, if they say it."""
    if (directories[0] / "reading.json").is_file():
        write_json(target / "reading.json", [to_plain(reading) for reading in summed_reading(directories)])


def summed_reading(directories: Sequence[Path]) -> list[Reading]:
    """The readings of all shards as those of the whole: counts add up.

    Raises:
        CorruptStoreError: a file is damaged.
    """
    read = [read_plain(path / "reading.json", list[Reading], remedy=REMEDY) for path in directories]
    whole = [replace(one, format=one.format.partition("; shard ")[0]) for one in read[0]]
    for other in read[1:]:
        whole = [
            replace(
                a,
                total=a.total + b.total,
                used=a.used + b.used,
                left_out={k: a.left_out.get(k, 0) + b.left_out.get(k, 0) for k in (*a.left_out, *b.left_out)},
            )
            for a, b in zip(whole, other, strict=True)
        ]
    return whole


def summed_metrics(directories: Sequence[Path], stage: str, largest: Sequence[str] = ()) -> dict[str, float]:
    """The metrics of all shards added up.

    Args:
        directories: runs of the shards.
        stage: name of the stage, before the slash of the names.
        largest: names, without that of the stage, of which the largest value counts.
    """
    total: dict[str, float] = {}
    for directory in directories:
        for name, value in read_plain(directory / "metrics.json", dict[str, float], remedy=REMEDY).items():
            if not name.endswith("per_second") and name.startswith(f"{stage}/"):
                before = total.get(name, 0.0)
                total[name] = max(before, value) if name.partition("/")[2] in largest else before + value
    return total
