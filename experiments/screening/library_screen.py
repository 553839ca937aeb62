"""Screens candidates from a file of any size with a surrogate, and writes ranked results that can be resumed.

The source depends on the kind of candidates: rows of numbers need no parsing processes (`screening.designs`). If the
surrogate stands on a cheaper simulator, that one is asked about each chunk before the prediction, in this
process, and its cost is part of that of the screen. A killed run resumes from its last committed part with the same
results as an uninterrupted one; `experiments.screening.session` streams the candidates.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from data.claim import claim
from data.errors import InputError
from data.files import write_json
from data.shards import Shard, whole_of
from experiments.application.stage import show_readings
from experiments.screening.candidate_sources import LibrarySource, identity, open_source
from experiments.screening.cheaper_answers import in_small_chunks
from experiments.screening.column_units import write_column_units
from experiments.screening.domain_summary import read_summary, summarise_domain
from experiments.screening.hit_selection import hit_options, write_filtered
from experiments.screening.objective import Objective, hits, targets_of
from experiments.screening.readings import StandardForms, standard_of
from experiments.screening.repeated_molecules import molecule_keys_by, write_keys
from experiments.screening.screen_settings import ALL_ROWS, ScreenConfig, ScreenInput
from experiments.screening.screen_summary import ScreenSummary, show_summary
from experiments.screening.session import Session
from experiments.screening.sink import Sink
from experiments.screening.source_shards import shard_source
from experiments.screening.workers import ParserPool
from surrogates.abilities import PredictsTables

__all__ = [
    "Objective",
    "ScreenConfig",
    "ScreenInput",
    "ScreenSummary",
    "Session",
    "hits",
    "screen",
    "screen_library",
    "targets_of",
]


def screen(
    surrogate: PredictsTables, candidates: Path, out: Path, config: ScreenConfig, *, progress: bool = True
) -> ScreenSummary:
    """Screen a file of candidates, or resume a screen that was stopped.

    Args:
        surrogate: surrogate of tables of graphs.
        candidates: .smi, .csv or .tsv file (also .gz), .parquet file, or a library written by `prepare`.
        out: directory that receives `results/part-*.parquet`, `top.csv`, `top.parquet`, `rejects.csv` and
            `metrics.json`. A screen in the same directory resumes from the last committed part.
        config: settings of the screen.
        progress: whether to show a progress bar and a table at the end.

    Raises:
        InputError: the candidates cannot be read, the objective names a target that the surrogate does not have, `out`
            contains another screen, or no row is a molecule.
    """
    source = open_source(candidates, config.smiles, config.columns, (config.smiles, "smiles"))
    steps = config.standardise
    if isinstance(source, LibrarySource):
        steps = standard_of(source.library.source, steps, str(candidates))
    library = ScreenInput(
        source,
        identity(candidates),
        candidates.name,
        str(candidates),
        # Screens of earlier versions lack these keys, and must still resume.
        {
            "smiles": config.smiles,
            **({"standardise": list(steps)} if steps else {}),
            **({} if config.columns == () else {"carried": list(getattr(source, "carry", ()))}),
        },
        named=("smiles", "standard_smiles") if steps else ("smiles",),
        remedy=f"is {config.smiles!r} the column with SMILES?",
    )
    return screen_library(surrogate, library, out, config, progress=progress)


def screen_library(
    surrogate: PredictsTables, library: ScreenInput, out: Path, config: ScreenConfig, *, progress: bool = True
) -> ScreenSummary:
    """Screen candidates of any kind; see `screen`.

    Raises:
        InputError: the objective names a target that the surrogate does not have, `out` contains another
            screen, or no row is a candidate.
    """
    began = time.perf_counter()
    config = in_small_chunks(surrogate, config)
    if config.shard is not None:
        library = _part_of(library, config.shard, out, config.chunk_rows)
    fingerprint = {
        "surrogate": surrogate.fingerprint,
        "candidates": dict(library.identity),
        "configuration": {
            **library.settings,
            **config.kept_rows(),
            "chunk_rows": config.chunk_rows,
            "part_rows": config.part_rows,
        },
        "objective": asdict(config.objective),
    }
    with claim(out, "screen", adopt=lambda directory: (directory / "screen.json").is_file()):
        sink = Sink(out, fingerprint, library.name, config.compression, library.named, publish=config.publish)
        earlier = sink.last.tally().read if sink.last else 0
        try:
            options = hit_options(config.filters, config.diversity, config.top_k, library.named)
            distinct = molecule_keys_by(library.named) if config.distinct and "smiles" in library.named else None
            best = sink.top(keys=distinct, **options)
            if sink.last is None or not sink.last.complete:
                look = None if config.shard is not None else partial(_look, surrogate, library, out, progress)
                Session(surrogate, library, sink, config, began, best, look).run(progress)
            targets = list(getattr(surrogate, "targets", ()))
            write_column_units(out, sink.top_columns(targets), surrogate, config.objective.target(targets or [""]))
            top, repeats = sink.write_top(best, targets), best.repeats()
            filtered = write_filtered(best.refused(), out)
            if config.shard is not None and distinct is not None:
                write_keys(best.keys_by_line(), out)
        finally:
            sink.close()
        last = sink.commits[-1]
        parts = sum(entry.rows > 0 for entry in sink.commits)
        counted, cost = asdict(last.tally()), asdict(last.spent())
        # Rows that are not kept cannot be counted.
        counts_forms = library.settings.get("standardise") and config.results == ALL_ROWS
        forms = StandardForms.in_results(out) if counts_forms else None
        summary = ScreenSummary(
            **counted,
            **cost,
            parts=parts,
            top=top,
            resumed=earlier,
            kind=library.kind,
            repeats=repeats,
            forms=forms,
            filtered=filtered if config.filters else None,
            pool=best.pooled() if config.diversity.picker else None,
        )
        domain = read_summary(out)
        write_json(out / "metrics.json", summary.metrics() | ({} if domain is None else domain.metrics()))
    # Another shard may have candidates; the merge refuses shards of which none has any.
    if summary.valid == 0 and config.shard is None:
        raise InputError(
            f"none of the {summary.read} rows is a {library.kind}",
            where=library.where,
            remedy=f"See {sink.rejects}" + (f"; {library.remedy}" if library.remedy else ""),
        )
    show_readings([library.reading(summary, sink.rejects, domain)], out, printed=progress)
    if sink.published is not None:
        sink.published.put_end()
    if progress:
        show_summary(summary, out)
    return summary


def _look(surrogate: PredictsTables, library: ScreenInput, out: Path, progress: bool, pool: ParserPool) -> None:
    """Compare a library with the training domain before it is screened."""
    summarise_domain(surrogate, library.source, pool, out, show=progress)


def _part_of(library: ScreenInput, shard: Shard, out: Path, rows: int) -> ScreenInput:
    """The candidates of a shard, whose settings name it; the merge removes that name."""
    whole = whole_of(shard, out)
    source = shard_source(library.source, shard, whole, rows, library.identity)
    return replace(library, source=source, settings={**library.settings, "shard": str(shard)})
