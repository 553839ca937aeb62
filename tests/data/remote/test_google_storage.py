"""Files at `gs://` are read and written as those at `s3://`, on a server that speaks Google's protocol.

The server is Google's own testbench (https://github.com/googleapis/storage-testbench), which is not in the registry of
Python packages, so that these tests are skipped where none is named:

    python testbench_run.py localhost 9000 10
    export STORAGE_EMULATOR_HOST=http://localhost:9000 FSSPEC_GS='{"token": "anon"}'
    GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false .venv/bin/python -m pytest tests/data/remote/test_google_storage.py

Without the last variable gcsfs asks Google, not the testbench, for the kind of a bucket, and waits for the answer.
No server on this machine asks for credentials: what is refused for want of them is not tested.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data.errors import InputError
from data.molecules.files import read
from data.remote import path
from data.remote.path import RemotePath, path_of
from data.settings import existing_file
from data.uploads import bucket_path, fetch, has_content, objects_below, put, put_if_absent, remove

pytestmark = pytest.mark.skipif(
    "STORAGE_EMULATOR_HOST" not in os.environ,
    reason="no server of Google's protocol: start its storage-testbench and name it by STORAGE_EMULATOR_HOST",
)
ROWS = 400


def _lines_of_rfc_2046(call: Any) -> Any:
    """gcsfs ends the lines of a multipart upload by LF, which Google takes and its testbench does not."""

    async def changed(self: Any, *args: Any, **options: Any) -> Any:
        if options.get("uploadType") == "multipart":
            data = options["data"].replace(b"--==0==\nContent-Type", b"--==0==\r\nContent-Type")
            for kind in (b"application/json; charset=UTF-8", b"text/csv"):
                data = data.replace(kind + b"\n\n", kind + b"\r\n\r\n")
            data = data.replace(b"\n--==0==", b"\r\n--==0==")
            options["data"] = data
        return await call(self, *args, **options)

    return changed


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of an empty bucket."""
    import gcsfs

    patch = pytest.MonkeyPatch()
    patch.setattr(gcsfs.GCSFileSystem, "_call", _lines_of_rfc_2046(gcsfs.GCSFileSystem._call))
    path._SERVERS.clear()
    name = f"understudy-{uuid.uuid4().hex[:12]}"
    gcsfs.GCSFileSystem(token="anon", project="test", skip_instance_cache=True).mkdir(name)
    yield f"gs://{name}"
    path._SERVERS.clear()
    patch.undo()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "a.csv"
    file.write_text("smiles,gap\n" + "".join(f"{'C' * (1 + i % 30)},{i}.5\n" for i in range(ROWS)))
    return file


def test_rows_and_ranges_are_those_of_the_file(table: Path, bucket: str) -> None:
    put(table, bucket_path(f"{bucket}/in/a.csv", "out"))
    place = existing_file(f"{bucket}/in/a.csv", "candidates")
    expected, downloaded = (
        [(row.line, row.smiles, row.properties) for row in read(file, columns=["gap"], validate=False)]
        for file in (table, place)
    )
    assert len(expected) == ROWS
    assert downloaded == expected
    assert isinstance(place, RemotePath)
    with place.stream(1000) as stream:
        stream.seek(1234)
        assert stream.read(2000) == table.read_bytes()[1234:3234]


def test_an_object_is_written_only_where_there_is_none(table: Path, bucket: str, tmp_path: Path) -> None:
    other = tmp_path / "b.csv"
    other.write_text("smiles\nO\n")
    target = bucket_path(f"{bucket}/written/a.csv", "out")
    assert put_if_absent(table, target)
    # The same bytes again, as after an answer that was lost.
    assert put_if_absent(table, target)
    assert not put_if_absent(other, target)
    assert has_content(target, table)
    assert not has_content(target, other)
    fetch(target, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == table.read_bytes()
    assert objects_below(bucket_path(f"{bucket}/written", "out")) == {"a.csv": table.stat().st_size}
    remove(target)
    assert objects_below(bucket_path(f"{bucket}/written", "out")) == {}


def test_an_object_that_changes_while_it_is_read_is_refused(table: Path, bucket: str) -> None:
    target = bucket_path(f"{bucket}/changing.csv", "out")
    put(table, target)
    place = path_of(f"{bucket}/changing.csv")
    assert isinstance(place, RemotePath)
    with place.stream(500) as stream:
        stream.read(600)
        table.write_bytes(table.read_bytes().replace(b"C,", b"N,"))
        put(table, target)
        with pytest.raises(InputError, match="was changed since this command first looked at it"):
            stream.read()


def test_what_is_not_there_names_the_url(bucket: str) -> None:
    for url in (f"{bucket}/none.csv", "gs://no-such-bucket-of-anyone/none.csv"):
        with pytest.raises(InputError, match=r"candidates: no such file: .*none\.csv"):
            existing_file(url, "candidates")
