"""`understudy active`: learn a potential actively from one geometry or a few."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING, DictConfig

from data.errors import InputError
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import build, existing_file
from data.structures.frame_names import FrameKeys
from data.structures.frame_settings import KeySettings
from data.structures.structures import Structures
from data.terminal import show_pairs
from experiments.active.active_learning import ActiveConfig, ActiveLearning
from experiments.active.frame_labelling import refuse_unfit
from experiments.active.learner import Learner
from experiments.active.results import closing_rows, write_report
from experiments.application.run_directory import rejects_path
from experiments.application.stage import StageSettings, application, instantiate, reading_shown
from simulators.campaigns.campaign import CampaignConfig
from simulators.chemistry.conformers import ConformerConfig, embed_foreign
from surrogates.learning.devices import enable_compilation_cache
from surrogates.learning.loop import TrainConfig
from surrogates.potentials.structure_reading import read_structures
from surrogates.potentials.task import PotentialTask

#: Suffixes of files of geometries; any other text is read as SMILES.
FILES = (".xyz", ".extxyz", ".sdf", ".db")


def starts(
    value: object,
    conformers: ConformerConfig,
    rejects: RejectLog,
    keys: FrameKeys | None = None,
    readings: list[Reading] | None = None,
) -> Structures:
    """Start geometries: the frames of files, with charge, spin, cell and fixed coordinates, and one for each SMILES.

    Args:
        value: SMILES or a file, or a list of them.
        conformers: how a geometry is embedded from SMILES.
        rejects: receives the frames that cannot be used.
        keys: names of the entries of a frame that hold its charge and spin.
        readings: receives what was read from each file.

    Raises:
        InputError: there is no such file, or a molecule cannot be read, has no geometry, is charged or has unpaired
            electrons.
    """
    names = [value] if isinstance(value, str) else [str(name) for name in value]  # type: ignore[attr-defined]
    tables: list[Structures] = []
    for name in names:
        if name.lower().endswith(FILES):
            tables.append(
                read_structures(
                    existing_file(name, "start"), rejects, keys, spins=True, labels=False, readings=readings
                )
            )
            continue
        geometry = embed_foreign(name, conformers)
        if geometry.charge or geometry.spin:
            raise InputError(
                f"{name!r} is charged or has unpaired electrons", where="start", remedy="Give neutral closed shells"
            )
        tables.append(Structures.from_arrays([geometry.numbers], [geometry.positions]))
    if not tables:
        raise InputError(
            "no start geometry is given", where="start", remedy="Give start=SMILES, a file of geometries, or pool=FILE"
        )
    return Structures.concatenate(tables)


@dataclass(frozen=True)
class ActiveSettings(StageSettings):
    """The keys of `understudy active`; each part is checked where it is used."""

    start: Any = None
    pool: Any = None
    test: Any = None
    frames: Any = MISSING
    conformers: Any = MISSING
    simulator: Any = MISSING
    campaign: Any = MISSING
    model: Any = MISSING
    first: Any = MISSING
    again: Any = MISSING
    initial: Any = MISSING
    explore: Any = MISSING
    choose: Any = MISSING
    trial: Any = MISSING
    stop: Any = MISSING
    seed: int = 0


def active(config: DictConfig, run_dir: Path) -> None:
    """Learn a potential actively; a run in the same directory resumes."""
    build(ActiveSettings, config, where="")
    enable_compilation_cache()
    simulator = instantiate(config.simulator)
    refuse_unfit(simulator)
    settings = build(ActiveConfig, {name: config[name] for name in PARTS}, where="")
    learner = Learner(
        PotentialTask.model_settings(config.model),
        build(TrainConfig, config.first, where="first"),
        build(TrainConfig, config.again, where="again"),
    )
    keys = build(KeySettings, config.frames, where="frames").keys("frames.")
    readings: list[Reading] = []
    with RejectLog(rejects_path(run_dir)) as rejects, reading_shown(readings, run_dir):
        conformers = build(ConformerConfig, config.conformers, where="conformers")
        start, pool, test = None, None, None
        if config.start is not None or config.pool is None:
            start = starts(config.start or (), conformers, rejects, keys, readings)
        if config.pool is not None:
            pool = read_structures(
                existing_file(config.pool, "pool"), rejects, keys, spins=True, labels=False, readings=readings
            )
        if config.test is not None:
            test = read_structures(existing_file(config.test, "test"), rejects, keys, readings=readings)
    if test is not None and not np.isfinite(test.forces).all():
        raise InputError("a frame has no forces", where=str(config.test), remedy="Give frames with forces")
    campaign = build(CampaignConfig, config.campaign, where="campaign")
    learning = ActiveLearning(start, simulator, campaign, learner, settings, run_dir, test=test, pool=pool)
    outcome = learning.run()
    metrics = write_report(outcome, settings, learning.ledger, run_dir)
    show_pairs("Active learning", closing_rows(metrics, outcome.stopped_by, learning.verdict, run_dir))


PARTS = ("initial", "explore", "choose", "trial", "stop", "seed")
main = application("active", active)
