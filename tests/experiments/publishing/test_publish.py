"""`understudy publish`: the copy in a bucket is the store, in few objects, and a copy that was stopped is completed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import small_stores
import xarray as xr
from bucket_server import bucket_server

from data.claim import claim
from data.errors import InputError
from data.files import write_text
from data.remote.path import path_of
from data.store.records import RecordStore
from data.uploads import bucket_path, objects_below, put
from experiments.cli import main
from experiments.publishing import publish as module
from experiments.publishing.publish import publish


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with bucket_server() as url:
        yield url


@pytest.fixture
def store(tmp_path: Path) -> Path:
    place = tmp_path / "labels.zarr"
    with small_stores.make(place, flush_every=8) as records:
        for i in range(20):
            records.append(f"key-{i}", small_stores.values(i), **small_stores.FACTS)
    return place


def test_a_published_store_is_the_store_for_any_reader_of_zarr(
    store: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{bucket}/labels.zarr"
    assert main(["publish", str(store), url, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    with RecordStore.open(store) as records:
        expected = records.dataset()
    copy = xr.open_zarr(url, consolidated=True).load()
    for name in expected.variables:
        np.testing.assert_array_equal(copy[name].values.astype(expected[name].dtype), expected[name].values, name)
        assert copy[name].attrs["units"] == expected[name].attrs["units"]
    assert copy.attrs["simulator"] == expected.attrs["simulator"]
    # Each array is its description and one shard.
    present = objects_below(bucket_path(url, "out"))
    assert len(present) <= 2 * len(expected.variables) + 3
    assert said["objects"] == said["written"] == len(present) - 1
    assert said["records"] == 20
    listed = json.loads(path_of(f"{url}/published.json").read_bytes())["objects"]
    assert {entry["name"]: entry["bytes"] for entry in listed} == {
        n: s for n, s in present.items() if n != "published.json"
    }
    assert not store.with_name("labels.zarr.sharded").exists()


def test_a_copy_that_was_stopped_is_completed_and_nothing_is_written_twice(
    store: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket}/stopped.zarr"
    original, left = module.put_if_absent, [5]

    def stops(*arguments: object) -> bool:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "put_if_absent", stops)
    with pytest.raises(KeyboardInterrupt):
        publish(store, url, progress=False)
    assert len(objects_below(bucket_path(url, "out"))) == 5
    monkeypatch.setattr(module, "put_if_absent", original)
    copy = publish(store, url, progress=False)
    assert copy.written == copy.objects - 5
    assert publish(store, url, progress=False).written == 0
    assert xr.open_zarr(url, consolidated=True).sizes["sample"] == 20


def test_objects_with_other_bytes_are_found_and_nothing_is_replaced(store: Path, bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/damaged.zarr"
    publish(store, url, progress=False)
    target = bucket_path(f"{url}/energy/zarr.json", "out")
    (tmp_path / "other").write_text("{}")
    put(tmp_path / "other", target)
    with pytest.raises(InputError, match=r"energy/zarr\.json: holds other bytes"):
        publish(store, url, progress=False)
    with RecordStore.open(store, "a") as records:
        records.append("more", small_stores.values(1), **small_stores.FACTS)
    with pytest.raises(InputError, match="holds other bytes"):
        publish(store, url, progress=False)
    put(tmp_path / "other", bucket_path(f"{bucket}/strange/x.txt", "out"))
    with pytest.raises(InputError, match=r"holds x\.txt"):
        publish(store, f"{bucket}/strange", progress=False)


def test_a_run_is_copied_as_it_is_once_no_command_writes_to_it(bucket: str, tmp_path: Path) -> None:
    run, url = tmp_path / "run", f"{bucket}/run"
    with claim(run, "train"):
        write_text(run / "metrics.json", "{}", listed=True)
        write_text(run / "surrogate" / "card.json", "{}")
        with pytest.raises(InputError, match="a command writes to it"):
            publish(run, url, progress=False)
    copy = publish(run, url, progress=False)
    names = set(objects_below(bucket_path(url, "out")))
    assert {"metrics.json", "surrogate/card.json", "published.json"} <= names
    assert not any("lock" in name for name in names)
    assert copy.records is None
    with pytest.raises(InputError, match="no such directory"):
        publish(tmp_path / "none", url, progress=False)
