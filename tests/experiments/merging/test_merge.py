"""Shards of a campaign, a preparation and a screen, merged, are bit for bit what a command without shards writes."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rdkit
import xarray as xr
from omegaconf import OmegaConf

from data import identity as identity_module
from data.claim import claim
from data.errors import InputError
from data.files import write_json, write_text
from data.identity import molecule_keys
from data.molecules.graph_tables import GraphTable
from data.progress import follow_progress
from data.shards import Shard
from data.spec import content_hash, input_hash
from data.store.records import RecordStore
from experiments.application.shard_arguments import with_shard_places
from experiments.campaigns.shard_requests import FILE, ShardPlaces
from experiments.launching import array, shard_job
from experiments.launching.shard_job import ShardJob
from experiments.merging import libraries
from experiments.merging.merge import merge
from experiments.screening import library_writing, repeated_molecules
from experiments.screening.candidate_sources import identity, open_source
from experiments.screening.ledger import read_ledger
from experiments.screening.library_screen import Objective, ScreenConfig, ScreenSummary, screen
from experiments.screening.library_writing import prepare
from experiments.screening.source_shards import shard_source
from experiments.stages.simulate import simulate
from simulators.campaigns.campaign import _open
from simulators.campaigns.summary import CampaignSummary
from simulators.workers.worker import answer, request_values

SHARDS = [Shard(1, 2), Shard(2, 2)]
#: Chains and rings, some of them twice, and rows that are no molecules.
SMILES = [
    *("C" * n for n in range(1, 40)),
    "CO",
    "OC",
    "nonsense",
    "c1ccccc1",
    "CCO",
    "C(O)CC",
    *("O" + "C" * n for n in range(1, 40)),
]


class Counting:
    """A surrogate with closed-form answers: gap is the mean of the first feature of the atoms, size their number."""

    fingerprint = "counting"

    def compile(self) -> None:
        """Nothing is compiled."""

    def predict_table(self, table: GraphTable) -> dict[str, np.ndarray]:
        """Values and intervals from the graph alone."""
        atoms = np.diff(table.atom_start).astype(np.float32)
        first = np.add.reduceat(table.atoms[:, 0].astype(np.float64), table.atom_start[:-1]).astype(np.float32)
        values: dict[str, np.ndarray] = {"in_domain": atoms > 2}
        for name, mean in (("gap", first / atoms), ("size", atoms)):
            values |= {name: mean, f"{name}_std": mean * 0 + 1, f"{name}_low": mean - 1, f"{name}_high": mean + 1}
        return values


def describe(directory: Path, stage: str, **settings: Any) -> None:
    """What the command writes beside: the settings of a run."""
    config = {"stage": stage, "run": {"dir": str(directory)}, "out": str(directory), "workers": None, **settings}
    write_text(directory / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)), listed=True)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("candidates") / "library.csv"
    path.write_text("id,smiles\n" + "".join(f"{i},{s}\n" for i, s in enumerate(SMILES)))
    return path


@pytest.fixture(scope="module")
def prepared(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library `whole`, and `merged` of two shards; parts are small, so that there are several."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library_writing, "CHUNK_ROWS", 8)
        for module in (library_writing, libraries):
            patch.setattr(module, "PART_ROWS", 25)
        summary = prepare(table, folder / "whole", workers=1, progress=False)
        for shard in SHARDS:
            directory = shard.directory(folder / "merged")
            with claim(directory, "prepare"):
                part = prepare(table, directory / "library", workers=1, shard=shard, progress=False)
                describe(directory, "prepare", shard=str(shard))
                write_json(directory / "library" / "metrics.json", part.metrics())
        merged = merge(folder / "merged")
    assert merged.stage == "prepare"
    assert merged.metrics["prepare/valid"] == summary.valid
    return folder


def test_a_merged_library_is_that_of_an_unsharded_preparation(prepared: Path) -> None:
    names = sorted(path.name for path in (prepared / "whole").glob("part-*.bin"))
    assert len(names) > 2
    for name in [*names, "library.json", "rejects.csv", "reading.json"]:
        assert (prepared / "merged" / name).read_bytes() == (prepared / "whole" / name).read_bytes(), name
    assert sorted(path.name for path in (prepared / "merged").glob("part-*.bin")) == names


def screened(candidates: Path, out: Path, shard: Shard | None) -> ScreenSummary:
    config = ScreenConfig(
        top_k=12, chunk_rows=8, part_rows=20, workers=1, shard=shard, objective=Objective(maximize="gap")
    )
    directory = out if shard is None else shard.directory(out)
    with claim(directory, "screen"):
        summary = screen(Counting(), candidates, directory, config, progress=False)
        of_all = {"candidates": str(candidates), "top_k": 12, "distinct": True}
        describe(directory, "screen", shard=None if shard is None else str(shard), **of_all)
    return summary


@pytest.fixture(scope="module")
def screens(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScreenSummary]:
    """A folder with the screen `whole` and the shards of `merged`, and the summary of the former."""
    folder = tmp_path_factory.mktemp("screens")
    summary = screened(prepared / "whole", folder / "whole", None)
    for shard in SHARDS:
        screened(prepared / "whole", folder / "merged", shard)
    return folder, summary


def test_a_merged_screen_has_the_rows_the_best_and_the_counts_of_an_unsharded_one(
    screens: tuple[Path, ScreenSummary], tmp_path: Path
) -> None:
    folder, summary = screens
    shutil.copytree(folder / "merged.shards", tmp_path / "merged.shards")
    metrics = merge(tmp_path / "merged").metrics
    whole, merged = folder / "whole", tmp_path / "merged"
    for name in ("top.csv", "rejects.csv", "screen.json"):
        assert (merged / name).read_bytes() == (whole / name).read_bytes(), name
    for name in ("top.parquet", "results"):
        assert pq.read_table(merged / name).equals(pq.read_table(whole / name))
    assert read_ledger(merged)[0][-1].total == read_ledger(whole)[0][-1].total
    counts = ("molecules", "valid", "rejected", "out_of_domain", "in_window", "eligible", "repeats")
    assert [metrics[f"screen/{n}"] for n in counts] == [summary.metrics()[f"screen/{n}"] for n in counts]
    # It is a finished screen, of which more of the best can be asked.
    again = screen(
        Counting(), Path(str(OmegaConf.load(whole / "config.yaml").candidates)), merged,
        ScreenConfig(top_k=20, chunk_rows=8, part_rows=20, objective=Objective(maximize="gap")), progress=False,
    )  # fmt: skip
    assert (again.top, again.resumed) == (20, summary.read)
    with pytest.raises(InputError, match="exists already"):
        merge(tmp_path / "merged")


def test_keys_that_shards_recorded_are_not_made_again(
    screens: tuple[Path, ScreenSummary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, summary = screens
    assert summary.repeats > 0
    asked: list[str] = []

    def count_keys(smiles: Sequence[str]) -> list[str]:
        asked.extend(smiles)
        return molecule_keys(smiles)

    monkeypatch.setattr(identity_module, "molecule_keys", count_keys)
    harms: dict[str, Callable[[Path], object]] = {
        "recorded": lambda path: None,
        "absent": lambda path: path.unlink(),
        "of another RDKit": lambda path: write_json(path, {"rdkit": "2019.3", "keys": {"1": "C"}}),
    }
    for case, harm in harms.items():
        out = tmp_path / case
        shutil.copytree(folder / "merged.shards", tmp_path / f"{case}.shards")
        for shard in SHARDS:
            harm(shard.directory(out) / repeated_molecules.KEYS)
        asked.clear()
        metrics = merge(out).metrics
        assert bool(asked) == (case != "recorded")
        assert (out / "top.csv").read_bytes() == (folder / "whole" / "top.csv").read_bytes(), case
        assert metrics["screen/repeats"] == summary.repeats
    shutil.copytree(folder / "merged.shards", tmp_path / "damaged.shards")
    write_json(SHARDS[0].directory(tmp_path / "damaged") / repeated_molecules.KEYS, {"rdkit": rdkit.__version__})
    with pytest.raises(InputError, match=r"top_keys.json.*holds no keys"):
        merge(tmp_path / "damaged")


def cut_ledger(directory: Path) -> None:
    lines = (directory / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (directory / "ledger.jsonl").write_bytes(b"".join(lines[:-1]))


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (shutil.rmtree, "2/2 is missing"),
        (cut_ledger, "2/2 is half-finished"),
        (lambda directory: (directory / "results" / "part-00000.parquet").write_bytes(b"x"), "part-0000"),
        (lambda directory: describe(directory, "screen", top_k=3), "another"),
    ],
)
def test_a_shard_that_is_not_what_it_should_be_is_named_and_nothing_is_written(
    harm: Callable[[Path], object], named: str, screens: tuple[Path, ScreenSummary], tmp_path: Path
) -> None:
    shutil.copytree(screens[0] / "merged.shards", tmp_path / "merged.shards")
    harm(tmp_path / "merged.shards" / "2-of-2")
    with pytest.raises(InputError, match=named):
        merge(tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["merged.shards"]


def test_a_shard_that_is_being_written_is_named(screens: tuple[Path, ScreenSummary], tmp_path: Path) -> None:
    shutil.copytree(screens[0] / "merged.shards", tmp_path / "merged.shards")
    with (
        claim(tmp_path / "merged.shards" / "1-of-2", "screen"),
        pytest.raises(InputError, match="1/2 is being written"),
    ):
        merge(tmp_path / "merged")


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_the_pieces_of_all_shards_are_those_of_the_file(count: int, table: Path, tmp_path: Path) -> None:
    source = open_source(table, "smiles")
    whole = [(piece.chunk, piece.end, piece.line) for piece in source.pieces(8, *source.start)]
    parts = []
    for number in range(1, count + 1):
        part = shard_source(source, Shard(number, count), tmp_path / "out", 8, identity(table))
        pieces = list(part.pieces(8, *part.start))
        parts += [(piece.chunk, piece.end, piece.line) for piece in pieces]
        if len(pieces) > 1:
            # What a killed shard resumes from.
            later = list(part.pieces(8, pieces[0].end, pieces[0].line))
            assert [piece.chunk for piece in later] == [piece.chunk for piece in pieces[1:]]
    assert parts == whole


def test_each_request_belongs_to_one_shard_and_spans_follow_one_another() -> None:
    keys = [content_hash(i) for i in range(300)]
    for count in (1, 3, 7):
        shards = [Shard(number, count) for number in range(1, count + 1)]
        assert all(sum(shard.takes_key(key) for shard in shards) == 1 for key in keys)
        assert [i for shard in shards for i in range(*shard.span(10))] == list(range(10))
    assert Shard.parse("2/7") == Shard(2, 7)
    for text in ("0/2", "3/2", "1", "1/2/3", "-1/2", "a/b"):
        with pytest.raises(InputError, match="shard"):
            Shard.parse(text)


def test_an_array_runs_each_shard_once_and_names_those_that_did_not_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[ShardJob] = []

    class Here:
        """In place of submitit: jobs run at once, in this process."""

        def submit_array(self, jobs: list[ShardJob]) -> list[Any]:
            for job in jobs:
                ran.append(job)
                job()
            return [SimpleNamespace(job_id=number, done=lambda: True) for number in range(len(jobs))]

    def run_shard(stage: str, arguments: tuple[str, ...], shard: str, folder: str, devices: str | None) -> int:
        directory = Shard.parse(shard).directory(tmp_path / "out")
        with contextlib.suppress(InputError), claim(directory, stage), follow_progress(directory, stage):
            if shard == "4/5":
                raise InputError("no candidates")
        return 0

    monkeypatch.setattr(array, "submitit_executor", lambda folder, settings: Here())
    monkeypatch.setattr(shard_job, "run_shard", run_shard)
    arguments = ["surrogate=s", f"out={tmp_path / 'out'}", "launcher=submitit", "launcher.shards=5", "launcher.jobs=2"]
    assert array.asks_launcher("screen", arguments)
    assert array.launch("screen", arguments) == 1
    assert [job.shards for job in ran] == [("1/5", "2/5"), ("3/5", "4/5", "5/5")]
    assert {job.arguments for job in ran} == {tuple(arguments[:2])}
    assert "4/5" in capsys.readouterr().out
    for wrong in (["shard=1/2"], ["launcher.jobs=6"], ["launcher.cluster=pbs"], ["launcher.queue=a"]):
        with pytest.raises(InputError):
            array.launch("screen", [*arguments, *wrong])


def test_the_places_of_a_shard_follow_from_out() -> None:
    arguments = ["surrogate=s", "out=runs/hits", "shard=2/8"]
    assert with_shard_places("screen", arguments) == [
        "surrogate=s", "shard=2/8", "out=runs/hits.shards/2-of-8", "run.dir=runs/hits.shards/2-of-8",
    ]  # fmt: skip
    assert with_shard_places("simulate", arguments)[2] == "out=runs/hits.shards/2-of-8/labels.zarr"
    assert with_shard_places("screen", arguments[:2]) == arguments[:2]
    for wrong in (["shard=1/2"], [*arguments, "run.dir=r"]):
        with pytest.raises(InputError):
            with_shard_places("screen", wrong)


def campaign(simulator: Any, requests: Iterable[xr.Dataset], store: Path, *_: object, **others: object) -> Any:
    """A campaign of one worker in this process: the records are those of a real one, in the same order."""
    with _open(simulator, store) as records:
        for request in requests:
            key, values = input_hash(request), request_values(request)
            if not records.has(key):
                got = answer(simulator, values)
                records.append(
                    key, {**values, **got.values}, status=got.status, message=got.message, log=got.log,
                    seconds=got.seconds, threads=1, core_seconds=2.0,
                )  # fmt: skip
        count = len(records)
    return CampaignSummary(count, count, {}, 0, 1.0, 2.0 * count, store, count)


def labelled(folder: Path, run_dir: Path, shard: str | None, limit: int | None = None) -> Path:
    config = OmegaConf.create({
        "stage": "simulate", "run": {"dir": str(run_dir)}, "inputs": str(folder / "molecules.csv"), "smiles": "smiles",
        "limit": limit, "shard": shard, "out": str(run_dir / "labels.zarr"), "campaign": {"workers": 1},
        "conformers": {}, "simulator": {
            "_target_": "simulators.label_table.LabelTable", "file": str(folder / "labels.csv"), "outputs": ["gap"],
            "cost_s": 2.0,
        },
    })  # fmt: skip
    with claim(run_dir, "simulate"):
        simulate(config, run_dir)
        write_text(run_dir / "config.yaml", OmegaConf.to_yaml(config), listed=True)
    return run_dir


def test_a_merged_store_is_that_of_an_unsharded_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.stages.simulate.run_campaign", campaign)
    molecules = ["C" * n for n in range(1, 30)]
    # Every third molecule has no label, which is a failure that is recorded too.
    labels = "".join(f"{s},{n}\n" for n, s in enumerate(molecules) if n % 3)
    (tmp_path / "labels.csv").write_text("smiles,gap\n" + labels)
    (tmp_path / "molecules.csv").write_text("smiles\n" + "\n".join([*molecules, "CC", "CO"]) + "\n")
    whole = labelled(tmp_path, tmp_path / "whole", None)
    shards = [labelled(tmp_path, shard.directory(tmp_path / "merged.zarr"), str(shard)) for shard in SHARDS]
    places = [ShardPlaces.read(path).rows["place"].tolist() for path in shards]
    assert all(places)
    assert sorted(itertools.chain(*places)) == [*range(29), 30]
    merge(tmp_path / "merged.zarr")
    expected = RecordStore.open(whole / "labels.zarr").dataset()
    merged = RecordStore.open(tmp_path / "merged.zarr").dataset()
    # Its wall time is what differs between two campaigns.
    assert merged.drop_vars("seconds").identical(expected.drop_vars("seconds"))
    assert set(merged["status"].values.tolist()) == {"ok", "invalid_input"}

    # Shards of other requests are not mixed, and an incomplete shard is named.
    shutil.rmtree(tmp_path / "merged.zarr")
    labelled(tmp_path, shards[0], "1/2", limit=5)
    with pytest.raises(InputError, match="another limit"):
        merge(tmp_path / "merged.zarr")
    write_text(shards[0] / "config.yaml", (shards[1] / "config.yaml").read_text(), listed=True)
    with pytest.raises(InputError, match="of 5 and of 31 requests"):
        merge(tmp_path / "merged.zarr")
    (shards[1] / FILE).unlink()
    with pytest.raises(InputError, match="2/2 is half-finished"):
        merge(tmp_path / "merged.zarr")
