"""Answers of a rung for a list of molecules, which a killed cascade finds again: chunks of Parquet, or a store."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data.checksums import verify
from data.costs import core_seconds
from data.files import listed_path, write_json
from data.json_files import read_plain
from data.molecules.foreign import encode
from data.spec import content_hash, dataset, input_hash
from data.splits import canonical
from data.store.records import RecordStore
from experiments.application.usage import cpu_seconds
from experiments.screening.cascade.rungs import CascadeRung
from experiments.screening.cheaper_answers import CHUNK_ROWS, stands_on_simulator
from simulators.campaigns.campaign import AGAIN, CampaignConfig, run_campaign

#: Molecules that a surrogate answers between two writes.
CHUNK = 16_384
COST = "cost.json"
OK = "ok"


@dataclass(frozen=True)
class RungCost:
    """What a rung has cost so far.

    Attributes:
        core_seconds: processor time, or the declared cost.
        answered: number of different molecules that it was asked for.
        bytes: bytes of its answers on the disk.
    """

    core_seconds: float
    answered: int
    bytes: int

    def metrics(self, prefix: str, entered: float, left: float) -> dict[str, float]:
        """Metrics of the rung, with the numbers of candidates in and out."""
        each = max(1, self.answered)
        return {
            f"{prefix}/in": float(entered),
            f"{prefix}/out": float(left),
            f"{prefix}/answered": float(self.answered),
            f"{prefix}/core_seconds": self.core_seconds,
            f"{prefix}/core_seconds_per_candidate": self.core_seconds / each,
            f"{prefix}/bytes_per_candidate": self.bytes / each,
        }


def answer(
    rung: CascadeRung, smiles: Sequence[str], names: Sequence[str], out: Path, campaign: CampaignConfig, show: bool
) -> pd.DataFrame:
    """The answers of a rung for molecules, in their order.

    Args:
        rung: a rung.
        smiles: SMILES of the molecules, which may repeat.
        names: outputs.
        out: directory of the cascade.
        campaign: how simulations are run.
        show: whether to print progress.

    Returns:
        Columns `<name>`, for surrogates `<name>_std` and `in_domain`, `status` ("ok" or the kind of the failure) and
        `message`; a failure has NaN in all numbers.
    """
    if rung.learned:
        return _predict(rung, list(smiles), names, out / f"rung-{rung.number}")
    return _simulate(rung, list(smiles), names, out, campaign, show)


def _predict(rung: CascadeRung, smiles: list[str], names: Sequence[str], folder: Path) -> pd.DataFrame:
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    size = CHUNK_ROWS if stands_on_simulator(rung.model) else CHUNK
    for first in range(0, len(smiles), size):
        some = smiles[first : first + size]
        # The molecules name the file, so that another list never takes these answers for its own.
        path = folder / f"answers-{content_hash(some)[:16]}.parquet"
        if not path.is_file():
            began = cpu_seconds()
            frame = _predicted(rung, some, names)
            with listed_path(path) as temporary:
                frame.to_parquet(temporary)
            cost = _cost_of(folder)
            write_json(
                folder / COST,
                {
                    "core_seconds": cost.core_seconds + cpu_seconds() - began,
                    "answered": cost.answered + len(some),
                    "bytes": cost.bytes + path.stat().st_size,
                },
            )
        verify(path, remedy="Remove it and run the cascade again")
        frames.append(pd.read_parquet(path))
    return pd.concat(frames, ignore_index=True) if frames else _predicted(rung, [], names)


def _predicted(rung: CascadeRung, smiles: list[str], names: Sequence[str]) -> pd.DataFrame:
    table, bad = encode(smiles)
    lost = dict(bad)
    good = np.array([i for i in range(len(smiles)) if i not in lost], np.int64)
    status = dict.fromkeys(lost, "invalid_input")
    on: tuple[np.ndarray, ...] = ()
    if len(good) and stands_on_simulator(rung.model):
        answers = rung.model.ask_rung([smiles[i] for i in good])
        for row in np.flatnonzero(~answers.ok).tolist():
            kind, _, message = (answers.reasons[row] or "not_converged: not finite").partition(": ")
            status[int(good[row])], lost[int(good[row])] = kind, f"{answers.simulator.name}: {message}"
        table, good, on = table.take(np.flatnonzero(answers.ok)), good[answers.ok], (answers.values[answers.ok],)
    values = rung.model.predict_table(table, *on) if len(good) else {}
    columns: dict[str, object] = {}
    for name in names:
        for column in (name, f"{name}_std"):
            full = np.full(len(smiles), np.nan)
            if len(good):
                full[good] = values[column]
            columns[column] = full
    domain = np.zeros(len(smiles), bool)
    if len(good):
        domain[good] = values["in_domain"]
    columns["in_domain"] = domain
    columns["status"] = [status.get(i, OK) for i in range(len(smiles))]
    columns["message"] = [lost.get(i, "") for i in range(len(smiles))]
    return pd.DataFrame(columns)


def store_path(out: Path, rung: CascadeRung) -> Path:
    """The store of the answers of a simulator."""
    return out / f"rung-{rung.number}.zarr"


def _simulate(
    rung: CascadeRung, smiles: list[str], names: Sequence[str], out: Path, campaign: CampaignConfig, show: bool
) -> pd.DataFrame:
    simulator, path = rung.model, store_path(out, rung)
    forms = canonical(smiles)
    different = list(dict.fromkeys(forms))
    requests = {form: dataset(simulator.spec.inputs, {"smiles": form}) for form in different}
    if different:
        run_campaign(
            simulator,
            list(requests.values()),
            path,
            campaign,
            total=len(different),
            progress=show,
            none_answered=True,
        )
    columns = {name: np.full(len(different), np.nan) for name in names}
    status, message = ["lost"] * len(different), [""] * len(different)
    if different:
        with RecordStore.open(path) as store:
            # A retry is stored after the first attempt, and replaces it here.
            keys = store.keys()
            rows = {str(key).partition(AGAIN)[0]: i for i, key in enumerate(keys)}
            states, said = store.column("status"), store.column("message")
            stored = {name: store.column(name) for name in names}
        for place, form in enumerate(different):
            row = rows[input_hash(requests[form])]
            status[place], message[place] = str(states[row]), str(said[row])
            if status[place] == OK:
                for name in names:
                    columns[name][place] = float(stored[name][row])
    frame = pd.DataFrame({**columns, "status": status, "message": message})
    where = {form: i for i, form in enumerate(different)}
    return frame.iloc[[where[form] for form in forms]].reset_index(drop=True)


def cost(rung: CascadeRung, out: Path) -> RungCost:
    """What a rung has cost, over all sessions."""
    if rung.learned:
        return _cost_of(out / f"rung-{rung.number}")
    path = store_path(out, rung)
    if not (path / "store.json").exists():
        return RungCost(0.0, 0, 0)
    with RecordStore.open(path) as store, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spent = float(np.nansum(core_seconds(store.facts(), str(path))))
        keys = store.keys()
    count = len({str(key).partition(AGAIN)[0] for key in keys})
    return RungCost(spent, count, sum(p.stat().st_size for p in path.rglob("*") if p.is_file()))


def _cost_of(folder: Path) -> RungCost:
    path = folder / COST
    value = read_plain(path, dict[str, float], remedy="Remove the directory and run again") if path.is_file() else {}
    return RungCost(float(value.get("core_seconds", 0.0)), int(value.get("answered", 0)), int(value.get("bytes", 0)))
