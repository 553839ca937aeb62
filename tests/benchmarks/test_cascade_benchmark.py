"""The benchmark of cascades counts every label, resumes from its files, and breaks no promise too often."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from scipy.stats import binom

import benchmarks.cascade_models
from benchmarks.cascade import audited, ladder, left_out, markdown_row, promises, table
from benchmarks.cascade_models import ChosenLabels, Molecules, _pairs, molecules

COUNT = 1200


def library() -> Molecules:
    """Molecules whose gap follows from two counts, up to noise."""
    rng = np.random.default_rng(0)
    features = rng.poisson(3.0, (COUNT, 6)).astype(np.float32)
    gap = features[:, 0] - 0.7 * features[:, 1] + 0.3 * rng.normal(size=COUNT)
    return Molecules(gap, features, (features > 2).astype(np.uint8))


def test_a_table_counts_labels_and_is_printed_again_from_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cascade").mkdir()
    options = Namespace(
        out=tmp_path, network=False, budgets=[0.2], tops=[0.05], trainings=2, peer_trainings=1, trees=4, repeats=4
    )
    rows = dict(table(library(), options))
    assert [name.partition(": ")[2] for name in rows] == [
        "cascade, forest", "greedy", "upper confidence bound", "one shot", "one shot, Morgan and boosting",
    ]  # fmt: skip
    for name, numbers in rows.items():
        assert name.startswith("top 5.0%, budget 20%")
        assert 0.25 < numbers["least recall"] <= numbers["recall"] <= 1.0  # 0.2 by chance
    # 60 hits allow 6 to be lost, which takes a third of all molecules to prove, and 2.7% are drawn.
    assert rows["top 5.0%, budget 20%: cascade, forest"]["promised"] == 0.0
    for path in (tmp_path / "cascade").glob("*.npz"):
        with np.load(path) as stored:
            last = stored[f"rows_{len(stored.files) // 3 - 1}"]
        assert len(last) == len(set(last)) == 240
    monkeypatch.setattr(benchmarks.cascade_models, "forest", None)
    monkeypatch.setattr(benchmarks.cascade_models, "boosting", None)
    again = dict(table(library(), options))
    assert again == rows
    assert markdown_row("top 1.0%, budget 8%: greedy", {"trainings": 3.0, "recall": 0.98765}).startswith(
        "| top 1.0%, budget 8% | greedy | 3 | 0.988 |"
    )
    assert ladder(0.02, 0.05, 0.08, 1.5) == pytest.approx([0.03, 0.045, 0.05, 0.08])


@pytest.mark.parametrize("misleading", [False, True])
def test_promises_are_kept_whether_hits_hide_or_not(misleading: bool) -> None:
    """12 of 1,000 hits are missed by a little, or 150 of them have the lowest scores and must not be promised away."""
    count, repeats, hidden = 50_000, 20, 150 if misleading else 12
    score = np.linspace(1.0, 0.0, count)
    hit = np.zeros(count, bool)
    hit[: 1000 - hidden] = True
    hit[-hidden:] = misleading
    hit[2000 : 2000 + hidden] = not misleading
    chosen = ChosenLabels(np.arange(2000), score, 0.0)
    numbers = promises(hit, [chosen], 5000, repeats)
    if not misleading:
        assert numbers["promised and kept"] == numbers["promised"] > 0.7
        one = audited(hit, chosen, left_out(chosen), 5000, 0)
        assert one is not None
        assert one.labels == 5000
        assert 0.988 <= one.recall <= 1.0
    else:
        assert numbers["broken"] * repeats <= binom.ppf(1 - 1e-4, repeats, 0.05)
    assert audited(hit, chosen, left_out(chosen), 2100, 0) is None  # 100 draws prove nothing


def test_features_count_the_groups_of_a_molecule(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("smiles,band_gap\nCCO,0.33\nC1CC1,0.4\nc1ccccc1,0.25\n")
    three = molecules(tmp_path / "table.csv", None)
    assert three.gap.tolist() == [0.33, 0.4, 0.25]
    assert three.features[:, :3].tolist() == [[3, 2, 0], [3, 3, 0], [6, 6, 0]]  # atoms, carbon, nitrogen
    assert (three.bits.sum(axis=1) > 0).all()
    # Oxygen two and four bonds from C=C, and two oxygens two bonds apart; a spiro atom of two rings, one with oxygen.
    acetal, spiro = (np.array(_pairs(Chem.MolFromSmiles(smiles))) for smiles in ("C=CCOCOC", "C1CC11CCO1"))
    assert {int(i): acetal[i] for i in np.flatnonzero(acetal)} == {8: 1, 13: 1, 14: 1, 15: 1}
    assert {int(i): spiro[i] for i in np.flatnonzero(spiro)} == {17: 1, 24: 1}
