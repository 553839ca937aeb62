"""Merges the results of a sharded screen: rows in the order of the file, the same best ones and counts as unsharded."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from data.claim import claim
from data.errors import InputError
from data.files import atomic_directory, make_directory, write_bytes, write_json
from data.json_files import read_plain
from data.molecules.alerts import check_catalogues
from data.settings import build
from experiments.merging.description import REMEDY, write_description
from experiments.screening.column_units import COLUMNS
from experiments.screening.hit_selection import Diversity, hit_options, write_filtered
from experiments.screening.ledger import (
    LEDGER,
    REJECTS,
    RESULTS,
    Commit,
    Spent,
    Tally,
    ledger_line,
    part_path,
    read_ledger,
    verify_rejects,
)
from experiments.screening.readings import StandardForms
from experiments.screening.repeated_molecules import molecule_keys_by, read_keys
from experiments.screening.screen_summary import ScreenSummary
from experiments.screening.sink import Sink

SCREEN = "screen"


def merge_screens(out: Path, directories: Sequence[Path], config: DictConfig) -> dict[str, float]:
    """Write one directory of results, which a later screen of the same candidates resumes with another `top_k`.

    Parts are linked, not copied, where the file system can; times and costs are those of all shards together.

    Args:
        out: the new directory.
        directories: results of the shards.
        config: configuration that all shards share.

    Raises:
        InputError: the shards are of different screens, or none of them has a candidate.
        CorruptStoreError: a file of a shard is damaged.
    """
    settings = [_without_shard(path) for path in directories]
    for path, one in zip(directories, settings, strict=True):
        if one != settings[0]:
            raise InputError(
                f"is a screen with other settings than {directories[0].name}", where=str(path), remedy=REMEDY
            )
    chosen = settings[0]["configuration"]
    molecules = "columns" not in chosen
    forms = ("smiles", "standard_smiles") if "standardise" in chosen else ("smiles",)
    named = forms if molecules else tuple(chosen["columns"])
    with atomic_directory(out) as target, claim(target, SCREEN):
        make_directory(target / RESULTS)
        last = _join(directories, target)
        # Opening it compares all parts with their checksums.
        content = json.dumps(settings[0], indent=1, sort_keys=True) + "\n"
        write_bytes(target / f"{SCREEN}.json", content.encode(), listed=True)
        sink = Sink(target, settings[0], Path(str(config.candidates)).name, "zstd", named)
        try:
            distinct = molecule_keys_by(named) if molecules and config.distinct else None
            diversity = build(Diversity, config.get("diversity") or {}, where="diversity")
            filters = check_catalogues([str(name) for name in config.get("filters") or ()], "filters")
            options = hit_options(filters, diversity, int(config.top_k), named)
            recorded = read_keys(directories, remedy=REMEDY) if distinct else None
            best = sink.top(keys=distinct, recorded=recorded, **options)
            top, repeats = sink.write_top(best, _sought(settings[0]["objective"])), best.repeats()
            filtered = write_filtered(best.refused(), target)
            sink.commit([], [], last)
            sink.wait()
        finally:
            sink.close()
        summary = ScreenSummary(
            **asdict(last.tally()),
            **asdict(last.spent()),
            parts=sum(commit.rows > 0 for commit in sink.commits),
            top=top,
            resumed=0,
            kind="molecule" if molecules else "design",
            repeats=repeats,
            forms=StandardForms.in_results(target) if "standardise" in chosen and "results" not in chosen else None,
            filtered=filtered if filters else None,
            pool=best.pooled() if diversity.picker else None,
        )
        if not summary.valid:
            raise InputError(
                "no shard has a candidate", where=str(directories[0].parent), remedy=f"See their {REJECTS}"
            )
        metrics = summary.metrics()
        if (directories[0] / COLUMNS).is_file():
            write_json(target / COLUMNS, read_plain(directories[0] / COLUMNS, dict[str, str], remedy=REMEDY))
        write_description(target, out, config, directories, metrics)
    return metrics


def _sought(objective: Mapping[str, Any]) -> list[str]:
    """Targets that an objective names."""
    best = [objective[key] for key in ("maximize", "minimize") if objective.get(key)]
    return list(dict.fromkeys([*best, *objective.get("windows", {})]))


def _without_shard(path: Path) -> dict[str, Any]:
    settings = read_plain(path / f"{SCREEN}.json", dict[str, Any], remedy=REMEDY)
    settings["configuration"] = {k: v for k, v in settings["configuration"].items() if k != "shard"}
    return settings


def _join(directories: Sequence[Path], target: Path) -> Commit:
    """Join parts, rejects and ledgers of the shards; returns the entry that makes the whole complete."""
    total, cost, part, crc, written = Tally(), Spent(), 0, 0, 0
    end = Commit.of(0, 0, 0, total, cost)
    with (target / LEDGER).open("wb") as ledger, (target / REJECTS).open("wb") as rejects:
        for number, path in enumerate(directories):
            commits, _ = read_ledger(path)
            verify_rejects(path, commits[-1])
            content = (path / REJECTS).read_bytes()[: commits[-1].rejects_bytes]
            # The first line of each but the first is the header again.
            read = 0 if number == 0 else content.find(b"\n") + 1
            for commit in commits:
                some = content[read : commit.rejects_bytes]
                read = max(read, commit.rejects_bytes)
                rejects.write(some)
                crc, written = zlib.crc32(some, crc), written + len(some)
                end = replace(
                    commit,
                    part=part,
                    total=asdict(total + commit.tally()),
                    cost=asdict(_sum(cost, commit.spent())),
                    rejects_bytes=written,
                    rejects_crc32=crc,
                )
                if commit.complete:
                    continue
                if commit.rows:
                    _link(part_path(path, commit.part), part_path(target, part))
                ledger.write(ledger_line(end))
                part += 1
            total, cost = end.tally(), end.spent()
    return replace(end, part=part)


def _sum(one: Spent, other: Spent) -> Spent:
    return Spent(
        one.seconds + other.seconds,
        one.core_seconds + other.core_seconds,
        one.startup_seconds + other.startup_seconds,
        max(one.peak_memory_mb, other.peak_memory_mb),
    )


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
