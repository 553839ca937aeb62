"""Tables of designs with labels as samples of numbers."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import InputError
from data.parameter_files import is_table, read_parameter_file

TEXT = "id;speed;drag;height\na;1.0;2.5;3\nb;fast;2.5;3\n\nc;2.0;3.5;4\nd;2.0\ne;3;nan;4\n"


def test_rows_are_read_by_the_names_of_their_columns_and_others_are_listed(tmp_path: Path) -> None:
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    units = {"speed": "m s-1", "drag": "N"}
    table, bad = read_parameter_file(tmp_path / "d.csv.gz", ["drag"], ["height", "speed"], units)
    assert table.values.tolist() == [[3.0, 1.0], [4.0, 2.0]]
    assert table.labels.tolist() == [[2.5], [3.5]]
    assert table.layout.columns == ("height", "speed")
    assert table.layout.units == ("1", "m s-1")
    assert table.layout.outputs[0].units == "N"
    assert set(table.unused) == {"units", "cost of the labels"}
    assert bad == [
        (3, "speed is no finite number"),
        (6, "another number of fields than the header"),
        (7, "drag is no finite number"),
    ]
    assert table.fingerprint == table.content()


def test_a_parquet_file_gives_the_same_samples(tmp_path: Path) -> None:
    columns = {"speed": [1.0, None, 2.0], "drag": [2.5, 1.0, 3.5], "height": [3, 3, 4]}
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    table, bad = read_parameter_file(tmp_path / "d.parquet", ["drag"], ["height", "speed"], {})
    np.testing.assert_array_equal(table.values, [[3.0, 1.0], [4.0, 2.0]])
    assert bad == [(2, "speed is no finite number")]


@pytest.mark.parametrize(
    ("targets", "inputs", "units", "message"),
    [
        ([], ["speed"], {}, r"data\.target: no output"),
        (["drag"], None, {}, r"which of its columns decide.*data\.inputs"),
        (["drag"], ["width"], {}, "no column width; there are id, speed, drag, height"),
        (["drag"], ["drag"], {}, "named twice"),
        (["drag"], ["speed"], {"lift": "N"}, "lift is neither an input nor a target"),
        (["drag"], ["id"], {}, "no row of it can be used: id is no finite number"),
    ],
)
def test_what_a_table_does_not_say_is_asked_for(
    targets: list[str], inputs: list[str] | None, units: dict[str, str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "d.csv").write_text(TEXT)
    with pytest.raises(InputError, match=message):
        read_parameter_file(tmp_path / "d.csv", targets, inputs, units)


def test_tables_are_told_by_their_names() -> None:
    assert [is_table(Path(n)) for n in ("a.csv", "a.tsv.zst", "a.parquet", "a.zarr", "a.csv.zarr", "a")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
