"""The summary of a library against the training domain: counts of a sample, drawn over the whole file."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.molecules.featurise import encode
from experiments.screening import domain_summary
from experiments.screening.candidate_chunks import encode_chunk
from experiments.screening.candidate_sources import open_source
from experiments.screening.domain_summary import DomainSummary
from experiments.screening.library_screen import Objective, ScreenConfig, screen
from experiments.screening.library_writing import prepare
from experiments.screening.random_rows import PLACES, random_pieces
from surrogates.learning.box import Box
from surrogates.properties.training_domain import Domain


def test_counts_of_molecules_name_sizes_and_elements() -> None:
    domain = Domain.of(encode(["CCO", "CCCO", "CCCCO"])[0])
    one, two = encode(["CCO", "CC", "CCCCCCCO"])[0], encode(["CCBr", "CCCO"])[0]
    counts = domain.counts(one)
    assert counts["in_domain"] == int(domain.holds(one).sum()) == 1
    assert counts["molecules_with_fewer_than_3_heavy_atoms"] == 1
    assert counts["molecules_with_more_than_5_heavy_atoms"] == 1
    assert counts["atoms_of_O"] == 2
    more = domain.counts(two)
    assert (more["atoms_of_Br"], more["atoms_of_Br_in_unknown_neighbourhoods"]) == (1, 1)
    assert more["atoms_of_O_in_unknown_neighbourhoods"] == 0
    both = domain.counts(encode(["CCO", "CC", "CCCCCCCO", "CCBr", "CCCO"])[0])
    assert both == {name: counts.get(name, 0) + more.get(name, 0) for name in both}


def test_counts_of_numbers_name_the_columns() -> None:
    box = Box(("a", "b"), (0.0, 0.0), (1.0, 2.0))
    counts = box.counts(np.array([[0.5, 1.0], [2.0, 1.0], [-1.0, 3.0]]))
    assert counts == {"in_domain": 1, "a_outside": 2, "b_outside": 1}


def lines_of(path: Path, rows: int) -> list[str]:
    pieces, _ = random_pieces(open_source(path, "smiles"), rows)
    texts = []
    for piece in pieces:
        encoded = encode_chunk(piece.chunk) if not hasattr(piece.chunk, "table") else piece.chunk  # type: ignore[arg-type]
        raw = encoded.text.tobytes()  # type: ignore[union-attr]
        bounds = encoded.offsets.tolist()  # type: ignore[union-attr]
        texts += [raw[a:b].decode() for a, b in itertools.pairwise(bounds)]
    return texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same 6,000 molecules, chains of carbon that grow along the file, in every kind of file."""
    place = tmp_path_factory.mktemp("sampled")
    smiles = ["C" * (1 + i // 200) for i in range(6000)]
    text = "".join(f"{s} molecule-{i:06d}\n" for i, s in enumerate(smiles))
    (place / "a.smi").write_text(text)
    (place / "a.smi.gz").write_bytes(gzip.compress(text.encode()))
    pq.write_table(pa.table({"smiles": smiles}), place / "a.parquet", row_group_size=500)
    prepare(place / "a.smi", place / "lib", workers=1, progress=False)
    return place


@pytest.mark.parametrize("name", ["a.smi", "a.parquet", "lib"])
def test_rows_are_drawn_from_the_whole_file(name: str, folder: Path) -> None:
    texts = lines_of(folder / name, 160)
    assert 100 <= len(texts) <= 160
    sizes = [len(text) for text in texts]
    # The mean of 16 places of a ramp from 1 to 30 is 15.5, give or take 2.1.
    assert abs(np.mean(sizes) - 15.5) < 6
    assert len(set(sizes)) > PLACES // 2


def test_compressed_text_and_short_files_are_sampled_from_the_start(folder: Path, tmp_path: Path) -> None:
    assert random_pieces(open_source(folder / "a.smi.gz", "smiles"), 100)[1] == "from its start"
    assert {len(text) for text in lines_of(folder / "a.smi.gz", 100)} == {1}
    (tmp_path / "b.smi").write_text("C\nCC\nCCC\n")
    assert lines_of(tmp_path / "b.smi", 100) == ["C", "CC", "CCC"]


class Short:
    """Takes molecules of up to 15 atoms for its domain."""

    fingerprint = "short"

    def compile(self) -> None:
        """Nothing is compiled."""

    def predict_table(self, table) -> dict[str, np.ndarray]:  # type: ignore[no-untyped-def]
        size = np.diff(table.atom_start).astype(float)
        return {"size": size, "size_std": size * 0, "size_low": size, "size_high": size, "in_domain": size <= 15}

    def domain_counts(self, table) -> dict[str, int]:  # type: ignore[no-untyped-def]
        size = np.diff(table.atom_start)
        return {"in_domain": int((size <= 15).sum()), "molecules_with_more_than_15_heavy_atoms": int((size > 15).sum())}


def test_a_screen_says_it_first_and_keeps_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []
    original = domain_summary.show_pairs
    monkeypatch.setattr(domain_summary, "show_pairs", lambda *a: (order.append("said"), original(*a)))
    monkeypatch.setattr(Short, "compile", lambda self: order.append("compiled"))
    how = ScreenConfig(workers=1, top_k=3, objective=Objective(maximize="size"))
    screen(Short(), folder / "lib", tmp_path / "out", how)  # type: ignore[arg-type]
    assert order == ["said", "compiled"]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    share = metrics["library/in_domain_share"]
    assert metrics["library/sampled"] == metrics["library/candidates"] == 2000
    # About half of the ramp; of the whole file exactly half.
    assert 0.3 < share < 0.7
    assert metrics["screen/out_of_domain"] == 3000
    assert metrics["library/molecules_with_more_than_15_heavy_atoms"] == round(2000 * (1 - share))
    said = capsys.readouterr().out
    assert f"{share:.1%}" in said
    [reading] = json.loads((tmp_path / "out" / "reading.json").read_text())
    assert reading["quantities"]["in the training domain"] == f"{share:.1%}"
    # A second session does not draw again.
    order.clear()
    screen(Short(), folder / "lib", tmp_path / "out", how)  # type: ignore[arg-type]
    assert order == []
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["library/in_domain_share"] == share


def test_elements_are_one_line_with_the_share_that_is_new() -> None:
    counts = {"in_domain": 1, "atoms_of_C": 100, "atoms_of_C_in_unknown_neighbourhoods": 5, "atoms_of_Br": 2}
    assert DomainSummary(3, 2, "at random", counts).said() == {
        "sample": "3 rows at random, 2 candidates",
        "in the training domain": "50.0%",
        "atoms": "C 100 (5.0% in neighbourhoods without training), Br 2",
    }
