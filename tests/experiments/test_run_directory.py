"""A run directory is held to the settings that its results depend on, and a refused command changes nothing in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from data.errors import CorruptStoreError, InputError
from experiments.cli import STAGES
from experiments.run_directory import CONFIG, configuration_checked, run_directory

SETTINGS = {
    "stage": "train", "run": {"dir": "r"}, "data": {"file": "a.csv", "seed": 0},
    "train": {"epochs": 5, "max_seconds": 9},
    "devices": {"distributed": False}, "tune": {"replay": {}},
}  # fmt: skip


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below, with its bytes."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def settings(**changes: object) -> DictConfig:
    """The configuration of a training, with some values changed by their dotted keys."""
    config = OmegaConf.create(SETTINGS)
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    return config


def run(path: Path, config: DictConfig, kind: str = "train") -> None:
    """A run that leaves a result."""
    with run_directory(config, path, kind) as directory:
        configuration_checked(directory)
        (directory / "metrics.json").write_text("{}")


@pytest.mark.parametrize("stage", [*STAGES, "active"])
def test_every_stage_refuses_a_directory_of_other_settings(tmp_path: Path, stage: str) -> None:
    if stage == "report":  # It keeps nothing but the page of a run that is there.
        return
    run(tmp_path, settings(stage=stage), stage)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"data\.seed=0 \(now 1\)"):
        run(tmp_path, settings(stage=stage, data__seed=1), stage)
    assert contents(tmp_path) == before


def test_where_how_fast_and_how_long_may_change(tmp_path: Path) -> None:
    run(tmp_path, settings())
    run(tmp_path, settings(run__dir="./r", train__max_seconds=20, train__epochs=7, devices__distributed=True))


def test_a_key_that_appears_or_goes_is_a_change(tmp_path: Path) -> None:
    run(tmp_path, settings())
    with pytest.raises(InputError, match=r"tune\.replay\.main=none \(now a\.xyz\)"):
        run(tmp_path, settings(tune__replay={"main": "a.xyz"}))


def test_a_refused_first_command_holds_the_directory_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"), run_directory(settings(), tmp_path, "train"):
        raise InputError("no such file")
    assert not (tmp_path / CONFIG).exists()
    run(tmp_path, settings(data__seed=1))


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    run(tmp_path, settings())
    (tmp_path / CONFIG).write_bytes(b"stage: [\xff")
    with pytest.raises(CorruptStoreError, match=r"config\.yaml"):
        run(tmp_path, settings())
