"""A training directory goes on only with what it learned from."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import CorruptStoreError, InputError
from surrogates.learning.resuming import FILE, record_training_data


def test_without_a_checkpoint_anything_may_begin(tmp_path: Path) -> None:
    record_training_data(tmp_path / "run", {"training part": "a"})
    record_training_data(tmp_path / "run", {"training part": "b"})


def test_with_a_checkpoint_only_the_same_goes_on_and_the_change_is_named(tmp_path: Path) -> None:
    record_training_data(tmp_path, {"training part": "a", "network": "n"})
    (tmp_path / "checkpoints" / "000000001").mkdir(parents=True)
    record_training_data(tmp_path, {"network": "n", "training part": "a"})
    with pytest.raises(InputError, match="another training part"):
        record_training_data(tmp_path, {"training part": "b", "network": "n"})
    with pytest.raises(InputError, match="another pretrained surrogate"):
        record_training_data(tmp_path, {"training part": "a", "network": "n", "pretrained surrogate": "p"})


def test_checkpoints_without_their_facts_or_with_broken_ones_are_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "000000001").mkdir(parents=True)
    with pytest.raises(InputError, match="training part"):
        record_training_data(tmp_path, {"training part": "a"})
    (tmp_path / FILE).write_text('{"training pa')
    with pytest.raises(CorruptStoreError, match=FILE):
        record_training_data(tmp_path, {"training part": "a"})
