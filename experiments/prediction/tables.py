"""What is predicted for a table of molecules or of parameters, and which of its columns stand beside the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import InputError
from data.formats.headers import DELIMITERS
from data.formats.kinds import PARQUET_SUFFIXES, SDF_SUFFIXES, SMILES_SUFFIXES
from data.molecules.graph_tables import empty_table
from experiments.prediction.rows import RowQuestion
from experiments.prediction.table_output import MoleculeRows
from experiments.screening.candidate_sources import (
    LibrarySource,
    Source,
    identity,
    kind_of,
    open_source,
)
from experiments.screening.designs import columns_carried, designs_in
from experiments.screening.library_screen import ScreenInput
from experiments.screening.readings import standard_of

if TYPE_CHECKING:
    from surrogates.parameters.surrogate import ParameterSurrogate
    from surrogates.properties.surrogate import PropertySurrogate


def molecules_question(
    surrogate: PropertySurrogate,
    path: Path,
    smiles: str,
    columns: Sequence[str] | None,
    target: Sequence[str],
    standardise: Sequence[str],
    *,
    structures: bool = False,
) -> RowQuestion:
    """The molecules of a file.

    Args:
        surrogate: the surrogate.
        path: .smi, .csv, .tsv, .sdf (also .gz, .bz2, .zst), .parquet, or a library made by `understudy prepare`.
        smiles: column with SMILES, of tables.
        columns: columns that are repeated; None for all.
        target: columns with true values, one for each target of the surrogate; empty for those of the same names.
        standardise: steps of standardisation, as in `experiments.screening.library_screen.ScreenConfig`.
        structures: whether the answers are written with the structures, for which the SMILES are repeated in any case.

    Raises:
        InputError: the file cannot be read, or lacks a column; or structures of a prepared library are asked for.
    """
    every = open_source(path, smiles, None)
    source: Source
    truth: Mapping[str, str]
    repeated: list[str]
    rows: MoleculeRows | None = None
    if isinstance(every, LibrarySource):
        steps = standard_of(every.library.source, standardise, str(path))
        if columns or target:
            raise InputError(
                "a prepared library has no columns but its SMILES", where="columns", remedy="Name the file itself"
            )
        if structures:
            raise InputError(
                "the answers to a prepared library are a table",
                where="out",
                remedy="Write .csv or .parquet, or name the file itself as inputs",
            )
        source, truth, repeated = every, {}, []
    else:
        steps = tuple(standardise)
        names = every.carry  # type: ignore[attr-defined]
        truth = true_columns(surrogate.targets, target, names, path)
        repeated = _repeated(names, columns, truth)
        holds_smiles = smiles if kind_of(path)[0] in (*DELIMITERS, *PARQUET_SUFFIXES) else "smiles"
        if structures and holds_smiles not in repeated:
            repeated.append(holds_smiles)
        source = open_source(path, smiles, [*repeated, *truth.values()])
        rows = MoleculeRows(holds_smiles, path if kind_of(path)[0] in SDF_SUFFIXES else None)
    settings: dict[str, Any] = {"smiles": smiles, "standardise": list(steps)}
    no_column = path.is_dir() or kind_of(path)[0] in (*SMILES_SUFFIXES, *SDF_SUFFIXES)
    remedy = "" if no_column else f"is {smiles!r} the column with SMILES?"
    library = ScreenInput(source, identity(path), path.name, str(path), settings, remedy=remedy)
    return RowQuestion(
        library,
        tuple(repeated),
        truth,
        dict(surrogate.facts.units),
        empty_table(),
        tuple(surrogate.facts.classification),
        rows,
    )


def numbers_question(
    surrogate: ParameterSurrogate, path: Path, columns: Sequence[str] | None, target: Sequence[str]
) -> RowQuestion:
    """The parameters in a table; see `molecules_question`.

    Raises:
        InputError: the surrogate stands on a simulator; or as `molecules_question`.
    """
    if surrogate.standing is not None:
        raise InputError(
            f"the surrogate stands on {surrogate.standing.name}, which would be asked about every row",
            where="surrogate",
            remedy="Ask it in Python, understudy.load(DIR).simulate(request), or train it with on=linear or without on",
        )
    layout = surrogate.facts.layout
    every = designs_in(path, layout.columns, layout.units, None, without=())
    names = columns_carried(every.source)  # type: ignore[arg-type]
    truth = true_columns(surrogate.targets, target, names, path)
    repeated = _repeated(names, columns, truth)
    library = designs_in(path, layout.columns, layout.units, [*repeated, *truth.values()], without=())
    units = {t: v.units for v in layout.outputs for t in layout.targets[layout.target_slices[v.name]]}
    none = np.zeros((0, len(layout.columns)))
    return RowQuestion(replace(library, named=()), tuple(repeated), truth, units, none)


def true_columns(targets: Sequence[str], chosen: Sequence[str], names: Sequence[str], path: Path) -> Mapping[str, str]:
    """Target -> the column of a file with its true values, for the targets that have one.

    Raises:
        InputError: columns are chosen, but not one for each target, or one is not in the file.
    """
    if not chosen:
        return {name: name for name in targets if name in names}
    if len(chosen) != len(targets) or len(set(chosen)) < len(chosen):
        raise InputError(
            f"{len(chosen)} columns are named, the surrogate has {len(targets)} targets ({', '.join(targets)})",
            where="target",
            remedy="Name one column for each, in that order",
        )
    if absent := [name for name in chosen if name not in names]:
        raise InputError(
            f"no column {absent[0]!r}; there are {', '.join(names)}", where=str(path), remedy="Correct target=[...]"
        )
    return dict(zip(targets, chosen, strict=True))


def _repeated(names: Sequence[str], columns: Sequence[str] | None, truth: Mapping[str, str]) -> list[str]:
    """The columns that stand beside the answers; true values have a column of their own."""
    return [name for name in (names if columns is None else columns) if name not in truth.values()]
