"""Merges the shards of an output, after it has checked that each of them is there and complete."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from data.claim import claim, lock_is_held, marked_kind
from data.errors import InputError
from data.files import sweep_beside
from data.molecules.library import CARD
from data.shards import SUFFIX, Shard, shards_directory, shards_in
from experiments.application.run_directory import CONFIG
from experiments.application.yaml_files import load_yaml
from experiments.merging.description import REMEDY
from experiments.screening.source_shards import PIECES


@dataclass(frozen=True)
class Merged:
    """What a merge made.

    Attributes:
        stage: stage of the shards.
        shards: number of shards.
        out: where the merged output is.
        metrics: metrics of the whole.
    """

    stage: str
    shards: int
    out: Path
    metrics: Mapping[str, float]


# What merges one kind of shards is imported when such shards are there: a screen needs neither Zarr nor xarray.


def _store_complete(path: Path) -> bool:
    from experiments.campaigns.shard_requests import FILE

    return (path / FILE).is_file()


def _screen_complete(path: Path) -> bool:
    from experiments.screening.ledger import read_ledger

    commits = read_ledger(path)[0]
    return bool(commits and commits[-1].complete)


def _library_complete(path: Path) -> bool:
    from experiments.merging.libraries import LIBRARY

    return (path / LIBRARY / CARD).is_file()


def _merge_stores(out: Path, directories: Sequence[Path], config: DictConfig) -> dict[str, float]:
    from experiments.merging.stores import merge_stores

    return merge_stores(out, directories, config)


def _merge_screens(out: Path, directories: Sequence[Path], config: DictConfig) -> dict[str, float]:
    from experiments.merging.screens import merge_screens

    return merge_screens(out, directories, config)


def _merge_libraries(out: Path, directories: Sequence[Path], config: DictConfig) -> dict[str, float]:
    from experiments.merging.libraries import merge_libraries

    return merge_libraries(out, directories, config)


#: Stage -> whether the shard in a directory is complete, and what merges the shards.
_COMPLETE: Mapping[str, Callable[[Path], bool]] = {
    "simulate": _store_complete,
    "screen": _screen_complete,
    "prepare": _library_complete,
}
_MERGES: Mapping[str, Callable[[Path, Sequence[Path], DictConfig], dict[str, float]]] = {
    "simulate": _merge_stores,
    "screen": _merge_screens,
    "prepare": _merge_libraries,
}


def merge(out: Path) -> Merged:
    """Merge the shards in `OUT.shards` into `OUT`, which appears at once and complete; a kill leaves nothing of it.

    Raises:
        InputError: a shard is missing, under way or half-finished, which the message names; the shards are of different
            work; or `OUT` exists.
        CorruptStoreError: a file of a shard is damaged.
    """
    out = out.expanduser()
    if out.name.endswith(SUFFIX):
        out = out.with_name(out.name.removesuffix(SUFFIX))
    shards = shards_in(out)
    folder = shards_directory(out)
    with claim(folder, "shards", adopt=_holds_shards_only):
        if out.exists():
            raise InputError(
                "exists already", where=str(out), remedy="Move it away to merge the shards again, or use it as it is"
            )
        stage = _refuse_incomplete(out, shards)
        directories = [shard.directory(out) for shard in shards]
        config = _same_settings(directories)
        sweep_beside(out)
        metrics = _MERGES[stage](out, directories, config)
    return Merged(stage, len(shards), out, metrics)


def _holds_shards_only(folder: Path) -> bool:
    names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    return all(name in (PIECES, "jobs") or re.fullmatch(r"\d+-of-\d+", name) for name in names)


def _refuse_incomplete(out: Path, shards: Sequence[Shard]) -> str:
    """The stage of all shards.

    Raises:
        InputError: names each shard that is missing, under way or half-finished.
    """
    problems: dict[str, list[str]] = {"missing": [], "being written": [], "half-finished": []}
    stages: dict[str, Shard] = {}
    for shard in shards:
        path = shard.directory(out)
        stage = marked_kind(path) if path.is_dir() else None
        if stage is None:
            problems["missing"].append(str(shard))
            continue
        stages.setdefault(stage, shard)
        if lock_is_held(path):
            problems["being written"].append(str(shard))
        elif stage not in _COMPLETE or not _COMPLETE[stage](path):
            problems["half-finished"].append(str(shard))
    named = [f"{', '.join(some)} {'is' if len(some) == 1 else 'are'} {what}" for what, some in problems.items() if some]
    if named:
        raise InputError(
            f"not all shards are complete: {'; '.join(named)}",
            where=str(shards_directory(out)),
            remedy="Run the command of each of them (again) with its shard=i/n, which resumes it, and merge then",
        )
    if len(stages) > 1:
        raise InputError(f"holds shards of {' and of '.join(sorted(stages))}", where=str(shards_directory(out)))
    return next(iter(stages))


def _same_settings(directories: Sequence[Path]) -> DictConfig:
    """The configuration that all shards share, without what differs between them by intention.

    Raises:
        InputError: another setting differs.
    """
    first: DictConfig | None = None
    for directory in directories:
        config = load_yaml(directory / CONFIG, remedy=REMEDY)
        OmegaConf.set_struct(config, False)
        config.shard = None
        # Places and speed may differ between machines.
        compared = {k: v for k, v in config.items() if k not in ("out", "run", "workers", "campaign")}
        if first is None:
            first, of_first = config, compared
        elif compared != of_first:
            differing = sorted(str(k) for k in {*compared, *of_first} if compared.get(k) != of_first.get(k))
            raise InputError(
                f"was made with another {' and '.join(differing)} than {directories[0].name}",
                where=str(directory),
                remedy="Run it again with the same settings, in an empty directory",
            )
    assert first is not None
    return first
