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
from data.plain import to_plain
from data.spec import content_hash
from data.structures.structures import Structures
from experiments.active.batch import AUDIT, CHOSEN, INITIAL, Batch
from experiments.active.choice_diagnosis import diagnosis
from experiments.active.choice_trial import FRAMES, TrialConfig, Verdict, trial_entries, verdict
from experiments.active.energy_window import inside_window
from experiments.active.exploration import ExploreConfig, Explored, explore
from experiments.active.frame_labelling import Labelled, label, refuse_unfit
from experiments.active.frame_pool import draw_frames, frame_bytes, rows_left, survey
from experiments.active.frame_selection import ChoiceConfig, choose
from experiments.active.initial_frames import InitialConfig, shaken
from experiments.active.learner import Learner
from experiments.active.round_rows import read_round, round_line, verdict_line
from experiments.active.stopping import AcquisitionAudit, StopConfig, expected_error, frame_errors, good_enough
from experiments.active.trial_arms import RANDOM_ARM, TrialArms
from experiments.application.run_directory import configuration_checked
from experiments.application.stage_costs import Ledger
from simulators.adapter import Simulator
from simulators.campaigns.campaign import CampaignConfig
from simulators.structure_requests import refuse_cells
from surrogates.learning.resuming import record_training_data
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.potentials.training_frames import fingerprint

#: Settings of a choice that were added later -> the value that leaves it as it was.
ADDED = {"window_kt": None, "temperature_kelvin": None, "regions": 1}


@dataclass(frozen=True)
class ActiveConfig:
    """The settings of active learning, one attribute for each part of a round."""

    initial: InitialConfig = field(default_factory=InitialConfig)
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    choose: ChoiceConfig = field(default_factory=ChoiceConfig)
    trial: TrialConfig = field(default_factory=TrialConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.initial.count > self.stop.labels:
            raise ValueError(f"initial.count is {self.initial.count}, above stop.labels, {self.stop.labels}")


@dataclass(frozen=True)
class ActiveOutcome:
    """The outcome of a run of active learning.

    Attributes:
        potential: surrogate of the last round.
        frames: labelled frames that it was trained on.
        rounds: content of `round.json` of each round.
        stopped_by: criterion that ended the run: "goal", "labels", "pool" or "rounds".
    """

    potential: PotentialSurrogate
    frames: Structures
    rounds: list[dict[str, Any]]
    stopped_by: str


class ActiveLearning:
    """Active learning of one simulator on the molecules of `start`, or on the frames of a pool.

    Args:
        start: start geometries; None for first frames that are drawn from the pool.
        simulator: gives energies and forces.
        campaign: settings of the simulation campaigns.
        learner: the surrogate and its training recipes.
        config: see `ActiveConfig`.
        run_dir: receives `rounds/` and `costs.json`; a run in the same directory resumes.
        store: store of the labels; by default `labels.zarr` in `run_dir`. Runs may share a store, one after the other.
        test: labelled frames on which each round is scored; they do not affect training, and decide nothing but the
            trial of the choice, if `config.trial.on` says so.
        pool: geometries from which frames are chosen, in place of those that the surrogate's own dynamics visits.
        progress: whether to show progress bars and one line for each round.

    Raises:
        InputError: the simulator lacks an input or output, or cannot take the cells of `start` or `pool`; or neither of
            these is given.
    """

    def __init__(
        self,
        start: Structures | None,
        simulator: Simulator,
        campaign: CampaignConfig,
        learner: Learner,
        config: ActiveConfig,
        run_dir: Path,
        *,
        store: Path | None = None,
        test: Structures | None = None,
        pool: Structures | None = None,
        progress: bool = True,
    ) -> None:
        refuse_unfit(simulator)
        if start is None and pool is None:
            raise InputError("no geometry is given", where="start", remedy="Give start=SMILES or pool=FILE")
        if config.trial.on == "test" and test is None:
            raise InputError("the trial needs test frames", where="trial.on", remedy="Give test=FILE")
        for where, frames in (("start", start), ("pool", pool)):
            if frames is not None:
                refuse_cells(simulator, frames, where)
        self.start, self.pool = start, pool
        self.simulator, self.campaign, self.learner = simulator, campaign, learner
        self.config, self.run_dir, self.test, self.progress = config, run_dir, test, progress
        self.store = store or run_dir / "labels.zarr"
        self.ledger = Ledger(run_dir / "costs.json")
        self.console = Console(quiet=not progress)
        self.rounds: list[dict[str, Any]] = []
        self.audits: list[AcquisitionAudit] = []
        self.learned: list[Structures] = []
        self.asked: set[bytes] = set()
        self.arms = TrialArms(learner, simulator.fingerprint, progress=progress)
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
            before = list(self.learned)
            labelled = self._label(batch, done=(folder / "round.json").exists())
            audit = self._audit(batch, labelled)
            entries = self._trial(folder, batch, labelled)
            if audit is not None:
                entries |= diagnosis(batch, labelled, Structures.concatenate(before), audit, self.temperature_kelvin)
            self._learn(folder)
            row = self._row(folder, batch, labelled, audit, entries)
            self.rounds.append(row)
            self.console.print(round_line(row))
            if (state := self.verdict) is not None and row.get(FRAMES):
                self.console.print(verdict_line(state))
        assert self.potential is not None
        return ActiveOutcome(self.potential, Structures.concatenate(self.learned), self.rounds, ended)

    def _hold_to_the_same(self) -> None:
        """Refuse a directory whose rounds depend on other settings; the budget and the goal may change."""
        config = asdict(self.config)
        # Runs of before had none of these settings, and go on without them.
        config["choose"] = {k: v for k, v in config["choose"].items() if k not in ADDED or v != ADDED[k]}
        settings = {name: content_hash(config[name]) for name in ("initial", "explore", "choose", "seed")}
        facts = {
            "start geometry": "" if self.start is None else fingerprint(self.start),
            **({} if self.pool is None else {"pool": fingerprint(self.pool)}),
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
        if self.pool is not None and not len(rows_left(self.pool, self.asked)):
            return "pool"
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
        if self.start is not None:
            frames = shaken(self.start, self.config.initial, self.config.seed)
        else:
            assert self.pool is not None
            frames = draw_frames(self.pool, self.config.initial.count, self.config.seed)
        return Batch(frames, np.full(len(frames), INITIAL), np.full(len(frames), np.nan))

    def _chosen(self) -> Batch:
        assert self.potential is not None
        config = self.config
        to_explore, to_draw = (seed_of(config.seed, len(self.rounds), part) for part in (0, 1))
        labelled = Structures.concatenate(self.learned)
        with self.ledger.stage("exploration", item="frame") as cost:
            exploration = self._explored(labelled, to_explore)
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
        fallen = self.verdict is not None and self.verdict.falls_back
        choice = replace(config.choose, rule="random") if fallen else config.choose
        frames, doubt = exploration.frames, exploration.uncertainty
        allowed = inside_window(frames, labelled, choice.window_kt, self.temperature_kelvin)
        chosen, audit = choose(frames, doubt, uncertain, labelled, choice, room, to_draw, allowed)
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

    def _explored(self, labelled: Structures, seed: int) -> Explored:
        assert self.potential is not None
        if self.pool is not None:
            return survey(self.potential, self.pool, rows_left(self.pool, self.asked))
        return explore(self.potential, labelled, self.config.explore, seed, progress=self.progress)

    def _trial(self, folder: Path, batch: Batch, labelled: Labelled) -> dict[str, Any]:
        """Compare the arms of the trial on fresh audit frames, and give both the labels of this round."""
        config, role = self.config, batch.role[labelled.rows]
        if batch.role[0] == INITIAL:
            self.arms.begin(labelled.structures)
            return {}
        state, path = self.verdict, folder / "trial"
        if not config.trial.rounds or config.choose.rule == "random" or (state is not None and state.decided):
            return {}
        chosen, audit = (labelled.structures.take(np.flatnonzero(role == part)) for part in (CHOSEN, AUDIT))
        done = (folder / "round.json").exists()
        judges = audit if config.trial.on == "audit" or self.test is None else self.test
        compared = read_round(folder / "round.json") if done else trial_entries(self.arms.compare(judges))
        extended = self.arms.extend(chosen, audit)
        state = verdict([*self.rounds, compared], config.trial)
        if done:
            self.arms.folder = path if path.exists() else self.arms.folder
        elif extended and not (state is not None and state.decided) and self._goes_on(len(batch.frames)):
            with self.ledger.stage("trial", item="label") as cost:
                self.arms.learn(path, self.run_dir / "rounds" / "000" / "surrogate")
                cost.items = 2 * len(self.arms.frames[RANDOM_ARM])
        return {} if done else compared

    def _goes_on(self, count: int) -> bool:
        """Whether the budgets leave a round after this one, which labels `count` frames."""
        stop = self.config.stop
        return self.spent + count < stop.labels and len(self.rounds) + 1 < stop.rounds

    @property
    def verdict(self) -> Verdict | None:
        """What the trial says after the rounds so far; see `choice_trial.verdict`."""
        return verdict(self.rounds, self.config.trial) if self.config.trial.rounds else None

    @property
    def temperature_kelvin(self) -> float:
        """Temperature by which energies of frames are judged, K."""
        return self.config.choose.temperature_kelvin or self.config.explore.temperature_kelvin

    def _label(self, batch: Batch, *, done: bool) -> Labelled:
        with self.ledger.stage("labels", item="calculation") as cost:
            labelled = label(
                self.simulator, batch.frames, self.store, self.campaign, progress=self.progress and not done
            )
            self.core_seconds += labelled.core_seconds
            cost.items, cost.core_seconds = self.spent + len(batch.frames), self.core_seconds
        self.asked.update(frame_bytes(batch.frames))
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

    def _learn(self, folder: Path) -> None:
        """Train on all labels, from the last weights if there are any; a finished round is only loaded."""
        if (folder / "round.json").exists():
            self.potential = self.learner.load(folder / "surrogate")
            return
        with self.ledger.stage("training", item="label") as cost:
            table = Structures.concatenate(self.learned)
            cost.items = len(table)
            self.potential = self.learner.learn(
                table,
                self.potential,
                folder / "training",
                label_fingerprint=self.simulator.fingerprint,
                progress=self.progress,
            )
        self.potential.save(folder / "surrogate")

    def _row(
        self,
        folder: Path,
        batch: Batch,
        labelled: Labelled,
        audit: AcquisitionAudit | None,
        entries: Mapping[str, Any],
    ) -> dict[str, Any]:
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
            "fell_back": int(self.verdict is not None and self.verdict.falls_back),
            **entries,
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


def seed_of(*path: int) -> int:
    """A seed that differs for each part of each round of each run."""
    return int(np.random.SeedSequence(path).generate_state(1)[0] % 2**31)
