"""What a surrogate has learned from is known again in a file that it is scored on, and the rest is scored apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.errors import CorruptStoreError
from data.identity import frame_keys
from data.parameters import ParameterLayout, ParameterTable
from data.reading_summary import Reading
from data.spec import Variable
from data.structures.structures import Structures
from experiments.stages.train import closing_rows, train_on
from surrogates.learning.learned_from import FILE, hash_keys, read_hashes, save_hashes
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.overlap import Overlap
from surrogates.learning.sample_task import SampleSets
from surrogates.parameters.network import ParameterConfig
from surrogates.parameters.task import ParameterData, ParameterTask


def clusters(count: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 9, 5) for _ in range(count)], [rng.normal(0, 2, (5, 3)) for _ in range(count)]


def test_a_frame_is_known_again_however_it_is_turned_and_written() -> None:
    numbers, positions = clusters(20, 0)
    frames = Structures.from_arrays(numbers, positions)
    keys = frame_keys(frames)
    assert len(set(keys)) == 20
    rng = np.random.default_rng(1)
    turn, order = np.linalg.qr(rng.normal(size=(3, 3)))[0], [3, 1, 4, 0, 2]
    moved = [x[order] @ turn + rng.normal(size=3) for x in positions]
    assert frame_keys(Structures.from_arrays([z[order] for z in numbers], moved)) == keys
    # Another charge, another element, an atom a thousandth of an Angstrom away, a cell around it: other frames.
    others = [
        replace(frames, charge=np.ones(20, np.int32)),
        Structures.from_arrays([np.append(z[1:], z[0] + 1) for z in numbers], positions),
        Structures.from_arrays(numbers, [x + np.array([[1e-3, 0, 0]] + [[0, 0, 0]] * 4) for x in positions]),
        replace(frames, lattice=np.broadcast_to(20.0 * np.eye(3), (20, 3, 3))),
    ]
    for other in others:
        assert not set(frame_keys(other)) & set(keys)


def test_what_was_learned_from_is_kept_beside_the_weights(tmp_path: Path) -> None:
    assert read_hashes(tmp_path) is None
    save_hashes(tmp_path, np.array([7, 3, 7], np.uint64), np.array([2**63], np.uint64))
    hashes = read_hashes(tmp_path)
    assert hashes is not None
    assert hashes.tolist() == [3, 7, 2**63]
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-4])
    with pytest.raises(CorruptStoreError, match=FILE):
        read_hashes(tmp_path)
    # One that goes on from a surrogate without such a note cannot tell.
    save_hashes(tmp_path, hashes, None)
    assert read_hashes(tmp_path) is None


def test_scores_of_what_was_not_learned_from_stand_apart() -> None:
    asked = list("abcde")

    def score(rows: np.ndarray, prefix: str) -> dict[str, float]:
        return {f"{prefix}/sum": float(rows.sum())}

    some = Overlap.among(hash_keys("bdz"), asked, "molecules")
    assert some.scores("test/a", score) == {"test/a/sum": 10, "test/a/seen": 2, "test/a/unseen/sum": 6}
    readings = [Reading("a.csv", "table", total=5, used=5)]
    some.note(readings)
    assert "2 of 5 molecules were learned from" in dict(readings[0].lines())["learned from"]
    every = Overlap.among(hash_keys(asked), asked)
    assert every.scores("test/a", score) == {"test/a/sum": 10, "test/a/seen": 5}
    assert "no score of them is a held-out one" in every.said
    for nothing, said in ((hash_keys(""), "none of the 5 samples"), (None, "is not known")):
        overlap = Overlap.among(nothing, asked)
        assert overlap.scores("test/a", score) == {"test/a/sum": 10}
        assert said in overlap.said


class Fitted:
    """A surrogate that remembers the scores that it is saved with."""

    def __init__(self, scores: dict[str, float] | None = None) -> None:
        self.scores = scores or {}

    def with_facts(self, scores: dict[str, float]) -> Fitted:
        return Fitted(scores)

    def save(self, directory: Path) -> None:
        directory.mkdir()


class Counted(ParameterTask):
    """A training that trains nothing, and whose score is the number of samples."""

    def fit(self, *_: Any, **__: Any) -> tuple[Any, FitResult]:
        return Fitted(), FitResult(None, [], 1.0, 1.0, 0.0, {"train": 1}, "epochs", 1.0)  # type: ignore[arg-type]

    @staticmethod
    def score_samples(surrogate: Any, samples: ParameterTable, prefix: str) -> dict[str, float]:
        return {f"{prefix}/samples": float(len(samples))}


@pytest.mark.parametrize(("parts", "key"), [([6, 2, 0, 2], "test"), ([6, 2, 0, 0], "valid"), ([6, 0, 0, 0], None)])
def test_without_a_test_part_the_validation_part_is_scored_and_named_so(
    parts: list[int], key: str | None, tmp_path: Path
) -> None:
    variable = Variable("a", (), "1", "float64", "a number")
    values = np.arange(10.0)[:, None]
    table = ParameterTable(ParameterLayout((variable,), (variable,), (), {}), values, values, "f" * 64, np.ones(10), {})
    task = Counted(ParameterData(file="", target="a", parts=parts), ParameterConfig(), TrainConfig())
    metrics = train_on(task, SampleSets(table, {}), tmp_path)
    assert {k: v for k, v in metrics.items() if "samples" in k and not k.startswith("train/")} == (
        {} if key is None else {f"{key}/samples": 2}
    )
    hashes = read_hashes(tmp_path / "surrogate")
    assert hashes is not None
    assert len(hashes) == parts[0] + parts[1]
    rows = closing_rows(metrics)
    if key == "test":
        assert "held-out scores" not in rows
    else:
        assert ("validation part" if key else "nothing was set aside") in rows["held-out scores"]
    assert (f"{key}/samples" in rows) == (key is not None)
