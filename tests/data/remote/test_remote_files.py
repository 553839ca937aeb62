"""Files at URLs are read as those of this machine are: the same rows, in ranges, and whatever goes wrong has a name."""

from __future__ import annotations

import gzip
import io
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bucket_server import bucket_server
from range_server import RangeServer, range_server

from data.errors import InputError
from data.molecules.files import read
from data.remote import objects, path
from data.remote.objects import MissingObjectError
from data.remote.path import RemotePath, is_url, path_of
from data.remote.web import is_private, refuse_redirection
from data.settings import existing_file
from data.uploads import bucket_path, fetch, has_content, objects_below, put, put_if_absent, remove
from experiments.screening.candidate_sources import identity, open_source
from experiments.screening.library_writing import prepare
from surrogates.properties.property_table import read_table

SMILES = ["C" * (1 + i % 30) for i in range(400)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("files")
    table = "smiles,gap\n" + "".join(f"{s},{len(s)}.5\n" for s in SMILES)
    (place / "a.csv").write_text(table)
    (place / "a.csv.gz").write_bytes(gzip.compress(table.encode()))
    (place / "a.smi").write_text("".join(f"{s} name{i}\n" for i, s in enumerate(SMILES)))
    columns = {"smiles": SMILES, "gap": [len(s) + 0.5 for s in SMILES], "more": [list(range(50))] * len(SMILES)}
    pq.write_table(pa.table(columns), place / "a.parquet", row_group_size=90)
    (place / "empty.csv").write_text("")
    prepare(place / "a.smi", place / "lib", workers=1, progress=False)
    return place


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[RangeServer]:
    with range_server(folder) as server:
        yield server


@pytest.fixture(scope="module")
def bucket(folder: Path) -> Iterator[str]:
    with bucket_server() as url:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            put(file, bucket_path(f"{url}/{file.relative_to(folder)}", "out"))
        yield url


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits between two tries."""
    monkeypatch.setattr(objects, "PAUSES_S", (0.0, 0.0))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_rows_and_pieces_at_a_url_are_those_of_the_file(name: str, folder: Path, web: RangeServer, bucket: str) -> None:
    def rows(place: Path) -> list[tuple[int, str | None, dict]]:
        return [(row.line, row.smiles, row.properties) for row in read(place, columns=["gap"], validate=False)]

    def pieces(place: Path) -> list[tuple[object, int, int]]:
        source = open_source(place, "smiles", ("gap",))
        return [(piece.chunk, piece.end, piece.line) for piece in source.pieces(64, *source.start)]

    expected_rows, expected = rows(folder / name), pieces(folder / name)
    assert len(expected_rows) == len(SMILES)
    for url in (f"{web.url}/{name}?signature=secret", f"{bucket}/{name}"):
        place = existing_file(url, "candidates")
        assert (rows(place), pieces(place)) == (expected_rows, expected)
        # A screen of the one is resumed with the other.
        assert identity(place) == identity(folder / name)
        # A later session begins in the middle.
        source = open_source(path_of(url), "smiles", ("gap",))
        later = [(piece.chunk, piece.end, piece.line) for piece in source.pieces(64, *expected[2][1:])]
        assert [end for _, end, _ in later] == [end for _, end, _ in expected[3:]] or name == "a.parquet"


def test_a_training_reads_its_labels_from_a_url(folder: Path, bucket: str) -> None:
    local, remote = (
        read_table(place, "smiles", ["gap"], ["eV"], None) for place in (folder / "a.csv", path_of(f"{bucket}/a.csv"))
    )
    assert local.fingerprint == remote.fingerprint


def test_a_prepared_library_at_a_url_has_the_molecules_of_the_directory(
    folder: Path, web: RangeServer, bucket: str
) -> None:
    expected = [piece.chunk for piece in open_source(folder / "lib", "smiles").pieces(100, 0, 1)]
    for url in (f"{web.url}/lib", f"{bucket}/lib"):
        place = existing_file(url, "candidates")
        assert identity(place) == identity(folder / "lib")
        chunks = [piece.chunk for piece in open_source(place, "smiles").pieces(100, 0, 1)]
        assert len(chunks) == len(expected)
        for one, other in zip(chunks, expected, strict=True):
            np.testing.assert_array_equal(one.table.atoms, other.table.atoms)  # type: ignore[union-attr]
            np.testing.assert_array_equal(one.lines, other.lines)  # type: ignore[union-attr]


def test_a_stream_asks_for_ranges_each_once_and_holds_one(folder: Path, web: RangeServer) -> None:
    content = (folder / "a.csv").read_bytes()
    place = path_of(f"{web.url}/a.csv")
    assert isinstance(place, RemotePath)
    place.facts()
    web.asked.clear()
    with place.stream(1000) as stream:
        assert b"".join(iter(lambda: stream.read1(300), b"")) == content
    assert [start for _, start, _ in web.asked] == list(range(0, len(content), 1000))
    assert max(end - start for _, start, end in web.asked) <= 1000
    with place.stream(100) as stream:
        stream.seek(-7, io.SEEK_END)
        assert stream.read() == content[-7:]
        stream.seek(5)
        assert stream.read(10) == content[5:15]
        assert stream.tell() == 15


def test_a_request_that_fails_for_a_passing_reason_is_repeated(folder: Path, web: RangeServer) -> None:
    place = path_of(f"{web.url}/a.csv")
    assert place.is_file()
    # Unavailable; an answer that ends in its middle.
    web.failures[:] = [503, 0]
    assert place.read_bytes() == (folder / "a.csv").read_bytes()
    web.failures[:] = [503] * 3
    with pytest.raises(InputError, match=r"a\.csv: no answer in 3 tries: .*503.*same command resumes"):
        place.read_bytes()
    web.failures.clear()


def test_an_object_that_changes_while_it_is_read_is_refused(
    folder: Path, web: RangeServer, bucket: str, tmp_path: Path
) -> None:
    old, new = folder / "changing.csv", tmp_path / "new.csv"
    old.write_bytes((folder / "a.csv").read_bytes())
    new.write_bytes((folder / "a.csv").read_bytes().replace(b"C,", b"N,"))
    target = bucket_path(f"{bucket}/changing.csv", "out")
    put(old, target)
    for url in (f"{web.url}/changing.csv", f"{bucket}/changing.csv"):
        place = path_of(url)
        assert isinstance(place, RemotePath)
        with place.stream(500) as stream:
            stream.read(600)
            (old.write_bytes(new.read_bytes()) if url.startswith("http") else put(new, target))
            with pytest.raises(InputError, match="was changed since this command first looked at it"):
                stream.read()


def test_what_cannot_be_read_names_the_url_and_the_remedy(
    web: RangeServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in (f"{web.url}/none.csv", f"{bucket}/none.csv", "s3://no-such-bucket/none.csv"):
        with pytest.raises(InputError, match=r"candidates: no such file: .*none\.csv"):
            existing_file(url, "candidates")
        with pytest.raises(MissingObjectError, match="404"):
            path_of(url).read_bytes()
    web.failures[:] = [403]
    with pytest.raises(InputError, match=r"access is refused \(403\).*signed"):
        existing_file(f"{web.url}/a.csv", "candidates")
    web.ranges = False
    with pytest.raises(InputError, match=r"does not answer ranges of bytes.*Copy it to this machine"):
        existing_file(f"{web.url}/a.csv", "candidates")
    web.ranges = True
    with pytest.raises(InputError, match="the file is empty"):
        next(read(path_of(f"{web.url}/empty.csv")))
    with pytest.raises(InputError, match=r"not read from a URL.*Copy it"):
        open(path_of(f"{bucket}/a.db"))  # noqa: SIM115
    monkeypatch.setattr(path, "_SERVERS", {})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(InputError, match=r"access is refused: .*credentials.*AWS_ACCESS_KEY_ID"):
        existing_file(f"{bucket}/a.csv", "candidates")
    monkeypatch.setattr(path, "_SERVERS", {})
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(InputError, match=r"s3:// needs the package s3fs.*\[cloud\]"):
        existing_file(f"{bucket}/a.csv", "candidates")


def test_a_url_reaches_no_further_than_it_says(web: RangeServer) -> None:
    with pytest.raises(InputError, match="http:// is only for localhost"):
        path_of("http://example.com/a.csv").stat()
    web.redirects["/elsewhere"] = "http://example.com/a.csv"
    web.redirects["/here"] = f"{web.url}/a.csv"
    web.redirects["/file"] = "file:///etc/passwd"
    for name in ("elsewhere", "file"):
        with pytest.raises(InputError, match=r"http://|redirects to file"):
            path_of(f"{web.url}/{name}").stat()
    assert path_of(f"{web.url}/here").stat().st_size == (web.folder / "a.csv").stat().st_size
    with pytest.raises(InputError, match="a private one"):
        refuse_redirection("https://8.8.8.8/a", "https://169.254.169.254/latest/meta-data")
    with pytest.raises(InputError, match="redirects to http"):
        refuse_redirection("https://8.8.8.8/a", "http://localhost/a")
    refuse_redirection("https://10.0.0.1/a", "https://10.0.0.2/a")
    assert is_private("localhost")


def test_a_signature_in_a_url_is_kept_out_of_what_is_written_down() -> None:
    place = path_of("https://host.org/folder/a.csv.gz?signature=secret")
    assert isinstance(place, RemotePath)
    assert place.url.endswith("?signature=secret")
    assert "secret" not in f"{place} {place!s}"
    assert (place.name, place.suffixes, place.stem) == ("a.csv.gz", [".csv", ".gz"], "a.csv")
    assert pickle.loads(pickle.dumps(place)).url == place.url
    assert str(place.parent / "b.csv") == "https://host.org/folder/b.csv"


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://bucket//a", "s3://bucket/../a", "https://host/a#b", "s3://bucket/./a"]
)
def test_a_url_that_names_no_object_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="is no URL of an object"):
        path_of(url)
    assert is_url(url)


def test_an_object_is_written_only_where_there_is_none(folder: Path, bucket: str, tmp_path: Path) -> None:
    target = bucket_path(f"{bucket}/written/a.csv", "out")
    assert put_if_absent(folder / "a.csv", target)
    # The same bytes again, as after an answer that was lost.
    assert put_if_absent(folder / "a.csv", target)
    assert not put_if_absent(folder / "a.smi", target)
    assert has_content(target, folder / "a.csv")
    assert not has_content(target, folder / "a.smi")
    fetch(target, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (folder / "a.csv").read_bytes()
    size = (folder / "a.csv").stat().st_size
    assert objects_below(bucket_path(f"{bucket}/written", "out")) == {"a.csv": size}
    remove(target)
    assert objects_below(bucket_path(f"{bucket}/written", "out")) == {}
    with pytest.raises(InputError, match="no address that is written to"):
        bucket_path("https://host.org/a", "out")
