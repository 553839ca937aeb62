"""`understudy simulate`: run a simulator on molecules or designs of a file, or on drawn requests, into a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import xarray as xr
from omegaconf import MISSING, DictConfig

from data.errors import InputError
from data.files import write_json
from data.formats.kinds import FORMATS, FRAME_KINDS, SDF_SUFFIXES, SMILES_SUFFIXES, STORE, kind_of
from data.molecules.counting import count_rows
from data.molecules.files import Row, read
from data.molecules.tally import TableTally
from data.processes.parsing import Lost
from data.reading_summary import Reading
from data.rejects import RejectLog, Rejects
from data.settings import build, existing_file
from data.spec import dataset
from data.splits import canonical
from data.structures.frame_names import FrameKeys
from experiments.application.run_directory import rejects_path
from experiments.application.stage import StageSettings, application, instantiate, show_readings
from experiments.campaigns.frame_requests import FrameRequests, Silent
from experiments.campaigns.shard_requests import ShardRequests
from experiments.screening.readings import StandardForms, standard_said
from simulators.adapter import HoldsRequests, ReadsFiles, Simulator
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.campaigns.summary import CampaignSummary
from simulators.chemistry.conformers import ConformerConfig
from simulators.chemistry.from_smiles import from_smiles
from simulators.chemistry.standardise import standard_smiles


@dataclass(frozen=True)
class SimulateSettings(StageSettings):
    """The keys of `understudy simulate`.

    Attributes:
        inputs: file of molecules, or of designs for a simulator that takes numbers.
        sampling: how requests are drawn, instead of `inputs`.
        smiles: column that holds SMILES.
        limit: largest number of inputs.
        shard: part of the requests that is simulated, such as "2/8", by the hash of their keys; None: all.
        charge, spin: total charge (e) and unpaired electrons of geometries that state none.
        launcher: what runs all shards; see `experiments.launching.array`.
        charge_key, spin_key, spin_convention: entries of geometries; see `data.structures.frame_names.FrameKeys`.
        out: store of the records.
        simulator, campaign, conformers: groups of the configuration.

    Raises:
        ValueError: the limit is below 1.
    """

    inputs: str | None = None
    sampling: Any = None
    smiles: str = "smiles"
    limit: int | None = None
    charge: int | None = None
    spin: int | None = None
    shard: str | None = None
    launcher: Any = None
    charge_key: str | None = None
    spin_key: str | None = None
    spin_convention: str = "unpaired"
    out: str = MISSING
    simulator: Any = MISSING
    campaign: Any = MISSING
    conformers: Any = MISSING

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be 1 or more, got {self.limit}")


def requests(
    rows: Iterable[Row],
    simulator: Simulator,
    path: Path,
    rejects: Rejects,
    tally: TableTally | None = None,
    standardise: Sequence[str] = (),
    changed: list[tuple[str, str]] | None = None,
) -> Iterator[xr.Dataset]:
    """Requests with canonical SMILES, from the rows of a file, for a simulator that takes SMILES.

    All SMILES of a molecule give the same request, so that it is simulated once. A row of `path` that cannot be used
    goes to `rejects`, and `tally` counts it as left out. `changed` receives the SMILES and the standard form of the
    molecules whose form the steps `standardise` change.
    """
    for row in rows:
        reason = "no SMILES, which the first row has"
        if row.smiles is not None:
            form = standard_smiles([row.smiles], standardise)[0] if standardise else ""
            if not isinstance(form, Lost):
                if form and changed is not None:
                    changed.append((row.smiles, form))
                yield dataset(simulator.spec.inputs, {"smiles": canonical([row.smiles])[0]})
                continue
            reason = form.reason
        rejects.add(path, row.line, row.smiles or str(row.properties.get("name", "")), reason)
        if tally is not None:
            tally.give_back(reason)


def simulate(config: DictConfig, run_dir: Path) -> None:
    """Simulate each molecule of the input file, or each drawn request, that is not in the store yet."""
    settings = build(SimulateSettings, config, where="")
    simulator: Simulator = instantiate(config.simulator)
    if settings.sampling is None and settings.inputs is None and not isinstance(simulator, HoldsRequests):
        remedy = "Give inputs=FILE of molecules or of designs, or sampling=KIND"
        raise InputError("no input is named", where="inputs", remedy=remedy)
    campaign = build(CampaignConfig, config.campaign, where="campaign")
    if settings.sampling is None and isinstance(simulator, HoldsRequests) and settings.inputs is None:
        listed = simulator.requests()
        if isinstance(simulator, ReadsFiles) and (reading := simulator.reading()) is not None:
            show_readings([reading], run_dir)
        part = ShardRequests.of(settings.shard, listed, run_dir)
        total = part.about(len(listed))
        _end(
            run_campaign(simulator, part, Path(settings.out), campaign, total=total, none_answered=True), run_dir, part
        )
        return
    if settings.sampling is not None:
        from experiments.campaigns.sampled import draw_requests

        drawn, count = draw_requests(config.sampling, simulator)
        part = ShardRequests.of(settings.shard, drawn, run_dir)
        if isinstance(simulator, ReadsFiles) and (reading := simulator.reading()) is not None:
            show_readings([reading], run_dir)
        result = run_campaign(
            simulator, part, Path(settings.out), campaign, total=part.about(count), none_answered=True
        )
        _end(result, run_dir, part)
        return
    path = existing_file(settings.inputs, "inputs")
    if not _takes_molecules(simulator):
        part = _designs(simulator, path, settings, run_dir)
        total = part.about(len(part.requests)) if isinstance(part.requests, Sized) else None
        _end(
            run_campaign(simulator, part, Path(settings.out), campaign, total=total, none_answered=True), run_dir, part
        )
        return
    conformers = build(ConformerConfig, config.conformers, where="conformers")
    keys = FrameKeys(
        charge=settings.charge_key, spin=settings.spin_key, spin_convention=settings.spin_convention, prefix=""
    )
    with RejectLog(rejects_path(run_dir)) as rejects:
        head = next(read(path, smiles_column=settings.smiles, rejects=Silent(), keys=keys), None)
        takes_geometries = any(v.name == "positions" for v in simulator.spec.inputs)
        # The first row decides whether geometries or SMILES are simulated.
        geometries = kind_of(path) in FRAME_KINDS if head is None else head.positions is not None
        if takes_geometries and geometries:
            frames = FrameRequests(path, simulator, keys, settings.limit, settings.charge, settings.spin).counted(
                rejects
            )
            show_readings([frames.reading], run_dir)
            part = ShardRequests.of(settings.shard, frames, run_dir)
            result = run_campaign(
                simulator, part, Path(settings.out), campaign, total=part.about(frames.total), none_answered=True
            )
            _end(result, run_dir, part)
            return
        # A simulator of SMILES has no use for standard forms, of which conformers are made.
        standardise = conformers.standardise if takes_geometries else ()
        if takes_geometries:
            simulator = from_smiles(simulator, conformers)
        tally = TableTally()
        rows = read(path, smiles_column=settings.smiles, rejects=rejects, tally=tally)
        head = next(rows, None)
        if head is None:
            reasons = "".join(f"; {count:,}: {reason}" for reason, count in tally.left_out.most_common(1))
            problem = f"no row of it can be read{reasons}"
            raise InputError(problem, where=str(path), remedy="See rejects.csv in the run directory")
        if kind_of(path) in SDF_SUFFIXES:
            tally.assumed.append("geometries are made from SMILES: the first is flat, or lacks its hydrogens")
        changed: list[tuple[str, str]] = []
        limited = islice(chain([head], rows), settings.limit)
        inputs = requests(limited, simulator, path, rejects, tally, standardise, changed)
        part = ShardRequests.of(settings.shard, inputs, run_dir)
        total = part.about(count_rows(path, smiles_column=settings.smiles, at_most=settings.limit))
        ended: CampaignSummary | None = None
        try:
            ended = run_campaign(simulator, part, Path(settings.out), campaign, total=total, none_answered=True)
        finally:
            # The reading is shown even if the campaign stops early.
            if takes_geometries:
                tally.assumed += standard_said(standardise, StandardForms.of(changed))
            show_readings([_reading(tally, path, settings.limit, ended, part)], run_dir)
    _end(ended, run_dir, part)


def _reading(
    tally: TableTally, path: Path, limit: int | None, result: CampaignSummary | None, part: ShardRequests
) -> Reading:
    """What was read of a file of molecules, up to the point where the campaign stopped."""
    reading = tally.reading(path)
    said = []
    if result is None:
        said.append("the campaign stopped early: what follows in the file was not read")
    elif part.shard is not None:
        said.append(f"shard {part.shard}: {result.requested:,} of the molecules are simulated here")
    elif result.requested < reading.used:
        said.append(f"{reading.used:,} rows name {result.requested:,} molecules; each molecule is simulated once")
    if limit is not None and reading.used == limit:
        said.append(f"limit={limit}: what follows was not read")
    return replace(reading, assumed=(*reading.assumed, *said))


def _takes_molecules(simulator: Simulator) -> bool:
    return bool({"smiles", "positions"} & {v.name for v in simulator.spec.inputs})


def _designs(simulator: Simulator, path: Path, settings: SimulateSettings, run_dir: Path) -> ShardRequests:
    """The rows of a table of designs, for a simulator that takes numbers; what is read is shown."""
    from experiments.screening.design_requests import DesignRequests

    with RejectLog(rejects_path(run_dir)) as rejects:
        designs = DesignRequests(path, simulator, settings.limit).counted(rejects)
    case = simulator.reading() if isinstance(simulator, ReadsFiles) else None
    show_readings([*([] if case is None else [case]), designs.reading], run_dir)
    return ShardRequests.of(settings.shard, designs, run_dir)


#: Keys that name the charge and spin entries of geometries.
KEYS_OF_FRAMES = ("charge", "spin", "charge_key", "spin_key", "spin_convention")


def unused_in_simulation(config: DictConfig) -> dict[str, str]:
    """Keys that this simulation does not use, with the reason; see `experiments.application.strict`."""
    if config.get("sampling") is not None:
        keys = ("inputs", "smiles", "limit", "conformers", *KEYS_OF_FRAMES)
        return dict.fromkeys(keys, "the requests are drawn, as sampling says")
    path = Path(str(config.inputs))
    if config.inputs is None or not path.exists():
        return {}
    kind = kind_of(path)
    unused = {}
    if kind in (*SMILES_SUFFIXES, *SDF_SUFFIXES, *FRAME_KINDS, STORE):
        unused["smiles"] = f"a {FORMATS.get(kind, kind)} has no columns"
    if kind == STORE:
        unused |= dict.fromkeys(KEYS_OF_FRAMES, "the charge and the spin of its records are known")
    elif kind in FRAME_KINDS:
        unused["conformers"] = "the geometries are those of the file"
    elif kind not in SDF_SUFFIXES:
        unused |= dict.fromkeys(KEYS_OF_FRAMES, "a SMILES has its charge and its unpaired electrons in it")
    return unused


def _end(result: CampaignSummary, run_dir: Path, part: ShardRequests) -> None:
    """Write the metrics, and that a shard is complete; a campaign without any answer ends the command with an error."""
    write_json(run_dir / "metrics.json", result.metrics())
    part.complete()
    result.refuse_no_answer()


main = application("simulate", simulate, unused=unused_in_simulation)
