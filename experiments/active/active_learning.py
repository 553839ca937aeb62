"""The loop of active learning: rounds that explore, choose, label and train until the goal or a budget is reached.

A round writes its folder in this order: `batch.npz` (the frames to label), records in the store of labels, `training/`
(checkpoints), `surrogate/`, and finally `round.json`. A killed run resumes from these files, and ends with the same
labels as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.console import Console

from data.errors import InputError
from data.files import write_json
from data.json_files import read_plain, reading
from data.plain import entry, to_plain
from data.spec import content_hash
from data.structures.structures import Structures
from experiments.active.batch import AUDIT, CHOSEN, INITIAL, Batch
from experiments.active.exploration import CLOSEST, ExploreConfig, explore
from experiments.active.frame_labelling import Labelled, label, refuse_unfit
from experiments.active.frame_selection import ChoiceConfig, choose
from experiments.active.stopping import AcquisitionAudit, StopConfig, expected_error, frame_errors, good_enough
from experiments.application.run_directory import configuration_checked
from experiments.application.stage_costs import Ledger
from simulators.adapter import Simulator
from simulators.campaigns.campaign import CampaignConfig
from simulators.structure_requests import refuse_cells
from surrogates.learning.loop import TrainConfig
from surrogates.learning.resuming import record_training_data
from surrogates.potentials.facts import PotentialConfig
from surrogates.potentials.fit import FineTuning, fit_potential_surrogate
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.potentials.training_frames import fingerprint


@dataclass(frozen=True)
class InitialConfig:
    """The frames of the first round, which are the start geometries with random displacements.

    Attributes:
        count: number of frames.
        shake_angstrom: standard deviation of the displacement of each coordinate, Angstrom; the first frame is not
            displaced.
    """

    count: int = 20
    shake_angstrom: float = 0.04

    def __post_init__(self) -> None:
        if self.count < 1 or self.shake_angstrom <= 0:
            raise ValueError(f"count must be at least 1 and shake_angstrom above 0; got {self}")


@dataclass(frozen=True)
class ActiveConfig:
    """The settings of active learning, one attribute for each part of a round."""

    initial: InitialConfig = field(default_factory=InitialConfig)
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    choose: ChoiceConfig = field(default_factory=ChoiceConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.initial.count > self.stop.labels:
            raise ValueError(f"initial.count is {self.initial.count}, above stop.labels, {self.stop.labels}")


@dataclass(frozen=True)
class Learner:
    """The surrogate, with one recipe for the first round (fresh weights) and one for later rounds (last weights)."""

    potential: PotentialConfig
    first: TrainConfig
    again: TrainConfig


@dataclass(frozen=True)
class ActiveOutcome:
    """The outcome of a run of active learning.

    Attributes:
        potential: surrogate of the last round.
        frames: labelled frames that it was trained on.
        rounds: content of `round.json` of each round.
        stopped_by: criterion that ended the run: "goal", "labels" or "rounds".
    """

    potential: PotentialSurrogate
    frames: Structures
    rounds: list[dict[str, Any]]
    stopped_by: str


#: The remedy for a round whose `round.json` is damaged.
ANEW = "Remove this round and those after it, and run again"


class ActiveLearning:
    """Active learning of one simulator on the molecules of `start`.

    Args:
        start: start geometries.
        simulator: gives energies and forces.
        campaign: settings of the simulation campaigns.
        learner: the surrogate and its training recipes.
        config: see `ActiveConfig`.
        run_dir: receives `rounds/` and `costs.json`; a run in the same directory resumes.
        store: store of the labels; by default `labels.zarr` in `run_dir`. Runs may share a store, one after the other.
        test: labelled frames on which each round is scored; they affect neither training nor any decision.
        progress: whether to show progress bars and one line for each round.

    Raises:
        InputError: the simulator lacks an input or output, or cannot take the cells of `start`.
    """

    def __init__(
        self,
        start: Structures,
        simulator: Simulator,
        campaign: CampaignConfig,
        learner: Learner,
        config: ActiveConfig,
        run_dir: Path,
        *,
        store: Path | None = None,
        test: Structures | None = None,
        progress: bool = True,
    ) -> None:
        refuse_unfit(simulator)
        refuse_cells(simulator, start, "start")
        self.start, self.simulator, self.campaign, self.learner = start, simulator, campaign, learner
        self.config, self.run_dir, self.test, self.progress = config, run_dir, test, progress
        self.store = store or run_dir / "labels.zarr"
        self.ledger = Ledger(run_dir / "costs.json")
        self.console = Console(quiet=not progress)
        self.rounds: list[dict[str, Any]] = []
        self.audits: list[AcquisitionAudit] = []
        self.learned: list[Structures] = []
        self.core_seconds = 0.0
        self.potential: PotentialSurrogate | None = None

    @property
    def spent(self) -> int:
        """Number of calculations so far, failed ones included."""
        return sum(int(row["asked"]) for row in self.rounds)

    def run(self) -> ActiveOutcome:
        """Run the rounds that are not done yet.

        Raises:
            InputError: the directory holds rounds of other molecules, settings or labels.
        """
        self._hold_to_the_same()
        configuration_checked(self.run_dir)
        while not (ended := self._ended()):
            folder = self.run_dir / "rounds" / f"{len(self.rounds):03d}"
            self.console.rule(f"[bold]Round {len(self.rounds)}", align="left")
            batch = self._batch(folder)
            labelled = self._label(batch, done=(folder / "round.json").exists())
            audit = self._audit(batch, labelled)
            self._learn(folder, labelled)
            row = self._row(folder, batch, labelled, audit)
            self.rounds.append(row)
            self.console.print(round_line(row))
        assert self.potential is not None
        return ActiveOutcome(self.potential, Structures.concatenate(self.learned), self.rounds, ended)

    def _hold_to_the_same(self) -> None:
        """Refuse a directory whose rounds depend on other settings; the budget and the goal may change."""
        config = asdict(self.config)
        settings = {name: content_hash(config[name]) for name in ("initial", "explore", "choose", "seed")}
        facts = {
            "start geometry": fingerprint(self.start),
            "test frames": "" if self.test is None else fingerprint(self.test),
            "simulator": self.simulator.fingerprint,
            "surrogate": content_hash(to_plain(self.learner.potential)),
            "first recipe": content_hash(asdict(self.learner.first)),
            "later recipe": content_hash(asdict(self.learner.again)),
            **settings,
        }
        begun = any((self.run_dir / "rounds").glob("*/batch.npz"))
        record_training_data(self.run_dir, facts, begun=begun)

    def _ended(self) -> str:
        """The criterion that ends the run, or an empty string while it continues."""
        if not self.rounds:
            return ""
        if good_enough(self.audits, self.config.stop):
            return "goal"
        if self.spent >= self.config.stop.labels:
            return "labels"
        return "rounds" if len(self.rounds) >= self.config.stop.rounds else ""

    def _batch(self, folder: Path) -> Batch:
        """The frames that this round labels, read from its file or else chosen and saved."""
        path = folder / "batch.npz"
        if path.exists():
            return Batch.load(path)
        batch = self._chosen() if self.potential is not None else self._initial()
        batch.save(path)
        return batch

    def _initial(self) -> Batch:
        frames = shaken(self.start, self.config.initial, self.config.seed)
        return Batch(frames, np.full(len(frames), INITIAL), np.full(len(frames), np.nan))

    def _chosen(self) -> Batch:
        assert self.potential is not None
        config = self.config
        to_explore, to_draw = (seed_of(config.seed, len(self.rounds), part) for part in (0, 1))
        labelled = Structures.concatenate(self.learned)
        with self.ledger.stage("exploration", item="frame") as cost:
            exploration = explore(self.potential, labelled, config.explore, to_explore, progress=self.progress)
            cost.items = len(exploration.frames)
        if not len(exploration.frames):
            raise InputError(
                "no walker reached a geometry that is worth a calculation",
                where="explore",
                remedy="Give more initial frames, or a lower explore.temperature_kelvin",
            )
        factor = expected_error(self.audits, config.stop.rounds_in_row)
        goal = config.stop.force_error_mev_per_angstrom
        uncertain = (
            np.full(len(exploration.frames), True) if factor is None else factor * exploration.uncertainty > goal
        )
        room = config.stop.labels - self.spent
        chosen, audit = choose(
            exploration.frames, exploration.uncertainty, uncertain, labelled, config.choose, room, to_draw
        )
        rows = np.concatenate([chosen, audit])
        predicted = exploration.frames.take(rows)
        answer = self.potential.predict_structures(predicted)
        return Batch(
            replace(predicted, energy=answer.energy, forces=answer.forces),
            np.repeat([CHOSEN, AUDIT], [len(chosen), len(audit)]),
            exploration.uncertainty[rows],
            explored=len(exploration.frames),
            uncertain_share=float("nan") if factor is None else float(uncertain.mean()),
            lost_share=exploration.lost_share,
        )

    def _label(self, batch: Batch, *, done: bool) -> Labelled:
        with self.ledger.stage("labels", item="calculation") as cost:
            labelled = label(
                self.simulator, batch.frames, self.store, self.campaign, progress=self.progress and not done
            )
            self.core_seconds += labelled.core_seconds
            cost.items, cost.core_seconds = self.spent + len(batch.frames), self.core_seconds
        if not self.learned and not len(labelled.structures):
            kind, message = labelled.failed[0]
            raise InputError(
                f"none of the {len(batch.frames)} first calculations succeeded; the first: {kind}: {message}",
                where=self.simulator.name,
                remedy="Check the start geometry and the simulator's settings",
            )
        if len(labelled.structures):
            self.learned.append(labelled.structures)
        return labelled

    def _audit(self, batch: Batch, labelled: Labelled) -> AcquisitionAudit | None:
        """Errors of the surrogate on the audit frames, before it is trained on them; None in the first round."""
        if batch.role[0] == INITIAL:
            return None
        ours = np.flatnonzero(batch.role[labelled.rows] == AUDIT)
        truth, predicted = labelled.structures.take(ours), batch.frames.take(labelled.rows[ours])
        audit = AcquisitionAudit(
            frame_errors(truth, predicted.forces, truth.forces),
            batch.uncertainty[labelled.rows[ours]],
            batch.lost_share,
        )
        self.audits.append(audit)
        return audit

    def _learn(self, folder: Path, labelled: Labelled) -> None:
        """Train on all labels, from the last weights if there are any; a finished round is only loaded."""
        done = folder / "round.json"
        if done.exists():
            self.potential = PotentialSurrogate.load(folder / "surrogate")
            return
        with self.ledger.stage("training", item="label") as cost:
            table = Structures.concatenate(self.learned)
            cost.items = len(table)
            self.potential, _ = fit_potential_surrogate(
                table,
                None,
                self.learner.potential,
                self.learner.first if self.potential is None else self.learner.again,
                folder / "training",
                label_fingerprint=self.simulator.fingerprint,
                tune=None if self.potential is None else FineTuning(self.potential),
                progress=self.progress,
            )
        self.potential.save(folder / "surrogate")

    def _row(self, folder: Path, batch: Batch, labelled: Labelled, audit: AcquisitionAudit | None) -> dict[str, Any]:
        path = folder / "round.json"
        if path.exists():
            return read_round(path)
        factor = expected_error(self.audits, self.config.stop.rounds_in_row)
        row: dict[str, Any] = {
            "round": len(self.rounds),
            "asked": len(batch.frames),
            "failed": len(labelled.failed),
            "labels": self.spent + len(batch.frames),
            "chosen": int((batch.role == CHOSEN).sum()),
            "audit": int((batch.role == AUDIT).sum()),
            "explored": batch.explored,
            "uncertain_share": None if math.isnan(batch.uncertain_share) else batch.uncertain_share,
            "lost_share": batch.lost_share if audit is not None else None,
            "force_error_mev_per_angstrom": None if audit is None or not len(audit.errors) else audit.error,
            "mev_per_uncertainty": factor,
            "label_core_seconds": labelled.core_seconds,
            **self._test_errors(),
        }
        write_json(path, row)
        return row

    def _test_errors(self) -> Mapping[str, float]:
        if self.test is None:
            return {}
        assert self.potential is not None
        error: Float[np.ndarray, " c"] = self.potential.predict_structures(self.test).forces - self.test.forces
        return {
            "test_forces_mae_mev_per_angstrom": float(1000.0 * np.abs(error).mean()),
            "test_forces_rmse_mev_per_angstrom": float(1000.0 * np.sqrt((error**2).mean())),
        }


def shaken(start: Structures, config: InitialConfig, seed: int) -> Structures:
    """The start geometries in turn, each with random displacements; the first one is left as it is.

    Raises:
        InputError: two atoms of a start geometry are closer than `CLOSEST`.
    """
    if (start.shortest_distances() < CLOSEST).any():
        raise InputError(f"atoms are closer than {CLOSEST} Angstrom", where="start", remedy="Give another geometry")
    rng = np.random.default_rng(seed)
    frames = start.take(np.arange(config.count) % len(start))
    shaking = np.where(frames.fixed, 0.0, rng.normal(size=frames.positions.shape))
    moved = frames.positions + config.shake_angstrom * shaking
    moved[: frames.sizes[0]] = frames.positions[: frames.sizes[0]]
    unknown = np.full(len(frames), np.nan), np.full_like(moved, np.nan)
    displaced = replace(frames, positions=moved, energy=unknown[0], forces=unknown[1], _neighbours={})
    return displaced.take(np.flatnonzero(displaced.shortest_distances() >= CLOSEST))


def seed_of(*path: int) -> int:
    """A seed that differs for each part of each round of each run."""
    return int(np.random.SeedSequence(path).generate_state(1)[0] % 2**31)


def read_round(path: Path) -> dict[str, Any]:
    """The content of `round.json`.

    Raises:
        CorruptStoreError: it is damaged, or a number is missing.
    """
    row = read_plain(path, dict[str, int | float | None], remedy=ANEW)
    with reading(path, remedy=ANEW):
        for name in ("labels", "failed", "explored"):
            entry(row, name, int)
        for name in ("force_error_mev_per_angstrom", "uncertain_share", "lost_share"):
            entry(row, name, float | None)  # type: ignore[arg-type]
    return row


def round_line(row: Mapping[str, Any]) -> str:
    """The line that summarises a round on the terminal."""
    failed = f", {row['failed']} failed" if row["failed"] else ""
    if row["explored"] == 0:
        return f"{row['labels']} labels{failed}"
    error, share = row["force_error_mev_per_angstrom"], row["uncertain_share"]
    error_text = "not known" if error is None else f"{error:.1f} meV/Å"
    unsure = "" if share is None else f", {share:.0%} of {row['explored']:,} frames uncertain"
    lost = f", {row['lost_share']:.0%} of walkers lost" if row["lost_share"] else ""
    return f"{row['labels']} labels{failed}; error on fresh frames {error_text}{unsure}{lost}"
