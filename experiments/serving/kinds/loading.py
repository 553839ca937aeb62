"""The answerer of a directory: of a surrogate of any kind that is answered row by row, or of a calibrated cascade."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import InputError
from data.settings import existing_file
from surrogates.cascade.cascade_card import CARD as CASCADE
from surrogates.family import FAMILIES
from surrogates.saved import load_surrogate, read_card, surrogate_directory

if TYPE_CHECKING:
    from experiments.serving.kinds.answerer import Answerer

#: The kinds that are served.
SERVED = ("properties", "parameters", "potentials", "mixture", "fields", "meshes")
#: Kind of surrogate that is not served -> what to do.
OTHERWISE = {"forecasts": "Write understudy forecast surrogate=DIR source.path=FILE out=FILE"}
#: Word of the kind of a cascade, which is no surrogate.
CASCADE_KIND = "cascade"


def kind_in(value: str | None) -> tuple[str, Path]:
    """The kind of what a directory holds, and where its card lies.

    Raises:
        InputError: it holds neither a surrogate nor a cascade.
    """
    path = existing_file(value, "surrogate")
    if (path / CASCADE).is_file():
        return CASCADE_KIND, path
    directory = surrogate_directory(value, "surrogate")
    return str(read_card(directory)["kind"]), directory


def load_answerer(
    value: str | None,
    *,
    workers: int | None,
    standardise: Sequence[str] = (),
    head: str | None,
    largest: int | None,
    neighbours: int | None,
    max_batch: int,
) -> tuple[str, Answerer]:
    """The kind of a directory, and what answers its requests.

    Args:
        value: directory of a surrogate, of the run that trained it, or of a cascade.
        workers: processes that parse SMILES; None for one for each core.
        standardise: steps of standardisation of molecules.
        head: head of a potential; None for the one that was trained last.
        largest, neighbours: what programs are compiled for; see the answerers.
        max_batch: most rows of a batch.

    Raises:
        InputError: there is none, it is of a kind that is not asked row by row, or it cannot be used here.
    """
    kind, directory = kind_in(value)
    answerer: Answerer
    if kind == CASCADE_KIND:
        from experiments.answering.saved_cascade import SavedCascade
        from experiments.serving.kinds.cascades import CascadeAnswerer

        return kind, CascadeAnswerer(SavedCascade(str(directory)))
    if kind not in SERVED:
        raise InputError(
            f"a surrogate of {kind} is not asked row by row",
            where="surrogate",
            remedy=OTHERWISE.get(kind, "Ask it in Python: understudy.load(DIR).simulate(request)"),
        )
    surrogate = FAMILIES[kind].task.ready(load_surrogate(directory), {"head": head})
    if surrogate.standing is not None and kind in ("properties", "parameters"):
        # One that cannot be rebuilt here is refused now, and not at the first request.
        surrogate.ask_rung([])
    if kind == "properties":
        from experiments.serving.kinds.molecules import MoleculeAnswerer
        from simulators.chemistry.standardise import check_steps

        try:
            check_steps(standardise)
        except ValueError as error:
            raise InputError(str(error), where="standardise") from error
        answerer = MoleculeAnswerer(surrogate, workers or len(os.sched_getaffinity(0)), largest, tuple(standardise))
    elif kind == "parameters":
        from experiments.serving.kinds.numbers import NumberAnswerer

        answerer = NumberAnswerer(surrogate)
    elif kind == "fields":
        from experiments.serving.kinds.fields import FieldAnswerer

        answerer = FieldAnswerer(surrogate, max_batch)
    elif kind == "meshes":
        from experiments.serving.kinds.meshes import MeshAnswerer

        answerer = MeshAnswerer(surrogate, largest)
    else:
        from experiments.serving.kinds.structures import StructureAnswerer

        answerer = StructureAnswerer(surrogate, largest, neighbours, max_batch)
    return kind, answerer
