"""Results of a screen in a bucket: one object a commit, nothing lost or doubled by kills, resumed from a URL."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bucket_server import bucket_server

from data.errors import InputError
from data.molecules.graph_tables import GraphTable
from data.remote import path
from data.remote.path import path_of
from data.uploads import bucket_path, objects_below, put, remove
from experiments.application.url_arguments import with_published_places
from experiments.screening.library_screen import Objective, ScreenConfig, ScreenSummary, screen
from experiments.screening.published_results import PublishedResults
from experiments.screening.screen_settings import RESULTS

SMILES = [*("C" * n for n in range(1, 40)), "CO", "OC", "nonsense", "c1ccccc1", *("O" + "C" * n for n in range(1, 40))]


class Heteroatoms:
    """Closed-form answers: the share of carbon, and the number of atoms; small molecules are outside of the domain."""

    fingerprint = "heteroatoms"

    def compile(self) -> None:
        """Nothing is compiled."""

    def predict_table(self, table: GraphTable) -> dict[str, np.ndarray]:
        atoms = np.diff(table.atom_start).astype(float)
        values: dict[str, np.ndarray] = {"in_domain": atoms > 3}
        for name, mean in (("size", atoms), ("odd", atoms % 5)):
            values |= {name: mean, f"{name}_std": mean * 0 + 1, f"{name}_low": mean - 1, f"{name}_high": mean + 1}
        return values

    def domain_counts(self, table: GraphTable) -> dict[str, int]:
        """As a surrogate counts them."""
        atoms = np.diff(table.atom_start)
        return {"in_domain": int((atoms > 3).sum()), "molecules_with_fewer_than_4_heavy_atoms": int((atoms < 4).sum())}


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("candidates") / "a.smi"
    file.write_text("".join(f"{s}\n" for s in SMILES))
    return file


def screened(candidates: Path, out: Path, publish: str | None = None, **more: object) -> ScreenSummary:
    config = ScreenConfig(
        **{"top_k": 7, "chunk_rows": 8, "part_rows": 16, "workers": 1, "publish": publish,  # type: ignore[arg-type]
           "objective": Objective(maximize="size", windows={"odd": (0, 2)}), **more}
    )  # fmt: skip
    return screen(Heteroatoms(), candidates, out, config, progress=False)


@pytest.fixture(scope="module")
def whole(candidates: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScreenSummary]:
    """The directory of a screen that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, screened(candidates, out)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with bucket_server() as url:
        yield url


def of_results(url: str) -> pa.Table:
    """All rows at a URL, as any reader of Parquet gets them."""
    names = sorted(name for name in objects_below(bucket_path(url, "out")) if name.startswith("results/"))
    parts = [pq.read_table(pa.BufferReader(path_of(f"{url}/{name}").read_bytes())) for name in names]
    return pa.concat_tables(parts)


def killed_after(method: str, calls: int, candidates: Path, out: Path, url: str) -> None:
    """Runs in a process of its own, which is killed after some calls of a method."""
    path._SERVERS.clear()
    original, left = getattr(PublishedResults, method), [calls]

    def last(self: PublishedResults, *arguments: object) -> object:
        answer = original(self, *arguments)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(PublishedResults, method, last)
    screened(candidates, out, url)


def test_kills_at_every_step_lose_and_double_nothing(
    candidates: Path, whole: tuple[Path, ScreenSummary], bucket: str, tmp_path: Path
) -> None:
    url = f"{bucket}/killed"
    forks = multiprocessing.get_context("fork")
    # Some sessions resume in their directory, others from the URL alone.
    sessions = [
        ("put_part", 1, "a"),
        ("put_rejects", 1, "b"),
        ("put_commit", 1, "b"),
        ("put_part", 1, "c"),
        ("put_rejects", 1, "a"),
    ]
    for method, calls, out in sessions:
        process = forks.Process(target=killed_after, args=(method, calls, candidates, tmp_path / out, url))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, method
    summary = screened(candidates, tmp_path / "last", url)
    expected = whole[1]
    assert of_results(url).equals(pq.read_table(whole[0] / "results"))
    assert (tmp_path / "last" / "top.csv").read_bytes() == (whole[0] / "top.csv").read_bytes()
    assert path_of(f"{url}/top.csv").read_bytes() == (whole[0] / "top.csv").read_bytes()
    assert path_of(f"{url}/rejects.csv").read_bytes() == (whole[0] / "rejects.csv").read_bytes()
    assert summary.resumed > 0
    for name in ("read", "valid", "out_of_domain", "in_window", "eligible", "parts", "top"):
        assert getattr(summary, name) == getattr(expected, name), name


def test_a_finished_screen_is_read_from_its_url_and_another_one_is_refused(
    candidates: Path, whole: tuple[Path, ScreenSummary], bucket: str, tmp_path: Path
) -> None:
    url = f"{bucket}/finished"
    screened(candidates, tmp_path / "one", url)
    again = screened(candidates, tmp_path / "two", url, top_k=3)
    assert (again.resumed, again.top) == (whole[1].read, 3)
    assert path_of(f"{url}/top.csv").read_bytes().count(b"\n") == 4
    with pytest.raises(InputError, match="holds another screen"):
        screened(candidates, tmp_path / "three", url, chunk_rows=9)
    damaged = bucket_path(f"{url}/results/part-00001.parquet", "out")
    put(candidates, damaged)
    with pytest.raises(InputError, match=r"not as long as it was|its checksum differs"):
        screened(candidates, tmp_path / "four", url)
    remove(bucket_path(f"{url}/ledger/00001.json", "out"))
    with pytest.raises(InputError, match="commits are missing between others"):
        screened(candidates, tmp_path / "five", url)


def test_of_two_commands_at_one_url_the_second_with_a_commit_stops(
    candidates: Path, whole: tuple[Path, ScreenSummary], bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket}/two"
    original = PublishedResults.put_commit

    def other_first(self: PublishedResults, number: int, line: bytes) -> None:
        if number == 1:
            monkeypatch.setattr(PublishedResults, "put_commit", original)
            screened(candidates, tmp_path / "other", url)
        original(self, number, line)

    monkeypatch.setattr(PublishedResults, "put_commit", other_first)
    with pytest.raises(InputError, match="another command has written this commit meanwhile"):
        screened(candidates, tmp_path / "one", url)
    assert of_results(url).equals(pq.read_table(whole[0] / "results"))


def test_rows_that_are_not_asked_for_are_left_out_and_the_best_and_the_counts_are_the_same(
    candidates: Path, whole: tuple[Path, ScreenSummary], tmp_path: Path
) -> None:
    every = pq.read_table(whole[0] / "results")
    finite = every.filter(pa.array(np.isfinite(every.column("score").to_numpy())))
    rows = {}
    for kind in RESULTS:
        summary = screened(candidates, tmp_path / kind, results=kind)
        for name in ("read", "valid", "out_of_domain", "in_window", "eligible", "top", "repeats"):
            assert getattr(summary, name) == getattr(whole[1], name), (kind, name)
        assert (tmp_path / kind / "top.csv").read_bytes() == (whole[0] / "top.csv").read_bytes()
        rows[kind] = pq.read_table(tmp_path / kind / "results")
        # What was committed is enough to rank again.
        (tmp_path / kind / "top.csv").unlink()
        screened(candidates, tmp_path / kind, results=kind)
        assert (tmp_path / kind / "top.csv").read_bytes() == (whole[0] / "top.csv").read_bytes()
    assert rows["all"].equals(every)
    assert rows["eligible"].equals(finite)
    assert 7 <= len(rows["none"]) <= len(finite)
    with pytest.raises(InputError, match="another configuration"):
        screened(candidates, tmp_path / "none", results="none", top_k=8)


def test_few_rows_are_kept_where_only_the_best_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "long.smi"
    file.write_text("".join(f"{'C' * (40 - i % 35)}\n" for i in range(9000)))
    how = {"top_k": 5, "chunk_rows": 500, "part_rows": 1000, "distinct": False}
    screened(file, tmp_path / "all", **how)
    screened(file, tmp_path / "none", results="none", **how)
    assert (tmp_path / "none" / "top.csv").read_bytes() == (tmp_path / "all" / "top.csv").read_bytes()
    assert len(pq.read_table(tmp_path / "none" / "results")) < 0.6 * len(pq.read_table(tmp_path / "all" / "results"))


def test_a_url_as_out_is_a_directory_of_this_machine_and_a_place_to_publish() -> None:
    arguments = with_published_places("screen", ["surrogate=a", "out=s3://bucket/hits"])
    assert arguments[0] == "surrogate=a"
    assert arguments[1].startswith("out='runs/screen/hits-")
    assert arguments[2] == "publish='s3://bucket/hits'"
    assert with_published_places("screen", ["run.dir=r", "out=s3://b/h"]) == ["out='r'", "publish='s3://b/h'"]
    assert with_published_places("screen", ["out=hits"]) == ["out=hits"]
    for stage, wrong in (("predict", ["out=s3://b/p.csv"]), ("screen", ["run.dir=s3://b/r"])):
        with pytest.raises(InputError, match="understudy publish"):
            with_published_places(stage, wrong)
    with pytest.raises(InputError, match="merge"):
        with_published_places("screen", ["out=s3://b/h", "shard=1/2"])
